"""Pixels to file bytes, with every encoder setting fixed: no time stamp, no EXIF, no library name.

Chosen by `python -m tests.bench.encoders`, which prints what each costs and compares it with other encoders.
"""

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np

# PNG: written here, see `png`. JPEG: 4:4:4, because half-resolution colour blurs the edges of saturated objects.
# WebP: lossless, effort 0.
PILLOW: Mapping[str, Mapping] = {
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0, "optimize": False},
    "webp": {"format": "WEBP", "lossless": True, "quality": 0, "method": 0},
}
AVERAGE = 3  # the PNG filter that predicts a byte by the mean of its left and upper neighbours


def stored_size(width: int, height: int, save_size: int) -> tuple[int, int]:
    """(width, height) in pixels of the stored image: shorter side = save_size, proportions kept; 0 = as computed."""
    short = min(width, height)
    if save_size in (0, short):
        return width, height
    return max(1, round(width * save_size / short)), max(1, round(height * save_size / short))


def encode_image(pixels: np.ndarray, format: str, save_size: int = 0) -> bytes:
    """File bytes of `pixels` [H, W, 3] uint8, resized (bicubic with antialiasing, as SynCLR does) if save_size asks for it."""
    height, width = pixels.shape[:2]
    size = stored_size(width, height, save_size)
    if format == "png" and size == (width, height):
        return png(pixels)
    from PIL import Image

    image = Image.fromarray(pixels)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    if format == "png":
        return png(np.asarray(image))
    out = io.BytesIO()
    image.save(out, **PILLOW[format])
    return out.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """A PNG of `pixels` [H, W, 3] uint8: one filter for all rows, then run lengths and Huffman codes.

    Pillow and libpng try five filters a row, one byte at a time, and search for repeats, which filtered photographs hardly
    have. One filter over the whole picture at once is several times faster and the files are no larger. Threads run side by
    side in it: numpy and zlib let go of the interpreter. Bytes depend on the zlib that Python runs with (versions: zlib).
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    above[1:] = rows[:-1]
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = AVERAGE
    np.subtract(rows, (left & above) + ((left ^ above) >> 1), out=filtered[:, 1:])  # mod 256; the mean without a ninth bit
    deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    data = deflate.compress(filtered) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
