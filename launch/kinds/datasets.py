"""The classes of a run."""

from launch.classes import choose, list_path, names_in, official
from launch.schema import Dataset
from synth.config import DatasetConfig
from synth.errors import InputError


def dataset_of(dataset: Dataset) -> DatasetConfig:
    """The chosen classes of a dataset, with their official indices."""
    if dataset.kind not in ("object", "texture"):
        msg = f"dataset.kind={dataset.kind}: must be object or texture"
        raise InputError(msg)
    if not dataset.suffix.isprintable() or "=>" in dataset.suffix:
        msg = f"dataset.suffix={dataset.suffix!r}: must be one line without =>"
        raise InputError(msg)
    classes = official(list_path(dataset))
    wanted = dataset.classes
    if dataset.classes_file is not None:
        if wanted != "all":
            msg = "dataset.classes and dataset.classes_file are both set; give one of them"
            raise InputError(msg)
        wanted = names_in(dataset.classes_file)
    chosen = choose(classes, wanted)
    return DatasetConfig(dataset.name, chosen, len(classes), dataset.kind, dataset.suffix)
