"""recipe=story as a user meets it: the story that ships, dry_run, sweeps, other exports, units of different sizes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from launch.plan.planned import PlannedStage
from launch.show.stages import report_on
from synth.embedded.pictures import backgrounds, render
from synth.errors import InputError
from synth.reading.stage import StageReader
from synth.store.spec import StageSpec
from synth.story.book import Book
from tests.story.stories import STYLES, done, planned, point, source

ROOT = Path(__file__).resolve().parents[2]


def test_the_story_that_ships_is_made_of_what_the_small_model_knows(tmp_path):
    stages = plan_point(typed(Composer().compose(["recipe=story"]))).stages
    assert [s.spec.kind for s in stages] == ["story", "story_pages"] and stages[0].folder.parent.name == "honeybee"
    spec = stages[0].spec
    (tmp_path / "b.gz").write_bytes(spec.files["prompts.jsonl.gz"])
    book = Book.read(tmp_path / "b.gz", spec.inputs["source"].identity)
    prompts = [p for c in book.chapters for p in c.prompts]
    assert len(book.chapters) == 2 and all(any(f" {c}" in f" {p}" for c in render.classes()) for p in prompts)
    assert all(any(b in s["text"] for b in backgrounds.NAMES) for s in spec.config["styles"])
    assert spec.slots == len(prompts) * len(spec.config["styles"]) <= 40  # about a minute


def test_dry_run_tells_the_price_and_writes_nothing(tmp_path):
    command = [sys.executable, str(ROOT / "launch" / "run.py"), "recipe=story", f"runs_dir={tmp_path}/runs", "dry_run=true"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.search(
        r"story-\w+: 27 images \(2 chapters, 9 prompts, 3 styles; 6 from noise, 21 from another image\), \d+ denoising steps",
        said,
    )
    assert "3 empty prompts of" in said and not (tmp_path / "runs").exists()


def test_several_books_and_sets_of_styles_are_stages_of_their_own(tiny_sd, tmp_path):
    one, other = source(tmp_path / "1"), source(tmp_path / "2", "Part 1\nx\ny\n")
    few = source(tmp_path / "3", styles=STYLES[:2])[1]
    specs = [point(tmp_path, tiny_sd, *o).stages[0].spec for o in (one, other, [one[0], few])]
    assert len({s.fingerprint for s in specs}) == 3
    moved = source(tmp_path / "4")
    assert point(tmp_path, tiny_sd, *moved).stages[0].spec.fingerprint == specs[0].fingerprint  # what it says counts, not where it lies


def test_styles_on_the_command_line_take_the_place_of_those_of_the_config(tiny_sd, tmp_path):
    given = [
        source(tmp_path)[0],
        "story.style_configs=[{style:'oil, thick',file_tag:a/b,weight:1},{style:ink,file_tag:b,weight:0}]",
    ]
    config = point(tmp_path, tiny_sd, *given).stages[0].spec.config
    assert config["styles"] == [{"text": "oil, thick", "weight": 1.0}, {"text": "ink", "weight": 0.0}]
    assert [c["name"] for c in config["dataset"]["classes"]] == ["a/b", "b"]


def test_other_exports_take_a_story_with_its_styles_as_classes(tiny_sd, tmp_path):
    story, folder = done(tmp_path, tiny_sd, "export=[image_folder]")
    names = sorted(p.relative_to(folder.out_dir).parent.name for p in folder.out_dir.rglob("*.png"))
    assert names == sorted(["ink", "oil~0", "oil~2", "same"] * 9)
    lines = [json.loads(line) for line in (folder.out_dir / "metadata.jsonl").read_text().splitlines()]
    assert {line["file_name"]: line["caption"] for line in lines}["ink/000000001.png"] == "a red fox in ink"
    assert [s.slot for s in story.samples(10, 14)] == [10, 11, 12, 13]  # over the end of the first unit
    assert [p.slot for p in StageReader(story).picked([35, 0, 19, 12])] == [35, 0, 19, 12]
    assert [StageReader(story).unit_of(s) for s in (0, 11, 12, 19, 20, 35)] == [0, 0, 1, 1, 2, 2] and StageReader(story).tombstones == {}


# -- units of different sizes ----------------------------------------------------------------------------------------


def spec(ends, slots=10, size=4, **more) -> StageSpec:
    return StageSpec("probe", "probe", {}, slots, size, 2, {}, ends=ends, **more)


def test_units_may_differ_in_size():
    found = spec((4, 6, 10))
    assert [found.unit(n) for n in range(found.n_units)] == [spec((4, 6, 10)).unit(n) for n in range(3)]
    assert [(found.unit(n).start, found.unit(n).stop) for n in range(3)] == [(0, 4), (4, 6), (6, 10)]
    assert [found.unit_of(s) for s in range(10)] == [0] * 4 + [1] * 2 + [2] * 4
    assert found.units_of(3, 7) == range(3) and found.units_of(4, 6) == range(1, 2) and not found.units_of(5, 5)
    assert found.slots_in({0, 2}) == 8 and found.slots_in({1}) == 2 and found.batches(found.unit(1)) == [range(4, 6)]
    assert StageSpec.from_json(found.to_json(), {}, "x") == found


def test_equal_units_are_what_they_were():
    found = spec((), slots=10, size=4)
    assert b"ends" not in found.to_json() and found.n_units == 3
    assert [found.unit_of(s) for s in (0, 3, 4, 9)] == [0, 0, 1, 2] and found.units_of(3, 9) == range(3) and found.slots_in({0, 2}) == 6
    assert spec((4, 8, 10)).fingerprint != found.fingerprint


@pytest.mark.parametrize("ends", [(4, 6), (4, 4, 10), (3, 6, 9, 10), (5, 10), (-1, 10)])
def test_ends_that_do_not_fit_are_refused(ends):
    with pytest.raises(InputError, match="units end at"):
        spec(ends)


def test_progress_and_reports_count_units_of_different_sizes(tiny_sd, tmp_path):
    folder = planned(tmp_path, tiny_sd)[0]
    assert [len(folder.unit(n)) for n in range(3)] == [12, 8, 16] and PlannedStage(folder.spec, folder.path.parent).n_batches == 9
    folder.unit_path(1).parent.mkdir(parents=True)
    folder.unit_path(1).write_bytes(b"")
    assert folder.progress() == 8 and report_on(folder.path).committed == 1


def test_a_book_is_one_chain_only_where_something_passes_from_chapter_to_chapter(tiny_sd, tmp_path):
    alone = "story.generation_config.progressive=false"
    for overrides, units in (([], 1), ([alone], 3), ([alone, "story.generation_config.cycle_styles=true"], 1)):
        assert point(tmp_path, tiny_sd, "story.carry=book", *overrides).stages[0].spec.n_units == units
