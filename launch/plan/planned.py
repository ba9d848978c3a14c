"""What planning yields: plain frozen data, read by dry_run, the runners and the summary."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from launch.config.clusters import ClusterConfig
from launch.config.notify import NotifyConfig
from synth.run.trust import words_of
from synth.store.spec import StageSpec


@dataclass(frozen=True)
class PlannedStage:
    """One stage and the folder that is its own. Two sweep points that plan the same folder plan the same stage."""

    spec: StageSpec
    dataset_root: Path  # runs_dir/<dataset>; another place for stages that were given by path

    planned: bool = field(default=False, compare=False)  # by this process, of the user's own config; else it was found in a folder

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def folder(self) -> Path:
        return self.dataset_root / self.spec.folder_name

    @property
    def upstream(self) -> tuple[Path, ...]:
        """Folders of the stages that this one reads."""
        return tuple(Path(os.path.normpath(self.folder / u.path)) for ups in self.spec.upstream.values() for u in ups)

    @property
    def trusted(self) -> tuple[str, ...]:
        """Words for its workers, by which they know that what it runs is the user's own; () of a stage that was found."""
        return words_of(self.spec) if self.planned else ()

    @property
    def n_batches(self) -> int:
        spec = self.spec
        if not spec.n_units:
            return 0
        if spec.ends:
            return sum(len(spec.batches(spec.unit(n))) for n in range(spec.n_units))
        full, last = spec.batches(spec.unit(0)), spec.batches(spec.unit(spec.n_units - 1))
        return (spec.n_units - 1) * len(full) + len(last)


@dataclass(frozen=True)
class Point:
    """One point of a sweep, or the whole of a plain run."""

    label: str  # its overrides, e.g. "seed=1 images.guidance_scale=4"
    stages: tuple[PlannedStage, ...]  # in topological order
    cluster: ClusterConfig
    wanted: frozenset[str] | None = None  # names of the stages that may be computed (until, only); None: all
    only: bool = False  # the others must be whole already
    dry_run: bool = False
    retry_failed: bool = False
    plan_only: bool = False
    max_device_hours: float | None = None  # that all points together may take, by what is known; None: no limit
    max_gb: float | None = None
    trial: int | None = None  # N of try=N; None: no try
    notify: NotifyConfig | None = None
    notes: tuple[str, ...] = ()  # what is said of it before anything begins
    missing: tuple[str, ...] = ()  # weights that are not here, of a dry run

    def chosen(self) -> tuple[PlannedStage, ...]:
        return tuple(s for s in self.stages if self.wanted is None or s.name in self.wanted)


@dataclass(frozen=True)
class Failure:
    """A point that could not be planned."""

    label: str
    code: int
    message: str


@dataclass(frozen=True)
class Outcome:
    """What became of one stage."""

    stage: PlannedStage
    code: int
    done: bool = False  # whole and finished
    before: bool = False  # it was done before this run
    seconds: float = 0.0
    made: int = 0  # slots computed by this run
    message: str = ""
    facts: dict = field(default_factory=dict)  # done.json: samples, tombstones
