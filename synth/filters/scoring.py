"""Scores that filters read: a sample for each picture, computed once, as sharded units; thresholds are not here. Those of kind `features`
are made in `synth.features`, and so are the sources of both.

`perceptual_hash`: json {hash (16 hex digits), label, class}.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping

from synth.errors import InputError
from synth.features.config import KIND as FEATURES
from synth.features.reading import n_pictures
from synth.features.sources import Found, Source, decoded, source_of
from synth.filters.config import PerceptualHashConfig
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical


class PerceptualHash(Stage):
    config: PerceptualHashConfig

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self._source: Source | None = None

    def check(self) -> None:
        self._source = source_of(self.folder)
        self._source.check()
        hasher(self.config.method)

    def open(self) -> None:
        if self._source is None:
            self.check()

    def compute(self, state, slots: range) -> list[Found]:
        return [self._source.found(slot) for slot in slots]

    def encode(self, state, item: Found) -> Sample | Tombstone:
        image = decoded(item) if not item.reason else item.reason
        if isinstance(image, str):
            return Tombstone(item.slot, image)
        facts = item.facts | {"hash": str(hasher(self.config.method)(image))}
        return Sample(item.slot, item.key, {"json": canonical(facts)})


def hasher(method: str):
    """A 64-bit hash function of the imagehash library by name."""
    try:
        import imagehash
    except ImportError as e:
        raise InputError("perceptual hashes need the imagehash library: pip install 'synthset[filters]'") from e
    known = {"phash": imagehash.phash, "dhash": imagehash.dhash, "ahash": imagehash.average_hash, "whash": imagehash.whash}
    return known[method]


def scores_of(stage: StageFolder) -> Iterator[tuple[int, Mapping, StageSample]]:
    """(slot, facts, sample) of the pictures of a whole scoring stage, in slot order."""
    end = n_pictures(stage) if stage.spec.kind == FEATURES else stage.spec.slots
    for sample in StageReader(stage).samples(0, end):
        yield sample.slot, sample.metadata, sample


def labelled(slots: Iterable[int], scores: StageFolder) -> Iterator[tuple[int, int]]:
    """(slot, label in its score's facts) of slots in order; -1 where there is no score, or no label in it."""
    scored, slot_of_score, label = scores_of(scores), -1, -1
    for slot in slots:
        while slot_of_score < slot:
            slot_of_score, facts, _ = next(scored, (sys.maxsize, {}, None))
            label = facts.get("label", -1)
        yield slot, label if slot_of_score == slot else -1
