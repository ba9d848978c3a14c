"""The memory of one GPU that a stage is planned for, and where that figure is from. A plan must not depend on who plans it, so
whatever it is settled by is said: stage.json holds the numbers, dry_run=true and inputs.json the source.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from launch.config.clusters import ClusterConfig, SlurmConfig
from launch.plan.devices import uses_gpu, visible_gpus
from synth.errors import StoreError
from synth.host.gpu import smi
from synth.host.refusals import passing
from synth.host.slurm import command
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
    if value("gpus_per_job") == 0:
        return None
    names, features = (re.split(r"[^\w.-]+", words or "") for words in (gres, constraint))
    for key, found in (("gres", smallest(names, ())), ("constraint", smallest((), features))):
        if found:
            return GpuMemory(found[0], f"cluster.{key}: {found[1]}")
    partition, said = value("partition"), _partitions((cluster.clusters or "").partition(",")[0])
    wanted = (partition or "").split(",")
    mine = [(gpus, words) for name, default, gpus, words in said if (name in wanted if partition else default)]
    if known := [found for gpus, words in mine if (found := smallest(gpus, words))]:
        where = f"partition {partition}" if partition else "the default partition"
        return GpuMemory(min(known)[0], f"Slurm, {where}: {min(known)[1]}")
    return GpuMemory(ASSUMED, "assumed: neither cluster.gpu_mem_gb nor Slurm says")


@cache  # a command asks once
def _partitions(cluster: str) -> tuple[tuple[str, bool, tuple[str, ...], tuple[str, ...]], ...]:
    """Of every partition of a cluster and each kind of its nodes that have GPUs: name, whether it is the default, what GRES call the
    GPUs, the nodes' features. () without Slurm."""
    done = command("sinfo", "-h", "-a", "-o", "%P|%G|%f", timeout=QUICK, cluster=cluster)
    if done is None:
        return ()
    if done[0] and passing(done[2]):  # taken for "it does not say" it would make another plan, beside the one that is half done
        why = f"sinfo does not say what GPUs there are ({done[2].strip()})"
        raise StoreError(f"{why}; run the same command again, or give cluster.gpu_mem_gb")
    return parse_nodes(done[1])


def parse_nodes(text: str) -> tuple[tuple[str, bool, tuple[str, ...], tuple[str, ...]], ...]:
    """sinfo's lines of partition, GRES and features, without nodes that have no GPU.

    >>> parse_nodes("long*|gpu:a100:4(S:0-1)|a100_80gb,ib\\ncpu|(null)|amd")
    (('long', True, ('a100',), ('a100_80gb', 'ib')),)
    """
    nodes = []
    for line in text.splitlines():
        name, gres, features = [*line.strip().split("|"), "", ""][:3]
        gpus = [part.split("(")[0].split(":") for part in gres.split(",") if part.startswith("gpu")]
        if gpus:
            names = tuple(words[1] for words in gpus if len(words) > 1 and not words[1].isdigit())
            nodes.append((name.rstrip("*"), name.endswith("*"), names, tuple(f for f in features.split(",") if f != "(null)")))
    return tuple(nodes)


def smallest(gres: Iterable[str], features: Iterable[str]) -> tuple[float, str] | None:
    """(GB, word) of the smallest card that the names of a node's GPUs or its features tell of.

    A figure ("80gb") comes before a card's name; names come before features, in which a figure counts beside a card's name alone.

    >>> smallest(["a100"], ["a100_80gb", "mem512gb"]), smallest(["1g.10gb"], []), smallest(["h100"], ["rack-a2"]), smallest([], ["ib"])
    ((80.0, 'a100_80gb'), (10.0, '1g.10gb'), (80.0, 'h100'), None)
    """
    gres, features = list(gres), [word for word in features if _card(word) is not None or "gpu" in word.lower()]
    for value, words in ((_figure, [*gres, *features]), (_card, gres), (_card, features)):
        if known := [(gb, word) for word in words if (gb := value(word)) is not None]:
            return min(known)
    return None


def _card(word: str) -> float | None:
    """GB of the card that a word of a site names; None for a word that names none. Short names are words of their own.

    >>> _card("nvidia_a100-sxm4"), _card("tesla_t4"), _card("H100"), _card("rack-a2"), _card("intel")
    (40.0, 16.0, 80.0, None, None)
    """
    low = re.sub(r"^(nvidia|tesla|geforce|quadro)[-_]", "", re.sub(r"^nvidia[-_]", "", word.lower()))
    names = [
        name
        for name in CARDS
        if (low == name if len(name) < 3 else re.search(rf"(?<![a-z0-9]){name}(?![0-9])", low) or (len(name) > 3 and name in low))
    ]
    return float(CARDS[max(names, key=len)]) if names else None


def _figure(word: str) -> float | None:
    """The figure in a name such as 1g.10gb or gpu_mem_80gb, in GB."""
    figures = re.findall(r"(\d+)(?:gb|gib|g)(?![a-z0-9.])", word.lower())
    return float(figures[-1]) if figures and 4 <= int(figures[-1]) <= 1000 else None


# -- this machine ----------------------------------------------------------------------------------------------------


@cache  # a command asks once
def _of_this_machine() -> GpuMemory | None:
    """The smallest visible GPU of this machine; None where there is none."""
    visible = visible_gpus()
    if not visible:
        return None
    try:
        known = memories(smi("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"), smi("-L"))
    except OSError:
        return GpuMemory(ASSUMED, "assumed: cluster.gpu_mem_gb does not say, and there is no nvidia-smi")
    except subprocess.SubprocessError as e:  # another plan for want of an answer would stand beside the one that is half done
        raise StoreError(f"nvidia-smi does not say what the GPUs hold ({e}); run the same command again, or give cluster.gpu_mem_gb") from e
    sizes = {v: next((gb for name, gb in known.items() if name == v or (not v.isdigit() and name.startswith(v))), ASSUMED) for v in visible}
    least = min(sizes, key=lambda v: sizes[v])
    return GpuMemory(sizes[least], f"nvidia-smi of this machine, GPU {least}")


def memories(listing: str, cards: str) -> dict[str, float]:
    """GB of each GPU by index and by UUID, of each MIG slice by UUID: from nvidia-smi's table of sizes in MiB, and its list (-L).

    >>> memories("0, GPU-a, 81559", "GPU 0: NVIDIA A100 (UUID: GPU-a)\\n  MIG 1g.10gb     Device  0: (UUID: MIG-b)")
    {'0': 85.5, 'GPU-a': 85.5, 'MIG-b': 10.0}
    """
    known = {}
    for line in listing.splitlines():
        index, uuid, mib = [*map(str.strip, line.split(",")), "", ""][:3]
        if mib.isdigit():
            known[index] = known[uuid] = round(int(mib) * 2**20 / 1e9, 1)
    for profile, uuid in re.findall(r"^\s+MIG (\S+) .*\(UUID: (\S+)\)", cards, re.MULTILINE):
        if (gb := _figure(profile)) is not None:
            known[uuid] = gb
    return known
