"""Stage kind `pairs_page`: tracking pairs as people look at them.

    index.html                 a row an original: its kept objects, then each variant with them warped; one colour a track
    sheet.png                  some of them on one picture, boxes burned in
    pictures/000012.jpg        an original as it is, by its number in the listing
    pictures/000012_v0.jpg     a variant, copied byte by byte
One slot. Its sample holds what the page says, and names, sizes and digests of the pictures.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from functools import cached_property

from synth import keys
from synth.export.sources import Sources
from synth.images.decode import decode_as_declared
from synth.kinds import config_of
from synth.reading.stage import StageReader
from synth.run.findings import Check
from synth.run.place import Files, Pages
from synth.store.folder import StageFolder
from synth.store.framing import shared
from synth.store.trees import open_picture
from synth.tracking.coco import msgspec
from synth.tracking.config import PairsPageConfig
from synth.tracking.listing import Annotated, AnnotatedListing, pairs_behind
from synth.tracking.look import Frame, Row, Totals, objects_shown, spread, warp_words
from synth.tracking.objects import objects_of
from synth.tracking.page_html import page, totals_line
from synth.tracking.preparing import jpeg
from synth.tracking.sheet import sheet
from synth.tracking.sources import open_source

INDEX, SHEET, PICTURES = "index.html", "sheet.png", "pictures"
VARIANT = re.compile(rf"{PICTURES}/(\d+)_v(\d+)\.jpg")
SHOWN = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}  # what browsers show as it is
QUALITY = 95  # of originals that they do not
ORIENTATION = 0x0112  # of EXIF


class PairsPage(Pages):
    config: PairsPageConfig

    @cached_property
    def pairs(self) -> StageFolder:
        return pairs_behind(self.folder)

    def check(self) -> None:
        keys.check(self.config, "export.pairs_page")
        super().check()
        self.pairs  # noqa: B018 (another kind of stage is told now)

    def key_of(self, slot: int) -> str:
        return "pairs_page"

    def whole(self) -> dict[str, bytes]:
        """index.html."""
        facts, name = self.facts("rows", "totals"), config_of(self.pairs).dataset.name
        return {INDEX: page(f"Tracking pairs: {name}", rows_of(facts), msgspec.convert(facts["totals"], Totals)).encode("utf-8")}

    def verify(self, check: Check) -> None:
        """As of any pages; deep: variants are those of the pairs, which are as they were committed."""
        super().verify(check)
        if not (sources := Sources(check, lambda: StageReader(self.pairs))):
            return
        variants = config_of(self.pairs).variants
        for name, (_, sha256) in self.facts()["files"].items():
            if variant := VARIANT.fullmatch(name):
                slot = int(variant[1]) * variants + int(variant[2])
                sources.compare(slot, {"sha256": sha256}, name, self.folder.unit_path(0), 0, name)
        sources.all_whole()

    # -- what is shown -----------------------------------------------------------------------------------------------

    def make(self, slot: int) -> dict:
        """Put the pictures and the sheet into their places; what the page says of them, and `files`: name -> (size, sha256)."""
        config, files = config_of(self.pairs), {}
        listing = AnnotatedListing.of(self.pairs)
        shown = spread(listing.n, self.config.max_images)
        frames, totals = self._variants(set(shown), files)
        totals.images, totals.shown = listing.n, len(shown)
        names, rows = {c.index: c.name for c in config.dataset.classes}, []
        with closing(open_source(self.pairs.input_path("images"))) as source:
            for number in shown:
                image = listing.rows(number, number + 1)[0]
                kept = objects_of(image.annotations, config.min_area, config.max_area)
                colours = {a["id"]: k for k, a in enumerate(kept)}
                width, height = image.image["width"], image.image["height"]
                digests = {record["source_sha256"] for record, _ in frames[number] if record is not None}
                file, why = self._original(source, image, digests, files)
                row = [Frame("original", file, why, objects=objects_shown(kept, names, colours, width, height))]
                for variant, (record, about) in enumerate(frames[number]):
                    if record is None:
                        row.append(Frame(f"v{variant}", why=about))
                        continue
                    objects = objects_shown(record["objects"], names, colours, width, height)
                    warp = warp_words(record["warp"], width, height)
                    row.append(Frame(f"v{variant}", about, record["why"], record["caption"], warp, objects))
                rows.append(Row(image.image["file_name"], image.image["id"], width, height, tuple(row)))
        self.keep(files, SHEET, self._sheet(rows, totals))
        return {"rows": [asdict(r) for r in rows], "totals": asdict(totals), "files": files}

    def _sheet(self, rows: list[Row], totals: Totals) -> bytes:
        """Of rows with objects, spread evenly over those of the page."""
        full = [r for r in rows if not r.empty and r.frames[0].file]
        chosen = [full[k] for k in spread(len(full), self.config.sheet)]
        title = f"{config_of(self.pairs).dataset.name}: {totals_line(totals)}"
        return sheet(title, chosen, lambda file: (self.out.path / file).read_bytes())

    def _variants(self, shown: set[int], files: Files) -> tuple[dict[int, list], Totals]:
        """One pass over all pairs: (number of a shown image -> (record, file) of its variants, or (None, why); totals)."""
        variants, totals = config_of(self.pairs).variants, Totals()
        of_image: dict[int, list] = {number: [(None, "")] * variants for number in shown}
        pairs = StageReader(self.pairs)
        for slot, reason in pairs.tombstones.items():
            totals.tombstones[shared(reason)] = totals.tombstones.get(shared(reason), 0) + 1
            if slot // variants in shown:
                of_image[slot // variants][slot % variants] = None, reason
        for sample in pairs:
            totals.count(sample.metadata)
            number, variant = divmod(sample.slot, variants)
            if number in shown:
                name = f"{PICTURES}/{number:06d}_v{variant}.jpg"
                self.keep(files, name, sample["jpg"])
                of_image[number][variant] = sample.metadata, name
        return of_image, totals

    def _original(self, source, image: Annotated, digests: set[str], files: Files) -> tuple[str, str]:
        """(file, "") of an original, or ("", why there is none)."""
        data = source.read(image.path, image.size)
        if isinstance(data, str):
            return "", data
        if digests and hashlib.sha256(data).hexdigest() not in digests:
            return "", "changed since its variants were made"
        decoded = decode_as_declared(data, image.image["width"], image.image["height"])
        if decoded.reason:
            return "", decoded.reason
        ext = shown_as_it_is(data)
        name = f"{PICTURES}/{image.number:06d}.{ext or 'jpg'}"
        self.keep(files, name, data if ext else jpeg(decoded.pixels, QUALITY))
        return name, ""


def shown_as_it_is(data: bytes) -> str:
    """The extension of a picture that browsers show as it is stored; "" of one that they turn, or do not know."""
    with open_picture(data) as image:
        return SHOWN.get(image.format, "") if image.getexif().get(ORIENTATION, 1) == 1 else ""


def rows_of(facts: Mapping) -> list[Row]:
    """The rows of a unit's sample, typed."""
    return msgspec.convert(facts["rows"], list[Row])
