"""Stage kind `layout_labels`: the label files of InstanceDiffusion and rich-context, a file a picture.

    labels/00000/label_000000012.json           synth.layout.exports.forms.label_file
    cc3m-images/00000/000000012.jpg, .json      the picture, and what rich_context_L2I's loader looks for beside it (pictures=copy)
    label.schema.json                           JSON Schema of the label files
    train.txt                                   a line a label file, as InstanceDiffusion's loader reads them below its root_dir

rich_context_L2I finds the picture of label_<id>.json at <root>/cc3m-images/<id // 10000, 5 digits>/<id>.jpg, whatever folder the file is
in: two pictures of one stem would be one to it. So names=number calls pictures by their slot, and `source` in each file tells what they
were; names=stem keeps names, and refuses those that the rule does not lead to.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property

from synth.errors import InputError
from synth.layout.exports.base import Chunks, LabelFiles
from synth.layout.exports.config import LayoutLabelsConfig
from synth.layout.exports.forms import as_json, label_file
from synth.layout.exports.reading import JPEG, Labelled
from synth.layout.judging import schema_bytes
from synth.layout.objects.config import EMBEDDINGS
from synth.layout.objects.embeddings import EmbeddingReader

LABELS, PICTURES, TRAIN, SCHEMA = "labels", "cc3m-images", "train.txt", "label.schema.json"
FOLDER = 10_000  # pictures a folder, in img2dataset's shards and in the loader's rule
# names that the rule finds: 00000/000000012.jpg, 00000.tar/000000012 as members of img2dataset's tars are called, or without a folder or
# an extension, as those of one tar and samples of stages
STEM = re.compile(r"(?:(\d{5,})(?:\.tar)?/)?(\d{1,18})(?:\.jpg)?", re.ASCII)


class LayoutLabels(LabelFiles):
    config: LayoutLabelsConfig
    form = JPEG  # the rule knows no other

    @cached_property
    def embeddings(self) -> EmbeddingReader | None:
        """Of CLIP, where they were asked for."""
        stages = self.folder.upstream(EMBEDDINGS)
        return EmbeddingReader(stages[0]) if stages else None

    def files_of(self, item: Labelled) -> tuple[str, dict[str, bytes]]:
        record, stem = item.record, self.stem_of(item)
        files: dict[str, bytes] = {}
        name, data = record.image, None
        if self.config.pictures == "copy":
            data, name = item.read(), f"{PICTURES}/{place(stem)}.jpg"
            files = {name: data, f"{PICTURES}/{place(stem)}.json": beside(record.width, record.height, record.caption)}
        if self.config.image:
            data = data or self.pictures.picture_of(item.slot, record, JPEG).data
        embeddings = None if self.embeddings is None else self.embeddings.of(item.slot, record)
        label = label_file(record, name, self.config.dataset_name, data if self.config.image else None, embeddings)
        folder, _, last = place(stem).rpartition("/")
        return name, {f"{LABELS}/{folder}/label_{last}.json": as_json(label), **files}

    def lists(self) -> dict[str, bytes]:
        return {SCHEMA: schema_bytes(SCHEMA)}

    def stem_of(self, item: Labelled) -> str:
        """What a picture is called here. InputError for a name that loaders would not find, or find another picture by."""
        if self.config.names == "number":
            return f"{item.slot:09d}"
        fix = f"use export.{self.folder.spec.name}.names=number"
        parts = STEM.fullmatch(item.record.image)
        if parts is None:
            raise InputError(
                f"{item.record.image!a}: is no picture of img2dataset's, called 00000/000000012.jpg or 00000.tar/000000012; {fix}"
            )
        folder, stem = parts.groups()
        if folder is not None and folder != folder_of(stem):
            raise InputError(f"{item.record.image}: loaders look for {stem} in folder {folder_of(stem)}; {fix}")
        return stem

    def whole(self) -> dict[str, Chunks]:
        return {TRAIN: self._lines}

    def _lines(self) -> Iterator[bytes]:
        seen: set[str] = set()
        for _, facts in self.told():
            name = next((n for n in facts["files"] if n.startswith(f"{LABELS}/")), "")
            if not name:
                raise InputError(f"{self.folder.path}: sample {facts['key']} of its units tells of no label file; verify it")
            if name in seen:
                raise InputError(
                    f"{self.folder.path}: two pictures are called {name}, {facts['key']} is the second; "
                    f"use export.{self.folder.spec.name}.names=number"
                )
            seen.add(name)
            yield name.encode() + b"\n"

    def how_to_read(self) -> str:
        pictures = (
            f"- `{PICTURES}/<number // 10000>/<number>.jpg`: the pictures; "
            "the `.json` beside each tells rich_context_L2I's loader that there is no border to cut off. It does not know of one that "
            "img2dataset added (its `resize_mode=border`): for such pictures export with `names=stem pictures=none`, and the loader "
            "reads img2dataset's own files.\n"
            if self.config.pictures == "copy"
            else "- The pictures are where they were: `file_name` tells their name in the source. "
            f"rich_context_L2I wants it as `{PICTURES}` below its `root`.\n"
        )
        inside = "" if self.config.image else ", whose loader also needs the pictures inside of them (`image=true`)"
        numbers = (
            "\n- `text_embedding_before` is of `category_name`, `blip_clip_embeddings` of `category_name. caption`: float32 in base64, "
            "as CLIP's text tower pools them before they are projected. InstanceDiffusion wants those of CLIP ViT-L/14 (768 numbers)."
            if EMBEDDINGS in self.folder.spec.upstream
            else ""
        )
        return f"""- `{LABELS}/*/label_*.json`: a picture each: caption, and `annos` with bbox [x, y, width, height], mask (RLE), \
pred_score, category_name, caption. `source` is its name in the source.{numbers}
{pictures}- `{SCHEMA}`: JSON Schema of these files.
- `{TRAIN}`: the names of the label files, for InstanceDiffusion's `root_dir`{inside}."""


def folder_of(stem: str) -> str:
    """The folder in which loaders look for a picture of this number.

    >>> folder_of("000120034")
    '00012'
    """
    return f"{int(stem) // FOLDER:05d}"


def place(stem: str) -> str:
    return f"{folder_of(stem)}/{stem}"


def beside(width: int, height: int, caption: str) -> bytes:
    """What stands beside a picture, as img2dataset writes it, for rich_context_L2I's loader: where original_width and original_height
    differ, it takes the picture for padded to a square and cuts the border off. Here is no record of a border, so they are one number."""
    side = max(width, height)
    facts = {"caption": caption, "width": width, "height": height, "original_width": side, "original_height": side, "status": "success"}
    return json.dumps(facts).encode()
