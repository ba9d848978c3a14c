"""What a variant begins from: the original decoded, warped with its masks, and laid on its canvas. Runs in threads, beside the device."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synth.errors import InputError
from synth.images.decode import Decoded, decode_as_declared
from synth.images.encode import PILLOW
from synth.images.sources.read import ANOTHER
from synth.seeds import generator
from synth.store.trees import naming
from synth.tracking import canvas
from synth.tracking.config import PairsConfig
from synth.tracking.listing import Annotated
from synth.tracking.masks import mask_of, object_of_mask, union
from synth.tracking.warp import Warp, draw, warped


@dataclass(frozen=True)
class Facts:
    """What the metadata says of the original and of the objects."""

    source_sha256: str
    drawn: tuple[int, int] | None = None  # what the image was scaled to inside its bucket
    warp: Mapping | None = None
    objects: tuple[Mapping, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """canvas: [h, w, 4] uint8, the last channel 1 where the picture is kept; of an image that does not change its own pixels [H, W, 3].

    Or the reason why there is none.
    """

    facts: Facts
    canvas: np.ndarray | None = None
    reason: str = ""


def chosen(captions: Sequence[str], seed: int) -> str:
    """One of an image's captions, by 64 bits; "" of none."""
    return captions[seed % len(captions)] if captions else ""


def decoded(source, image: Annotated) -> tuple[str, Decoded]:
    """(sha256 of the file's bytes, its pixels or why there are none)"""
    data = source.read(image.path, image.size)
    if isinstance(data, str):
        return "", Decoded(reason=data)
    sha256 = hashlib.sha256(data).hexdigest()
    if image.sha256 and image.sha256 != sha256:
        return "", Decoded(reason=ANOTHER)
    with naming(image.path):
        return sha256, decode_as_declared(data, image.image["width"], image.image["height"])


def prepared(
    pixels: np.ndarray, sha256: str, bucket: tuple[int, int], objects: Sequence[Mapping], config: PairsConfig, seed: int
) -> Prepared:
    """The canvas of one variant. pixels: [H, W, 3] uint8; objects: the annotations that are kept; seed: of the warp."""
    height, width = pixels.shape[:2]
    masks = np.zeros((-(-len(objects) // 8), height, width), np.uint8)  # a bit each: forty of a photograph are no gigabyte then
    for k, annotation in enumerate(objects):
        try:
            masks[k // 8] |= mask_of(annotation.get("segmentation"), height, width) << k % 8
        except InputError as e:
            return Prepared(Facts(sha256), reason=f"annotation {annotation['id']}: {e}")
    warp = draw(config.warp, generator(seed))
    image, moved = warped(pixels, masks, warp)
    size = canvas.fitted(width, height, config.long_side, config.short_side)
    laid = canvas.onto(image, size, bucket), canvas.mask_onto(union(moved, config.dilate), size, bucket)[..., None]
    records = [
        {"id": a["id"], "category_id": a["category_id"], **object_of_mask(moved[k // 8] >> k % 8 & 1)} for k, a in enumerate(objects)
    ]
    return Prepared(Facts(sha256, size, warp_record(warp, width, height), tuple(records)), np.concatenate(laid, axis=2))


def warp_record(warp: Warp, width: int, height: int) -> dict:
    """A warp as the metadata has it."""
    matrix = [float(v) for v in warp.homography(width, height).ravel()]
    return {"homography": matrix, "flip": warp.flip, "brightness": warp.brightness, "contrast": warp.contrast}


def jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """File bytes of [H, W, 3] uint8, with colours at full resolution: half of it blurs the edges of saturated objects."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **PILLOW["jpg"] | {"quality": quality})
    return out.getvalue()
