"""Grids and animations of a style's pictures. Pictures come one by one, so that a long chapter does not fill the memory."""

import io
import math
from collections.abc import Iterable, Iterator

from synth.store.trees import decoded

MOST = 8192  # pixels a side of a grid; cells of a longer story are shrunk to fit
SMALL = 128  # pixels; smaller pictures are enlarged in animations by whole pixels, so that one sees them
SHOWN = 256  # pixels that they get, about


def grid(pictures: Iterable[bytes], n: int) -> bytes:
    """A PNG of n pictures: ceil(sqrt(n)) rows and columns, row by row, black where there is none;
    cells have the first one's size."""
    from PIL import Image

    columns = math.isqrt(n - 1) + 1
    sheet, cell = None, (0, 0)
    for i, picture in enumerate(opened(pictures)):
        if sheet is None:
            cell = tuple(max(1, min(side, side * MOST // (max(picture.size) * columns))) for side in picture.size)
            sheet = Image.new("RGB", (columns * cell[0], columns * cell[1]))
        if picture.size != cell:
            picture = picture.resize(cell, Image.Resampling.BOX)
        sheet.paste(picture, (i % columns * cell[0], i // columns * cell[1]))
    out = io.BytesIO()
    sheet.save(out, format="PNG", compress_level=6)
    return out.getvalue()


def animation(pictures: Iterable[bytes], format: str, frame_ms: int) -> bytes:
    """A webp or gif that shows the pictures one after the other, for ever; one at least."""
    frames = _enlarged(opened(pictures))
    first = next(frames)
    exact = max(first.size) <= 2 * SHOWN
    more = {
        "webp": {"lossless": exact, "quality": 80, "method": 2, "minimize_size": False},
        "gif": {"optimize": False, "disposal": 1},
    }[format]
    out = io.BytesIO()
    first.save(out, format=format.upper(), save_all=True, append_images=frames, duration=frame_ms, loop=0, **more)
    return out.getvalue()


def opened(pictures: Iterable[bytes]) -> Iterator:
    return (decoded(data, "RGB") for data in pictures)


def _enlarged(pictures: Iterator) -> Iterator:
    from PIL import Image

    for picture in pictures:
        factor = SHOWN // max(picture.size) if max(picture.size) < SMALL else 1
        yield (picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST) if factor > 1 else picture)
