"""The contact sheet of tracking pairs: originals left, variants right, boxes burned in. The same pairs give the same bytes."""

import io
from collections.abc import Callable, Sequence

from synth.export.boxes_sheet import COLUMNS, HEIGHT, LABEL, LINE, LINES, TEXT, WIDTH, tile
from synth.export.contact_sheet import EMPTY, GAP, INK, MARGIN, PAPER, SOFT, TITLE_SIZE, printable, wrap
from synth.tracking.look import Frame, Row

MOST = 6  # variants of a row; rows of one variant lie in two blocks


def sheet(title: str, rows: Sequence[Row], read: Callable[[str], bytes]) -> bytes:
    """PNG. read: the picture of a frame, by its file."""
    from PIL import Image, ImageDraw, ImageFont

    fonts = [ImageFont.load_default(size=s) for s in (TEXT, LABEL, TITLE_SIZE)]
    tiles = min(1 + MOST, max([len(r.frames) for r in rows] + [2]))
    blocks = max(1, min(COLUMNS // tiles, len(rows)))
    down = -(-len(rows) // blocks)
    block_width, row_height = tiles * (WIDTH + GAP) + GAP, HEIGHT + LINES * LINE + GAP
    head = MARGIN + TITLE_SIZE + GAP
    width = 2 * MARGIN + max(blocks * block_width, round(fonts[2].getlength(printable(title))))
    image = Image.new("RGB", (width, head + max(1, down) * row_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN - 6), printable(title), font=fonts[2], fill=INK)
    for n, row in enumerate(rows):
        left, top = MARGIN + n // down * block_width, head + n % down * row_height
        for k, frame in enumerate(row.frames[:tiles]):
            x = left + k * (WIDTH + GAP)
            if frame.file:
                boxes = [(f"{o.name} {o.id}", o.box, o.colour) for o in frame.objects if not o.gone]
                tile(image, pen, read(frame.file), (x, top), boxes, fonts[1])
            else:
                pen.rectangle((x, top, x + WIDTH - 1, top + HEIGHT - 1), fill=EMPTY)
            for i, line in enumerate(wrap(printable(_said(row, frame, k)), fonts[0], WIDTH, LINES)):
                pen.text((x, top + HEIGHT + 3 + i * LINE), line, font=fonts[0], fill=INK if k == 0 else SOFT)
    out = io.BytesIO()
    image.save(out, format="PNG", compress_level=6)
    return out.getvalue()


def _said(row: Row, frame: Frame, k: int) -> str:
    if k == 0 or not frame.file:
        return f"{row.file_name}" + (f": {frame.why}" if frame.why else "")
    gone = ", ".join(f"{o.name} {o.id}" for o in frame.objects if o.gone)
    parts = (frame.caption or frame.label, frame.warp, f"left the frame: {gone}" if gone else "")
    return "  \u00b7  ".join(p for p in parts if p)
