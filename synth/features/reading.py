"""Reading features: a whole stage as arrays, or some of its units at a time, in bounded memory; and the pictures behind them.

features = load(folder)                     # a stage of kind `features`
features.features, features.labels          # [N, D] float32 of unit length, [N] int64
load(folder, units=range(3))                # of its first units
picture(folder, features.slots[3])          # the picture's file
"""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from synth.errors import InputError
from synth.features.config import KIND
from synth.features.sources import source_of
from synth.features.stage import CAPTION, TEXT
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.store.folder import StageFolder
from synth.store.framing import shared
from synth.store.names import classes_of


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of N pictures of C classes, in slot order; pictures without one are counted in `left_out`."""

    features: np.ndarray  # [N, D] float32, of unit length
    slots: np.ndarray  # [N] int64
    labels: np.ndarray  # [N] int64, index into classes; -1 where the picture has no class
    classes: tuple[str, ...]  # in the order of their official indices
    indices: tuple[int, ...]  # official index of each class
    captions: np.ndarray | None = None  # [N, D] of the captions, not a number where a picture has none; None: no picture has one
    class_texts: np.ndarray | None = None  # [C, D] of unit length; None: the model reads no texts, or there are no classes
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason, without what is a picture's own -> pictures
    folder: StageFolder | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.slots)

    def key(self, i: int) -> str:
        """The name of picture i in its source: a path below the folder, or the key of its sample. Reads its record."""
        sample = StageReader(self.folder)[int(self.slots[i])]
        return sample.metadata.get("file") or sample.key


def n_pictures(folder: StageFolder) -> int:
    """Slots of pictures of a stage of features: those behind them are of classes. InputError for another stage."""
    if folder.spec.kind != KIND:
        raise InputError(f"{folder.path}: is a stage of kind {folder.spec.kind}; give one of kind {KIND}")
    return folder.spec.slots - folder.spec.config["texts"]


def load(folder: StageFolder, units: range | None = None) -> FeatureSet:
    """The features of the pictures of a stage, or of some of its units. All are 4 D bytes a picture, twice with captions."""
    n, spec = n_pictures(folder), folder.spec
    pieces = [range(n)] if units is None else [range(spec.unit(u).start, min(n, spec.unit(u).stop)) for u in units]
    reader = StageReader(folder)
    samples = (sample for piece in pieces for sample in reader.samples(piece.start, piece.stop))
    reasons = Counter(shared(why) for piece in pieces for why in reader.reasons(piece.start, piece.stop).values())
    return _Reading(folder, reader).gathered(samples, reasons)


def picture(folder: StageFolder, slot: int) -> bytes:
    """The file of a picture, for pages. InputError where it cannot be had any more; StoreError where the disk is in trouble."""
    found = source_of(folder).found(int(slot))
    if found.reason:
        raise InputError(f"{folder.path}: picture {slot} cannot be read: {found.reason}")
    return found.data


def feature_of(sample: StageSample) -> np.ndarray:
    """[D] float32 of a sample, as it is stored: of a picture with the precision of 16 bits."""
    return _array(sample["npy"])


class _Reading:
    """What all parts of a stage share."""

    def __init__(self, folder: StageFolder, reader: StageReader):
        self._folder, known = folder, sorted(classes_of(folder).items())
        self._indices = tuple(index for index, _ in known)
        self._classes = tuple(name for _, name in known)
        self._rows = {index: n for n, index in enumerate(self._indices)}
        self._texts = self._of_classes(reader)

    def _of_classes(self, reader: StageReader) -> np.ndarray | None:
        n, spec = n_pictures(self._folder), self._folder.spec
        if n == spec.slots:
            return None
        texts = {sample.metadata[TEXT]: _array(sample["npy"]) for sample in reader.samples(n, spec.slots)}
        if missing := [i for i in self._indices if i not in texts]:
            raise InputError(f"{self._folder.path}: class {missing[0]} has no feature of its texts: {reader.reasons(n, spec.slots)}")
        return np.stack([texts[i] for i in self._indices])

    def gathered(self, samples: Iterable[StageSample], reasons: Mapping[str, int]) -> FeatureSet:
        slots, labels, features, captions = [], [], [], []
        for sample in samples:
            slots.append(sample.slot)
            labels.append(self._rows.get(sample.metadata.get("label"), -1))
            features.append(_half(sample["npy"]))
            captions.append(_half(sample[CAPTION]) if CAPTION in sample.exts else None)
        width = len(next((f for f in features), ()))
        nothing = np.full(width, np.nan, np.float16)
        told = [nothing if c is None else c for c in captions] if any(c is not None for c in captions) else None
        return FeatureSet(
            _unit(np.array(features, np.float32).reshape(len(slots), width)),
            np.array(slots, np.int64),
            np.array(labels, np.int64),
            self._classes,
            self._indices,
            None if told is None else _unit(np.array(told, np.float32)),
            self._texts,
            dict(reasons),
            self._folder,
        )


def _half(data: bytes) -> np.ndarray:
    """As it is stored: half of the memory while a set is gathered."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def _array(data: bytes) -> np.ndarray:
    return _half(data).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one again, after their storage in half precision."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
