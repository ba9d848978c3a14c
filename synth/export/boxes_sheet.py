"""Pictures with boxes burned in, as tiles of a contact sheet."""

from collections.abc import Sequence

from synth.export.boxes_html import PALETTE
from synth.export.contact_sheet import printable
from synth.store.trees import decoded

WIDTH, HEIGHT = 300, 208  # pixels of a tile, into which pictures are fitted
LINE, TEXT, LABEL = 15, 12, 12
LINES = 3  # of text below a picture
COLUMNS = 4  # tiles beside each other
Box = tuple[str, Sequence[float], int]  # label; x, y, width, height in pixels of the picture; colour, an index into the palette once around


def tile(image, pen, data: bytes, at: tuple[int, int], boxes: Sequence[Box], font) -> None:
    """A picture with its boxes, in the tile of the sheet that begins at `at`. data: of its file; font: of labels."""
    from PIL import Image

    picture = decoded(data, "RGB")
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    image.paste(picture.resize(size, how), at)
    _burn(pen, boxes, (*at, at[0] + size[0], at[1] + size[1]), scale, font)


def _burn(pen, boxes: Sequence[Box], tile: tuple[int, int, int, int], scale: float, font) -> None:
    """Boxes, then their labels, drawn at the size that is shown: above the box, below or inside, wherever no other label lies."""
    drawn = []
    for _, box, number in boxes:
        x, y, w, h = (round(v * scale) for v in box)
        x0, y0 = tile[0] + x, tile[1] + y
        drawn.append((x0, y0, x0 + max(w, 1) - 1, y0 + max(h, 1) - 1))
        pen.rectangle((x0 - 1, y0 - 1, x0 + max(w, 1), y0 + max(h, 1)), outline="#000000")
        pen.rectangle(drawn[-1], outline=PALETTE[number % len(PALETTE)][0], width=2)
    taken: list[tuple[int, int, int, int]] = []
    for (name, _, number), place in zip(boxes, drawn, strict=True):
        colour, dark = PALETTE[number % len(PALETTE)]
        label = printable(name)
        at = _place(place, tile, round(font.getlength(label)) + 6, LABEL + 4, taken)
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
