"""The composed plan: its stages, the files that they read, and the secrets that they need. Planning has judged headers and shards; what it
refuses is a row here, and the rest is looked at all the same."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

import synth
from launch.checkup.filesystem import Needs
from launch.checkup.rows import Row, broken, ok, unknown, warn, wrong
from launch.plan.graph import BEHIND
from launch.plan.models import plan_model
from launch.plan.outputs import check_outputs
from launch.plan.planned import Failure, PlannedStage, Point
from launch.plan.state import state_of
from launch.show.estimate import Costs
from synth.errors import EXIT_AGAIN, InputError
from synth.kinds import KINDS
from synth.run.trust import secrets_of
from synth.store.identity import LISTED
from synth.store.spec import StageSpec
from synth.store.trees import walk

if TYPE_CHECKING:
    from launch.config.root import Config

LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "COPYING", "LICENSE.pdf")
MODELS = ("config.json", "model_index.json", "params.json")  # a folder that holds one of these is of a model
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
SHIPPED = Path(synth.__file__).resolve().parent
A_STAGE = 32  # inodes of a stage beside its units: its folders, what says what it is, and files of its workers


@dataclass
class Planned:
    """What was planned of a command line. unplanned: stage -> why not, of each point that was composed."""

    points: list[Point] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    runs: Path | None = None  # None: nothing was composed
    unplanned: list[tuple["Config", Mapping[str, InputError]]] = field(default_factory=list)


def rows(planned: Planned, stages: Sequence[PlannedStage]) -> list[Row]:
    """What could not be planned, then each file or folder that a stage reads, once."""
    found = [broken("config", f.message) if f.code == EXIT_AGAIN else wrong("config", f.message) for f in planned.failures]
    for config, reasons in planned.unplanned:
        found += [_unplanned(name, str(e)) for name, e in reasons.items()]
        found += _model_behind(config, reasons)
    if planned.points:
        names = ", ".join(dict.fromkeys(s.name for s in stages))
        found.append(ok("plan", f"{len(stages)} stages: {names}") if stages else unknown("plan", "no stage could be planned"))
    return [*dict.fromkeys(found), *_outputs(stages), *inputs(stages), *secrets(stages)]


def _outputs(stages: Sequence[PlannedStage]) -> list[Row]:
    """A place of an export that is taken."""
    try:
        check_outputs(stages)
    except InputError as e:
        return [_unplanned("exports", str(e))]
    return []


def _unplanned(name: str, why: str) -> Row:
    """'FILE: what; fix' as planning says it: the fix is what stands behind the last semicolon."""
    if why.startswith(BEHIND):
        return unknown(name, why)
    what, semicolon, fix = why.rpartition("; ")
    return wrong(name, what, fix) if semicolon else wrong(name, why)


def _model_behind(config: "Config", reasons: Mapping[str, InputError]) -> list[Row]:
    """The model of a stage that was not looked at because of one before it: it may be wrong, too."""
    behind = [n for n, e in reasons.items() if str(e).startswith(BEHIND) and n in config.recipe.stages]
    if not any(KINDS[config.recipe.stages[n].kind].planner.startswith("launch.plan.images:") for n in behind):
        return []
    try:
        model = plan_model(config.model)
    except InputError as e:
        return [_unplanned("model", str(e))]
    return [_input(role, Path(i.path)) for role, i in model.inputs.items()]


# -- what stages read ------------------------------------------------------------------------------------------------


def inputs(stages: Iterable[PlannedStage]) -> list[Row]:
    """A row for each file or folder that stages read. Those of ours, tables of the package, are in one."""
    files: dict[str, str] = {}
    for stage in stages:
        for role, file in stage.spec.inputs.items():
            if not file.identity.startswith(LISTED):
                files.setdefault(file.path, role)
    ours = {path: role for path, role in files.items() if Path(path).is_relative_to(SHIPPED)}
    found = [_input(role, Path(path)) for path, role in files.items() if path not in ours]
    if ours:
        found.append(ok("files that ship", ", ".join(dict.fromkeys(f"{role} {Path(p).name}" for p, role in ours.items()))))
    return found


def _input(role: str, path: Path) -> Row:
    what = role.replace("_", " ")
    try:
        size, files = measure(path)
    except OSError as e:
        return broken(what, f"{path}: cannot be read now ({e.strerror})")
    told = f"{path}: {decimal(size)}" + (f" in {files:,} files" if files != 1 else "")
    if path.suffix not in WEIGHTS and not any((path / name).is_file() for name in MODELS):
        return ok(what, told)
    licence = licence_of(path)
    return ok(what, f"{told}; headers and shards are whole; {f'licence {licence}' if licence else 'its folder names no licence'}")


def measure(path: Path) -> tuple[int, int]:
    """(bytes, files) of a file, or of all below a folder."""
    if not path.is_dir():
        return path.stat().st_size, 1
    sizes = [entry.stat().st_size for _, entry in walk(path)]
    return sum(sizes), len(sizes)


def licence_of(path: Path) -> str:
    """The licence that a model's folder names: in its README's head, as hubs keep it, or by a file of one; "" where it names none."""
    folder = path if path.is_dir() else path.parent
    readme = folder / "README.md"
    if readme.is_file():
        head = readme.read_text(encoding="utf-8", errors="replace")[:20_000].split("\n---", 1)[0]
        names = [m[1].strip().strip("'\"") for m in re.finditer(r"^license(?:_name)?:[ \t]*(\S[^\n]*)$", head, re.MULTILINE)]
        if names and head.startswith("---"):
            return names[-1] if names[0] == "other" else names[0]
    return next((f"in {name}" for name in LICENCES if (folder / name).is_file()), "")


# -- secrets ---------------------------------------------------------------------------------------------------------


def secrets(stages: Iterable[PlannedStage], env: Mapping[str, str] = os.environ) -> list[Row]:
    """Whether the variables that hold keys and tokens are set; their values are never shown."""
    needed: dict[str, list[PlannedStage]] = {}
    for stage in stages:
        for name in secrets_of(stage.spec):
            needed.setdefault(name, []).append(stage)
    found = []
    for name, users in needed.items():
        of = ", ".join(dict.fromkeys(s.name for s in users))
        if env.get(name, "").strip():
            found.append(ok(f"variable {name}", f"set, for {of} (not shown)"))
        elif all(state_of(s).done for s in users):
            found.append(warn(f"variable {name}", f"not set; {of} is done and needs it no more"))
        else:
            found.append(wrong(f"variable {name}", f"not set, and {of} needs it", f"export {name}=... in the shell that runs this"))
    return found


# -- what the plan needs of the disk -----------------------------------------------------------------------------------


def needs(planned: Planned, stages: Sequence[PlannedStage], costs: Costs | None) -> Needs:
    """Bytes by what such stages took before; inodes by the plan itself, at most."""
    if costs is None or not planned.points:
        return Needs(None, None)
    todo = [s for s in stages if not state_of(s).done]
    known = sum(e.bytes for e in costs.estimates) if costs.estimates or not costs.unknown else None
    return Needs(known, sum(files_of(s.spec) for s in todo), ", ".join(dict.fromkeys(s.name for s in costs.unknown)))


def files_of(spec: StageSpec) -> int:
    """Inodes that a stage leaves at most: a file a unit, and where it writes a place for others a file a slot."""
    return spec.n_units + A_STAGE + (spec.slots if "out" in spec.config else 0)
