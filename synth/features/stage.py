"""Stage kind `features`: a sample a picture, then one a class, computed once. Thresholds and judgements are not here.

Of a picture: npy [D] float16, its feature of unit length; caption.npy, the same of its caption, where it has one and the model reads
texts; json {caption_score, class_score, best_label, best_score, label, class, file}. Of a class: npy [D] float32, the mean of the features
of its texts, of unit length; json {text: the class's index}. Read them by `synth.features.reading`.
"""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from synth import numerics
from synth.errors import InputError
from synth.features.config import FeaturesConfig
from synth.features.encoders import Encoder, TextEncoder, encoder_of
from synth.features.sources import Found, Source, decoded, source_of
from synth.host.gpu import free
from synth.run.ahead import Ahead, coming, forget
from synth.run.stage import Stage
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical

MODEL, TEXT = "model", "text"
CAPTION = "caption.npy"
NOT_FINITE = "its feature is no finite number"


@dataclass(frozen=True)
class Ready:
    """A picture as the model takes it, [3, side, side] float32, or the reason why there is none."""

    found: Found
    pixels: np.ndarray | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """What was computed of a slot. caption: feature of a picture's caption; reason: why there is no feature."""

    slot: int
    key: str = ""
    facts: Mapping = field(default_factory=dict)
    feature: np.ndarray | None = None
    caption: np.ndarray | None = None
    reason: str = ""


@dataclass(frozen=True)
class FeaturesState:
    """ready: slot -> its picture made ready, begun some batches ahead."""

    unit: Unit
    ready: dict[int, Future] = field(default_factory=dict)


class Features(Stage):
    config: FeaturesConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.batch = folder.spec.batch
        self.encoder: Encoder | None = None
        self._source: Source | None = None
        self._ahead: Ahead | None = None
        self._labels: list[int] = []
        self._classes: np.ndarray | None = None  # [C, D]

    # -- its life ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        self._source = source_of(self.folder)
        self._source.check()
        slots = self._source.slots + self.config.texts
        if self.config.texts not in (0, len(self._source.classes)) or slots != self.folder.spec.slots:
            raise InputError(
                f"{self.folder.path}: has {self.folder.spec.slots} slots, {self.config.texts} of them of classes; its pictures are "
                f"{self._source.slots} of {len(self._source.classes)} classes; plan it again"
            )
        encoder_of(self.folder.input_path(MODEL))

    def open(self) -> None:
        if self._source is None:
            self.check()
        path = self.folder.input_path(MODEL)
        self.encoder = encoder_of(path)(path, self.batch, numerics.apply(self.folder.spec.numerics)["dtype"])
        self._finite(self.encoder.of_grey(), "a grey picture")
        if self.config.texts:
            self._labels = sorted(self._source.classes)
            self._classes = self.encoder.classes([self._source.classes[i] for i in self._labels], self.config.templates)
            self._finite(self._classes, "the names of classes")
        self._ahead = Ahead("decode")

    def _finite(self, features: np.ndarray, what: str) -> None:
        """InputError for a model that gives no feature to anything: every picture would be left out."""
        if not np.isfinite(features).all():
            raise InputError(f"{self.folder.input_path(MODEL)}: its numbers for {what} are not finite; fetch the model again")

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self.encoder = self._ahead = None
        free()

    # -- computing ---------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> FeaturesState:
        return FeaturesState(unit)

    def compute(self, state: FeaturesState, slots: range) -> list[Row]:
        first = self._source.slots  # of the classes
        return self._pictures(state, slots[: max(0, first - slots.start)]) + [self._text(slot - first) for slot in slots if slot >= first]

    def _pictures(self, state: FeaturesState, slots: range) -> list[Row]:
        forget(state.ready, slots.start)
        for slot in coming(slots, self.batch):
            if slot < min(state.unit.stop, self._source.slots):
                self._ahead.begin(state.ready, slot, self._prepared, slot)
        pictures: list[Ready] = [state.ready.pop(slot).result() for slot in slots]
        good = [p for p in pictures if p.pixels is not None]
        features = dict(zip((p.found.slot for p in good), self.encoder.pictures([p.pixels for p in good]), strict=True))
        captions = self._captions([p.found for p in good])
        return [self._row(p, features.get(p.found.slot), captions.get(p.found.slot)) for p in pictures]

    def _captions(self, found: Sequence[Found]) -> dict[int, np.ndarray]:
        """slot -> feature of its caption."""
        if not isinstance(self.encoder, TextEncoder):
            return {}
        texts = {f.slot: str(f.record["caption"]) for f in found if f.record.get("caption")}
        return dict(zip(texts, self.encoder.texts(list(texts.values())), strict=True))

    def _prepared(self, slot: int) -> Ready:
        item = self._source.found(slot)
        image = item.reason or decoded(item)
        if isinstance(image, str):
            return Ready(item, reason=image)
        return Ready(replace(item, data=b""), self.encoder.preparation(image))

    def _row(self, picture: Ready, feature: np.ndarray | None, caption: np.ndarray | None) -> Row:
        item = picture.found
        if feature is None:
            return Row(item.slot, reason=picture.reason)
        if not np.isfinite(feature).all():
            return Row(item.slot, reason=NOT_FINITE)
        if caption is not None and not np.isfinite(caption).all():
            caption = None
        return Row(item.slot, item.key, item.facts | self._scores(item, feature, caption), feature, caption)

    def _scores(self, item: Found, feature: np.ndarray, caption: np.ndarray | None) -> dict[str, Any]:
        """Cosine similarities of a picture to texts."""
        scores: dict[str, Any] = {}
        if caption is not None:
            scores["caption_score"] = _rounded(feature @ caption)
        if self._classes is not None:
            of_class = self._classes @ feature
            best = int(of_class.argmax())
            scores |= {"best_label": self._labels[best], "best_score": _rounded(of_class[best])}
            if item.record.get("label") in self._labels:
                scores["class_score"] = _rounded(of_class[self._labels.index(item.record["label"])])
        return scores

    def _text(self, n: int) -> Row:
        slot = self._source.slots + n
        return Row(slot, f"{slot:09d}", {TEXT: self._labels[n]}, self._classes[n])

    # -- storing -----------------------------------------------------------------------------------------------------

    def encode(self, state: FeaturesState, item: Row) -> Sample | Tombstone:
        if item.reason:
            return Tombstone(item.slot, item.reason)
        half = np.float32 if TEXT in item.facts else np.float16
        files = {"json": canonical(item.facts), "npy": _npy(item.feature, half)}
        if item.caption is not None:
            files[CAPTION] = _npy(item.caption, half)
        return Sample(item.slot, item.key, files)


def _npy(row: np.ndarray, dtype: type) -> bytes:
    out = io.BytesIO()
    np.save(out, row.astype(dtype), allow_pickle=False)
    return out.getvalue()


def _rounded(value: float) -> float:
    return round(float(value), 6)
