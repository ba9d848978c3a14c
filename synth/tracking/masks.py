"""COCO's segmentations and pixel masks, both ways. Masks are uint8 0/1, [H, W] or [N, H, W].

Compressed RLE is not unpacked by pycocotools, which writes what a string claims, however long, into the memory of the mask.
"""

import numpy as np

from synth.errors import InputError
from synth.tracking.coco import Coordinate, Rle, msgspec
from synth.tracking.opencv import coco_masks, cv2
from synth.tracking.segmentation import runs_of, wrong

FIX = "mend it in the annotation file, or leave it out (tracking.on_bad=drop)"


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """[height, width] of polygons, or of RLE in either form. Raises InputError."""
    try:
        code = msgspec.convert(segmentation, list[list[Coordinate]] | Rle)
        reason = wrong(code, width, height)
    except msgspec.ValidationError as e:
        reason = f"its segmentation is neither polygons nor a run-length code ({e})"
    if reason:
        raise InputError(f"{reason}; {FIX}")
    if isinstance(code, Rle):
        runs = runs_of(code)
        return np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(width, height).T
    return coco_masks().decode(coco_masks().merge(coco_masks().frPyObjects(code, height, width)))


def object_of_mask(mask: np.ndarray) -> dict:
    """Tight box, area and compressed RLE of [H, W], as an annotation has them; an empty one has all zeros."""
    code = coco_masks().encode(np.asfortranarray(mask))
    return {
        "bbox": [int(v) for v in coco_masks().toBbox(code)],
        "area": int(coco_masks().area(code)),
        "segmentation": {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode("ascii")},
    }


def union(masks: np.ndarray, dilate: int) -> np.ndarray:
    """[H, W]: any of [N, H, W], and all that is at most `dilate` pixels to the side of it, above or below."""
    mask = masks.any(0).astype(np.uint8)
    if dilate:
        mask = cv2().dilate(mask, np.ones((2 * dilate + 1, 2 * dilate + 1), np.uint8))
    return mask
