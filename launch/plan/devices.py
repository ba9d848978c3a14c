"""What this machine has for workers: GPUs counted without torch, and cores that this process may use."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.captions.engines import WITHOUT_DEVICE
from synth.errors import InputError
from synth.host.allocation import JOB_GPUS, SLICE
from synth.host.gpu import CUDA, HIP, ROCR, ROOT, VISIBLE, amd_nodes, listed, nvidia_files, smi
from synth.host.source import as_module
from synth.kinds import CORES, ENGINE, GPU, KINDS

ORDER, BY_BUS = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"  # how nvidia-smi and NVML count; CUDA by itself puts the fastest card first


@dataclass(frozen=True)
class Card:
    """One GPU of NVIDIA's. In MIG mode it is as many GPUs as it has slices."""

    index: str
    uuid: str
    slices: tuple[str, ...] = ()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def visible_gpus(env: Mapping[str, str] = os.environ, root: Path = ROOT, tell: Callable[[str], None] = _warn) -> tuple[str, ...]:
    """Names of the GPUs that workers here may have: indices as nvidia-smi counts them, or UUIDs.

    Those of CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES, else all of this machine. InputError: a variable
    that names no GPU, or a driver of NVIDIA's that shows none. `tell`: what was left out, or could not be asked.
    """
    if name := next((v for v in VISIBLE if v in env), None):
        return _named(name, env[name])
    cards = cards_by_smi(tell)
    if cards is None:
        cards = cards_by_nvml()
    if gpus := names(cards or ()) or tuple(str(i) for i, _ in enumerate(nvidia_files(root))):
        return gpus
    if (root / "dev/nvidiactl").exists():
        raise InputError(
            "NVIDIA's driver is here (/dev/nvidiactl) and shows no GPU; nvidia-smi says why. "
            f'To compute on cores: {CUDA}=""; for certain GPUs: {CUDA}=0,1'
        )
    return _amd_gpus(root, tell)


def _named(variable: str, value: str) -> tuple[str, ...]:
    """The GPUs that a variable names. HIP counts anew those that ROCR_VISIBLE_DEVICES leaves."""
    gpus = listed(value)
    for gpu in gpus:
        if not (gpu.isdigit() or gpu.startswith(("GPU-", SLICE))):
            raise InputError(f"{variable}={value}: {gpu!r} is no index and no UUID (GPU-..., MIG-...)")
    return tuple(str(i) for i, _ in enumerate(gpus)) if variable == ROCR else tuple(gpus)


def names(cards: Sequence[Card]) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs of some cards: indices, but where one has slices UUIDs of all.

    >>> names([Card("0", "GPU-a", ("MIG-1", "MIG-2")), Card("1", "GPU-b")])
    ('MIG-1', 'MIG-2', 'GPU-b')
    """
    if not any(card.slices for card in cards):
        return tuple(card.index for card in cards)
    return tuple(name for card in cards for name in card.slices or (card.uuid,))


def parse_list(text: str) -> list[Card]:
    """Lines of `nvidia-smi -L`: "GPU 0: NVIDIA A100 (UUID: GPU-5d5b)" and, below, "  MIG 3g.20gb  Device  0: (UUID: MIG-c738)"."""
    cards: list[Card] = []
    for line in text.splitlines():
        if card := re.match(r"GPU (\d+): .*\(UUID: (\S+)\)", line):
            cards.append(Card(card[1], card[2]))
        elif cards and (part := re.match(r"\s+MIG .*\(UUID: (\S+)\)", line)):
            cards[-1] = Card(cards[-1].index, cards[-1].uuid, (*cards[-1].slices, part[1]))
    return cards


def cards_by_smi(tell: Callable[[str], None]) -> list[Card] | None:
    """All cards by nvidia-smi; none where it fails or hangs, which NVML would do as well; None where there is no such program."""
    try:
        return parse_list(smi("-L"))
    except subprocess.TimeoutExpired as e:
        tell(f"nvidia-smi did not answer in {e.timeout:g} s: GPUs are counted by their files in /dev; name them in {CUDA} to skip this")
        return []
    except subprocess.CalledProcessError:
        return []
    except OSError:
        return None


def cards_by_nvml() -> list[Card]:
    """All cards by the driver's library (pip install nvidia-ml-py); none without it."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 (not installed, or no driver: its own errors)
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [Card(str(i), nvml_uuid(h), tuple(map(nvml_uuid, nvml_slices(h)))) for i, h in enumerate(handles)]
    finally:
        pynvml.nvmlShutdown()


def nvml_uuid(handle: Any) -> str:
    import pynvml

    uuid = pynvml.nvmlDeviceGetUUID(handle)
    return uuid.decode() if isinstance(uuid, bytes) else uuid


def nvml_slices(handle: Any) -> list:
    """NVML's handles of the MIG slices of a card."""
    import pynvml

    found = []
    try:
        for i in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))
            except pynvml.NVMLError_NotFound:  # slices are numbered with gaps
                continue
    except pynvml.NVMLError:  # a card or a driver without MIG
        return []
    return found


def _amd_gpus(root: Path, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Indices of AMD's GPUs where torch is built for them. Otherwise they are told of: every laptop with AMD graphics has one."""
    nodes = amd_nodes(root)
    if nodes and not torch_is_for_rocm():
        tell(f"{len(nodes)} GPUs of AMD are not used: torch here is no ROCm build; name them in {HIP} if your own program uses them")
        return ()
    return tuple(str(i) for i, _ in enumerate(nodes))


def torch_is_for_rocm() -> bool:
    """Whether the installed torch is built for AMD's GPUs, without importing it."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    return bool(file and file.is_file() and re.search(r"^hip\b.*= *['\"]", file.read_text(), re.MULTILINE))


def environment(gpus: tuple[str, ...] | None, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables of a worker with these GPUs, or on cores, beside those that it inherits."""
    chosen = "" if gpus is None else ",".join(gpus)
    own = {CUDA: chosen}
    name = next((v for v in VISIBLE if v in env), None)
    if gpus and name and JOB_GPUS not in env:
        own[JOB_GPUS] = ",".join(_named(name, env[name]))
    if HIP in env or ROCR in env or torch_is_for_rocm():
        own[HIP] = chosen or "-1"  # an empty list is all GPUs there
    if any(name.isdigit() for name in gpus or ()) and ORDER not in env:
        own[ORDER] = BY_BUS
    return own


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

    InputError: there are GPUs, and a worker needs more than there are whole ones.

    >>> places(("0", "1", "2"), 8, "images", 1)
    [('0',), ('1',), ('2',)]
    >>> places((), 8, "captions", 4)
    [None, None]
    """
    if device_of(kind) == CORES or not gpus:
        return [None] * max(1, n_cores // processes)
    found = grouped(gpus, processes)
    if not found:
        n_whole = sum(not gpu.startswith(SLICE) for gpu in gpus)
        slices = f" and {len(gpus) - n_whole} MIG slices, which cannot be joined" if n_whole < len(gpus) else ""
        raise InputError(
            f"a worker of this {kind} stage takes {processes} GPUs (captioner.model_parallel); there are {n_whole} here{slices}: "
            f'take fewer (LLaMA: {as_module("synth.captions.llama.reshard")} merges shards), or, to compute on cores: {CUDA}=""'
        )
    return [*found]


def grouped(gpus: Sequence[str], processes: int) -> list[tuple[str, ...]]:
    """GPUs of each worker of so many processes. Several share no slices: a process sees one, and slices do not talk to each other."""
    whole = [gpu for gpu in gpus if processes == 1 or not gpu.startswith(SLICE)]
    return [tuple(whole[i : i + processes]) for i in range(0, len(whole) - processes + 1, processes)]


def places_of(gpus: tuple[str, ...], n_cores: int, kind: str, config: Mapping) -> list[tuple[str, ...] | None]:
    """The places of a stage's workers on this machine. One for captions of somebody else's server: one worker sends many requests."""
    if device_of(kind) == ENGINE and config["captioner"].get("engine") == "openai":
        return [None]
    return places(gpus if uses_gpu(kind, config) else (), n_cores, kind, processes_of(kind, config))


def processes_of(kind: str, config: Mapping) -> int:
    """Processes, or GPUs, that one worker of a stage has: a torchrun captioner has one a shard."""
    return int(config["captioner"].get("model_parallel", 1)) if device_of(kind) == ENGINE else 1
