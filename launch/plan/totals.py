"""How many captions are wanted: captions.total, or captions.per_class, or the maker's own number. Never two of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from launch.config.schema import Config
from launch.plan.datasets import dataset_of
from launch.plan.makers import maker_of
from launch.plan.planned import PlannedStage
from synth.errors import InputError

PER_CLASS = 8  # captions a class where nothing is said


@dataclass(frozen=True)
class Wanted:
    captions: int
    per_class: int = 0  # 0: whatever classes they are of


def wanted(config: Config, given: Sequence[PlannedStage] = ()) -> Wanted:
    """The number of rows of captions.json. `given`: the captions stages, whose classes count where they were made before."""
    captions = config.captions
    if captions.total is not None and captions.per_class is not None:
        raise InputError(f"captions.total={captions.total} and captions.per_class={captions.per_class} are both set; give one of them")
    if captions.total is not None:
        return Wanted(captions.total)
    if captions.stages is not None:
        classes = {c["index"] for stage in given for c in stage.spec.config["dataset"]["classes"]}
        return _of_classes(captions.per_class, PER_CLASS, len(classes))
    dataset = dataset_of(config.dataset)
    maker = maker_of(config, dataset)
    if maker.total is not None and captions.per_class is None:
        return Wanted(maker.total)
    return _of_classes(captions.per_class, min(PER_CLASS, maker.capacity or PER_CLASS), len(dataset.classes))


def _of_classes(per_class: int | None, default: int, n_classes: int) -> Wanted:
    return Wanted((per_class or default) * n_classes, per_class or 0)
