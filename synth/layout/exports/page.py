"""Stage kind `labels_page`: layout labels as people look at them.

    index.html                   pictures with their boxes, masks and captions, each kind of them shown or not without a script
    sheet.png                    some of them on one picture, boxes burned in
    pictures/000000012.jpg       those that are shown
One slot. Its sample holds what the page says, and names, sizes and digests of the pictures.
"""

from functools import cached_property

import numpy as np

from synth import keys
from synth.errors import InputError
from synth.export.card import dataset_name, lineage
from synth.export.outlines import svg_path
from synth.export.rle import mask_of
from synth.export.sources import Sources
from synth.layout.exports.card import Counts, reason_of
from synth.layout.exports.config import LabelsPageConfig
from synth.layout.exports.page_html import page, totals_line
from synth.layout.exports.reading import KNOWN, Labelled, LabelReader
from synth.layout.exports.sheet import sheet
from synth.layout.records import Anno, Record
from synth.reading.stage import ROLE
from synth.run.findings import Check
from synth.run.place import Files, Pages

INDEX, SHEET, PICTURES = "index.html", "sheet.png", "pictures"
OUTLINE = 320  # pixels: masks of larger pictures are traced coarser, or a page of photographs would hold megabytes of outlines


class LabelsPage(Pages):
    config: LabelsPageConfig

    @cached_property
    def labels(self) -> LabelReader:
        return LabelReader(self.folder.upstream(ROLE)[0], KNOWN)

    @property
    def _name(self) -> str:
        return dataset_name(list(lineage(self.folder)))

    def check(self) -> None:
        keys.check(self.config, "export.labels_page")
        super().check()
        self.labels.source.check()

    def key_of(self, slot: int) -> str:
        return "labels_page"

    def whole(self) -> dict[str, bytes]:
        """index.html."""
        facts = self.facts("pictures", "totals")
        try:
            return {INDEX: page(f"Layout labels: {self._name}", facts["pictures"], facts["totals"]).encode("utf-8")}
        except (KeyError, TypeError, ValueError) as e:
            path = self.folder.unit_path(0)
            raise InputError(f"{path}: its sample tells no page ({type(e).__name__}); set it aside with verify --repair") from e

    def verify(self, check: Check) -> None:
        """As of any pages; deep: the pictures and labels that it shows are those of its stage."""
        super().verify(check)
        sources = Sources(check, lambda: self.labels)
        told = self.facts("pictures", "files")
        for shown in told["pictures"] if sources else ():
            facts = {**shown["record"], "sha256": told["files"][shown["file"]][1]}
            facts.pop("annos", None)  # they are without their masks here
            sources.compare(shown["slot"], facts, shown["file"], self.folder.unit_path(0), 0, shown["file"])

    def make(self, slot: int) -> dict:
        """Put the pictures into their places; what the page says of them, and `files`: name -> (size, sha256)."""
        files: Files = {}
        labels, counts = self.labels, Counts()
        wanted = set(spread(list(labels.sample_slots), self.config.max_images))
        shown = []
        for item in labels.samples():
            counts.add(item.record)
            if item.slot in wanted:
                shown.append(self._shown(item, files))
        counts.left_out.update(map(reason_of, labels.tombstones.values()))
        totals = {name: dict(sorted(getattr(counts, name).items())) for name in ("numbers", "dropped", "left_out")}
        totals |= {"shown": len(shown)}
        full = [s for s in shown if s["record"].get("annos")]
        chosen = [full[k] for k in spread(list(range(len(full))), self.config.sheet)]
        self.keep(files, SHEET, sheet(f"{self._name}: {totals_line(totals)}", chosen, lambda file: (self.out.path / file).read_bytes()))
        return {"pictures": shown, "totals": totals, "files": files}

    def _shown(self, item: Labelled, files: Files) -> dict:
        name = f"{PICTURES}/{item.slot:09d}.{item.ext}"
        self.keep(files, name, item.read())
        outlines = [outline_of(anno, item.record) for anno in item.record.annos or ()]
        record = item.record.to_json()
        for anno in record.get("annos", ()):
            anno.pop("mask", None)
        record.pop("sha256", None)
        record["source_sha256"] = item.file.source_sha256
        return {"slot": item.slot, "file": name, "record": record, "outlines": outlines}


def spread(slots: list[int], most: int) -> list[int]:
    """At most `most` of some slots, evenly, the first one always.

    >>> spread([2, 3, 5, 7, 9], 2)
    [2, 5]
    """
    return [slots[k * len(slots) // most] for k in range(most)] if most < len(slots) else slots


def outline_of(anno: Anno, record: Record) -> str:
    """The SVG path around the mask of an object; "" where it has none, or one that nobody can read."""
    mask = "" if anno.mask is None else mask_of(anno.mask.counts, record.height, record.width)
    if isinstance(mask, str):
        return ""
    scale = max(1, -(-max(record.width, record.height) // OUTLINE))
    return svg_path(np.ascontiguousarray(mask[::scale, ::scale]) > 0, scale)
