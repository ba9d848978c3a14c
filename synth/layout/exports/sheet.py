"""The contact sheet of layout labels: pictures with boxes burned in, their alt texts below. The same labels give the same bytes."""

import io
from collections.abc import Callable, Mapping, Sequence

from synth.export.boxes_sheet import COLUMNS, HEIGHT, LABEL, LINE, LINES, TEXT, WIDTH, tile
from synth.export.contact_sheet import GAP, INK, MARGIN, PAPER, SOFT, TITLE_SIZE, printable, wrap
from synth.layout.exports.page_html import short

NAME = 24  # characters of a label


def sheet(title: str, pictures: Sequence[Mapping], read: Callable[[str], bytes]) -> bytes:
    """PNG. pictures: as the page has them, file and record; read: the bytes of a file."""
    from PIL import Image, ImageDraw, ImageFont

    text, label, large = (ImageFont.load_default(size=s) for s in (TEXT, LABEL, TITLE_SIZE))
    row_height, head = HEIGHT + LINES * LINE + GAP, MARGIN + TITLE_SIZE + GAP
    columns = max(1, min(COLUMNS, len(pictures)))
    width = 2 * MARGIN + max(columns * (WIDTH + GAP), round(large.getlength(printable(title))))
    image = Image.new("RGB", (width, head + max(1, -(-len(pictures) // columns)) * row_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN - 6), printable(title), font=large, fill=INK)
    for n, shown in enumerate(pictures):
        x, top = MARGIN + n % columns * (WIDTH + GAP), head + n // columns * row_height
        record = shown["record"]
        boxes = [(short(a["label"], NAME), a["bbox"], k) for k, a in enumerate(record.get("annos", ()))]
        tile(image, pen, read(shown["file"]), (x, top), boxes, label)
        for k, line in enumerate(wrap(printable(short(record["caption"])), text, WIDTH, LINES)):
            pen.text((x, top + HEIGHT + 3 + k * LINE), line, font=text, fill=SOFT)
    out = io.BytesIO()
    image.save(out, format="PNG", compress_level=6)
    return out.getvalue()
