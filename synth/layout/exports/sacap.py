"""Stage kind `sacap`: SA-Z.json, which describes regions as SACap-1M and SA-Z do: an object keyed by image_id, with masks and captions.

    SA-Z.json
    images/sa_000000/sa_000000012.*   the pictures (pictures=copy), a folder for 10,000
Objects without a mask are left out; the card counts them. `pred_order`, which object hides which, is not known here and not written.
"""

import json
from collections.abc import Iterator

from synth.layout.exports.base import Chunks, LabelFiles
from synth.layout.exports.config import SacapConfig
from synth.layout.exports.forms import as_json, sacap_entry
from synth.layout.exports.layout_labels import FOLDER
from synth.layout.exports.reading import Labelled

NAME, PICTURES = "SA-Z.json", "images"


class Sacap(LabelFiles):
    config: SacapConfig

    def files_of(self, item: Labelled) -> tuple[str, dict[str, bytes]]:
        key, folder = _named(item.slot)
        if self.config.pictures == "none":
            return item.record.image, {}
        name = f"{PICTURES}/{folder}/{key}.{item.ext}"
        return name, {name: item.read()}

    def whole(self) -> dict[str, Chunks]:
        return {NAME: self._entries}

    def _entries(self) -> Iterator[bytes]:
        before = b"{\n"
        for record, facts in self.told():
            key, folder = _named(facts["slot"])
            yield before + json.dumps(key).encode() + b": " + as_json(sacap_entry(record, key, folder, facts["file_name"]))
            before = b",\n"
        yield b"\n}\n" if before != b"{\n" else b"{}\n"

    def how_to_read(self) -> str:
        pictures = f"- `{PICTURES}/sa_*/`: the pictures.\n" if self.config.pictures == "copy" else ""
        return f"""- `{NAME}`: an object keyed by image_id: image_path, prompt, and `mask_annotation` with bbox, area, segmentation (RLE), \
predicted_iou and caption of each object.
  `stability_score` is null and `point_coords` empty, because boxes were what the masks were asked for by; there is no `pred_order`.
  Objects without a mask are left out.
{pictures}"""


def _named(slot: int) -> tuple[str, str]:
    """(image_id, folder) of a picture."""
    return f"sa_{slot:09d}", f"sa_{slot // FOLDER:06d}"
