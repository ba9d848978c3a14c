"""Pictures of more than 8 bits a value, brought to 8: by the range that the file tells, never by what its values happen to be.

A file of 16 bits may hold 12 of a sensor, one of floats 0..1 or 0..255: scaled by the wrong range a picture is black, and trains as such.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value
BLACK, WHITE = 340, 341  # SMin- and SMaxSampleValue: the range that is meant
LARGEST = 281  # MaxSampleValue: TIFF 6 has it for statistics alone, but cameras write the white of their sensor there
FULL = 65535.0
SENSOR = 1 << 14  # values of 10, 12 and 14 bits stay below it: no file of 16 bits says whether they are these, or dark
WHITES = frozenset(float((1 << bits) - 1) for bits in range(8, 17))  # what no statistics hit by chance
FIX = "convert it to 8 bits, or write its range into a TIFF (SMinSampleValue, SMaxSampleValue)"


@dataclass(frozen=True)
class Depth:
    """What a file tells of its values; Pillow forgets it when the pixels are loaded."""

    mode: str
    format: str
    tags: Mapping[int, object]  # of a TIFF
    colours_cut: bool  # Pillow keeps the upper 8 of 16 bits of a colour


def depth_of(image: "Image.Image") -> Depth | None:
    """Of an image that is open and not loaded; None of one that has 8 bits a value."""
    # 16 bits of a BMP are those of all its colours together
    cut = image.format != "BMP" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    grey = image.mode.startswith(("I", "F"))
    if not grey and not cut:
        return None
    tags = dict(image.tag_v2) if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    return Depth(image.mode, image.format or "", tags, cut and not grey)


def eight_bits(image: "Image.Image", depth: Depth) -> "Image.Image | str":
    """A loaded image with 8 bits a value, or why its range is unclear."""
    if depth.colours_cut:
        return _colours(image, depth) or image
    from PIL import Image

    values = np.asarray(image).astype(np.float64)  # [H, W]
    if not np.isfinite(values).all():
        return "its values are not all finite numbers"
    span = _range(depth, float(values.min()), float(values.max()))
    if isinstance(span, str):
        return span
    black, white = span
    if not (black < white and math.isfinite(white - black)):
        return f"its range is unclear: it says {black:g}..{white:g}; {FIX}"
    grey = np.clip((values - black) / (white - black) * 255, 0, 255).round().astype(np.uint8)
    if depth.tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    made = Image.fromarray(grey)
    made.info = {k: v for k, v in image.info.items() if k != "transparency"}  # its EXIF, where it is to be turned
    return made


def _colours(image: "Image.Image", depth: Depth) -> str:
    """Why the range of a picture of 16 bits a colour is unclear; "" if it is not."""
    told = _told(depth, math.inf)
    if told not in (None, (0.0, FULL)):
        return f"16 bits a colour with the range {told[0]:g}..{told[1]:g} cannot be read; convert it to 8 bits"
    bands = [band for name, band in zip(image.getbands(), image.split(), strict=True) if name not in "Aa"]
    top = max(band.getextrema()[1] for band in bands)
    unclear = told is None and top < SENSOR >> 8
    return f"its range is unclear: 16 bits a colour with values below {(top + 1) << 8:,} alone; {FIX}" if unclear else ""


def _range(depth: Depth, low: float, high: float) -> tuple[float, float] | str:
    """(black, white) of a grey picture; why they are unclear."""
    if (told := _told(depth, high)) is not None:
        return told
    why = f"with values from {low:g} to {high:g} alone; {FIX}"
    if depth.mode.startswith("F"):  # what all who write floats mean by black and white, where they mean anything
        return (0.0, 1.0) if low >= 0 and high <= 1 else f"its range is unclear: floats {why}"
    if depth.format == "PPM":  # Pillow scales to 16 bits by the maximum of the header
        return 0.0, FULL
    if depth.mode == "I" and depth.format == "TIFF":
        return f"its range is unclear: 32 bits, or signed ones, {why}"
    return (0.0, FULL) if high >= SENSOR else f"its range is unclear: 16 bits {why}"


def _told(depth: Depth, high: float) -> tuple[float, float] | None:
    """(black, white) as a TIFF's tags say, or by its bits if they are 9 to 15; None where nothing does.

    high: its largest value; inf of colours, for which MaxSampleValue says nothing.
    """
    white, largest, bits = (_largest(depth, tag) for tag in (WHITE, LARGEST, BITS))
    if white is not None:
        return _largest(depth, BLACK) or 0.0, white
    if largest in WHITES and high <= largest:
        return 0.0, largest
    return (0.0, float((1 << int(bits)) - 1)) if bits is not None and 8 < bits < 16 else None


def _largest(depth: Depth, tag: int) -> float | None:
    """A tag that is there and a number; of several samples the largest, NaN if one is none."""
    value = depth.tags.get(tag)
    numbers = value if isinstance(value, tuple) else (value,)
    if not numbers or not all(isinstance(n, int | float) for n in numbers):
        return None
    return math.nan if any(map(math.isnan, numbers)) else float(max(numbers))
