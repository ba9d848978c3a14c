"""COCO's segmentations and pixel masks, both ways. Masks are uint8 0/1, [H, W] or [N, H, W].

Compressed RLE is not unpacked by pycocotools, which writes what a string claims, however long, into the memory of the mask.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from synth.errors import InputError
from synth.tracking.opencv import coco_masks, cv2
from synth.tracking.segmentation import unpacked

FIX = "mend it in the annotation file, or leave it out (tracking.on_bad=drop)"


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """[height, width] of polygons, or of RLE in either form. Raises InputError."""
    if isinstance(segmentation, Mapping):
        return _from_rle(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"a segmentation is a list of polygons or a run-length code, not {type(segmentation).__name__}; {FIX}")
    for polygon in segmentation:
        _check_polygon(polygon)
    encoded = coco_masks().frPyObjects([[float(v) for v in p] for p in segmentation], height, width)
    return coco_masks().decode(coco_masks().merge(encoded))


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


def _check_polygon(polygon: object) -> None:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:  # pycocotools takes one of four numbers for a box
        size = len(polygon) if isinstance(polygon, Sequence) else type(polygon).__name__
        raise InputError(f"a polygon is a list of at least three points x, y, not of {size} numbers; {FIX}")
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e6 for v in polygon):  # NaN too
        raise InputError(f"a polygon holds something that is no coordinate; {FIX}")


def _from_rle(code: Mapping, height: int, width: int) -> np.ndarray:
    counts, size = code.get("counts"), code.get("size")
    if not isinstance(size, list) or size != [height, width]:
        raise InputError(f"a run-length code has the size {size}, its image is {height} high and {width} wide; {FIX}")
    if isinstance(counts, str):
        counts = unpacked(counts)
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != height * width:
        raise InputError(f"the runs of a run-length code must add up to the {height * width} pixels of the image; {FIX}")
    runs = np.repeat(np.arange(len(counts), dtype=np.int64) % 2, counts).astype(np.uint8)
    return runs.reshape(width, height).T
