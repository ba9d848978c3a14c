"""The page of tracking pairs: rows, totals, hostile names, a real browser, the contact sheet, kills and verification."""

import base64
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from launch.show.summary import made
from synth.errors import EXIT_BAD_INPUT
from synth.export.boxes_html import PALETTE
from synth.export.html import POLICY
from synth.kinds import config_of
from synth.run.findings import Findings
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical
from synth.store.trees import can_decode
from synth.tracking import look
from synth.tracking.listing import ROLE, AnnotatedListing
from synth.tracking.look import Frame, Object, Row, Totals, outline_of, spread, warp_words
from synth.tracking.masks import mask_of, object_of_mask
from synth.tracking.objects import objects_of, variant_name
from synth.tracking.page import rows_of, shown_as_it_is
from synth.tracking.page_html import label_places, page, totals_line
from synth.tracking.preparing import jpeg
from synth.tracking.sheet import sheet
from synth.verify.files import verify_files
from tests.browser import browse
from tests.configs import PairsPageConfig
from tests.fixtures_images import child, commit_units, work
from tests.tracking import scenes
from tests.tracking.pairs_stages import pairs_stage
from tests.verify.flips import flip, refused_and_resumed
from tests.verify.test_verify import problems

EVIL = '<script>document.title="owned"</script>'
NAMES = [
    'a "b" <i>&\'.jpg',
    f"{EVIL[:-9]}.jpg",
    "sub dir/..x%20#?.jpg",
    "line\nbreak\u202e\u00e4\U0001f40b.jpg",
    "javascript:alert(1).jpg",
    "plain.jpg",
]
FLIP = {"homography": [-1, 0, 96, 0, 1, 0, 0, 0, 1], "flip": True, "brightness": 0.1, "contrast": 0.0}
WARP = '"><img src=x onerror=alert(1)> & a caption'


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six images with hostile names, two mirrored variants each: v1 of the first one is a tombstone, in v1 of the next all left."""
    root = tmp_path_factory.mktemp("page")
    given = scenes.make(root / "set", 6)
    data = json.loads(given.annotations.read_text())
    for image, name in zip(data["images"], NAMES, strict=True):
        (given.images / name).parent.mkdir(exist_ok=True)
        shutil.move(given.images / image["file_name"], given.images / name)
        image["file_name"] = name
    for category in data["categories"]:
        category["name"] += " <b>'\"&"
    given.annotations.write_text(json.dumps(data))
    stage = pairs_stage(root / "runs", given, variants=2)
    commit_units(stage, variants(stage, given))
    return stage


def variants(stage, given) -> list:
    listing, found = AnnotatedListing(stage.path, stage.input(ROLE).identity), []
    for image in listing.rows(0, listing.n):
        data = (given.images / image.path).read_bytes()
        width, height = image.image["width"], image.image["height"]
        kept = objects_of(image.annotations, config_of(stage).min_area, config_of(stage).max_area)
        masks = np.stack([mask_of(a["segmentation"], height, width)[:, ::-1] for a in kept]) if kept else np.zeros((0, height, width))
        for variant in range(2):
            slot = 2 * image.number + variant
            if slot == 1:
                found.append(Tombstone(slot, f"{image.path}: {EVIL}"))
                continue
            moved = masks * (slot != 3)
            objects = [{"id": a["id"], "category_id": a["category_id"], **o} for a, o in zip(kept, map(object_of_mask, moved), strict=True)]
            record = {
                "file_name": variant_name(image.image["file_name"], variant), "variant": variant, "caption": WARP if kept else "",
                "unchanged": not kept, "why": "" if kept else "no object", "objects": objects, "warp": FLIP if kept else None,
                "source_sha256": hashlib.sha256(data).hexdigest(),
            }  # fmt: skip
            pixels = np.asarray(Image.open(io.BytesIO(data)))
            found.append(Sample(slot, f"{slot:09d}", {"jpg": jpeg(pixels[:, ::-1] if kept else pixels, 95), "json": canonical(record)}))
    return found


def made_page(pairs, out="", **config):
    folder = child(pairs.path.parent, "pairs_page", PairsPageConfig(str(out), **config), {"images": [pairs]})
    assert work(folder) == 0
    return folder


@pytest.fixture(scope="module")
def done(pairs):
    return made_page(pairs)


def said(folder) -> dict:
    with folder.reader(0) as reader:
        return json.loads(reader.read(reader.index.samples[0], "json"))


def tree(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_the_page_holds_originals_and_variants_as_they_are_and_counts_all(pairs, done):
    files = tree(done.out_dir)
    assert {"index.html", "sheet.png", ".synthset.json"} == {f for f in files if not f.startswith("pictures/")}
    for stored in pairs.samples():
        assert files[f"pictures/{stored.slot // 2:06d}_v{stored.slot % 2}.jpg"] == stored.read("jpg")
    listing = AnnotatedListing(pairs.path, pairs.input(ROLE).identity)
    for image in listing.rows(0, 6):
        assert files[f"pictures/{image.number:06d}.jpg"] == (pairs.input_path("images") / image.path).read_bytes()
    assert len(files) == 3 + 6 + 11
    html = files["index.html"].decode()
    records = [s.json() for s in pairs.samples()]
    n, gone = sum(len(r["objects"]) for r in records), sum(not o["area"] for r in records for o in r["objects"])
    line = f"6 images: 9 pairs, {n} objects in them, {gone} of which left the frame; "
    assert gone and f"{line}1 image without an object to keep, stored as it was; 1 variant could not be made" in html


def test_colours_ids_and_boxes_are_those_of_the_annotations_and_records(pairs, done):
    rows, listing = rows_of(said(done)), AnnotatedListing(pairs.path, pairs.input(ROLE).identity)
    records = {s.slot: s.json() for s in pairs.samples()}
    for number, row in enumerate(rows):
        kept = objects_of(listing.rows(number, number + 1)[0].annotations, 144, 32**5)
        assert [o.id for o in row.frames[0].objects] == [a["id"] for a in kept] and row.empty == (not kept)
        colours = {o.id: o.colour for o in row.frames[0].objects}
        assert sorted(colours.values()) == list(range(len(kept)))
        for v in range(2):
            objects = row.frames[1 + v].objects
            recorded = records.get(2 * number + v, {"objects": []})["objects"]
            assert [(o.id, list(o.box), o.area) for o in objects] == [(o["id"], o["bbox"], o["area"]) for o in recorded]
            assert all(o.colour == colours[o.id] and o.name.endswith(" <b>'\"&") for o in objects)
    assert rows[0].frames[2].file == "" and EVIL in rows[0].frames[2].why
    assert all(o.gone and o.box == (0, 0, 0, 0) and not o.outline for o in rows[1].frames[2].objects)


def test_a_browser_shows_every_picture_with_boxes_where_they_belong_and_toggles_them(pairs, done, tmp_path):
    shutil.copytree(done.out_dir, tmp_path / "site")
    dom = browse((tmp_path / "site" / "index.html").as_uri(), tmp_path, "--dump-dom", "--window-size=900,700")
    assert "<title>Tracking pairs: lvis</title>" in dom and "<script" not in dom and "<i>&amp;" not in dom and 'src="x"' not in dom
    html = (tmp_path / "site" / "index.html").read_text()
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in html and "default-src 'none'" in POLICY
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace('loading="lazy" ', "")
    probe = """onload = () => {
      const all = q => [...document.querySelectorAll(q)], seen = q => all(q).filter(e => e.checkVisibility()).length;
      const rows = all('section').map(s => [...s.querySelectorAll('figure')].map(f => [...f.querySelectorAll('.box')].map(b => {
        const i = f.querySelector('img').getBoundingClientRect(), r = b.getBoundingClientRect();
        return {track: b.dataset.track, colour: getComputedStyle(b).borderTopColor, label: b.textContent, title: b.title,
                box: [(r.x - i.x) / i.width, (r.y - i.y) / i.height, r.width / i.width, r.height / i.height]};
      })));
      const counts = () => [seen('.box'), seen('svg'), seen('section')], states = [counts()];
      for (const id of ['boxes', 'masks', 'empty']) { document.getElementById(id).click(); states.push(counts()); }
      const pictures = [document.images.length, [...document.images].filter(i => i.naturalWidth > 0).length];
      document.body.dataset.found = btoa(unescape(encodeURIComponent(JSON.stringify({rows, states, pictures, title: document.title}))));
    }"""
    (tmp_path / "site" / "probed.html").write_text(html + f"<script>{probe}</script>")
    dom = browse((tmp_path / "site" / "probed.html").as_uri(), tmp_path, "--dump-dom", "--window-size=900,700")
    found = json.loads(base64.b64decode(re.search(r'data-found="([^"]*)"', dom)[1]))
    assert found["pictures"] == [17, 17] and found["title"] == "Tracking pairs: lvis"
    rows = rows_of(said(done))
    boxes = [o for r in rows for f in r.frames for o in f.objects if not o.gone]
    drawn = sum(any(o.outline for o in f.objects) for r in rows for f in r.frames)
    # at first; without boxes; masks too; without empty rows
    assert found["states"] == [[len(boxes), 0, 6], [0, 0, 6], [0, drawn, 6], [0, drawn, 5]]
    for row, figures in zip(rows, found["rows"], strict=True):
        colours = {}
        for frame, boxes in zip(row.frames, figures, strict=True):
            expected = [o for o in frame.objects if not o.gone]
            assert [(b["track"], b["label"]) for b in boxes] == [(str(o.id), f"{o.name} {o.id}") for o in expected]
            for b, o in zip(boxes, expected, strict=True):
                x, y, w, h = o.box
                assert np.abs(np.subtract(b["box"], (x / row.width, y / row.height, w / row.width, h / row.height))).max() < 0.005
                assert colours.setdefault(b["track"], b["colour"]) == b["colour"]
                assert b["title"].startswith(f"{o.name} {o.id}: {o.area:,.0f} pixels")
        assert len(set(colours.values())) == len(colours)  # no two tracks of a row look alike


# -- which, and how often --------------------------------------------------------------------------------------------


def test_originals_are_spread_evenly_over_all_and_few_files_are_written(pairs, tmp_path):
    assert spread(10, 4) == [0, 2, 5, 7] and spread(3, 8) == [0, 1, 2] and spread(0, 3) == []
    folder = made_page(pairs, tmp_path / "out", max_images=3, sheet=1)
    listed = AnnotatedListing(pairs.path, pairs.input(ROLE).identity).rows(0, 6)
    assert [r.image_id for r in rows_of(said(folder))] == [listed[k].image["id"] for k in (0, 2, 4)]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 3 + 5
    assert "6 images, 3 of them here: 9 pairs" in (tmp_path / "out" / "index.html").read_text()


def test_running_again_and_after_losing_files_gives_the_same_bytes(pairs, done, tmp_path):
    folder = made_page(pairs, tmp_path / "out")
    first, unit = tree(tmp_path / "out"), folder.unit_path(0).read_bytes()
    assert {**first, ".synthset.json": b""} == {**tree(done.out_dir), ".synthset.json": b""}
    for name in ("pictures/000002.jpg", "pictures/000003_v1.jpg", "sheet.png", "index.html"):
        (tmp_path / "out" / name).unlink()
    (folder.path / "done.json").unlink()
    assert work(folder) == 0 and tree(tmp_path / "out") == first
    folder.unit_path(0).unlink()  # killed before the commit
    (folder.path / "done.json").unlink()
    (tmp_path / "out" / ".synthset.json").rename(tmp_path / "out" / ".synthset.claim.json")
    (tmp_path / "out" / "pictures" / "000002.jpg").unlink()
    assert work(folder) == 0 and tree(tmp_path / "out") == first and folder.unit_path(0).read_bytes() == unit


def test_verification_finds_what_is_missing_edited_or_torn(pairs, tmp_path):
    folder, out = made_page(pairs, tmp_path / "out"), tmp_path / "out"

    def problems(deep: bool) -> list[str]:
        found = Findings(str(out), "pairs_page", deep)
        verify_files(folder, deep, found)
        return [p.file for p in found]

    assert problems(True) == []
    whole = (out / "pictures" / "000001.jpg").read_bytes()
    (out / "pictures" / "000001.jpg").write_bytes(whole[:-1] + b"!")
    assert problems(False) == [] and problems(True) == ["pictures/000001.jpg"]
    (out / "sheet.png").unlink()
    (out / "index.html").write_text("edited")
    assert set(problems(False)) == {"sheet.png", "index.html"}


def test_the_last_line_of_a_run_names_the_page(done):
    stage = SimpleNamespace(spec=done.spec, folder=done.path, name="pairs_page")
    assert made([SimpleNamespace(done=True, stage=stage)])[-1] == str(done.out_dir / "index.html")


def test_a_folder_with_other_files_and_a_stage_that_has_no_pairs_are_refused(pairs, done, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    folder = child(pairs.path.parent, "pairs_page", PairsPageConfig(str(tmp_path / "full")), {"images": [pairs]})
    assert work(folder) == EXIT_BAD_INPUT and [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    odd = child(pairs.path.parent, "pairs_page", PairsPageConfig(str(tmp_path / "odd")), {"images": [done]})
    assert work(odd) == EXIT_BAD_INPUT and not (tmp_path / "odd").exists()


def test_an_original_that_changed_or_is_gone_is_told_in_its_place(pairs, tmp_path):
    from synth.tracking.page import PairsPage

    folder = child(pairs.path.parent, "pairs_page", PairsPageConfig(str(tmp_path / "out"), max_images=4), {"images": [pairs]})
    stage = PairsPage(folder)
    stage.check()
    stage.open()
    images = AnnotatedListing(pairs.path, pairs.input(ROLE).identity).rows(0, 1)
    data = (pairs.input_path("images") / images[0].path).read_bytes()

    class Source:
        def __init__(self, answer):
            self.answer = answer

        def read(self, path, size):
            return self.answer

    own = {hashlib.sha256(data).hexdigest()}
    assert stage._original(Source(data), images[0], own, {}) == ("pictures/000000.jpg", "")
    assert stage._original(Source(data + b"x"), images[0], own, {}) == ("", "changed since its variants were made")
    assert stage._original(Source("is not there any more"), images[0], own, {}) == ("", "is not there any more")
    assert stage._original(Source(b"no picture"), images[0], set(), {})[1] == "not a picture"
    html = page(EVIL, [Row("a.jpg", 1, 8, 8, (Frame("original", why="is not there any more"), Frame("v0", why="lost")))], Totals(1, 1))
    assert html.count('class="none"') == 2 and "is not there any more" in html and "<img" not in html and "<script" not in html


# -- parts -----------------------------------------------------------------------------------------------------------


def test_pictures_that_a_browser_would_turn_or_not_know_are_stored_anew():
    def stored(format: str, **more) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (8, 6), (200, 30, 40)).save(out, format, **more)
        return out.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    assert [shown_as_it_is(stored(f)) for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")] == ["jpg", "png", "webp", "", ""]
    assert shown_as_it_is(stored("JPEG", exif=turned)) == ""


def test_warps_are_told_in_words():
    def said(matrix, flip=False, brightness=0.0, contrast=0.0):
        return warp_words({"homography": list(np.ravel(matrix)), "flip": flip, "brightness": brightness, "contrast": contrast}, 40, 20)

    assert said(np.eye(3)) == "not warped" and warp_words(None, 40, 20) == ""
    turn, mirror = np.array([[0, -1.5, 3], [1.5, 0, 4], [0, 0, 1]]), np.array([[-1, 0, 40], [0, 1, 0], [0, 0, 1]])
    assert said(turn) == "scaled 1.50, turned 90\u00b0"
    assert said(mirror @ turn, True, 0.1, -0.2) == "scaled 1.50, turned 90\u00b0, mirrored, brightness +0.10, contrast -0.20"
    assert said(mirror @ np.diag((2, 2, 2)), True) == "mirrored"  # a factor of the whole matrix says nothing


def test_outlines_of_large_masks_are_coarser_and_unreadable_ones_are_left_out(monkeypatch):
    box = [[10, 4, 30, 4, 30, 14, 10, 14]]
    assert outline_of(box, 40, 20) == "M10 4h20v10h-20z"
    monkeypatch.setattr(look, "OUTLINE", 20)
    assert outline_of(box, 40, 20) == "M10 4h20v10h-20z"
    assert outline_of([[1, 2]], 40, 20) == "" and outline_of({"size": [1, 1], "counts": "zz"}, 40, 20) == ""


def test_more_tracks_than_colours_are_dashed_and_names_stay_apart():
    objects = tuple(Object(k, "dog", k, (1, 1, 5, 5), 25) for k in range(14))
    html = page("t", [Row("a.jpg", 1, 8, 8, (Frame("original", "a.jpg", objects=objects),))], Totals(1, 1))
    assert html.count("again low") == 2 and all(f">dog {k}</b>" in html for k in range(14))
    assert len({c for c, _ in PALETTE}) == 12


def test_totals_are_told_in_one_line():
    assert totals_line(Totals(1, 1, 1)) == "1 image: 1 pair, 0 objects in them, 0 of which left the frame"


def test_labels_of_close_boxes_lie_in_different_places():
    row = Row("a.jpg", 1, 640, 480, ())
    close = [Object(k, "dog", k, (300.0 + k, 200.0, 150.0, 120.0), 100.0) for k in range(4)]
    places = label_places(close, row)
    assert places[0] == "" and len(set(places)) == 4
    assert label_places([*close[:1], Object(9, "dog", 1, (20.0, 20.0, 50.0, 50.0), 9.0)], row) == [
        "",
        " low",
    ]  # as ever where nothing meets
    far = [Object(k, "dog", k, (10.0 + 200 * k, 200.0, 90.0, 90.0), 9.0) for k in range(3)]
    assert label_places(far, row) == ["", "", " right"]
    html = page("t", [Row("a.jpg", 1, 640, 480, (Frame("v0", "f.jpg", objects=tuple(close)),))], Totals())
    assert all(f"box c{k}{place}" in html for k, place in enumerate(places))


def test_the_sheet_shows_boxes_in_the_colours_of_their_tracks_and_takes_any_text(tmp_path):
    grey = jpeg(np.full((64, 96, 3), 128, np.uint8), 95)
    frames = (
        Frame("original", "a", objects=(Object(7, EVIL, 0, (24, 24, 40, 30), 900),)),
        Frame(
            "v0",
            "b",
            caption="long " * 200 + "\n\u202e\x07",
            objects=(Object(7, EVIL, 0, (0, 0, 96, 64), 900), Object(8, "gone", 1, (0, 0, 0, 0), 0)),
        ),
        Frame("v1", why="lost"),
    )
    row = Row("name\n" * 99, 1, 96, 64, frames)
    data = sheet("t", [row] * 3, {"a": grey, "b": grey}.__getitem__)
    assert data == sheet("t", [row] * 3, {"a": grey, "b": grey}.__getitem__)
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    colour = tuple(int(PALETTE[0][0][i : i + 2], 16) for i in (1, 3, 5))
    assert (pixels == colour).all(-1).sum() > 3 * 2 * (250 + 600)
    assert Image.open(io.BytesIO(sheet("nothing", [], {}.__getitem__))).width > 600
    small = replace(row, frames=frames[:2])
    assert Image.open(io.BytesIO(sheet("t", [small] * 12, {"a": grey, "b": grey}.__getitem__))).height < 2000


@pytest.mark.skipif(not can_decode("avif"), reason="this Pillow has no AVIF")
def test_a_picture_that_not_every_browser_shows_is_shown_as_a_jpeg():
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(out, "AVIF")
    assert shown_as_it_is(out.getvalue()) == ""


@pytest.mark.parametrize("ext", ["jpg", "json"])
def test_a_damaged_pair_ends_the_page_until_it_is_mended(pairs, ext):
    folder = child(pairs.path.parent, "pairs_page", PairsPageConfig("", max_images=6 if ext == "jpg" else 1), {"images": [pairs]})
    refused_and_resumed(folder, pairs, 0, ext)
    whole, unit = pairs.unit_path(0).read_bytes(), flip(pairs, 0, ext)
    assert str(unit) in "\n".join(problems(folder.path, deep=True))
    unit.write_bytes(whole)
