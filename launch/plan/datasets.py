"""The classes of a run."""

from launch.config.schema import Dataset
from launch.plan.classes import choose, list_path, names_in, official
from synth.captions.config import DatasetConfig
from synth.errors import InputError


def dataset_of(dataset: Dataset) -> DatasetConfig:
    """The chosen classes of a dataset, with their official indices."""
    if dataset.kind not in ("object", "texture"):
        raise InputError(f"dataset.kind={dataset.kind}: must be object or texture")
    if not dataset.suffix.isprintable() or "=>" in dataset.suffix:
        raise InputError(f"dataset.suffix={dataset.suffix!r}: must be one line without =>")
    classes = official(list_path(dataset))
    wanted = dataset.classes
    if dataset.classes_file is not None:
        if wanted != "all":
            raise InputError("dataset.classes and dataset.classes_file are both set; give one of them")
        wanted = names_in(dataset.classes_file)
    chosen = choose(classes, wanted)
    return DatasetConfig(dataset.name, chosen, len(classes), dataset.kind, dataset.suffix)
