"""The records of others, made of ours: InstanceDiffusion's and rich-context's label files, COCO's images and annotations, LayoutSAM's rows,
SA-Z's entries. Pure.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from synth.export.rle import area_of, packed
from synth.layout.records import Anno, Mask, Record

Fields = dict[str, Any]


def label_file(
    record: Record, file_name: str, dataset_name: str, image: bytes | None = None, embeddings: np.ndarray | None = None
) -> Fields:
    """`label_<stem>.json` as rich_context_L2I_datagen's automatic_label_qwen.py writes it; with `image`, the file bytes of the picture, as
    InstanceDiffusion's does. Its constants are kept; `source`, `tags` and `dropped` are ours. Where one object has a mask all have one,
    which may be empty: InstanceDiffusion's decode_item stacks the masks that are there, and takes that of an object by its place among
    all.

    file_name: where the picture is. embeddings: [2, objects, D] float32, of labels, and of labels with captions; None: the fields are "",
    as rich-context's.
    """
    head: Fields = {"caption": record.caption, "width": record.width, "height": record.height, "file_name": file_name, "is_det": 0}
    if image is not None:
        head["image"] = base64.b64encode(image).decode("ascii")
    head |= {"dataset_name": dataset_name, "data_id": 1, "source": record.image, "tags": list(record.tags)}
    if record.dropped:
        head["dropped"] = dict(record.dropped)
    annos, size = record.annos or (), (record.height, record.width)
    other = Mask(size, packed([record.height * record.width])) if any(anno.mask for anno in annos) else None
    texts = [("", "")] * len(annos) if embeddings is None else [(base64_of(a), base64_of(b)) for a, b in zip(*embeddings, strict=True)]
    return head | {"annos": [_label(a, value, a.mask or other, *texts[value - 1]) for value, a in enumerate(annos, 1)]}


def base64_of(numbers: np.ndarray) -> str:
    """An embedding as text: its bytes, float32 of little endian, in base64."""
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode("ascii")


def _label(anno: Anno, value: int, seen: Mask | None, of_label: str, of_both: str) -> Fields:
    """value: of its pixels in a map of all masks, where 0 is the background. seen: its mask. of_label, of_both: its embeddings. A box
    without a caption is called by its label, as theirs."""
    mask = {} if seen is None else {"mask": rle(seen)}
    return {
        "id": 0,
        "isfake": 0,
        "isreflected": 0,
        "bbox": list(anno.bbox),
        "mask_value": value,
        **mask,
        "pred_score": anno.score,
        "category_id": 0,
        "data_id": 0,
        "category_name": anno.label,
        "text_embedding_before": of_label,
        "caption": anno.caption or anno.label,
        "blip_clip_embeddings": of_both,
        "is_stuff": 0,
        "is_thing": 1,
        "area": anno.area,  # of the box, as theirs
    }


def rle(mask: Mask) -> Fields:
    return {"size": list(mask.size), "counts": mask.counts}


# -- COCO ------------------------------------------------------------------------------------------------------------


def coco_image(record: Record, number: int, file_name: str) -> Fields:
    """number: its id."""
    return {"id": number, "file_name": file_name, "width": record.width, "height": record.height, "caption": record.caption}


def coco_annotation(anno: Anno, number: int, image: int, category: int, segmentations: bool) -> Fields:
    """number, image, category: ids. area: of the mask; of the box where there is none."""
    fields: Fields = {"id": number, "image_id": image, "category_id": category, "bbox": list(anno.bbox), "iscrowd": 0}
    fields |= {"area": anno.area if anno.mask is None else area_of(anno.mask.counts), "score": anno.score}
    if anno.mask is not None and segmentations:
        fields["segmentation"] = rle(anno.mask)
    if anno.iou is not None:
        fields["predicted_iou"] = anno.iou
    if anno.crop_score is not None:
        fields["crop_score"] = anno.crop_score
    return fields | ({"caption": anno.caption} if anno.caption is not None else {})


# -- LayoutSAM -------------------------------------------------------------------------------------------------------


def layoutsam_row(record: Record, key: str, file_name: str) -> Fields:
    """The columns of LayoutSAM beside the picture. Lists are text, which its readers parse as Python's literals.

    region_captions: what the boxes are called; detail_region_captions: their captions, or the same.
    """
    annos = record.annos or ()
    return {
        "image_id": key,
        "global_caption": encodable(record.caption),
        "detail_region_captions": listed([a.caption or a.label for a in annos]),
        "region_captions": listed([a.label for a in annos]),
        "bbox_list": listed([[a.bbox[0], a.bbox[1], a.bbox[0] + a.bbox[2], a.bbox[1] + a.bbox[3]] for a in annos]),
        "width": record.width,
        "height": record.height,
        "file_name": encodable(file_name),
    }


def listed(values: list) -> str:
    """A list as JSON that is a Python literal, too: characters beyond 16 bits stand as they are, because Python does not join their halves.

    >>> listed(["a \\U0001f600 \\"b\\"", "c"])
    '["a \U0001f600 \\\\"b\\\\"", "c"]'
    """
    return encodable(json.dumps(values, ensure_ascii=False))


def encodable(text: str) -> str:
    """Text without lone surrogates, which Parquet and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


# -- SA-Z and SACap-1M -----------------------------------------------------------------------------------------------


def sacap_entry(record: Record, key: str, folder: str, image_path: str) -> Fields:
    """An entry of SA-Z.json, with the objects that have a mask. What SAM's automatic masks have and masks of boxes have not is null:
    stability_score; point_coords is empty."""
    masks = [_sacap_mask(anno, anno.mask, number, record) for number, anno in enumerate(record.annos or ()) if anno.mask is not None]
    return {"image_id": key, "folder_name": folder, "image_path": image_path, "prompt": record.caption, "mask_annotation": masks}


def _sacap_mask(anno: Anno, mask: Mask, number: int, record: Record) -> Fields:
    return {
        "id": number,
        "bbox": list(anno.bbox),
        "area": area_of(mask.counts),
        "segmentation": rle(mask),
        "predicted_iou": anno.iou,
        "point_coords": [],
        "crop_box": [0, 0, record.width, record.height],
        "stability_score": None,
        "caption": anno.caption or anno.label,
    }


def as_json(fields: Mapping) -> bytes:
    """On one line; what is no Unicode as escapes, as the names of files may be."""
    text = json.dumps(fields, ensure_ascii=False, sort_keys=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
