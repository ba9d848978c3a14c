"""What this machine has for workers: GPUs counted without torch, and cores that this process may use."""

import os
import subprocess
from collections.abc import Mapping

from synth.captions.engines import WITHOUT_DEVICE
from synth.kinds import CORES, ENGINE, GPU, KINDS


def cores() -> int:
    return len(os.sched_getaffinity(0))


def visible_gpus(env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names of the GPUs that CUDA would show: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists."""
    if "CUDA_VISIBLE_DEVICES" in env:
        return tuple(g.strip() for g in env["CUDA_VISIBLE_DEVICES"].split(",") if g.strip() not in ("", "-1"))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(i) for i, line in enumerate(x for x in listed.splitlines() if x.startswith("GPU ")))


def n_workers(asked: int | None, places: int, units: int) -> int:
    """Workers to start: as asked, else one a place; never more than there are units to do, one at least."""
    return max(1, min(asked or max(1, places), units))


def device_of(kind: str) -> str:
    """What the workers of a kind compute on; a gate, which is no stage, on cores."""
    return KINDS[kind].device if kind in KINDS else CORES


def uses_gpu(kind: str, config: Mapping) -> bool:
    """Whether a stage's workers use a GPU where there is one: captions that somebody else's server writes do not.

    >>> uses_gpu("captions", {"captioner": {"engine": "openai"}})
    False
    """
    device = device_of(kind)
    return device == GPU or (device == ENGINE and config["captioner"].get("engine") not in WITHOUT_DEVICE)


def places(gpus: tuple[str, ...], n_cores: int, kind: str, processes: int) -> list[tuple[str, ...] | None]:
    """The places of a stage's workers: GPUs of each, or None for a place on cores. A worker of several processes takes several.

    >>> places(("0", "1", "2"), 8, "images", 1)
    [('0',), ('1',), ('2',)]
    >>> places((), 8, "captions", 4)
    [None, None]
    """
    if device_of(kind) != CORES and len(gpus) >= processes:
        return [gpus[i : i + processes] for i in range(0, len(gpus) - processes + 1, processes)]
    return [None] * max(1, n_cores // processes)


def places_of(gpus: tuple[str, ...], n_cores: int, kind: str, config: Mapping) -> list[tuple[str, ...] | None]:
    """The places of a stage's workers on this machine. One for captions of somebody else's server: one worker sends many requests."""
    if device_of(kind) == ENGINE and config["captioner"].get("engine") == "openai":
        return [None]
    return places(gpus if uses_gpu(kind, config) else (), n_cores, kind, processes_of(kind, config))


def processes_of(kind: str, config: Mapping) -> int:
    """Processes, or GPUs, that one worker of a stage has: a torchrun captioner has one a shard."""
    return int(config["captioner"].get("model_parallel", 1)) if device_of(kind) == ENGINE else 1
