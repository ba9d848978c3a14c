"""The classes of a run."""

from launch.classes import choose, list_path, names_in, official
from launch.schema import Dataset
from synth.config import DatasetConfig
from synth.errors import InputError


def dataset_of(dataset: Dataset) -> DatasetConfig:
    """The chosen classes of a dataset, with their official indices."""
    classes = official(list_path(dataset))
    wanted = dataset.classes
    if dataset.classes_file is not None:
        if wanted != "all":
            msg = "dataset.classes and dataset.classes_file are both set; give one of them"
            raise InputError(msg)
        wanted = names_in(dataset.classes_file)
    chosen = choose(classes, wanted)
    return DatasetConfig(dataset.name, chosen, len(classes), dataset.kind, dataset.suffix)
