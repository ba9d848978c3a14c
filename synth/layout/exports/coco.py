"""Stage kind `coco`: annotations.json in COCO's form, with score and caption of each object, and masks as RLE.

annotations.json           images in the order of the slots, id = slot + 1; annotations in theirs; categories are the labels, by name
images/00000/000000012.*   the pictures (pictures=copy); else file_name is the name in the source
"""

import itertools
from collections.abc import Iterator

from synth.layout.exports.base import Chunks, LabelFiles
from synth.layout.exports.config import CocoConfig
from synth.layout.exports.forms import as_json, coco_annotation, coco_image
from synth.layout.exports.layout_labels import place
from synth.layout.exports.reading import Labelled

NAME, PICTURES = "annotations.json", "images"


class Coco(LabelFiles):
    config: CocoConfig

    def files_of(self, item: Labelled) -> tuple[str, dict[str, bytes]]:
        if self.config.pictures == "none":
            return item.record.image, {}
        name = f"{PICTURES}/{place(f'{item.slot:09d}')}.{item.ext}"
        return name, {name: item.read()}

    def whole(self) -> dict[str, Chunks]:
        return {NAME: self._annotations}

    def _annotations(self) -> Iterator[bytes]:
        """The file, list by list: memory holds one picture and the names of the categories."""
        categories = {name: n for n, name in enumerate(sorted(self.counts.labels), 1)}
        yield from _list(b'{"images": [', (as_json(coco_image(r, f["slot"] + 1, f["file_name"])) for r, f in self.told()))
        numbers = itertools.count(1)
        masks = self.config.segmentations
        objects = (
            as_json(coco_annotation(anno, next(numbers), facts["slot"] + 1, categories[anno.label], masks))
            for record, facts in self.told()
            for anno in record.annos or ()
        )
        yield from _list(b'"annotations": [', objects)
        yield from _list(b'"categories": [', (as_json({"id": n, "name": name}) for name, n in categories.items()), b"\n]}\n")

    def how_to_read(self) -> str:
        pictures = f"`{PICTURES}/`: the pictures" if self.config.pictures == "copy" else "the pictures are where they were"
        return f"""- `{NAME}`: COCO's form, as pycocotools reads it; an image has its `caption`, an annotation its `score` and `caption`, \
and `predicted_iou` of its mask.
  Without a mask, `area` is that of the box.
- {pictures}; `file_name` tells the name of each."""


def _list(head: bytes, rows: Iterator[bytes], tail: bytes = b"\n],\n") -> Iterator[bytes]:
    """A list of a JSON object, an item a line."""
    yield head
    for number, row in enumerate(rows):
        yield (b",\n" if number else b"\n") + row
    yield tail
