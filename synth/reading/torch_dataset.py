"""A stage as a torch Dataset, for DataLoaders with any number of workers, forked or spawned."""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from synth.errors import InputError

if TYPE_CHECKING:
    from synth.reading.sample import StageSample
    from synth.reading.stage import StageReader


class TorchDataset(Dataset):
    """Item n is the n-th sample: (image, index of its class in `classes`), each through its transform. An image is PIL's, in RGB.

    classes: names in the order of their official indices. labels: those indices. slots: slot of each item; `stage[slots[n]]` is its sample.
    target: a key of the metadata that takes the place of the class ("caption" for pairs of picture and text).
    """

    def __init__(
        self, stage: "StageReader", transform: Callable | None = None, target_transform: Callable | None = None, target: str = "class"
    ):
        self.stage, self.transform, self.target_transform, self.target = stage, transform, target_transform, target
        self.labels = sorted(stage.classes)
        self.classes = [stage.classes[i] for i in self.labels]
        self._place = {label: n for n, label in enumerate(self.labels)}
        if target == "class" and not self.classes:
            raise InputError(f"{stage.stage.path}: has no classes; give target=, a key of its metadata")
        self.slots = stage.sample_slots
        if self.slots and not set(stage[self.slots[0]].exts) - {"json"}:
            raise InputError(f"{stage.stage.path}: is of kind {stage.stage.spec.kind} and holds no pictures; open a stage of images")

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, n: int) -> tuple:
        sample = self.stage[self.slots[operator.index(n)]]
        target, image = self._target(sample), sample.image()
        return (
            image if self.transform is None else self.transform(image),
            target if self.target_transform is None else self.target_transform(target),
        )

    def _target(self, sample: "StageSample") -> Any:
        if self.target == "class":
            return self._place[self.stage.label_of(sample.key, sample.metadata)]
        if self.target not in sample.metadata:
            raise InputError(f"{sample!r}: its metadata has no {self.target!r}; it has {', '.join(sorted(sample.metadata))}")
        return sample.metadata[self.target]

    def __repr__(self) -> str:
        return f"<{len(self)} pictures of {len(self.classes)} classes: {self.stage!r}>"
