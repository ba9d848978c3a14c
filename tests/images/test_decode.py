"""File bytes -> pixels: sizes, modes, and everything that is no picture."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from synth.images.decode import MAX_PIXELS, decode
from tests.images.pictures import picture


def pixels(data, width=8, height=8, resize="stretch"):
    found = decode(data, width, height, resize)
    assert not found.reason
    assert found.pixels.shape == (height, width, 3) and found.pixels.dtype == np.uint8
    return found.pixels.astype(int)


def encoded(image, fmt="PNG", **save):
    out = io.BytesIO()
    image.save(out, format=fmt, **save)
    return out.getvalue()


def gradient(width, height):
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).round().astype(np.uint8))


def test_stretching_keeps_all_of_a_picture_and_cropping_keeps_its_proportions():
    data = encoded(gradient(80, 40))
    whole, middle = pixels(data, 16, 16), pixels(data, 16, 16, "crop")
    assert whole[0, 0, 0] < 12 and whole[0, -1, 0] > 243
    assert abs(middle[0, 0, 0] - 68) < 8 and abs(middle[0, -1, 0] - 187) < 8, "a quarter is cut off on each side"
    assert middle[0, 0, 1] < 12 and middle[-1, 0, 1] > 243
    tall = pixels(encoded(gradient(40, 80)), 16, 16, "crop")
    assert tall[0, 0, 0] < 12 and abs(tall[0, 0, 1] - 68) < 8


def test_a_picture_of_the_right_size_keeps_its_pixels():
    data = picture(3, (8, 8))
    for resize in ("stretch", "crop"):
        assert (pixels(data, resize=resize) == np.asarray(Image.open(io.BytesIO(data)))).all()
    assert (decode(data, 8, 8, "crop").width, decode(data, 8, 8, "crop").height) == (8, 8)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16", "F"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.new("L", (8, 8), 128)
    deep = {"I;16": np.full((8, 8), 32896, np.uint16), "F": np.full((8, 8), 128 / 255, np.float32)}
    image = Image.fromarray(deep[mode]) if mode in deep else grey.convert(mode)
    found = pixels(encoded(image, "TIFF"))
    assert abs(found - (255 if mode == "1" else 128)).max() <= 3 or mode == "1"


def test_transparent_pictures_lie_on_white():
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    found = pixels(encoded(image))
    assert tuple(found[4, 4]) == (255, 255, 255) and tuple(found[0, 0]) == (0, 0, 255)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([9, 9, 9] + [0] * 765)
    assert tuple(pixels(encoded(palette, "GIF", transparency=0))[4, 4]) == (255, 255, 255)


def test_the_rotation_that_exif_asks_for_is_done_and_torn_exif_does_no_harm():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = pixels(encoded(gradient(40, 40), "JPEG", exif=exif, quality=95))
    assert turned[0, 0, 1] > 200 and turned[0, -1, 1] < 60, "what was below is on the left"
    assert pixels(encoded(gradient(40, 40), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xffgarbage")).any()


def bomb(width=60000, height=60000):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


UNREADABLE = {
    "no picture": b"this is a text",
    "empty": b"",
    "html": b"<html>404 not found</html>" * 50,
    "torn png": picture(0, (64, 64))[:700],
    "torn jpeg": picture(0, (64, 64), "jpg")[:500],
    "head only": picture(0)[:8],
    "bomb": bomb(),
    "large": bomb(10001, 10000),
    "flipped bytes": picture(0)[:60] + b"\xff" * 40 + picture(0)[100:],
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n",
    "pickle": b"\x80\x04\x95cos\nsystem\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_decoded_is_a_reason_that_is_the_same_every_time(name):
    found = [decode(UNREADABLE[name], 8, 8, "stretch") for _ in range(2)]
    assert found[0].reason and found[0].pixels is None
    assert found[0].reason == found[1].reason and "0x" not in found[0].reason and len(found[0].reason) < 200
    assert ("too large" in found[0].reason) == (name in ("bomb", "large"))
    assert MAX_PIXELS < 10001 * 10000
