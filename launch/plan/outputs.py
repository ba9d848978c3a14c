"""Where exports write, judged before anything is computed: a place that is taken must not be found after the GPU hours."""

from collections.abc import Sequence
from pathlib import Path

from launch.plan.planned import PlannedStage
from launch.plan.state import state_of
from synth.errors import InputError
from synth.run.growth import grows
from synth.store.folder import StageFolder
from synth.store.out_folder import OutFolder


def check_outputs(stages: Sequence[PlannedStage]) -> None:
    """InputError if two stages want one place, or if a place that the user chose holds something else. Reads only."""
    taken: dict[Path, PlannedStage] = {}
    known = {stage.folder: stage.spec for stage in stages}
    for stage in stages:
        out = stage.spec.config.get("out")
        if not out:
            continue
        other = taken.setdefault(Path(out), stage)
        if other.spec.fingerprint != stage.spec.fingerprint:
            raise InputError(
                f"export.{stage.name}.out={out}: {other.folder.name} and {stage.folder.name} would both write there; "
                "a sweep needs a place for each, or none (the default)"
            )
        if not state_of(stage).done:
            folder = StageFolder(stage.folder, stage.spec, stage.spec.framing, links=True)
            OutFolder(folder, grows(folder, known)).check()
