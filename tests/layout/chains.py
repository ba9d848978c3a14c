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

SMALL = ("layout.unit_size=4", "layout.batch_size=2")
CONF = Path(__file__).parent / "conf"


def planned(runs: Path, source: Path, *overrides: str) -> dict[str, StageFolder]:
    """name -> the planned stages of a run of recipe=layout, whose toy captioner is left out unless a test chooses one."""
    layout._listed.cache_clear()  # a process lists a source once; the tests change theirs
    chosen = [] if any(o.startswith("box_captioner=") for o in overrides) else ["box_captioner=none"]
    settings = [*SMALL, f"runs_dir={runs}", f"layout.source={source}", *chosen, *overrides]
    point = plan_point(typed(Composer(str(CONF)).compose(settings)))
    return {s.name: StageFolder.create(s.dataset_root, s.spec) for s in point.stages}


def tags(runs: Path, source: Path, *overrides: str) -> StageFolder:
    """The planned first stage alone; its tags come from the alt texts unless a test says more."""
    return planned(runs, source, "recipe=layout_tags", *overrides)["tags"]


def done(folder: StageFolder) -> StageFolder:
    """A stage, computed by one worker."""
    assert work(folder) == EXIT_OK and folder.is_done()
    return folder


def records(folder: StageFolder) -> dict[int, Record | str]:
    """slot -> record, or the reason why there is none."""
    return dict(records_of(folder, 0, folder.spec.slots))
