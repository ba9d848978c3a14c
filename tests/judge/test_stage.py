"""A judge of features through the real worker: the same bytes for any number of jobs, and what it must say of sets that are known."""

import json
import shutil

import numpy as np
import pytest

from launch.verify import verify
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.judge.config import JudgeReportConfig
from synth.judge.reading import read_point
from synth.judge.sets import read_sets
from synth.judge.summary import _values, summary
from synth.store.folder import StageFolder
from synth.store.spec import canonical
from tests.fixtures_images import child, digests, work
from tests.judge.sets import CLASSES, clusters, features, judge


def judged(folder) -> dict:
    assert work(folder) == EXIT_OK
    return summary(folder, read_sets(folder))[0]


@pytest.fixture
def real(tmp_path):
    return features(tmp_path, "real_features", *clusters(20, seed=1))


@pytest.fixture
def test(tmp_path):
    return features(tmp_path, "test_features", *clusters(20, seed=2))


@pytest.fixture
def made(tmp_path):
    return features(tmp_path, "features", *clusters(20, seed=3))


def value(found: dict, name: str) -> float:
    return found["numbers"][name]["value"]


def test_units_are_the_same_bytes_for_one_and_three_jobs(made, real, test):
    folder = judge(made, real, test)
    assert work(folder) == EXIT_OK
    one = digests(folder)
    shutil.rmtree(folder.path)
    folder = judge(made, real, test)
    for job in (2, 0, 1):
        work(folder, job, 3)
    assert digests(folder) == one


def test_a_set_of_the_same_kind_trains_as_well_as_the_real_one(made, real, test):
    found = judged(judge(made, real, test))
    accuracies = {what: probe["accuracy"]["value"] for what, probe in found["probes"].items()}
    assert set(accuracies) == {"made", "real", "both"} and min(accuracies.values()) > 0.6
    assert found["probes"]["made"]["rows"] == found["probes"]["real"]["rows"] == 80 and found["probes"]["both"]["rows"] == 160
    assert found["leaks"]["pictures"] == found["duplicates"]["within"] == 0 and value(found, "coverage") > 0.8
    assert [c["name"] for c in found["classes"]] == list(CLASSES) and all(c["numbers"]["accuracy"]["n"] == 20 for c in found["classes"])


def test_the_real_set_against_itself_is_perfect(tmp_path, real, test):
    found = judged(judge(features(tmp_path, "features", *clusters(20, seed=1)), real, test))
    assert value(found, "cmmd") == 0 and value(found, "frechet") < 1e-6
    assert [value(found, n) for n in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found["probes"]["made"]["accuracy"] == found["probes"]["real"]["accuracy"]


def test_a_copy_of_the_test_set_is_a_leak(tmp_path, test):
    rows, labels = clusters(20, seed=2)
    fresh, more = clusters(5, seed=9)
    found = judged(judge(features(tmp_path, "features", np.concatenate([rows, fresh]), np.concatenate([labels, more])), None, test))
    assert found["leaks"]["pictures"] == 80 and found["leaks"]["of"] == 100
    assert found["leaks"]["examples"][0][:2] == [0, 0] and found["leaks"]["examples"][0][2] == 1


def test_duplicates_of_classes_that_no_other_set_has_are_between_these(tmp_path, test):
    rows, _ = clusters(1, seed=3)
    named = ("cat", "owl 2", "owl 3", "dog")
    found = judged(judge(features(tmp_path, "features", rows[[0, 1, 1, 1]], np.array([0, 1, 1, 2]), named), None, test))
    assert (found["duplicates"]["within"], found["duplicates"]["between"]) == (1, 2)


def test_one_repeated_picture_a_class_gets_the_worst_coverage(tmp_path, made, real, test):
    rows, labels = clusters(20, seed=3)
    same = features(tmp_path, "same", np.tile(rows[: len(CLASSES)], (20, 1)), labels)
    found, usual = judged(judge(same, real, test)), judged(judge(made, real, test))
    assert value(found, "coverage") < 0.3 < value(usual, "coverage") and value(found, "clipped_coverage") < 0.3
    assert found["duplicates"]["repeats"] == 76 and all(c["numbers"]["similarity"]["value"] > 0.9999 for c in found["classes"])
    assert found["probes"]["made"]["accuracy"]["value"] <= usual["probes"]["made"]["accuracy"]["value"]


def test_shuffled_labels_train_no_better_than_chance(tmp_path, real, test):
    rows, labels = clusters(20, seed=3)
    shuffled = features(tmp_path, "features", rows, np.random.default_rng(0).permutation(labels))
    accuracy = judged(judge(shuffled, real, test))["probes"]["made"]["accuracy"]
    assert abs(accuracy["value"] - 1 / len(CLASSES)) < 0.15


def test_without_other_sets_it_says_what_can_be_said(tmp_path):
    found = judged(judge(features(tmp_path, "features", *clusters(10, seed=3), dead=(5,))))
    assert found["probes"] == {} and found["leaks"] is None and set(found["numbers"]) == {"vendi", "similarity"}
    assert found["sets"]["made"]["left_out"] == {"empty file": 1} and found["sets"]["made"]["fewest"] == 9


def test_a_draw_is_of_equal_counts_and_of_other_pictures_for_each_seed(made, test):
    one, other = (judged(judge(made, None, test, per_class=5, seeds=(s,)))["probes"]["made"] for s in (0, 1))
    assert one["rows"] == other["rows"] == 20 and one != other


def test_classes_are_matched_by_name_and_what_does_not_meet_is_counted(tmp_path, made):
    rows, labels = clusters(10, seed=2)
    classes = ("Red_Fox", "zebra", "CAT", "dog")  # its owls are zebras, and nobody else's
    order = np.array([2, 3, 1, 0])  # cat, dog, owl, red fox -> their places here
    test = features(tmp_path, "test_features", rows, order[labels], classes)
    found = judged(judge(made, None, test))
    assert [c["name"] for c in found["classes"]] == ["cat", "dog", "red fox"] and found["test_rows"] == 30
    assert found["sets"]["test"]["other_classes"] == ["zebra"] and found["sets"]["made"]["other_classes"] == ["owl"]
    assert found["sets"]["test"]["without_class"] == 10 and found["probes"]["made"]["accuracy"]["value"] > 0.6


def test_a_set_that_lacks_classes_is_no_equal_of_real_pictures(tmp_path, real, test):
    rows, labels = clusters(20, seed=3)
    there = labels < 2
    found = judged(judge(features(tmp_path, "features", rows[there], labels[there]), real, test))
    made, beside, both = (found["probes"][what] for what in ("made", "real", "both"))
    assert (made["rows"], beside["rows"], both["rows"]) == (40, 80, 120)
    assert min(p["accuracy"]["value"] for p in (beside, both)) > made["accuracy"]["value"] + 0.2


def test_one_draw_that_cannot_be_learned_leaves_no_probe(tmp_path):
    spread = np.eye(12)[[0, 1, 0, 2]]  # a picture of each class: one of the four draws has twice the same
    made = features(tmp_path, "features", spread, np.array([0, 0, 1, 1]), ("cat", "dog"))
    rows, labels = clusters(3, seed=2)
    found = judged(
        judge(made, None, features(tmp_path, "test_features", rows, labels % 2, ("cat", "dog")), seeds=tuple(range(8)), per_class=1)
    )
    assert "same features" in found["no_probes"]["made"] and found["probes"] == {} and found["test_rows"] == 0


def test_stages_of_one_name_give_all_of_their_values():
    pairs = [("images.negative", None), ("images.steps", 20), ("images.negative", "ugly"), ("images.steps", 20)]
    assert _values(pairs) == {"images.negative": "null + ugly", "images.steps": 20}


def test_what_was_said_of_the_features_is_said_of_the_judgement(tmp_path, test):
    made = features(tmp_path, "features", *clusters(20, seed=3))
    path = made.path / "inputs.json"
    path.write_bytes(canonical(json.loads(path.read_bytes()) | {"settings": {"notes": ["features.model: the small CLIP"]}}))
    assert judged(judge(StageFolder.open(made.path), None, test))["notes"] == ["features.model: the small CLIP"]


def test_sets_without_a_class_in_common_end_the_worker(tmp_path, made, capsys):
    test = features(tmp_path, "test_features", *clusters(5, seed=2), ("n01", "n02", "n03", "n04"))
    assert work(judge(made, None, test)) == EXIT_BAD_INPUT
    assert "no class is in all of these sets" in capsys.readouterr().err


def test_pictures_without_classes_train_nothing_and_leak_all_the_same(tmp_path, test):
    rows, labels = clusters(5, seed=2)
    found = judged(judge(features(tmp_path, "features", rows, np.full(len(labels), -1), ()), None, test))
    assert found["leaks"]["pictures"] == 20 and found["classes"] == []
    assert "made" in found["no_probes"] and found["test_rows"] == 0


def test_the_report_is_whole_and_says_the_same_twice(made, real, test):
    folder = judge(made, real, test)
    assert work(folder) == EXIT_OK
    report = child(folder.path.parent, "judge_report", JudgeReportConfig(worst=0, shown=1), {"judge": [folder]})
    assert work(report) == EXIT_OK
    point = read_point(report.out_dir)
    assert point.correct.shape == (2, 80) and point.correct.mean() == pytest.approx(
        point.facts["probes"]["made"]["accuracy"]["value"], abs=1e-5
    )
    assert not [p for findings, _ in verify(report.path, True, False, lambda *_: None) for p in findings.problems]
    page = (report.out_dir / "index.html").read_bytes()
    assert b"as many real pictures" in page and b"/data/features" not in page
    shutil.rmtree(report.out_dir)
    (report.path / "done.json").unlink()
    assert work(report) == EXIT_OK and (report.out_dir / "index.html").read_bytes() == page


def test_density_has_no_interval(made, real):
    numbers = judged(judge(made, real))["numbers"]
    assert set(numbers["density"]) == {"value"} and "low" in numbers["coverage"]
