"""Stages of recipe=layout, planned as a run plans them, and what they made."""

from pathlib import Path

from launch.config.compose import Composer, typed
from launch.plan import layout
from launch.plan.graph import plan_point
from synth.errors import EXIT_OK
from synth.layout.records import Record
from synth.layout.stage import records_of
from synth.store.folder import StageFolder
from tests.fixtures_images import work


def chain(runs: Path, source: Path, *overrides: str) -> dict[str, StageFolder]:
    """name -> the planned stages of a run."""
    layout._listed.cache_clear()  # a process lists a source once; the tests change theirs
    settings = ["recipe=layout", "dataset.name=pictures", "layout.unit_size=4", "layout.batch_size=2", f"runs_dir={runs}"]
    point = plan_point(typed(Composer().compose([*settings, f"layout.source={source}", *overrides])))
    return {s.name: StageFolder.create(s.dataset_root, s.spec) for s in point.stages}


def made(runs: Path, source: Path, *overrides: str) -> dict[str, StageFolder]:
    """The same, computed one after the other by one worker each."""
    stages = chain(runs, source, *overrides)
    for folder in stages.values():
        assert work(folder) == EXIT_OK and folder.is_done()
    return stages


def records(folder: StageFolder) -> dict[int, Record | str]:
    """slot -> record, or the reason why there is none."""
    return dict(records_of(folder, 0, folder.spec.slots))
