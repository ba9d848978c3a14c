"""The time of all stages of a run: what is left, what it began with, and that unknown stays unknown."""

import io
import json

import pytest
from rich.console import Console

from launch import status
from launch.show import progress
from launch.show.estimate import costs
from launch.show.left import FILE, Left, Part, begin, begun, command_of, keep, kept, left, store
from launch.show.progress import Bars
from synth.store.folder import StageFolder
from tests.launch.show.test_estimate import images, measured, point

PARTS = [Part("captions-1", "captions", 60.0), Part("images-2", "images", 600.0), Part("hdf5-3", "hdf5", None)]


def test_what_is_unknown_is_named_and_never_no_time():
    assert str(left(PARTS)) == "about 11 min and an unknown time of hdf5"
    assert str(left(PARTS, ["captions-1", "images-2"])) == "an unknown time of hdf5"
    assert left(PARTS, ["captions-1"], {"images-2": 30.0, "hdf5-3": None}) == Left(30.0, ("hdf5",))
    assert str(left(PARTS[:2], now={"captions-1": None})) == "about 11 min"


def test_a_line_names_few_stages_and_tells_no_first_thought_where_there_was_none():
    of_many = Left(60.0, ("images", "features", "images", "judge", "neighbours", "report"))
    assert str(of_many) == "about 60 s and an unknown time of images, features, judge, 2 more" and str(Left()) == "about 0 s"
    assert str(Left(0.0, ("a", "b", "c", "d"))) == "an unknown time of a, b, c, d"
    assert Left(5.0).compared(Left(0.0, ("images",))) == "about 5 s"
    assert Left(5.0).compared(Left(9.0, ("images",))) == "about 5 s; thought at first: about 9 s and an unknown time of images"


def test_a_bar_tells_what_all_stages_take_by_the_pace_of_the_one_at_work(monkeypatch):
    now, out = [1000.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Bars(Console(file=out, width=300), [Part("a-1", "a", 100.0), Part("b-2", "b", 50.0)]) as bars:
        bars.begin("a", 100, 0, "", "a-1")
        for passed, done in ((40, 0), (41, 10), (81, 90)):  # 2 a second: 5 s are left of it
            now[0] = 1000.0 + passed
            bars.at(done)
        bars.end(100)
        bars.begin("b", 10, 0, "", "b-2")
        now[0] += 40
        bars.at(0)
        bars.begin("other", 10, 0, "", "c-3")
        now[0] += 40
        bars.at(0)
    _, waiting, moving, _, last, _, other = out.getvalue().splitlines()
    assert waiting.endswith("starting, 40 s; left of all stages: about 2 min; thought at first: about 2 min")
    assert moving.endswith("about 5 s left; left of all stages: about 55 s; thought at first: about 2 min")
    assert last.endswith("; left of all stages: about 10 s; thought at first: about 2 min") and "all stages" not in other


@pytest.fixture
def run(tmp_path):
    """A run that began with two stages, of which one is known, beside an earlier one that told so."""
    root = tmp_path / "runs" / "birds"
    measured(images(root), 9)
    known, unknown = images(root, slots=80, seed=7), images(root, slots=40, steps=50)
    begin([known, unknown], costs([point([known, unknown])], [known, unknown], lambda stage: 2))
    store()
    return root, known, unknown


def test_what_a_run_begins_with_is_kept_and_read_as_what_anyone_may_have_written(run):
    root, known, unknown = run
    assert begun([known, unknown]) == [Part(known.folder.name, "images", 10 * 8.0 + 30.0), Part(unknown.folder.name, "images", None)]
    assert begun([unknown]) == [Part(unknown.folder.name, "images", None)]
    for broken in (
        "{",
        "[]",
        '{"stages": 3}',
        '{"stages": [{"folder": "a", "name": "b", "seconds": -1.0}]}',
        '{"stages": [{"folder": 3}]}',
    ):
        (root / FILE).write_text(broken)
        assert kept(root) == [] and begun([known]) == []


def test_status_tells_the_time_of_all_stages_until_they_are_done(run, capsys):
    root, known, unknown = run
    StageFolder.create(root, known.spec).mark_done({"units": 20, "slots": 80, "samples": 80, "tombstones": 0})
    assert status.main([str(root), "--no-slurm"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "birds: what is left of all stages: an unknown time of images; thought at first: about 2 min and an unknown time of images" in said
    )
    assert status.main([str(root), "--no-slurm", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {json.dumps(f["all_stages"], sort_keys=True) for f in facts} == {
        '{"at_first": {"seconds": 110.0, "unknown": ["images"]}, "left": {"seconds": 0.0, "unknown": ["images"]}}'
    }
    StageFolder.create(root, unknown.spec).mark_done({"units": 10, "slots": 40, "samples": 40, "tombstones": 0})
    assert status.main([str(root), "--no-slurm"]) == 0 and "all stages" not in capsys.readouterr().out


def test_a_name_that_others_wrote_is_not_what_a_terminal_is_given(run):
    root, known, _ = run
    (root / FILE).write_text((root / FILE).read_text().replace('"images"', '"[/red]"'))
    with Bars(Console(file=io.StringIO(), force_terminal=True, width=300), begun([known])) as bars:
        bars.begin("images", 80, 0, "", known.folder.name)
        bars.at(0)
        bars.end(80)
    assert [part.name for part in begun([known])] == ["images"]


def test_the_command_that_began_the_newest_run_is_kept_of_the_stages_that_it_had_to_do(run):
    root, known, unknown = run
    keep(root, [Part(known.folder.name, "images", None)], "launch/run.py dataset=birds")
    assert command_of(known.folder) == "launch/run.py dataset=birds" and command_of(unknown.folder) == ""
    for broken in ("{", '{"stages": []}', '{"command": 3, "stages": []}'):
        (root / FILE).write_text(broken)
        assert command_of(known.folder) == ""
