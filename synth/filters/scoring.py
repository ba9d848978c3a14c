"""Scoring stages: a sample for each picture, computed once, as sharded units. Filters read them; thresholds are not here.

`clip_features`: json {caption_score, class_score, best_label, best_score, label, class}; npy [D] float16, of unit length.
`perceptual_hash`: json {hash (16 hex digits), label, class}.
A picture comes from an images stage (role "images") or from a folder of files (input "folder": a given test set).
"""

import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from synth import numerics
from synth.errors import InputError
from synth.filters.clip import Clip, check_folder
from synth.filters.config import ClipFeaturesConfig, PerceptualHashConfig
from synth.images.decode import decode_with
from synth.images.pipeline import free
from synth.images.sources.read import read_file
from synth.reading.sample import StageSample
from synth.reading.stage import GONE, ROLE, StageReader
from synth.run.ahead import Ahead, coming, forget
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical
from synth.store.trees import PICTURES, Unread, naming, pictures, plain

AGAINST = "filter.*.against"  # whichever filter it was given to


@dataclass(frozen=True)
class Found:
    """A picture file on its way to the scorer, or the reason why there is none."""

    slot: int
    key: str
    data: bytes = b""
    record: Mapping = None
    reason: str = ""


def files_in(folder: Path, unread: Unread) -> list[str]:
    """Names, below a folder, of its picture files, in order; what is not read is counted. InputError if there is none."""
    names = sorted(path for path, _ in pictures(folder, unread, key=AGAINST))
    if not names:
        why = unread.note() or ", ".join(sorted(PICTURES))
        raise InputError(f"{AGAINST}: {folder}: holds no picture ({why}); check the path")
    return names


class Scoring(Stage):
    """What both scorers share: where pictures come from."""

    def __init__(self, folder):
        super().__init__(folder)
        self._pictures: StageReader | None = None
        self._files: list[str] = []

    def check(self) -> None:
        if ROLE in self.folder.spec.upstream:
            self._pictures = StageReader(self.folder.upstream(ROLE)[0])
            return
        self._files = files_in(self.folder.input_path("folder"), Unread())
        if len(self._files) != self.folder.spec.slots:
            raise InputError(
                f"{self.folder.input_path('folder')}: holds {len(self._files)} pictures, {self.folder.spec.slots} when planned; "
                "run the command again"
            )

    def found(self, slot: int) -> Found:
        """The picture of a slot. Threads may share one stage."""
        if self._pictures is None:
            return self._file(slot)
        for picture in self._pictures.samples(slot, slot + 1):
            return Found(slot, picture.key, picture.read(), picture.metadata)
        return Found(slot, "", reason=self._pictures.reasons(slot, slot + 1).get(slot, GONE))

    def _file(self, slot: int) -> Found:
        root = self.folder.input_path("folder")
        data = read_file(root / self._files[slot], None, root, key=AGAINST)
        if isinstance(data, str):
            return Found(slot, "", reason=data)
        return Found(slot, f"{slot:09d}", data, {"file": plain(self._files[slot])})


def decoded(item: Found):
    """PIL image of a picture file, or the reason why it cannot be read."""
    from PIL import Image

    with naming(item.record.get("file") or item.key):
        picture = decode_with(item.data, lambda image: image.convert("RGB"))
    return picture.reason or Image.fromarray(picture.pixels)


@dataclass(frozen=True)
class Ready:
    """A picture as the model takes it, [3, side, side] float32, or the reason why there is none."""

    found: Found
    pixels: np.ndarray | None = None
    reason: str = ""


@dataclass(frozen=True)
class ScoringState:
    """ready: slot -> its picture made ready, begun some batches ahead."""

    unit: Unit
    ready: dict[int, Future] = field(default_factory=dict)


class ClipFeatures(Scoring):
    config: ClipFeaturesConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.batch = folder.spec.batch
        self.clip: Clip | None = None
        self._ahead: Ahead | None = None
        self._labels: list[int] = []
        self._classes: np.ndarray | None = None  # [C, D]

    def check(self) -> None:
        super().check()
        check_folder(self.folder.input_path("clip"))

    def open(self) -> None:
        if self._pictures is None and not self._files:
            self.check()
        self.clip = Clip(self.folder.input_path("clip"), self.batch, numerics.apply(self.folder.spec.numerics)["dtype"])
        classes = self._pictures.classes if self._pictures else {}
        self._labels = sorted(classes)
        if classes:
            texts = [t.replace("{}", classes[i]) for i in self._labels for t in self.config.templates]
            mean = self.clip.texts(texts).reshape(len(classes), len(self.config.templates), -1).mean(1)
            self._classes = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        self._ahead = Ahead("decode")

    def begin(self, unit: Unit) -> ScoringState:
        return ScoringState(unit)

    def compute(self, state: ScoringState, slots: range) -> list[tuple]:
        forget(state.ready, slots.start)
        for slot in coming(slots, self.batch):
            if slot < state.unit.stop:
                self._ahead.begin(state.ready, slot, self._prepared, slot)
        pictures = [state.ready.pop(slot).result() for slot in slots]
        good = [p for p in pictures if p.pixels is not None]
        features = self.clip.pictures([p.pixels for p in good])
        captions = self.clip.texts([str(p.found.record.get("caption", "")) for p in good]) if self._pictures else None
        rows = {p.found.slot: n for n, p in enumerate(good)}
        results = []
        for picture in pictures:
            item = picture.found
            if item.slot not in rows:
                results.append((item, picture.reason, None))
                continue
            n = rows[item.slot]
            results.append((item, self._facts(item, features[n], captions[n] if captions is not None else None), features[n]))
        return results

    def _prepared(self, slot: int) -> Ready:
        item = self.found(slot)
        image = item.reason or decoded(item)
        if isinstance(image, str):
            return Ready(item, reason=image)
        return Ready(replace(item, data=b""), self.clip.preparation(image))

    def _facts(self, item: Found, feature: np.ndarray, caption: np.ndarray | None) -> dict:
        facts = {k: item.record[k] for k in ("label", "class", "file") if k in item.record}
        if not np.isfinite(feature).all():
            return facts | {"finite": False}
        if caption is not None and item.record.get("caption"):
            facts["caption_score"] = _rounded(feature @ caption)
        if self._classes is not None and len(self._labels):
            scores = self._classes @ feature
            best = int(scores.argmax())
            facts |= {"best_label": self._labels[best], "best_score": _rounded(scores[best])}
            if facts.get("label") in self._labels:
                facts["class_score"] = _rounded(scores[self._labels.index(facts["label"])])
        return facts

    def encode(self, state, item) -> Sample | Tombstone:
        source, facts, feature = item
        if isinstance(facts, str):
            return Tombstone(source.slot, facts)
        if facts.get("finite") is False:
            return Tombstone(source.slot, "its feature is no finite number")
        out = io.BytesIO()
        np.save(out, feature.astype(np.float16), allow_pickle=False)
        return Sample(source.slot, source.key, {"json": canonical(facts), "npy": out.getvalue()})

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self.clip = self._ahead = None
        free()


def _rounded(value: float) -> float:
    return round(float(value), 6)


class PerceptualHash(Scoring):
    config: PerceptualHashConfig

    def check(self) -> None:
        super().check()
        hasher(self.config.method)

    def compute(self, state, slots: range) -> list[Found]:
        return [self.found(slot) for slot in slots]

    def encode(self, state, item: Found) -> Sample | Tombstone:
        image = decoded(item) if not item.reason else item.reason
        if isinstance(image, str):
            return Tombstone(item.slot, image)
        facts = {k: item.record[k] for k in ("label", "class", "file") if k in item.record}
        return Sample(item.slot, item.key, {"json": canonical(facts | {"hash": str(hasher(self.config.method)(image))})})


def hasher(method: str):
    """A 64-bit hash function of the imagehash library by name."""
    try:
        import imagehash
    except ImportError as e:
        raise InputError("perceptual hashes need the imagehash library: pip install 'synthset[filters]'") from e
    known = {"phash": imagehash.phash, "dhash": imagehash.dhash, "ahash": imagehash.average_hash, "whash": imagehash.whash}
    return known[method]


def scores_of(stage: StageFolder) -> Iterator[tuple[int, Mapping, StageSample]]:
    """(slot, facts, sample) of a whole scoring stage, in slot order."""
    for sample in StageReader(stage):
        yield sample.slot, sample.metadata, sample


def labelled(slots: Iterable[int], scores: StageFolder) -> Iterator[tuple[int, int]]:
    """(slot, label in its score's facts) of slots in order; -1 where there is no score, or no label in it."""
    scored, slot_of_score, label = scores_of(scores), -1, -1
    for slot in slots:
        while slot_of_score < slot:
            slot_of_score, facts, _ = next(scored, (sys.maxsize, {}, None))
            label = facts.get("label", -1)
        yield slot, label if slot_of_score == slot else -1


def feature_of(sample: StageSample) -> np.ndarray:
    """[D] float32 of a sample of clip_features."""
    return np.load(io.BytesIO(sample["npy"]), allow_pickle=False).astype(np.float32)
