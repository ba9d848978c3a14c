"""Stage kind `contact_sheet`: one PNG, a row a class, the caption under each picture."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth import keys
from synth.export.config import ContactSheetConfig
from synth.export.sources import Sources
from synth.kinds import config_of
from synth.reading.stage import ROLE, StageReader
from synth.run.findings import Check
from synth.run.place import WholeFiles
from synth.store.samples import Sample
from synth.store.trees import decoded

MARGIN, GAP = 24, 16  # pixels
LABEL_WIDTH = 150
CAPTION_SIZE, LABEL_SIZE, TITLE_SIZE = 11, 17, 22
CAPTION_LINES, LINE = 5, 14
PAPER, INK, SOFT, RULE, EMPTY = (250, 249, 246), (28, 28, 30), (92, 92, 98), (226, 224, 218), (240, 238, 233)
PATIENCE = 50  # slots looked at for each picture wanted, before a row is left short


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet: file bytes and its caption."""

    data: bytes
    caption: str


class ContactSheet(WholeFiles):
    config: ContactSheetConfig
    key, exts = "contact_sheet", frozenset({"png"})

    def check(self) -> None:
        keys.check(self.config, "export.contact_sheet")
        super().check()

    def compute(self, state, slots: range) -> list[bytes]:
        pictures = StageReader(self.folder.upstream(ROLE)[0])
        classes = dict(sorted(pictures.classes.items()))
        shown = dict(list(classes.items())[: self.config.max_classes])
        tiles = pick(pictures, shown, self.config.columns)
        left_out = len(classes) - len(shown)
        models = dict.fromkeys(getattr(getattr(config_of(s), "model", None), "id", s.spec.name) for s in pictures.sources)
        images = f"{len(pictures)} images" + (
            f", filtered by {', '.join(f.spec.name for f in reversed(pictures.filters))}" if pictures.filters else ""
        )
        title = f"{', '.join(models)}  \u00b7  {len(classes)} classes  \u00b7  {images}"
        return [draw(shown, tiles, self.config, title + (f"  \u00b7  {left_out} classes not shown" if left_out else ""))]

    def encode(self, state, item: bytes) -> Sample:
        return Sample(0, self.key, {"png": item})

    def verify(self, check: Check) -> None:
        """The sheet is that of the unit; deep: the pictures that it shows some of are as they were committed."""
        super().verify(check)
        Sources(check, lambda: StageReader(self.folder.upstream(ROLE)[0])).all_whole()


def pick(pictures: StageReader, classes: Mapping[int, str], columns: int) -> dict[int, list[Tile]]:
    """The first `columns` pictures of each class in slot order; units behind the last one needed are not opened."""
    tiles: dict[int, list[Tile]] = {label: [] for label in classes}
    wanted = columns * len(classes)
    for picture in pictures.samples(0, PATIENCE * wanted):
        row = tiles.get(picture.fact("label"))
        if row is not None and len(row) < columns:
            row.append(Tile(picture.read(), picture.fact("caption")))
            wanted -= 1
            if not wanted:
                break
    return tiles


def draw(classes: Mapping[int, str], tiles: Mapping[int, Sequence[Tile]], config: ContactSheetConfig, title: str) -> bytes:
    """The sheet as PNG bytes: no date, no library name, so the same pictures give the same bytes."""
    from PIL import Image, ImageDraw, ImageFont

    font, label_font, title_font = (ImageFont.load_default(size=s) for s in (CAPTION_SIZE, LABEL_SIZE, TITLE_SIZE))
    side, columns = config.tile, max([len(t) for t in tiles.values()] + [1])
    row_height = side + 6 + CAPTION_LINES * LINE + GAP
    head = MARGIN + TITLE_SIZE + GAP
    pictures = LABEL_WIDTH + columns * side + (columns - 1) * GAP
    width = MARGIN * 2 + max(pictures, math.ceil(title_font.getlength(printable(title))))  # a few columns shall not cut the title
    sheet = Image.new("RGB", (width, head + len(classes) * row_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 4), printable(title), font=title_font, fill=INK)
    for n, (label, name) in enumerate(classes.items()):
        top = head + n * row_height + GAP
        pen.line((MARGIN, top - GAP // 2, width - MARGIN, top - GAP // 2), fill=RULE)
        for k, line in enumerate(wrap(printable(name) or "(no name)", label_font, LABEL_WIDTH - GAP, 3)):
            pen.text((MARGIN, top + k * (LABEL_SIZE + 4)), line, font=label_font, fill=INK)
        for c in range(columns):
            left = MARGIN + LABEL_WIDTH + c * (side + GAP)
            row = tiles.get(label, ())
            if c >= len(row):
                pen.rectangle((left, top, left + side - 1, top + side - 1), fill=EMPTY)
                continue
            sheet.paste(fit(decoded(row[c].data, "RGB"), side, PAPER), (left, top))
            for k, line in enumerate(wrap(printable(row[c].caption), font, side + 4, CAPTION_LINES)):
                pen.text((left, top + side + 4 + k * LINE), line, font=font, fill=SOFT)
    out = io.BytesIO()
    sheet.save(out, format="PNG", compress_level=6)
    return out.getvalue()


def fit(image, side: int, paper: tuple[int, int, int]):
    """A square of `side` pixels: tiny pictures are enlarged by whole pixels, so that one sees what was computed."""
    from PIL import Image

    factor = max(1, -(-side // max(image.size)))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if max(image.size) > side:
        scale = side / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX)
    square = Image.new("RGB", (side, side), paper)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def printable(text: str) -> str:
    """One line without control characters, short enough to be measured."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:400]).split())


def wrap(text: str, font, width: int, lines: int) -> list[str]:
    """`text` in at most `lines` lines of at most `width` pixels; what does not fit ends in an ellipsis."""
    wrapped, rest = [], text
    while rest and len(wrapped) < lines:
        n = _fits(rest, font, width)
        if n < len(rest):
            space = rest.rfind(" ", 0, n + 1)
            n = space if space > 0 else n
        wrapped.append(rest[:n].rstrip())
        rest = rest[n:].lstrip()
    if rest:
        last = wrapped[-1]
        while last and font.getlength(last + "\u2026") > width:
            last = last[:-1]
        wrapped[-1] = last.rstrip() + "\u2026"
    return wrapped


def _fits(text: str, font, width: int) -> int:
    """How many characters from the start fit into `width` pixels; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low
