"""The page of layout labels: in a real browser, with hostile tags, captions and names; kills and verification."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_OK
from synth.export.boxes_html import PALETTE
from synth.export.html import POLICY
from synth.layout.exports.page_html import LABEL, TEXT, page, short
from synth.layout.exports.sheet import sheet
from synth.layout.records import Record
from tests.browser import browse
from tests.configs import LabelsPageConfig
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, work
from tests.layout.exports.labels import EVIL, anno, labels_stage, picture, pictures
from tests.verify.test_verify import edit, problems

LONG = "a very long tag \U0001f98a " * 500
PROBE = """onload = () => {
  const all = q => [...document.querySelectorAll(q)], seen = q => all(q).filter(e => e.checkVisibility()).length;
  const rows = all('section').map(s => { const i = s.querySelector('img').getBoundingClientRect(); return {
    ratio: i.width / i.height, lines: [...s.querySelectorAll('li')].map(l => l.textContent),
    boxes: [...s.querySelectorAll('.box')].map(b => {
      const r = b.getBoundingClientRect();
      return {label: b.textContent, box: [(r.x - i.x) / i.width, (r.y - i.y) / i.height, r.width / i.width, r.height / i.height]}; })}; });
  const counts = () => [seen('.box'), seen('path'), seen('section li'), seen('section')], states = [counts()];
  for (const id of ['boxes', 'masks', 'captions', 'empty']) { document.getElementById(id).click(); states.push(counts()); }
  const pictures = [document.images.length, [...document.images].filter(i => i.naturalWidth > 0).length];
  document.body.dataset.found = btoa(unescape(encodeURIComponent(JSON.stringify({rows, states, pictures, title: document.title}))));
}"""


def made_page(labels, out="", **config):
    stage = child(labels.path.parent, "labels_page", LabelsPageConfig(str(out), **config), {"images": [labels]})
    assert work(stage) == EXIT_OK
    return stage


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    given = pictures(boxes=14)
    name = f'{EVIL[:-9]}\n#?%20"\u202e.jpg'
    data = picture(320, 200, seed=9)
    annos = [anno((10, 20, 100, 90), LONG, (320, 200), f"{LONG} & 'more' <b>"), anno((0, 0, 320, 200), "javascript:alert(1)", (320, 200))]
    given[name] = data, Record(name, 320, 200, LONG, (LONG, "javascript:alert(1)"), tuple(annos), {EVIL: 3}, "")
    return labels_stage(tmp_path_factory.mktemp("page"), given)


@pytest.fixture(scope="module")
def done(labels):
    return made_page(labels)


def test_a_browser_shows_boxes_masks_and_captions_and_toggles_them_without_a_script(labels, done, tmp_path):
    html = (done.out_dir / "index.html").read_text()
    assert f'content="{POLICY}"' in html and "<script" not in html and "<b>&#x27;" not in html and max(map(len, html.split("<"))) < 20_000
    shutil.copytree(done.out_dir, tmp_path / "site")
    probed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace('loading="lazy" ', "")
    (tmp_path / "site" / "probed.html").write_text(probed + f"<script>{PROBE}</script>")
    dom = browse((tmp_path / "site" / "probed.html").as_uri(), tmp_path, "--dump-dom", "--window-size=900,700")
    found = json.loads(base64.b64decode(re.search(r'data-found="([^"]*)"', dom)[1]))
    records = [Record.of_json(s.json(), "", "") for s in labels.samples()]
    n, sections = sum(len(r.annos) for r in records), len(records)
    assert found["title"] == "Layout labels: foxes" and found["pictures"] == [sections, sections]
    # at first; without boxes; without masks, too; without captions; without pictures that have no object
    assert found["states"] == [[n, n, n, sections], [0, n, n, sections], [0, 0, n, sections], [0, 0, 0, sections], [0, 0, 0, sections - 1]]
    for row, record in zip(found["rows"], records, strict=True):
        assert abs(row["ratio"] - record.width / record.height) < 0.02
        assert [b["label"] for b in row["boxes"]] == [short(a.label, LABEL) for a in record.annos]
        for line, made in zip(row["lines"], record.annos, strict=True):
            assert line.startswith(f"{short(made.label)} 0.87, mask 0.94") and line.endswith(short(made.caption or "0.94"))
        for b, made in zip(row["boxes"], record.annos, strict=True):
            shares = np.divide(made.bbox, (record.width, record.height) * 2)
            assert np.abs(np.subtract(b["box"], shares)).max() < 0.005


def test_it_says_how_many_there_are_and_why_some_are_not(done, labels, tmp_path):
    html = (done.out_dir / "index.html").read_text()
    assert "6 pictures: 20 objects, 20 with a mask, 18 with a caption; 1 picture without an object; 1 picture could not be labelled" in html
    assert "objects left out: &quot;&gt;&lt;script&gt;" in html and "cannot be decoded (1)" in html
    few = made_page(labels, tmp_path / "out", max_images=2)
    assert "6 pictures, 2 of them here: 20 objects" in (few.out_dir / "index.html").read_text()
    assert sorted(p.name for p in (few.out_dir / "pictures").iterdir()) == ["000000000.jpg", "000000004.png"]


def test_the_contact_sheet_shows_pictures_with_their_boxes(done, tmp_path):
    (shown,) = [stored.json()["pictures"] for stored in done.samples()]
    one = np.asarray(Image.open(io.BytesIO(sheet("t", shown[:1], lambda file: (done.out_dir / file).read_bytes()))))
    colours = {tuple(c) for c in one.reshape(-1, 3)}
    assert {tuple(int(PALETTE[k][0][i : i + 2], 16) for i in (1, 3, 5)) for k in (0, 1)} <= colours
    with Image.open(done.out_dir / "sheet.png") as whole:  # four of five that have objects, beside each other
        assert whole.size[0] > 3 * one.shape[1] and whole.size[1] == one.shape[0]
    assert Image.open(io.BytesIO(sheet("none", [], lambda file: b""))).size[1] > 200


def test_running_again_and_after_losing_files_gives_the_same_bytes_and_verification_names_what_is_wrong(labels, done, tmp_path):
    stage = made_page(labels, tmp_path / "out")
    first = tree(tmp_path / "out")
    assert first | {".synthset.json": ""} == tree(done.out_dir) | {".synthset.json": ""} and not problems(stage.path, deep=True)
    for name in ("pictures/000000003.jpg", "index.html", "sheet.png"):
        (tmp_path / "out" / name).unlink()
    (stage.path / "done.json").unlink()
    assert work(stage) == EXIT_OK and tree(tmp_path / "out") == first
    edit(tmp_path / "out" / "index.html", b"two things", b"two thingz")
    (tmp_path / "out" / "pictures" / "000000000.jpg").unlink()
    assert len(problems(stage.path)) == 2


def test_texts_are_short_on_one_line_and_no_labels_are_a_page(tmp_path):
    assert len(short(LONG)) == TEXT + 1 and short("a\n\n b") == "a b"
    totals = {"numbers": {}, "dropped": {}, "left_out": {"x": 2}, "shown": 0}
    assert "0 pictures: 0 objects, 0 with a mask, 0 with a caption; 2 pictures could not be labelled" in page("t", [], totals)
