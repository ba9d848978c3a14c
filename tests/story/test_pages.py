"""Pages of a story: files, story.json, hostile texts, a real browser, and the page that grows while a story is made."""

import hashlib
import io
import json
import re
import shutil
import time
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from synth.errors import InputError
from synth.export.html import Cell, Row, page
from synth.run.findings import Findings
from synth.story import growing, sheets
from synth.story.book import Book
from synth.story.growing import Growing
from synth.story.pages import style_folders
from synth.story.sheets import animation, grid
from synth.verify.files import verify_files
from tests.browser import browse
from tests.fixtures_images import work
from tests.story.stories import done, planned, point, source
from tests.verify.flips import refused_and_resumed

EVIL = '<script>document.title="owned"</script>'
TEXT = f'Part <b>1</b>\n{EVIL}\n"><img src=x onerror=alert(1)>\n--> &lt; \'"\u202e \x07\nPart 2\nend\u2028of <!-- it\n'
TAGS = ["../../etc", 'a "b" <i>&\'', "..", "index.html", "same", "same", "line\nbreak", "100%?#x"]
STYLES = [{"style": f"{EVIL} {i}", "file_tag": t, "weight": 0.5} for i, t in enumerate(TAGS)]


@pytest.fixture(scope="module")
def made(tiny_sd, tmp_path_factory):
    """(story, pages) of a hostile text in hostile styles."""
    root = tmp_path_factory.mktemp("pages")
    given = source(root / "in", TEXT, STYLES)
    more = [
        "export=[story_pages]",
        "images.steps=2",
        'story.prompt_config.chapter_split_regex="Part .*"',
        "story.generation_config.preview=true",
    ]
    return done(root / "runs", tiny_sd, *given, *more)


def tree(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def png(value: int, size=(4, 2)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(out, "PNG")
    return out.getvalue()


# -- files -----------------------------------------------------------------------------------------------------------


def test_every_picture_lies_in_the_folder_of_its_style_whatever_the_tag_is(made):
    story, pages = made
    files = tree(pages.out_dir)
    folders = style_folders(dict(enumerate(TAGS)))
    assert len({f.casefold() for f in folders}) == len(TAGS) and not any("/" in f or f in (".", "..", "index.html") for f in folders)
    n = len(TAGS)
    for stored in story.samples():
        prompt, lane = divmod(stored.slot, n)
        name = f"01-{prompt + 1:03d}" if prompt < 3 else "02-001"
        assert files.pop(f"{folders[lane]}/{name}.png") == stored.read("png")
    rest = {"story.json", "index.html", ".synthset.json"} | {
        f"{f}/{w}-{c}" for f in folders for w, e in (("grid", "png"), ("animation", "webp")) for c in (f"01.{e}", f"02.{e}")
    }
    assert set(files) == rest


def test_animations_and_grids_stand_in_the_order_of_the_rows_and_each_style_has_a_title_of_its_own(made):
    _, pages = made
    html = (pages.out_dir / "index.html").read_text()
    folders = style_folders(dict(enumerate(TAGS)))
    rows = [re.findall(r'<img [^>]*src="([^"/]+)/([^"]+)"', row) for row in html.split("<section")]
    orders = [[unquote(folder) for folder, _ in row] for row in rows if len(row) == len(TAGS)]
    assert len(orders) >= 6 and all(order == list(folders) for order in orders)
    assert "<figcaption>same~4</figcaption>" in html and "<figcaption>same~5</figcaption>" in html and "<figcaption>same<" not in html


def test_story_json_tells_of_each_picture_what_it_was_made_of(made):
    story, pages = made
    told = json.loads((pages.out_dir / "story.json").read_bytes())
    assert [c["title"] for c in told["chapters"]] == ["Part <b>1</b>", "Part 2"] and told["chapters"][0]["prompts"][0] == EVIL
    assert [s["tag"] for s in told["styles"]] == TAGS
    pictures = {p["key"]: p for c in told["chapters"] for p in c["pictures"]}
    for stored in story.samples():
        r, p = stored.json(), pictures[stored.key]
        assert (p["seed"], p["caption"], p["parent"], p["tag"], p["prompt"]) == (
            str(r["seed"]),
            r["caption"],
            r["parent"],
            r["class"],
            r["prompt"],
        )
        assert p["strength"] == (None if r["parent"] is None else 0.5)
        assert hashlib.sha256((pages.out_dir / p["file"]).read_bytes()).hexdigest() == hashlib.sha256(stored.read("png")).hexdigest()
        assert p["parent_file"] == (None if r["parent"] is None else pictures[r["parent"]]["file"])


def test_grids_and_animations_hold_the_pictures_in_order(made):
    story, pages = made
    folder = style_folders(dict(enumerate(TAGS)))[4]
    own = [np.asarray(Image.open(io.BytesIO(s.read("png")))) for s in story.samples() if s.slot % len(TAGS) == 4]
    sheet = np.asarray(Image.open(pages.out_dir / folder / "grid-01.png"))
    assert (
        sheet.shape == (32, 32, 3) and (sheet[:16, 16:] == own[1]).all() and (sheet[16:, :16] == own[2]).all() and not sheet[16:, 16:].any()
    )
    with Image.open(pages.out_dir / folder / "animation-01.webp") as moving:
        assert moving.n_frames == 3 and moving.size == (256, 256)
        moving.seek(2)
        assert (np.asarray(moving.convert("RGB"))[::16, ::16] == own[2]).all()


def test_a_grid_has_the_originals_shape_and_a_long_one_is_shrunk(monkeypatch):
    with Image.open(io.BytesIO(grid((png(v) for v in range(1, 6)), 5))) as sheet:
        assert sheet.size == (12, 6)
        assert [sheet.getpixel((4 * (i % 3), 2 * (i // 3)))[0] for i in range(9)] == [1, 2, 3, 4, 5, 0, 0, 0, 0]
    monkeypatch.setattr(sheets, "MOST", 64)
    with Image.open(io.BytesIO(grid((png(9, (30, 15)) for _ in range(10)), 10))) as sheet:
        assert sheet.size == (64, 32)  # cells of 16 x 8


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_animations_play_for_ever_at_the_given_pace(format):
    with Image.open(io.BytesIO(animation([png(10, (300, 200)), png(200, (300, 200))], format, 400))) as moving:
        assert (moving.n_frames, moving.size, moving.info["loop"]) == (2, (300, 200), 0)
        moving.seek(1)
        moving.load()
        assert moving.info["duration"] == 400 and abs(moving.convert("RGB").getpixel((5, 5))[0] - 200) < 3


def test_cumulative_grids_hold_all_chapters_so_far_and_files_can_be_left_out(made, tiny_sd, tmp_path):
    story, _ = made
    given = [
        *source(story.path.parents[1] / "in2", TEXT, STYLES),
        "images.steps=2",
        'story.prompt_config.chapter_split_regex="Part .*"',
    ]
    more = [
        "export.story_pages.grid=cumulative",
        "export.story_pages.animation=none",
        "story.generation_config.save_individual=false",
    ]
    stages = planned(story.path.parents[1], tiny_sd, *given, "export=[story_pages]", f"export.story_pages.out={tmp_path}/out", *more)
    assert stages[0].is_done() and work(stages[1]) == 0
    found = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"grid-01.png", "grid-02.png", "index.html", "story.json", ".synthset.json"}
    folder = style_folders(dict(enumerate(TAGS)))[4]
    assert Image.open(tmp_path / "out" / folder / "grid-02.png").getpixel((16, 16)) != (0, 0, 0)  # 3 + 1 pictures fill it
    assert "<h2" in (tmp_path / "out" / "index.html").read_text() and "grid-02" in (tmp_path / "out" / "index.html").read_text()


def test_pages_are_verified_and_written_again_where_files_are_missing(made):
    _, pages = made
    before, found = tree(pages.out_dir), Findings(str(pages.path), "story_pages", True)
    verify_files(pages, True, found)
    assert not found.problems
    victim = next(p for p in sorted(pages.out_dir.rglob("01-002.png")))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    (pages.out_dir / "story.json").write_text("{}")
    verify_files(pages, True, found)
    assert {p.file for p in found.problems} == {str(victim.relative_to(pages.out_dir)), "story.json"}
    victim.unlink()
    (pages.path / "done.json").unlink()
    assert work(pages) == 0 and tree(pages.out_dir) == before


def test_pages_need_a_story(tiny_sd, tmp_path):
    with pytest.raises(InputError, match="export=story_pages: is made of a story, and images makes pictures of classes"):
        point(tmp_path, tiny_sd, "recipe=class_images", "export=[story_pages]")


# -- HTML ------------------------------------------------------------------------------------------------------------


def test_texts_are_escaped_and_nothing_comes_from_outside(made):
    story, pages = made
    for html in ((pages.out_dir / "index.html").read_text(), (story.path / "growing.html").read_text()):
        assert (
            "<script" not in html
            and "onerror=alert(1)&gt;" in html
            and "<img src=x" not in html
            and "http:" not in html
            and "https:" not in html
        )
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\u2028]", html)


def test_a_page_without_pictures_is_still_a_page():
    assert "<h2" not in page("x", []) and page("x", [], refresh=5).count('http-equiv="refresh"') == 1
    assert 'src="a%20b%22/%3F%23.png"' in page("x", [Row(1, "", 1, "t", (Cell('a b"/?#.png', "c"),))])


def test_a_browser_shows_the_page_with_all_its_pictures_and_runs_nothing_of_the_text(made, tmp_path):
    _, pages = made
    shutil.copytree(pages.out_dir, tmp_path / "site")
    dom = browse(
        (tmp_path / "site" / "index.html").as_uri(),
        tmp_path,
        "--dump-dom",
        "--window-size=800,600",
        f"--screenshot={tmp_path}/seen.png",
    )
    assert "<title>tale</title>" in dom and dom.count("<h2") == 2 and "<script" not in dom and "onerror=alert(1)&gt;" in dom
    # the same page without its policy, and with a script of ours that counts the pictures that could be loaded
    html = (tmp_path / "site" / "index.html").read_text()
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace('loading="lazy" ', "")
    count = (
        "document.title=[document.images.length,[...document.images].filter(i=>i.naturalWidth>0).length,"
        "[...document.querySelectorAll('script')].length]"
    )
    (tmp_path / "site" / "counted.html").write_text(html + f"<script>onload=()=>{{{count}}}</script>")
    dom = browse((tmp_path / "site" / "counted.html").as_uri(), tmp_path, "--dump-dom")
    n = len(TAGS) * (4 + 2 + 2)
    assert re.search(r"<title>(.*?)</title>", dom)[1] == f"{n},{n},1"


def test_the_policy_of_the_page_lets_its_pictures_through(tmp_path):
    image = Image.new("RGB", (8, 8), (250, 10, 200))
    image.save(tmp_path / "a.png")
    (tmp_path / "p.html").write_text(page("t", [Row(1, "", 1, "x", (Cell("a.png", "c"),))]))
    browse((tmp_path / "p.html").as_uri(), tmp_path, "--window-size=600,600", f"--screenshot={tmp_path}/seen.png")
    seen = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).reshape(-1, 3)
    assert (seen == (250, 10, 200)).all(1).sum() > 1000


# -- while it is made ------------------------------------------------------------------------------------------------


def test_the_growing_page_shows_what_is_there_and_asks_to_be_read_again_until_all_is(tmp_path):
    book, now = Book.of([(1, "One", ["a", "b"])]), [0.0]
    look = Growing(tmp_path, book, ["x", "y"], most=2, clock=lambda: now[0])
    look.add(1, 1, 0, png(1), "png")
    html = (tmp_path / "growing.html").read_text()
    assert "1 of 4 pictures" in html and 'http-equiv="refresh"' in html and html.count("<img") == 1
    look.add(1, 1, 1, png(2), "png")
    assert (tmp_path / "growing.html").read_text() == html  # not yet
    now[0] += growing.EVERY
    look.add(1, 2, 0, png(3), "png")
    assert "3 of 4" in (tmp_path / "growing.html").read_text()
    other = Growing(tmp_path, book, ["x", "y"], most=2)  # another worker sees what all made
    time.sleep(0.01)
    other.add(1, 2, 1, png(4), "png")
    html = (tmp_path / "growing.html").read_text()
    assert "4 of 4" in html and "refresh" not in html
    sheet = np.asarray(Image.open(tmp_path / "preview.png"))
    assert {3, 4} <= set(sheet[..., 0].ravel().tolist()) and not {1, 2} & set(sheet[..., 0].ravel().tolist())


def test_a_full_or_read_only_disk_does_not_stop_a_story(tmp_path):
    (tmp_path / "growing").write_text("in the way")
    Growing(tmp_path, Book.of([(1, "", ["a"])]), ["x"], 1).add(1, 1, 0, png(1), "png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["growing"]


def test_a_worker_leaves_a_page_of_all_its_pictures(made):
    story, _ = made
    n = story.spec.slots
    assert f"{n} of {n} pictures" in (story.path / "growing.html").read_text() and (story.path / "preview.png").exists()
    assert len(list((story.path / "growing").iterdir())) == n


@pytest.mark.parametrize("ext", ["png", "json"])
def test_a_damaged_picture_ends_the_pages_until_it_is_mended(tiny_sd, tmp_path, ext):
    story, pages = planned(tmp_path, tiny_sd, "export=[story_pages]", "images.steps=1")
    assert work(story) == 0
    refused_and_resumed(pages, story, 0, ext)
