"""File bytes of any picture -> pixels of the size that is drawn. Whatever cannot be decoded is a reason, never an exception; what only
this machine cannot decode, for want of a package, is an InputError.

Transparent pictures are laid on white, deeper ones scaled to 8 bits (`depth`), the rotation that EXIF asks for is done, of animations the
first picture is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synth.images.depth import depth_of, eight_bits
from synth.images.sources.base import MAX_PIXELS
from synth.store.trees import open_picture, without_decoder


@dataclass(frozen=True)
class Decoded:
    """pixels [H, W, 3] uint8 and the input's own size, or the reason why there are none."""

    pixels: np.ndarray | None = None
    width: int = 0
    height: int = 0
    reason: str = ""


def decode(data: bytes, width: int, height: int, resize: str) -> Decoded:
    """`resize`: stretch = bicubic to width x height; crop = so that both fit, then the middle."""
    return decode_with(data, lambda image: fitted(_rgb(_upright(image)), width, height, resize))


def decode_whole(data: bytes) -> Decoded:
    """A picture as it is shown: at its own size, turned as EXIF asks; width and height are those."""
    decoded = decode_with(data, lambda image: _rgb(_upright(image)))
    if decoded.pixels is None:
        return decoded
    height, width = decoded.pixels.shape[:2]
    return replace(decoded, width=width, height=height)


def decode_as_declared(data: bytes, width: int, height: int) -> Decoded:
    """The pixels of a picture whose size is known: as it is stored, or turned as EXIF asks where only that gives the size."""

    def take(image):
        image.load()
        stored = image.size
        if stored != (width, height):
            image = _upright(image)
        if image.size == (width, height):
            return _rgb(image)
        return f"is {stored[0]} x {stored[1]} pixels, but {width} x {height} by the annotation file"

    return decode_with(data, take)


def decode_with(data: bytes, take: Callable) -> Decoded:
    """What `take` makes of an opened image of 8 bits a value: an image, or the reason why there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with open_picture(data) as image:
            if image.width * image.height > MAX_PIXELS:
                return Decoded(reason=f"too large: {image.width} x {image.height} pixels, {MAX_PIXELS} at most")
            shallow: Any = image
            if (depth := depth_of(image)) is not None:
                image.load()
                shallow = eight_bits(image, depth)
            taken = shallow if isinstance(shallow, str) else take(shallow)
            if isinstance(taken, str):
                return Decoded(reason=taken)
            return Decoded(np.asarray(taken), image.width, image.height)
    except UnidentifiedImageError as e:
        if absent := without_decoder(data, e):
            raise absent from e
        return Decoded(reason="not a picture")
    except Image.DecompressionBombError:
        return Decoded(reason=f"too large: more than {MAX_PIXELS} pixels")
    except MemoryError:
        raise
    except Exception as e:  # Pillow raises whatever a broken file provokes
        if absent := without_decoder(data, e):
            raise absent from e
        return Decoded(reason=f"cannot be decoded ({type(e).__name__}: {_said(e)})")


def fitted(image, width: int, height: int, resize: str):
    """`image` as width x height pixels, bicubic with antialiasing."""
    from PIL import Image

    box = None
    if resize == "crop":
        scale = min(image.width / width, image.height / height)
        w, h = width * scale, height * scale
        left, top = (image.width - w) / 2, (image.height - h) / 2
        box = (left, top, left + w, top + h)
    if box is None and image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _upright(image):
    from PIL import ImageOps

    image.load()  # a torn file must not pass for one with broken EXIF
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 (EXIF is advice: a picture whose EXIF is torn is taken as it lies)
        return image


def _rgb(image):
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    return image.convert("RGB")


def _said(error: Exception) -> str:
    """What an error says, in so far as it is the same in every process: no addresses, one short line."""
    text = " ".join(str(error).split())
    return text[:100] if "0x" not in text and text.isprintable() else "no more is said"
