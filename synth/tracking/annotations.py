"""Stage kind `annotations`: annotations.json of a `pairs` stage, in OVTrack's form (synth.tracking.videos), and a card.

One unit of one sample: the size and digest of the file, and what was counted. The file itself lies in the export's folder.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from synth.errors import InputError
from synth.export.card import CARD
from synth.export.sources import Sources
from synth.kinds import config_of
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.run.findings import Check
from synth.run.place import PlaceStage
from synth.store.folder import StageFolder
from synth.store.samples import Sample
from synth.store.spec import canonical
from synth.tracking.cards import annotations_card
from synth.tracking.config import AnnotationsConfig
from synth.tracking.listing import AnnotatedListing, pairs_behind
from synth.tracking.videos import Rules, Variant, VideosWriter, Warped

NAME, KEY = "annotations.json", "annotations"


class Line(msgspec.Struct):
    """Of the listing: values stay as the annotation file has them."""

    image: dict[str, msgspec.Raw]
    annotations: list[dict[str, msgspec.Raw]]


class Object(msgspec.Struct):
    id: int
    bbox: list[int]
    area: int
    segmentation: dict[str, msgspec.Raw] = {}


class Record(msgspec.Struct):
    """Of a sample of the pairs stage, as far as it is needed here."""

    file_name: str
    unchanged: bool = False
    objects: list[Object] = []


_line, _record = msgspec.json.Decoder(Line).decode, msgspec.json.Decoder(Record).decode


class Annotations(PlaceStage):
    config: AnnotationsConfig

    def check(self) -> None:
        super().check()
        AnnotatedListing.of(pairs_behind(self.folder)).head()

    def compute(self, state, slots: range) -> list[dict]:
        return [self._write()]

    def encode(self, state, item: dict) -> Sample:
        return Sample(0, KEY, {"json": canonical(item)})

    def finish(self) -> None:
        """The file is in its place, or made again; the card; the marker last."""
        self.out.claim()
        written = self.facts("bytes", "sha256", "counts")
        if not self.out.has(NAME, written["bytes"]):
            self._write()
        self.out.write(CARD, annotations_card(self.folder, written))
        self.out.complete()

    def verify(self, check: Check) -> None:
        """The file is there, of its size; so is the card. Deep: it has its digest, and its pairs are as they were committed."""
        written = self.facts("bytes", "sha256", "counts")
        check.file(NAME, written["bytes"], written["sha256"], "was edited or torn since it was written")
        if not (check.out / CARD).exists():
            check.missing(CARD)
        Sources(check, lambda: StageReader(pairs_behind(self.folder))).all_whole()
        check.progress(1)

    def _write(self) -> dict:
        pairs, config = pairs_behind(self.folder), self.config
        self.out.claim()
        rules = Rules(config.min_area, config.min_variant_area, config.min_side, config.segmentations)
        listing = AnnotatedListing.of(pairs)
        with VideosWriter(self.out.part, listing.head(), listing.n, rules) as writer:
            for line, variants in _images(pairs, listing):
                writer.add(line.image, line.annotations, variants)
            return {"file_name": NAME, **writer.finish(Path(self.out.inside.path(NAME))), "counts": dict(sorted(writer.counts.items()))}


def _images(pairs: StageFolder, listing: AnnotatedListing) -> Iterator[tuple[Line, list[Variant | None]]]:
    """Every image in the order of the annotation file, with its variants; None for a variant that is a tombstone."""
    order, n, pictures = listing.file_order(), config_of(pairs).variants, StageReader(pairs)
    for number, line in zip(order, listing.lines(order), strict=True):
        variants = [_variant(pictures.get(slot)) for slot in range(number * n, number * n + n)]
        try:
            yield _line(line), variants
        except msgspec.DecodeError as e:
            raise InputError(
                f"{listing.path}: image {number} cannot be read ({e}); remove the stage's folder and run the command again"
            ) from e


def _variant(sample: StageSample | None) -> Variant | None:
    if sample is None:
        return None
    try:
        record = _record(sample["json"])
    except msgspec.DecodeError as e:
        raise InputError(
            f"sample {sample.key} of unit {sample.unit}: its record cannot be read ({e}); verify --deep on that stage tells more"
        ) from e
    objects = None if record.unchanged else {o.id: Warped(o.bbox, o.area, o.segmentation or None) for o in record.objects}
    return Variant(record.file_name, objects)
