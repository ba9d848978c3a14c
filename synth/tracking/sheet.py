"""The contact sheet of tracking pairs: originals left, variants right, boxes burned in. The same pairs give the same bytes."""

import io
from collections.abc import Callable, Sequence

from synth.export.boxes_html import PALETTE
from synth.export.contact_sheet import EMPTY, GAP, INK, MARGIN, PAPER, SOFT, TITLE_SIZE, printable, wrap
from synth.store.trees import decoded
from synth.tracking.look import Frame, Object, Row

WIDTH, HEIGHT = 300, 208  # pixels of a tile, into which pictures are fitted
LINE, TEXT, LABEL = 15, 12, 12
LINES = 3  # of text below a picture
COLUMNS = 4  # tiles beside each other: rows of one variant lie in two blocks
MOST = 6  # variants of a row


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
                picture = decoded(read(frame.file), "RGB")
                scale = min(WIDTH / picture.width, HEIGHT / picture.height)
                size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
                how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
                image.paste(picture.resize(size, how), (x, top))
                _burn(pen, [o for o in frame.objects if not o.gone], (x, top, x + size[0], top + size[1]), scale, fonts[1])
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


def _burn(pen, objects: Sequence[Object], tile: tuple[int, int, int, int], scale: float, font) -> None:
    """Boxes, then their labels, drawn at the size that is shown: above the box, below or inside, wherever no other label lies."""
    boxes = []
    for o in objects:
        x, y, w, h = (round(v * scale) for v in o.box)
        x0, y0 = tile[0] + x, tile[1] + y
        boxes.append((x0, y0, x0 + max(w, 1) - 1, y0 + max(h, 1) - 1))
        pen.rectangle((x0 - 1, y0 - 1, x0 + max(w, 1), y0 + max(h, 1)), outline="#000000")
        pen.rectangle(boxes[-1], outline=PALETTE[o.colour % len(PALETTE)][0], width=2)
    taken: list[tuple[int, int, int, int]] = []
    for o, box in zip(objects, boxes, strict=True):
        colour, dark = PALETTE[o.colour % len(PALETTE)]
        label = printable(f"{o.name} {o.id}")
        at = _place(box, tile, round(font.getlength(label)) + 6, LABEL + 4, taken)
        taken.append(at)
        pen.rectangle(at, fill=colour)
        pen.text((at[0] + 3, at[1] + 1), label, font=font, fill="#000000" if dark else "#ffffff")


def _place(box, tile, width: int, height: int, taken) -> tuple[int, int, int, int]:
    """Where a label lies: the first place inside the tile that is free, else the first one."""
    x = max(tile[0], min(box[0], tile[2] - width))
    tops = (box[1] - height, box[3] + 1, box[1], box[3] - height)
    places = [(x, y, x + width, y + height) for y in tops if tile[1] <= y <= tile[3] - height]
    free = [a for a in places if not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken)]
    return (free or places or [(x, box[1], x + width, box[1] + height)])[0]
