"""What this worker was given: cores and device. For the events, so that a slow job can be understood afterwards."""

import os
import sys
from collections.abc import Mapping


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
