"""What this worker was given: cores and device. For the events, so that a slow job can be understood afterwards."""

import os
import sys
from collections.abc import Mapping

DEFAULT = "default"  # the place of a worker whose environment names no device


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def advice(cores: int, env: Mapping[str, str]) -> str:
    """A warning if the affinity is smaller than what was asked of Slurm; "" if all is well.

    advice(1, {"SLURM_CPUS_PER_TASK": "8"}) says so: since 22.05 srun does not inherit --cpus-per-task from sbatch.
    """
    asked = env.get("SLURM_CPUS_PER_TASK", "")
    if not asked.isdigit() or cores >= int(asked):
        return ""
    return (
        f"may run on {cores} cores, but {asked} a task were asked for: "
        f"give srun --cpus-per-task={asked} (Slurm 22.05 and later do not inherit it)"
    )


def device() -> str:
    """Name of the device that torch uses here, "cpu" without one. Imports nothing: a stage without torch stays without it."""
    torch = sys.modules.get("torch")
    try:
        return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu"
    except Exception:  # noqa: BLE001 (half-imported or broken driver: the stage itself will say so)
        return "unknown"


def place(env: Mapping[str, str] = os.environ) -> str:
    """Which of its host's devices a worker computes on, as far as its environment says: the same for every process there.

    Inside a job whose other GPUs are hidden, CUDA counts from 0, and Slurm says which ones they are.

    >>> place({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "3,5"}), place({"CUDA_VISIBLE_DEVICES": "5"}), place({})
    ('gpu 3', 'gpu 5', 'default')
    """
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    visible = next((env[n] for n in names if env.get(n)), "")
    numbers = [v.strip() for v in visible.split(",") if v.strip() not in ("", "-1")]
    if not numbers:
        return DEFAULT
    job = env.get("SLURM_JOB_GPUS", "").split(",")
    if not set(numbers) <= set(job):
        numbers = [job[int(n)] if n.isdigit() and int(n) < len(job) and job[int(n)] else n for n in numbers]
    return f"gpu {','.join(numbers)}"


def gpu() -> dict[str, str]:
    """Name and UUID of the GPU that torch uses here; {} without one. Imports nothing."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_initialized():
            return {}
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {"gpu": properties.name, "uuid": str(getattr(properties, "uuid", ""))}
    except Exception:  # noqa: BLE001 (asked about a device that failed: what is known without it has to do)
        return {}
