"""Pixels to file bytes, with every encoder setting fixed: no time stamp, no EXIF, no library name.

Chosen by `python -m tests.bench.encoders` (Pillow 13, one thread, a photo-like picture of 512 x 512 pixels, ms and kB an
image): png level 6 (Pillow's own) 93 and 508, level 1 67 and 553, level 1 with run lengths only 40 and 508; jpg 2 and 235;
webp lossless effort 0 7 and 549, effort 1 30 and 489, effort 4 213 and 490.
"""

import io
import zlib
from collections.abc import Mapping

import numpy as np

from synth.errors import InputError

# PNG: its filters leave little for a search of repeats to find, so run lengths alone are faster and no larger.
# JPEG: 4:4:4, because half-resolution colour blurs the edges of saturated objects. WebP: lossless, effort 0.
SETTINGS: Mapping[str, Mapping] = {
    "png": {"format": "PNG", "compress_level": 1, "compress_type": zlib.Z_RLE},
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0, "optimize": False},
    "webp": {"format": "WEBP", "lossless": True, "quality": 0, "method": 0},
}


def check_format(name: str) -> None:
    """InputError that lists the formats if `name` is none of them."""
    if name not in SETTINGS:
        msg = f"images.format={name!r}: use one of {', '.join(SETTINGS)}"
        raise InputError(msg)


def stored_size(width: int, height: int, save_size: int) -> tuple[int, int]:
    """(width, height) in pixels of the stored image: shorter side = save_size, proportions kept; 0 = as computed."""
    short = min(width, height)
    if save_size in (0, short):
        return width, height
    return max(1, round(width * save_size / short)), max(1, round(height * save_size / short))


def encode_image(pixels: np.ndarray, format: str, save_size: int = 0) -> bytes:
    """File bytes of `pixels` [H, W, 3] uint8, resized (bicubic with antialiasing, as SynCLR does) if save_size asks for it."""
    from PIL import Image

    image = Image.fromarray(pixels)
    size = stored_size(image.width, image.height, save_size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, **SETTINGS[format])
    return out.getvalue()
