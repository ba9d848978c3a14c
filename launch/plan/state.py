"""What is on disk of a planned stage. Reads only, except `forget_done`."""

from dataclasses import dataclass

from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.store.folder import StageFolder
from synth.store.out_folder import MARKER, marker_in
from synth.store.spec import StageSpec


@dataclass(frozen=True)
class State:
    """Units that exist, and whether the stage needs nothing any more."""

    exists: bool
    units: int  # committed
    n_units: int
    done: bool
    set_aside: tuple[int, ...] = ()
    gone: bool = False  # done, but the place of the export is not as it was left
    doubted: int = 0  # units that are there, and are to be compared with what they are made of: none of them counts

    def __str__(self) -> str:
        if self.done:
            return "done"
        if self.gone:
            return "export is gone: to be written again"
        if not self.exists:
            return "new"
        if self.doubted:
            return f"{self.doubted} units to be compared with what changed"
        aside = f", {len(self.set_aside)} set aside" if self.set_aside else ""
        return f"{self.units}/{self.n_units} units{aside}"


def state_of(stage: PlannedStage) -> State:
    """Cheap for a stage that is done: done.json, and for exports the marker in their place."""
    n_units = stage.spec.n_units
    if not (stage.folder / "stage.json").exists():
        return State(False, 0, n_units, False)
    folder = StageFolder.open(stage.folder)
    if folder.is_done():
        there = _marker_is_there(folder)
        return State(True, n_units, n_units, done=there, gone=not there)
    units, aside = len(folder.committed()), tuple(folder.set_aside())
    if folder.reopening.in_doubt():
        return State(True, 0, n_units, False, aside, doubted=units)
    return State(True, units, n_units, False, aside)


def forget_done(folder: StageFolder) -> None:
    """Make the next worker finish the stage again; done.json is only a cache."""
    (folder.path / "done.json").unlink(missing_ok=True)


def is_export(stage: StageSpec) -> bool:
    """Whether a stage writes a place for people, and MARKER into it."""
    return "out" in stage.config


def _marker_is_there(folder: StageFolder) -> bool:
    if not is_export(folder.spec):
        return True
    try:
        marker = marker_in(folder.out_dir / MARKER)
    except (InputError, OSError):  # what cannot be read promises nothing; trouble of the file system passes as a StoreError
        return False
    return marker is not None and marker["fingerprint"] == folder.spec.fingerprint
