"""The contact sheet: one PNG of known bytes, whatever the names and captions are."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFont

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.export.contact_sheet import Tile, draw, printable, wrap
from tests.configs import ContactSheetConfig
from tests.fixtures_images import child, images_stage, work


def tile(color, caption="a picture", size=(8, 8)):
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return Tile(out.getvalue(), caption)


def test_a_row_a_class_with_pictures_from_the_units(table, tiny_sd, tmp_path):
    root = tmp_path / "runs" / "toys"
    images = images_stage(root, table, tiny_sd, 20, per_caption=2)
    assert work(images) == EXIT_OK
    folder = child(root, "contact_sheet", ContactSheetConfig(columns=3, tile=64), {"images": [images]})
    assert work(folder) == EXIT_OK
    data = (folder.out_dir / "contact_sheet.png").read_bytes()
    with folder.reader(0) as reader:
        assert reader.read(reader.index.samples[0], "png") == data
    sheet = np.asarray(Image.open(io.BytesIO(data)))
    first = next(Image.open(io.BytesIO(s.read("png"))) for s in images.samples())
    big = np.asarray(first.resize((64, 64), Image.Resampling.NEAREST))
    rows = np.lib.stride_tricks.sliding_window_view(sheet[:, 174:238], 64, axis=0)
    assert any((rows[k].transpose(2, 0, 1) == big).all() for k in range(len(rows))), "the first picture is on the sheet, pixel by pixel"
    assert (folder.out_dir / ".synthset.json").exists()


def test_sheets_of_two_image_stages_share_nothing(table, tiny_sd, tmp_path):
    root, sheets = tmp_path / "runs" / "toys", []
    for seed in (0, 1):
        images = images_stage(root, table, tiny_sd, 4, seed=seed)
        folder = child(root, "contact_sheet", ContactSheetConfig(), {"images": [images]})
        assert work(images) == work(folder) == EXIT_OK
        sheets.append((folder.out_dir / "contact_sheet.png").read_bytes())
    assert sheets[0] != sheets[1]


def test_the_title_counts_pictures_not_slots(table, tiny_sd, tmp_path, monkeypatch):
    root, titles = tmp_path / "runs" / "toys", []
    images = images_stage(root, table, tiny_sd, 12, unit_size=5)  # two slots more than there are captions
    folder = child(root, "contact_sheet", ContactSheetConfig(), {"images": [images]})
    monkeypatch.setattr("synth.export.contact_sheet.draw", lambda *a: (titles.append(a[-1]), draw(*a))[1])
    assert work(images) == work(folder) == EXIT_OK
    assert titles == ["tiny  \u00b7  5 classes  \u00b7  10 images"]


def test_only_units_that_are_needed_are_opened(table, tiny_sd, tmp_path, monkeypatch):
    from synth.export.contact_sheet import pick
    from synth.reading.stage import StageReader
    from synth.store.folder import StageFolder

    images = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 10, unit_size=2, batch=2)
    assert work(images) == EXIT_OK
    opened, reader = [], StageFolder.reader
    monkeypatch.setattr(StageFolder, "reader", lambda self, n: (opened.append(n), reader(self, n))[1])
    found = pick(StageReader(images), {0: "red panda", 1: "bullet train"}, 1)
    assert opened == [0] and [len(v) for v in found.values()] == [1, 1]


def test_any_text_can_be_drawn_and_bytes_repeat():
    names = {0: "", 1: "x" * 500, 2: "a\nb\x00", 3: "<b>\u202e\U0001f43c", 4: "w " * 300, 5: "nobody"}
    tiles = {k: [tile((k * 40, 9, 9), n * 5, (3 + k, 200))] * 4 for k, n in names.items() if k != 5}
    one, two = (draw(names, tiles, ContactSheetConfig(), "t\n") for _ in range(2))
    assert one == two and Image.open(io.BytesIO(one)).info == {}


@pytest.mark.parametrize("text", ["", "one", "a long caption of many words that goes on and on and on for ever", "y" * 300])
def test_wrapped_lines_fit(text):
    font = ImageFont.load_default(size=11)
    lines = wrap(printable(text), font, 90, 3)
    assert len(lines) <= 3 and all(font.getlength(line) <= 90 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "") or lines[-1].endswith("\u2026")


def test_a_sheet_without_columns_is_refused(table, tiny_sd, tmp_path):
    root = tmp_path / "runs" / "toys"
    images = images_stage(root, table, tiny_sd, 4)
    assert work(child(root, "contact_sheet", ContactSheetConfig(columns=0), {"images": [images]})) == EXIT_BAD_INPUT


def test_the_title_of_a_narrow_sheet_is_not_cut():
    short, long = (Image.open(io.BytesIO(draw({0: "a"}, {0: [tile((9, 9, 9))]}, ContactSheetConfig(), "t" * n))) for n in (10, 80))
    head = np.asarray(long.convert("L"))[20:40]
    assert short.width < long.width and (head[:, -20:] > 200).all() and (head[:, -80:-24] < 100).any()
