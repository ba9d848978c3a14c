"""The memory of one GPU that a stage is planned for, and where that figure is from. A plan must not depend on who plans it, so
whatever it is settled by is said: stage.json holds the numbers, dry_run=true and inputs.json the source.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from launch.config.clusters import ClusterConfig, SlurmConfig
from launch.plan.devices import uses_gpu, visible_gpus
from synth.errors import StoreError
from synth.host.slurm import TRANSIENT, command
from synth.keys import WrongKey

ASSUMED = 24.0  # GB, where nobody says: a card that most sites have
QUICK = 10.0  # seconds: a site that is slow to answer must not hold up a plan
# GB of cards by a part of the name that a site gives them, the smaller where one name is of two; a name that says "80gb" wins
CARDS: Mapping[str, float] = {
    "mi300x": 192, "b300": 288, "b200": 180, "gh200": 96, "h200": 141, "h100": 80, "h800": 80, "h20": 96, "a100": 40, "a800": 40,
    "mi250": 64, "mi210": 64, "mi100": 32, "rtx_pro_6000": 96, "l40": 48, "a40": 48, "a6000": 48, "rtx8000": 48, "5090": 32, "v100": 16,
    "a5000": 24, "a10": 24, "a30": 24, "l4": 24, "rtx6000": 24, "rtx_6000": 24, "3090": 24, "4090": 24, "titan": 12, "a16": 16, "a2": 16,
    "t4": 16, "a4000": 16, "rtx4000": 8, "rtx5000": 16, "4080": 16, "p100": 12, "p40": 24, "2080ti": 11, "2080_ti": 11, "2080": 8,
    "1080ti": 11, "1080_ti": 11, "1080": 8, "3080": 10, "3070": 8, "k80": 12,
}  # fmt: skip


@dataclass(frozen=True)
class GpuMemory:
    """gb: 10^9 bytes of one GPU. source: where that is from, in words."""

    gb: float
    source: str


def gpu_memory(cluster: ClusterConfig, kind: str, config: Mapping) -> GpuMemory | None:
    """Of the GPUs that workers of a kind of stage get; None where they compute on cores.

    cluster.gpu_mem_gb, else what Slurm says of the GPUs that are asked for, or nvidia-smi of this machine's.
    """
    if not uses_gpu(kind, config):
        return None
    own = getattr(cluster, "stages", {}).get(kind)
    for key, value in ((f"stages.{kind}.gpu_mem_gb", own and own.gpu_mem_gb), ("gpu_mem_gb", cluster.gpu_mem_gb)):
        if value is None:
            continue
        if not value > 0:
            raise WrongKey(key, value, "the memory of one GPU in GB, as 80; null: as Slurm or nvidia-smi says", group="cluster")
        return GpuMemory(float(value), f"cluster.{key}")
    return _of_slurm(cluster, own) if isinstance(cluster, SlurmConfig) else _of_this_machine()


# -- Slurm -----------------------------------------------------------------------------------------------------------


def _of_slurm(cluster: SlurmConfig, own: object) -> GpuMemory | None:
    """By the words that the jobs ask for GPUs with, else by what the nodes of their partition have."""

    def value(name: str) -> Any:
        mine = getattr(own, name, None)
        return mine if mine is not None else getattr(cluster, name)

    gres, constraint = value("gres"), value("constraint")
    if value("gpus_per_job") == 0 or gres == "":
        return None
    for key, words in (("gres", gres), ("constraint", constraint)):
        if found := smallest(re.split(r"[^\w.-]+", words or "")):
            return GpuMemory(found[0], f"cluster.{key}: {found[1]}")
    partition, said = value("partition"), _partitions()
    mine = [words for name, default, words in said if (name == partition if partition else default)]
    if found := smallest(word for words in mine for word in words):
        where = f"partition {partition}" if partition else "the default partition"
        return GpuMemory(found[0], f"Slurm, {where}: {found[1]}")
    return GpuMemory(ASSUMED, "assumed: neither cluster.gpu_mem_gb nor Slurm says")


@cache  # a command asks once
def _partitions() -> tuple[tuple[str, bool, tuple[str, ...]], ...]:
    """(name, whether it is the default, the words of a kind of its nodes that have GPUs) of every partition; () without Slurm."""
    done = command("sinfo", "-h", "-a", "-o", "%P|%G|%f", timeout=QUICK)
    if done is None:
        return ()
    if done[0] and TRANSIENT.search(done[2]):  # taken for "it does not say" it would make another plan, beside the one that is half done
        why = f"sinfo does not say what GPUs there are ({done[2].strip()})"
        raise StoreError(f"{why}; run the same command again, or give cluster.gpu_mem_gb")
    return parse_nodes(done[1])


def parse_nodes(text: str) -> tuple[tuple[str, bool, tuple[str, ...]], ...]:
    """sinfo's lines of partition, GRES and features, without nodes that have no GPU.

    >>> parse_nodes("long*|gpu:a100:4(S:0-1)|a100_80gb,ib\\ncpu|(null)|amd")
    (('long', True, ('a100_80gb', 'ib', 'a100')),)
    """
    nodes = []
    for line in text.splitlines():
        name, gres, features = [*line.strip().split("|"), "", ""][:3]
        gpus = [part.split("(")[0].split(":") for part in gres.split(",") if part.startswith("gpu")]
        if gpus:
            names = [words[1] for words in gpus if len(words) > 1 and not words[1].isdigit()]
            nodes.append((name.rstrip("*"), name.endswith("*"), (*(f for f in features.split(",") if f != "(null)"), *names)))
    return tuple(nodes)


def smallest(words: Iterable[str]) -> tuple[float, str] | None:
    """(GB, word) of the smallest card that any of some words names. A node's own figure ("80gb") comes before a card's name.

    >>> smallest(["a100_80gb", "ib", "a100"]), smallest(["1g.10gb"]), smallest(["ib"])
    ((80.0, 'a100_80gb'), (10.0, '1g.10gb'), None)
    """
    named = [(memory_of(word), word) for word in words]
    known = [(gb, word) for gb, word in named if gb is not None]
    figures = [(gb, word) for gb, word in known if _figure(word) is not None]
    return min(figures or known, default=None)


def memory_of(word: str) -> float | None:
    """GB of the card that a word of a site names; None for a word that names none.

    >>> memory_of("nvidia_a100-sxm4-80gb"), memory_of("a100"), memory_of("H100"), memory_of("intel")
    (80.0, 40.0, 80.0, None)
    """
    figure, low = _figure(word), word.lower()
    if figure is not None:
        return figure
    names = [name for name in CARDS if re.search(rf"(?<![a-z0-9]){name}(?![0-9])", low) or (len(name) > 3 and name in low)]
    return float(CARDS[max(names, key=len)]) if names else None


def _figure(word: str) -> float | None:
    """The figure in a name such as 1g.10gb or gpu_mem_80gb, in GB."""
    figures = re.findall(r"(\d+)(?:gb|gib|g)(?![a-z0-9.])", word.lower())
    return float(figures[-1]) if figures and 4 <= int(figures[-1]) <= 1000 else None


# -- this machine ----------------------------------------------------------------------------------------------------


def _of_this_machine() -> GpuMemory | None:
    """The smallest visible GPU of this machine; None where there is none."""
    visible = visible_gpus()
    if not visible:
        return None
    mib = [gpu[-1] for gpu in _listed() if any(gpu[0] == v or gpu[1].startswith(v) for v in visible)]
    if not mib:
        return GpuMemory(ASSUMED, "assumed: neither cluster.gpu_mem_gb nor nvidia-smi says")
    return GpuMemory(round(min(int(m) for m in mib) * 2**20 / 1e9, 1), "nvidia-smi of this machine")


@cache
def _listed() -> Sequence[tuple[str, str, str]]:
    """(index, UUID, MiB) of every GPU that nvidia-smi lists."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=QUICK, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    lines = [tuple(word.strip() for word in line.split(",")) for line in said.splitlines()]
    return tuple((a, b, c) for a, b, c in (words for words in lines if len(words) == 3) if c.isdigit())
