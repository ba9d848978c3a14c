"""What this worker was given: cores and device. For the events, so that a slow job can be understood afterwards."""

import contextlib
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence

from synth.host.gpu import VISIBLE, listed

DEFAULT = "default"  # the place of a worker whose environment names no device
SLICE = "MIG-"  # a name of a slice of a GPU, of which CUDA shows a process one
JOB_GPUS = "SYNTHSET_JOB_GPUS"  # what CUDA_VISIBLE_DEVICES was in a job before its workers took their shares of it

ASKED = "SYNTHSET_GPUS"  # how many GPUs a worker's job asked for, for it


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def advice(cores: int, env: Mapping[str, str]) -> str:
    """A warning if the affinity is smaller than what was asked of Slurm; "" if all is well.

    advice(1, {"SLURM_CPUS_PER_TASK": "8"}) says so: since 22.05 srun does not inherit --cpus-per-task from sbatch, and newer ones bind
    tasks to what the flags of an enclosing job or a site's TaskPluginParam leave.
    """
    asked, bound = env.get("SLURM_CPUS_PER_TASK", ""), env.get("SLURM_CPU_BIND", "")
    if not asked.isdigit() or cores >= int(asked):
        return ""
    by = f"srun binds it (SLURM_CPU_BIND={bound}): +cluster.srun_extra.cpu-bind=none lifts that; by hand, " if bound else ""
    return (
        f"may run on {cores} cores, but {asked} a task were asked for: {by}"
        f"give srun --cpus-per-task={asked} (Slurm 22.05 and later do not inherit it)"
    )


def short_of_gpus(env: Mapping[str, str] = os.environ) -> str:
    """What a worker lacks of the GPUs that were asked for; "" if it may see them all. Whether they work is synth.host.gpu's affair.

    >>> short_of_gpus({"SYNTHSET_GPUS": "2", "CUDA_VISIBLE_DEVICES": "3", "SLURMD_NODENAME": "n7"})
    '2 GPUs were asked for this worker, and it is given 1 (CUDA_VISIBLE_DEVICES=3) on n7'
    >>> short_of_gpus({"SYNTHSET_GPUS": "1", "CUDA_VISIBLE_DEVICES": "3"}), short_of_gpus({"CUDA_VISIBLE_DEVICES": ""})
    ('', '')
    """
    asked, name = env.get(ASKED, ""), next((name for name in VISIBLE if name in env), "")
    gpus = listed(env[name]) if name else []
    slices = [gpu for gpu in gpus if gpu.startswith(SLICE)]
    given = len(gpus) - max(0, len(slices) - 1)
    if not asked.isdigit() or not name or given >= int(asked):
        return ""
    node = env.get("SLURMD_NODENAME") or platform.node()
    of_one = f"; of {len(slices)} MIG slices CUDA shows a process one" if slices[1:] else ""
    return (
        f"{asked} GPU{'s were' if asked != '1' else ' was'} asked for this worker, and it is given {given} "
        f"({name}={env[name]}{of_one}) on {node}"
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
    gpus = listed(next((env[name] for name in VISIBLE if env.get(name)), ""))
    if not gpus:
        return DEFAULT
    return f"gpu {','.join(_by_slurm(gpus, listed(env.get(JOB_GPUS, '')), listed(env.get('SLURM_JOB_GPUS', ''))))}"


def _by_slurm(gpus: Sequence[str], job: Sequence[str], slurm: Sequence[str]) -> Sequence[str]:
    """What Slurm calls a worker's GPUs, by their positions in CUDA's list of the whole job, which Slurm's list stands beside.

    Without that list they are as they are where a number may be meant either way: so two GPUs of a job never get one name.

    >>> [_by_slurm(gpu, ["0", "1"], ["1", "2"]) for gpu in ("0", "1")], [_by_slurm(gpu, [], ["1", "2"]) for gpu in ("0", "1")]
    ([['1'], ['2']], ['0', '1'])
    """
    job = job if set(gpus) <= set(job) else gpus
    if len(job) == len(slurm):
        return [slurm[job.index(gpu)] for gpu in gpus]
    counted = [str(i) for i, _ in enumerate(slurm)]
    if set(gpus) <= set(counted) and not set(counted) & set(slurm):
        return [slurm[int(gpu)] for gpu in gpus]
    return gpus


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


def torch_facts() -> dict[str, object]:
    """What torch was built for, and whether its GPU here computes in bfloat16; {} without a GPU. Imports nothing."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_initialized():
            return {}
        return {"cuda": torch.version.cuda or f"ROCm {torch.version.hip}", "bf16": torch.cuda.is_bf16_supported(including_emulation=False)}
    except Exception:  # noqa: BLE001 (as in `gpu`)
        return {}


def peaks() -> dict[str, int]:
    """The most memory that this process had until now, in bytes: on the host, or one of its children there, if that had more; and what
    torch held of its GPU, where it computed on one. Imports nothing."""
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found = {"host_peak": most * (1 if sys.platform == "darwin" else 1024)}
    torch = sys.modules.get("torch")
    with contextlib.suppress(Exception):  # a broken driver: what is known without it has to do
        if torch is not None and torch.cuda.is_initialized():
            found["device_peak"] = max(torch.cuda.max_memory_reserved(n) for n in range(torch.cuda.device_count()))
    return found
