"""The trial: stages of the plan, cut to two batches, made by their true workers in a folder that is removed afterwards, and twice.

What a worker's own events tell is what is told here: the device, the time of the second batch, memory, bytes. Stages that compute nothing
and that a computing one reads (captions.json) are made beside it, once. Filters, exports and whatever reads them are left out.
"""

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from launch.checkup.rows import Row, broken, ok, unknown, warn, wrong
from launch.config.clusters import ClusterConfig
from launch.local.contained import container_of
from launch.local.node import Machine
from launch.local.node import run as run_here
from launch.plan.devices import uses_gpu
from launch.plan.planned import PlannedStage
from launch.show import calibration
from launch.show.calibration import Pace
from launch.show.estimate import pace_of, work_of
from launch.show.saying import say
from synth.captions.prompts import UPSTREAM
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.kinds import KINDS
from synth.store.events import read_events
from synth.store.files import make_folder, storing
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec, Upstream

NOT_TOLD = -1  # in the place of an exit code: nothing was computed, and nothing is wrong with what was to be
BATCHES = 2  # in the first one kernels are chosen and compiled; the second is measured
FILLINGS = 2  # of the rows of a captioner, in the place of a window of hundreds
WITHOUT = ("filter", "export")  # groups of kinds that are not made in a trial
CAPTIONS = 48  # at least, of which two batches of pictures are drawn although some are refused or come twice
# kinds of which some slots can be made without the others. What computes and is not among them is not tried
CUT = frozenset(
    ["captions", "backgrounds", "images", "img2img", "story", "features", "tags", "boxes", "masks", "box_captions", "crop_scores"]
)
TEXTS = "texts"  # key of features, whose slots are all pictures of what they read and as many classes more
DRAINED = "drained on"  # how the outcome of a stage begins that a signal stopped
TRIAL = "trial-"  # how the folder of a trial begins


@dataclass(frozen=True)
class Tried:
    """A stage of the plan as it is tried. first: cut, to be made in the first folder; second: the same once more, None for what computes
    nothing."""

    stage: PlannedStage
    first: PlannedStage
    second: PlannedStage | None


@dataclass(frozen=True)
class Skipped:
    name: str
    why: str


@dataclass
class Chain:
    """What is tried, upstreams first, and what is not."""

    tried: list[Tried] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """What became of the workers of a cut stage. why: of one that is not whole; node: facts that a job wrote down (launch.checkup.jobs)."""

    code: int
    why: str = ""
    node: Mapping[str, str] = field(default_factory=dict)


Make = Callable[[PlannedStage, str], Ended]  # (cut stage, what it is called) -> its end


# -- cutting ---------------------------------------------------------------------------------------------------------


def chain_of(stages: Sequence[PlannedStage], place: Path) -> Chain:
    """What of some planned stages is tried below `place`: one stage of each work, and all that it reads. Pure."""
    chain, works = Chain(), set[str]()
    needed = _needed(stages)
    cut: dict[Path, PlannedStage] = {}  # planned folder -> its cut stage
    for stage in stages:
        spec, computes = stage.spec, uses_gpu(stage.spec.kind, stage.spec.config)
        if not stage.planned or stage.folder not in needed:
            continue
        if why := _uncuttable(stage, cut):
            if computes:
                chain.skipped.append(Skipped(stage.name, why))
            continue
        work = work_of_spec(spec)
        first = _cut(stage, cut, place / "a")
        cut[stage.folder] = first
        second = PlannedStage(_absolute(first), place / "b", planned=True) if computes and work not in works else None
        if not computes or second is not None or _is_read(stage, stages, needed):
            chain.tried.append(Tried(stage, first, second))
        works.add(work)
    return chain


def work_of_spec(spec: StageSpec) -> str:
    return work_of(spec.kind, spec.config, spec.numerics, spec.batch, {role: i.identity for role, i in spec.inputs.items()})


def _needed(stages: Sequence[PlannedStage]) -> set[Path]:
    """Folders of the stages that compute, and of all that these read."""
    known = {s.folder: s for s in stages}
    todo = [s.folder for s in stages if uses_gpu(s.spec.kind, s.spec.config)]
    found: set[Path] = set()
    while todo:
        folder = todo.pop()
        if folder in known and folder not in found:
            found.add(folder)
            todo += known[folder].upstream
    return found


def _is_read(stage: PlannedStage, stages: Sequence[PlannedStage], needed: set[Path]) -> bool:
    return any(stage.folder in other.upstream for other in stages if other.folder in needed)


def _uncuttable(stage: PlannedStage, cut: Mapping[Path, PlannedStage]) -> str:
    """Why a stage cannot be tried; "" if it can."""
    if KINDS[stage.spec.kind].group in WITHOUT:
        return "it belongs to a filter or an export, which are not tried"
    if uses_gpu(stage.spec.kind, stage.spec.config) and stage.spec.kind not in CUT:
        return f"the slots of {stage.name} belong together, and are too many for a trial"
    if whole := [role for role in {*UPSTREAM.values()} if role in stage.spec.upstream]:
        return f"it reads all {whole[0]}, which are too many for a trial"
    if TEXTS in stage.spec.config and not any(up in cut for up in stage.upstream):
        return "its slots are all pictures of a source, and are too many for a trial"
    lost = [up.name for up in stage.upstream if up not in cut and not (up / "done.json").exists()]
    return f"it reads {', '.join(lost)}, which is not tried" if lost else ""


def _cut(stage: PlannedStage, cut: Mapping[Path, PlannedStage], root: Path) -> PlannedStage:
    """Two batches of a stage that computes; of another as much as there is to read."""
    spec = stage.spec
    rows = spec.settings.get("memory", {}).get("rows") or _rows(spec.config)
    batch = min(spec.batch, FILLINGS * rows) if rows else spec.batch
    enough = max(BATCHES * batch, -(-CAPTIONS // batch) * batch if rows else 0)
    slots = min(spec.slots, _room(stage, cut), spec.slots if TEXTS in spec.config else enough)
    batch = max(1, min(batch, slots))
    upstream = {role: tuple(_reference(stage, up, cut) for up in ups) for role, ups in spec.upstream.items()}
    config = _unchosen(spec.config, sum(up.spec.slots for up in _ups(stage, cut)))
    small = replace(spec, config=config, slots=slots, unit_size=batch, batch=batch, ends=(), upstream=upstream)
    return PlannedStage(small, root, planned=True)


def _room(stage: PlannedStage, cut: Mapping[Path, PlannedStage]) -> int:
    """Slots for which there is something to read: of a stage a slot of which is made of one of another, as many as that has."""
    return min((up.spec.slots for up in _ups(stage, cut) if up.spec.slots > 1), default=stage.spec.slots)


def _unchosen(config: Mapping, captions: int) -> dict:
    """A config that asks for no more captions, and for none in particular, where only some were made."""
    if "allow_short" in config:
        return dict(config) | {"allow_short": True, "per_class": 0, "total": min(config["total"], captions or config["total"])}
    return dict(config) | ({"counts": (), "subset": ""} if "counts" in config else {}) | ({TEXTS: 0} if TEXTS in config else {})


def _rows(config: Mapping) -> int:
    captioner = config.get("captioner")
    return int(captioner.get("max_batch_size") or 0) if isinstance(captioner, Mapping) else 0


def _ups(stage: PlannedStage, cut: Mapping[Path, PlannedStage]) -> list[PlannedStage]:
    return [cut[up] for up in stage.upstream if up in cut]


def _reference(stage: PlannedStage, up: Upstream, cut: Mapping[Path, PlannedStage]) -> Upstream:
    """What a cut stage reads: the cut one, else what is there."""
    folder = Path(os.path.normpath(stage.folder / up.path))
    if folder not in cut:
        return Upstream(str(folder), up.fingerprint)
    return Upstream(f"../{cut[folder].folder.name}", cut[folder].spec.fingerprint)


def _absolute(stage: PlannedStage) -> StageSpec:
    """The same stage to lie elsewhere: what it reads stays where it is."""
    ups = {
        role: tuple(replace(up, path=os.path.normpath(stage.folder / up.path)) for up in ups) for role, ups in stage.spec.upstream.items()
    }
    return replace(stage.spec, upstream=ups)


# -- making ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def throwaway(runs: Path) -> Iterator[Path]:
    """A folder in runs_dir for one trial, which goes with it. Those that a killed doctor of this host left are removed first."""
    top, here = runs / calibration.FOLDER, f"{TRIAL}{socket.gethostname().partition('.')[0]}-"
    make_folder(top)
    with contextlib.suppress(OSError):
        for left in top.glob(f"{here}*"):
            pid = left.name.removeprefix(here).partition("-")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)
    place = top / f"{here}{os.getpid()}-{secrets.token_hex(3)}"
    with storing(place):
        place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # holds what was measured
            top.rmdir()


def run(chain: Chain, runs: Path, make: Make) -> list[Row]:
    """Try all of a chain; rows, and what was measured kept in `runs`. A stage that fails ends those that read it."""
    rows = [unknown(f"trial of {s.name}", s.why) for s in chain.skipped]
    failed: set[Path] = set()
    for tried in chain.tried:
        what = f"trial of {tried.stage.name}"
        if failed & {Path(os.path.normpath(up)) for up in tried.first.upstream}:
            failed.add(tried.first.folder)
            if tried.second is not None:
                rows.append(unknown(what, "not begun: a stage that it reads failed"))
            continue
        ended = make(tried.first, tried.stage.name)
        if ended.code != EXIT_OK:
            failed.add(tried.first.folder)
            rows.append(_failed(what, ended))
            continue
        if tried.second is not None:
            again = make(tried.second, f"{tried.stage.name}, once more")
            rows += told(tried, ended, again)
            _keep(runs, tried)
    return rows


def _failed(what: str, ended: Ended) -> Row:
    if ended.code == EXIT_AGAIN:
        return broken(what, ended.why or "its worker stopped", ended.node.get("fix", ""))
    if ended.code == NOT_TOLD:
        return unknown(what, ended.why, ended.node.get("fix", ""))
    return wrong(what, ended.why or f"its worker ended with exit code {ended.code}")


def _keep(runs: Path, tried: Tried) -> None:
    if (pace := measured(tried.first.folder)) is not None:
        calibration.keep(runs, tried.stage.spec.kind, work_of_spec(tried.stage.spec), pace)


def measured(folder: Path) -> Pace | None:
    """The pace of the second batch, or of the first where there is only one."""
    return pace_of([folder], warm=True) or pace_of([folder])


# -- telling ---------------------------------------------------------------------------------------------------------


def told(tried: Tried, ended: Ended, again: Ended) -> list[Row]:
    """What a stage's two trials say: the device, its figures, and whether both made the same bytes."""
    name, events = tried.stage.name, list(read_events(tried.first.folder))
    return [_device(name, events, ended.node), _figures(tried), _same(tried, again)]


def _device(name: str, events: Sequence[Mapping], node: Mapping[str, str]) -> Row:
    start = next((e for e in events if e["event"] == "start"), {})
    opened = next((e for e in events if e["event"] == "open"), {})
    device, what = str(opened.get("device", "unknown")), f"device of {name}"
    host = str(node.get("host") or start.get("host", ""))
    facts = [device + (f" on {host}" if host else "")]
    facts += [f"{word} {value}" for word, value in (("driver", node.get("driver")), ("torch for CUDA", opened.get("cuda"))) if value]
    if "bf16" in opened:
        facts.append("bfloat16" if opened["bf16"] else "no bfloat16: float16 in its place")
    if node and node.get("links") != "yes":
        return warn(what, "; ".join([*facts, "hard links do not work in runs_dir there"]), "units are committed by a claim and a rename")
    if lost := node.get("lacks"):
        return warn(
            what, "; ".join([*facts, f"not found there: {lost}"]), "gates need Slurm's commands on nodes: cluster.setup, cluster.modules"
        )
    return ok(what, "; ".join([*facts, *(["hard links work there"] if node else [])]))


def _figures(tried: Tried) -> Row:
    what, pace, spec = f"batch of {tried.stage.name}", measured(tried.first.folder), tried.first.spec
    if pace is None:
        return unknown(what, "its worker's events tell no unit")
    which = "the second batch" if spec.n_units > 1 else "the only batch, the first included"
    memory = [f"{decimal(n)} {where}" for n, where in ((pace.device_peak, "of GPU memory"), (pace.host_peak, "of host memory")) if n] or [
        "memory not known"
    ]
    cut = f", cut from {tried.stage.spec.batch:,}" if spec.batch < min(tried.stage.spec.batch, tried.stage.spec.slots) else ""
    return ok(
        what,
        f"{spec.batch:,} samples{cut} in {pace.slot_s * spec.batch:.3g} s ({which}), {pace.start_s:.0f} s to begin; "
        f"{decimal(round(pace.slot_bytes))} a sample; at most {', '.join(memory)}",
    )


def _same(tried: Tried, again: Ended) -> Row:
    """Whether two processes made the same units."""
    what, promised = f"bytes of {tried.stage.name}", tried.first.spec.numerics.get("deterministic", False)
    if tried.second is None or again.code != EXIT_OK:
        return unknown(what, f"made once only: {again.why}")
    first, second = (digests(s) for s in (tried.first, tried.second))
    differ = [n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    if not differ:
        return ok(what, f"two processes made the same: {len(first)} units")
    if not promised:
        return ok(what, f"{len(differ)} of {len(first)} units differ, which these numerics do not promise")
    return broken(
        what, f"units {differ} differ between two processes", "take numerics=reference to see whether it is the card; docs/determinism.md"
    )


def digests(stage: PlannedStage) -> list[str]:
    """Of each unit of a whole stage."""
    folder, found = StageFolder.open(stage.folder), []
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            found.append(reader.digest)
    return found


def local(cluster: ClusterConfig, console: Console) -> Make:
    """Workers of this machine, through the launcher of cluster=local: one at a time, so that nothing else is measured."""

    def make(stage: PlannedStage, name: str) -> Ended:
        say(console, f"trial: {name}")
        try:
            outcomes = run_here(Machine(n_jobs=1), [stage], console, container=container_of(cluster))
        except InputError as e:
            return Ended(EXIT_BAD_INPUT, str(e))
        ended = Ended(outcomes[0].code, outcomes[0].message) if outcomes else Ended(EXIT_AGAIN, DRAINED)
        if ended.why.startswith(DRAINED):
            raise KeyboardInterrupt
        return ended

    return make
