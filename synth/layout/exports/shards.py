"""Layout labels in files of many pictures: stage kinds `layoutsam` (Parquet, LayoutSAM's columns) and `layout_webdataset`."""

import json
from collections.abc import Mapping
from dataclasses import replace

from synth.export.parquet import Parquet
from synth.export.webdataset import WebDataset
from synth.layout.exports.base import OfLabels
from synth.layout.exports.config import LayoutSamConfig
from synth.layout.exports.forms import layoutsam_row
from synth.layout.judging import judge
from synth.layout.records import Record
from synth.run.findings import Check

TEXTS = ("image_id", "global_caption", "detail_region_captions", "region_captions", "bbox_list")


class LabelShards(OfLabels):
    """Beside an export of shards: deep, the labels are judged, too."""

    def verify(self, check: Check) -> None:
        super().verify(check)
        if check.deep:
            judge(self.folder, replace(check, progress=lambda slots: None))


class LayoutWebDataset(LabelShards, WebDataset):
    """As `webdataset`, of layout labels: the record of a picture is its .json."""

    def how_to_read(self) -> str:
        return """- `shard-*.tar`: a picture is `<key>.<ext>`, its caption `<key>.txt`, its labels `<key>.json`: width, height, tags, \
and `annos` with bbox [x, y, width, height], score, label, mask (RLE) and caption.
  `webdataset.WebDataset("shard-{000000..NNNNNN}.tar").decode("pil")` reads them; `image` is the name of the picture in the source.
- `shards.json`: name, samples and bytes of each shard."""


class LayoutSam(LabelShards, Parquet):
    """data/train-00000-of-00016.parquet .. with LayoutSAM's columns."""

    config: LayoutSamConfig
    packed = (*TEXTS, "file_name")

    def small(self, key: str, record: Mapping) -> dict:
        return layoutsam_row(Record.of_json(record, f"{self.folder.path}: sample {key}"), key, record["image"])

    def schema(self):
        """Columns, and the note from which Hugging Face datasets knows that `image` is a picture."""
        import pyarrow as pa

        sizes = [(name, pa.int64()) for name in ("width", "height")]
        columns = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), *((name, pa.string()) for name in TEXTS)]
        text, number = {"dtype": "string", "_type": "Value"}, {"dtype": "int64", "_type": "Value"}
        features = {"image": {"_type": "Image"}, **dict.fromkeys(TEXTS, text), "width": number, "height": number, "file_name": text}
        note = json.dumps({"info": {"features": features}}, sort_keys=True)
        return pa.schema([*columns, *sizes, ("file_name", pa.string())], {"huggingface": note})

    def how_to_read(self) -> str:
        return """- `data/train-*.parquet`: LayoutSAM's columns image, image_id, global_caption, detail_region_captions, region_captions, \
bbox_list ([x1, y1, x2, y2] in pixels), width, height, file_name; `datasets.load_dataset(FOLDER)` opens them.
  The three lists are text, which `ast.literal_eval` or `json.loads` reads. region_captions are the labels of the boxes, \
detail_region_captions their captions."""
