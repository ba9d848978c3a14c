"""File bytes -> pixels: sizes, modes, and everything that is no picture."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from synth.images.decode import MAX_PIXELS, decode
from synth.images.depth import Depth, eight_bits
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


DEEP = np.array([[0, 1], [2, 4]]) / 4  # shares of white


def deep(values, dtype, fmt="TIFF", **tags):
    save = {"tiffinfo": {int(k[1:]): v for k, v in tags.items()}} if tags else {}
    return encoded(Image.fromarray((DEEP * values).astype(dtype)), fmt, **save)


@pytest.mark.parametrize(
    "data",
    [
        deep(1, np.float32),  # floats of 0..1
        deep(255, np.float32, t341=255.0),
        deep(4095, np.uint16, t281=4095),  # 12 bits of a sensor
        deep(4095, np.uint16, t280=17, t281=4095),
        deep(4095, np.uint16, t281=2047, t341=4095.0),
        deep(65535, np.uint16),
        deep(65535, np.uint16, "PNG"),
        deep(1000, np.int32, t341=1000.0),
        deep(65535, np.uint16, t281=60000),  # statistics
        deep(65535, np.uint16, t281=255),  # of the picture that it was made of
        b"P5 2 2 4095\n" + (DEEP * 4095).astype(">u2").tobytes(),
        b"Pf\n2 2\n-1.0\n" + DEEP[::-1].astype("<f4").tobytes(),
    ],
)
def test_deep_pictures_are_as_bright_as_their_files_say(data):
    assert abs(pixels(data, 2, 2)[..., 0] - DEEP * 255).max() <= 1


def test_a_deep_picture_whose_zero_is_white_is_no_negative():
    black, white = (struct.pack("<HHII", 262, 3, 1, zero) for zero in (1, 0))
    data = deep(65535, np.uint16)
    assert data.count(black) == 1
    assert abs(pixels(data.replace(black, white), 2, 2)[..., 0] - (1 - DEEP) * 255).max() <= 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (deep(255, np.float32), "its range is unclear: floats with values from 0 to 255 alone; convert it"),
        (deep(4095, np.uint16), "its range is unclear: 16 bits with values from 0 to 4095 alone"),
        (deep(4095, np.uint16, "PNG"), "its range is unclear: 16 bits with values from 0 to 4095 alone"),
        (deep(255, np.int32), "its range is unclear: 32 bits, or signed ones, with values from 0 to 255"),
        (deep(np.nan, np.float32), "its values are not all finite numbers"),
        (deep(1, np.uint16, t341=0.0), "its range is unclear: it says 0..0"),
        (deep(1000, np.int32, t281=1000), "its range is unclear: 32 bits, or signed ones, with values from 0 to 1000"),
        (deep(1, np.float32, t341=np.inf), "its range is unclear: it says 0..inf"),
        (deep(1, np.float32, t341=np.nan), "its range is unclear: it says 0..nan"),
        (deep(1, np.float32, t340=np.nan, t341=1.0), "its range is unclear: it says nan..1"),
        (deep(1, np.float32, t340=-1e308, t341=1e308), "its range is unclear: it says -1e+308..1e+308"),
    ],
)
def test_deep_pictures_whose_range_nothing_tells_are_refused(data, said):
    found = decode(data, 2, 2, "stretch")
    assert found.pixels is None and found.reason.startswith(said)


def png_of_deep_colours(top):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + np.repeat((row * top).astype(">u2"), 3).tobytes() for row in DEEP)
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_12_bits_of_16_are_told_of_colours_too():
    assert abs(pixels(png_of_deep_colours(65535), 2, 2)[..., 1] - (DEEP * 255)).max() <= 1
    assert decode(png_of_deep_colours(4095), 2, 2, "stretch").reason.startswith(
        "its range is unclear: 16 bits a colour with values below 4,096"
    )


def test_statistics_say_no_range_of_grey_or_colours():
    grey = decode(deep(30000, np.uint16, t280=5, t281=30000), 2, 2, "stretch").pixels
    assert grey[1, 1, 0] == round(30000 / 65535 * 255), "as bright as its values, and not stretched by what they happen to be"
    shallow, told = Image.new("RGB", (2, 2), (200, 9, 9)), {280: (0, 0, 0), 281: (61234, 61234, 61234), 258: (16, 16, 16)}
    assert eight_bits(shallow, Depth("RGB", "TIFF", told, colours_cut=True)) is shallow
    assert "with the range 0..61234 cannot" in eight_bits(shallow, Depth("RGB", "TIFF", told | {341: 61234}, colours_cut=True))


def test_a_dark_bmp_of_16_bits_for_all_colours_is_read():
    head = struct.pack("<IiiHHIIiiIIIII", 52, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)  # 5, 6 and 5 bits
    dark = b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + head + struct.pack("<4H", *[1 << 11 | 2 << 5 | 1] * 4)
    assert tuple(pixels(dark, 2, 2)[0, 0]) == (8, 8, 8)


def test_the_first_picture_of_a_stereo_file_is_taken():
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert abs(pixels(out.getvalue())[0, 0] - (200, 10, 10)).max() < 9


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
