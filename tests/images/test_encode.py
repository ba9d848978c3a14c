"""Encoders: what is stored is what was drawn, and nothing else."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from synth.images.encode import encode_image, png

SHAPES = [(1, 1), (1, 7), (9, 1), (16, 24), (33, 31)]


def pictures(height: int, width: int) -> list[np.ndarray]:
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([(x * 3 + y) % 256, (x + y * 5) % 256, x * y % 256], -1).astype(np.uint8)
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    extremes = np.where(noise > 127, 255, 0).astype(np.uint8)
    return [smooth, noise, extremes, np.zeros_like(noise), np.full_like(noise, 255)]


def chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG, with their checksums checked."""
    found, at = {}, 8
    while at < len(data):
        (n,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + n]
        assert struct.unpack(">I", data[at + 8 + n : at + 12 + n])[0] == zlib.crc32(kind + body)
        found[kind], at = body, at + 12 + n
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_give_back_every_pixel(shape, format):
    for pixels in pictures(*shape):
        image = Image.open(io.BytesIO(encode_image(pixels, format)))
        assert image.mode == "RGB" and (np.asarray(image) == pixels).all()


def test_a_png_holds_pixels_and_nothing_else():
    data = png(pictures(16, 24)[0])
    assert set(chunks(data)) == {b"IHDR", b"IDAT", b"IEND"} and data == png(pictures(16, 24)[0])
    Image.open(io.BytesIO(data)).verify()


def test_a_png_of_a_view_is_that_of_its_copy():
    pixels = pictures(33, 31)[1]
    for view in (pixels[::2, ::-1], pixels.transpose(1, 0, 2)):
        assert png(view) == png(view.copy())


def test_a_png_of_a_photo_is_no_larger_than_pillow_s_own():
    from tests.bench.encoders import photo

    out = io.BytesIO()
    Image.fromarray(photo(128)).save(out, "PNG")
    assert len(png(photo(128))) <= len(out.getvalue())


def test_jpeg_keeps_the_colour_of_every_pixel():
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (255, 0, 0), (0, 0, 255)  # half-resolution colour would mix these
    found = np.asarray(Image.open(io.BytesIO(encode_image(pixels, "jpg")))).astype(int)
    assert abs(found - pixels).mean() < 16


def test_save_size_sets_the_shorter_side():
    assert Image.open(io.BytesIO(encode_image(pictures(16, 24)[0], "png", 8))).size == (12, 8)
