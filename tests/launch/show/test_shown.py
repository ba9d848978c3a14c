"""What people see: states, the nearest stages, the summary's last line."""

import io
import json

from rich.console import Console

from launch.plan.nearest import differences, nearest
from launch.plan.planned import Failure, Outcome
from launch.plan.state import MARKER, forget_done, state_of
from launch.show import summary
from launch.show.asked import asked
from launch.show.stages import Work
from synth.store.folder import StageFolder


def planned(world, name, *overrides):
    return next(s for s in world.point(*overrides).stages if s.name == name)


def finished(stage) -> StageFolder:
    """A stage that says of itself that it is done."""
    folder = StageFolder.create(stage.dataset_root, stage.spec)
    folder.mark_done({"units": stage.spec.n_units, "slots": stage.spec.slots, "samples": 5, "tombstones": 0})
    return folder


def marked(stage) -> StageFolder:
    """An export that is done and lies where it should."""
    folder = finished(stage)
    folder.out_dir.mkdir(parents=True)
    (folder.out_dir / MARKER).write_text(json.dumps({"fingerprint": stage.spec.fingerprint}))
    return folder


def shown(outcomes, failures=()) -> list[str]:
    out = io.StringIO()
    summary.show(outcomes, list(failures), "python launch/run.py seed=1", Console(file=out, width=160))
    return [line for line in out.getvalue().splitlines() if line.strip()]


def test_a_new_stage_a_begun_one_and_a_done_one_are_told_apart(world):
    stage = planned(world, "captions")
    assert str(state_of(stage)) == "new"
    StageFolder.create(stage.dataset_root, stage.spec)
    assert str(state_of(stage)) == "0/2 units"
    finished(stage)
    assert state_of(stage).done


def test_an_export_whose_place_is_gone_or_not_its_own_is_not_done(world):
    stage = planned(world, "image_folder")
    folder = marked(stage)
    assert state_of(stage).done
    marker = folder.out_dir / MARKER
    marker.write_text(json.dumps({"fingerprint": "another"}))
    assert state_of(stage).gone and not state_of(stage).done
    marker.unlink()
    assert state_of(stage).gone
    forget_done(folder)
    assert not state_of(stage).gone and not state_of(stage).done


def test_the_nearest_stage_is_the_one_with_the_fewest_differing_keys(world):
    stage = planned(world, "captions")
    for overrides in (["seed=4"], ["seed=4", "captions.total=300"]):
        other = planned(world, "captions", *overrides)
        StageFolder.create(other.dataset_root, other.spec)
    lines = nearest(stage).splitlines()
    assert lines[1].endswith("(not whole): captions.seed is 4, asked 0")
    assert "captions.slots" in lines[2]


def test_differences_name_keys_that_only_one_side_has():
    assert differences({"a": 1, "b": 2}, {"a": 1, "c": [3]}) == ["b is 2, asked null", "c is null, asked [3]"]


def test_the_last_line_is_the_path_of_the_contact_sheet(world):
    stages = {name: planned(world, name) for name in ("image_folder", "contact_sheet")}
    for stage in stages.values():
        marked(stage)
    sheet = StageFolder.open(stages["contact_sheet"].folder).out_dir / "contact_sheet.png"
    sheet.write_bytes(b"png")
    done = [Outcome(stages[n], 0, done=True, facts={"samples": 5}) for n in ("contact_sheet", "image_folder")]
    lines = shown(done)
    assert lines[-1] == str(sheet)
    [named] = [line for line in lines if line.startswith("all of it on one page: ")]
    assert named.endswith(f"{stages['contact_sheet'].dataset_root} --out report.html") and " report " in named
    assert shown(done[1:])[-1] == str(StageFolder.open(stages["image_folder"].folder).out_dir)


def test_all_done_before_is_said_and_a_drain_names_the_command(world):
    stage = planned(world, "captions")
    assert "Everything was done already." in shown([Outcome(stage, 0, done=True, before=True)])
    assert "Everything was done already." not in shown([Outcome(stage, 0, done=True, before=True)], [Failure("seed=1", 65, "bad")])
    drained = shown([Outcome(stage, 75, message="drained on SIGINT")])
    assert drained[-1].strip() == "python launch/run.py seed=1"


def test_what_was_asked_refused_and_cut_is_told_in_a_line_each():
    refused = {"no_class": 2, "empty": 9, "left empty": 1}
    spent = {"requests": 1234, "retries": 2, "tokens_in": 5000, "tokens_out": 60, "price": 0.5, "alone": 3}
    work = Work(refused=refused, cut={"bold": 1, "thoughts": 12}, said={"no_class": "A dog\x1b[31m.", "empty": " "}, spent=spent)
    assert asked(work) == [
        "1,234 answers, 2 tries more; 5,000 tokens in, 60 out, price 0.5000",
        "3 were answered only while nothing else was asked: lower captioner.max_batch_size, or give the server more room",
        "refused: empty 9, no_class 2; 1 slots left empty",
        "  no_class: 'A dog\\x1b[31m.'",
        "cut from answers: thoughts 12, bold 1",
    ]
    assert asked(Work()) == []


def test_the_end_of_a_run_says_what_was_cut_of_what_it_made_and_nothing_of_what_was_there(world):
    stage = planned(world, "captions")
    folder = finished(stage)
    events = folder.path / "events"
    events.mkdir(exist_ok=True)
    (events / "w.jsonl").write_text(json.dumps({"event": "stop", "busy_s": 1.0, "cut": {"thoughts": 3}}) + "\n")
    line = "captions: cut from answers: thoughts 3"
    made = Outcome(stage, 0, done=True, facts={"samples": 5})
    assert line in shown([made]) and line not in shown([Outcome(stage, 0, done=True, before=True, facts={"samples": 5})])


def test_a_filter_that_took_out_nothing_says_so(world):
    stage = planned(world, "near_duplicates", "filter=[near_duplicates]")
    finished(stage)
    facts = {"samples": stage.spec.slots, "tombstones": 0}
    lines = shown([Outcome(stage, 0, done=True, facts=facts)])
    assert f"near_duplicates: took out none of {stage.spec.slots}" in lines
    assert not [line for line in shown([Outcome(stage, 0, done=True, before=True, facts=facts)]) if "took out" in line]
