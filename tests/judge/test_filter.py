"""Filter `judge`: what it must say of pictures that are known, what it cannot say, and the same bytes however it is computed."""

import shutil
import signal

import numpy as np
import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.filters.selection import There
from synth.judge.config import JudgeFilterConfig, JudgeScoresConfig
from synth.judge.filtering import EASY, LEAKS, OTHER_CLASS, OUTLIES, STAYS, UNSCORED, decided
from synth.judge.probes import linear_probe
from synth.judge.scores import NUMBERS, Beside, Real, margins
from synth.reading.stage import StageReader
from synth.store.names import classes_of
from tests.faults.farm import Child
from tests.fixtures_images import child, digests, work
from tests.judge.sets import CLASSES, clusters, features, judge

TIGHT = 0.15  # spread of clusters that do not overlap
NUMBER = {n: n for n in range(len(CLASSES))}
ALL = {"keep": "none", "share": 0.5, "min_margin": -1.0, "max_distance": 1.0, "leak": 0.999}  # keys that take out leaks alone


def scores_of(made, real=None, test=None, per_class=None):
    """A planned stage of scores; its units are those of the features."""
    upstream = {role: [stage] for role, stage in (("features", made), ("real", real), ("test", test)) if stage is not None}
    return child(made.path.parent, "judge_scores", JudgeScoresConfig(per_class=per_class), upstream, made.spec.slots, 16, 16)


def filter_of(made, scores, **keys):
    """A planned filter; the features stand for their pictures."""
    config = JudgeFilterConfig(**ALL | keys)
    return child(made.path.parent, "judge_filter", config, {"images": [made], "scores": [scores]}, made.spec.slots, 16, 16)


def filtered(made, real=None, test=None, **keys) -> tuple[list[int], dict[int, str]]:
    """(slots that stay, slot -> reason)"""
    scores = scores_of(made, real, test)
    folder = filter_of(made, scores, **keys)
    assert [work(scores), work(folder)] == [EXIT_OK] * 2
    return [s.slot for s in folder.samples()], StageReader(folder).reasons(0, folder.spec.slots)


@pytest.fixture
def real(tmp_path):
    return features(tmp_path, "real_features", *clusters(20, 1, TIGHT))


# -- what must hold, through the worker ------------------------------------------------------------------------------


def test_a_copy_of_the_test_set_goes_as_leaks_and_nothing_else_does(tmp_path):
    (copied, labels), (fresh, more) = clusters(5, 2), clusters(5, 9)
    made = features(tmp_path, "features", np.concatenate([copied, fresh]), np.concatenate([labels, more]), dead=(3, 30))
    kept, reasons = filtered(made, None, features(tmp_path, "test_features", copied, labels, ("a", "b", "c", "d")))
    assert kept == [n for n in range(20, 40) if n != 30] and reasons.pop(3) == reasons.pop(30) == "empty file"
    assert all(why.startswith("judge: is like a picture of the test set (leak ") for why in reasons.values()) and len(reasons) == 19


def test_pictures_of_another_class_go_as_outliers_or_by_their_margin_and_others_stay(tmp_path, real):
    rows, labels = clusters(10, 3, TIGHT)
    wrong = np.arange(40) % 7 == 0
    made = features(tmp_path, "features", rows, np.where(wrong, (labels + 1) % len(CLASSES), labels))
    kept, reasons = filtered(made, real, min_margin=0.0)
    assert sorted(reasons) == np.flatnonzero(wrong).tolist() and all("looks like another class" in r for r in reasons.values())
    assert kept == np.flatnonzero(~wrong).tolist()
    _, reasons = filtered(made, real, max_distance=0.999)
    assert set(np.flatnonzero(wrong)) <= set(reasons) and all("lies further from real pictures" in r for r in reasons.values())
    assert len(reasons) <= wrong.sum() + 3  # of 20 real ones a class: 1 of 21 of the same kind lies beyond them all


def test_units_are_the_same_bytes_for_one_and_three_jobs_and_after_a_kill(tmp_path, real):
    made, test = features(tmp_path, "features", *clusters(10, 3)), features(tmp_path, "test_features", *clusters(3, 2))

    def both():
        scores = scores_of(made, real, test)
        return scores, filter_of(made, scores, keep="margin", max_distance=0.9)

    assert [work(stage) for stage in both()] == [EXIT_OK] * 2
    once = [digests(stage) for stage in both()]
    for stage in both():
        shutil.rmtree(stage.path)
    for stage, as_before in zip(both(), once, strict=True):
        assert Child(stage, 1, 3, env={}, fault="after_batch:kill@1").wait(240) == -signal.SIGKILL
        assert [work(stage, job, 3) for job in (2, 0)] == [EXIT_OK] * 2
        assert digests(stage) == as_before


def test_classes_of_the_given_sets_are_none_of_the_pictures(tmp_path, real):
    """They number their classes otherwise: exports and verification behind a filter or a judge ask for those of the pictures."""
    made, test = features(tmp_path, "features", *clusters(2, 3)), features(tmp_path, "t", *clusters(2, 2), ("owl", "cat", "ape", "dog"))
    for stage in (filter_of(made, scores_of(made, real, test)), judge(made, real, test)):
        assert classes_of(stage) == dict(enumerate(CLASSES))


def test_a_set_without_a_usable_picture_is_filtered_to_nothing(tmp_path, real):
    made = features(tmp_path, "features", *clusters(2, 3), dead=range(8))
    kept, reasons = filtered(made, real, keep="margin")
    assert not kept and set(reasons.values()) == {"empty file"} and len(reasons) == 8


@pytest.mark.parametrize(
    ("name", "labels", "classes", "dead", "said"),
    [
        ("real", [0, 1], CLASSES, (0, 1), "filter.judge.real: has no picture with features: empty file (2)"),
        ("real", [0, 0], CLASSES, (), "no probe can be trained on it: train: all pictures are of one class"),
        ("real", [-1, -1], CLASSES, (), "no probe can be trained on it: train: there are no pictures"),
        ("real", [0, 1], ("n01", "n02"), (), "no class is in all of these sets"),
        ("test", [0, 1], CLASSES, (0, 1), "filter.judge.test: has no picture with features: empty file (2)"),
    ],
)
def test_a_given_set_that_nothing_can_be_held_against_ends_the_worker(name, labels, classes, dead, said, tmp_path, capsys):
    made = features(tmp_path, "features", *clusters(2, 3))
    given = features(tmp_path, "given", clusters(1, 1)[0][:2], np.array(labels), classes, dead)
    assert work(scores_of(made, **{name: given})) == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "said"), [("made", "the feature of picture 5 is not finite"), ("test", "test: the feature in row 5 is not")]
)
def test_a_feature_that_is_not_finite_ends_the_worker(bad, said, tmp_path, capsys):
    rows, labels = clusters(2, 3)
    spoiled = rows.copy()
    spoiled[5, 0] = np.nan
    sets = {name: features(tmp_path, name, spoiled if name == bad else rows, labels) for name in ("made", "test")}
    assert work(scores_of(sets["made"], None, sets["test"])) == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err


# -- numbers of a picture --------------------------------------------------------------------------------------------


def real_of(rows, labels, per_class=None) -> Real:
    return Real.of(rows.astype(np.float32), labels, NUMBER, per_class)


def test_the_mean_of_the_real_pictures_is_no_outlier_however_often_it_is_there():
    rows, labels = clusters(20, 1, TIGHT)
    mean = np.stack([rows[labels == n].mean(0) for n in range(len(CLASSES))])
    mean = np.repeat(mean / np.linalg.norm(mean, axis=1, keepdims=True), 5, 0)
    found = real_of(rows, labels).scores(mean, np.repeat(np.arange(len(CLASSES)), 5))
    assert found["outlier"].max() < 0.5 and found["margin"].min() > 0.5


def test_real_pictures_are_as_far_out_as_they_are_among_themselves():
    """A copy of one has the distance 0; fresh ones of the same kind are spread over all quantiles."""
    real = real_of(*clusters(200, 1))
    assert (real.scores(real.features, real.labels)["outlier"] == 0).all()
    fresh = real.scores(*clusters(200, 2))["outlier"]
    assert abs(fresh.mean() - 0.5) < 0.1 and abs((fresh > 0.9).mean() - 0.1) < 0.05


def test_the_probe_is_that_of_the_judge():
    (rows, labels), (asked, own) = clusters(20, 1), clusters(5, 2)
    p = linear_probe(rows.astype(np.float32), labels, asked, len(CLASSES))
    assert np.array_equal(real_of(rows, labels).scores(asked, own)["margin"], margins(p, own))
    fewer = real_of(rows, labels, per_class=3)
    assert len(fewer.labels) == 80 and not np.array_equal(fewer.scores(asked, own)["margin"], margins(p, own))


def test_what_has_no_real_pictures_gets_no_number_of_them_and_one_is_no_distance():
    rows, labels = clusters(20, 1)
    there = (labels < 2) | (np.arange(len(labels)) == 2)  # all of two classes, one of the third
    found = real_of(rows[there], labels[there]).scores(rows[:4], np.arange(4))
    assert np.isfinite(found["margin"]).tolist() == np.isfinite(found["entropy"]).tolist() == [True, True, True, False]
    assert np.isfinite(found["outlier"]).tolist() == [True, True, False, False]
    assert np.isnan(real_of(rows, labels).scores(rows[:1], np.array([-1]))["margin"]).all()


def test_nothing_is_scored_of_no_pictures():
    assert not list(Beside(None, clusters(1, 1)[0]).scored([]))


# -- which rule a picture goes by ------------------------------------------------------------------------------------


def rules_of(config: dict, labels=None, **columns) -> list[int]:
    n = len(next(iter(columns.values())))
    given = {name: np.array(columns.get(name, [np.nan] * n), float) for name in NUMBERS}
    scored = np.array([name != "gone" for name in columns.get("scored", [""] * n)])
    there = There(np.arange(n), np.zeros(n, np.int64) if labels is None else np.array(labels))
    return decided(given, scored, there, JudgeFilterConfig(**ALL | config)).tolist()


def test_a_picture_goes_by_the_first_rule_that_it_fails():
    config = {"keep": "margin", "share": 0.5, "min_margin": 0.0, "max_distance": 0.9}
    columns = {
        "scored": ["gone", "", "", "", "", "", ""],
        "leak": [np.nan, 1, 0, 0, 0, 0, 0],
        "outlier": [np.nan, 1, 1, 0.9, 0.9, 0.9, np.nan],
        "margin": [np.nan, -1, -1, -1, 0.9, 0.1, np.nan],
    }
    assert rules_of(config, **columns) == [UNSCORED, LEAKS, OUTLIES, OTHER_CLASS, EASY, STAYS, STAYS]


def test_the_share_is_of_each_class_and_of_what_no_other_rule_took_out():
    margin, labels = [0.1, 0.2, 0.3, 0.4, -0.9, 0.9, 0.8], [0, 0, 0, 0, 0, 1, 1]
    assert rules_of({"keep": "margin", "min_margin": 0.0}, labels, margin=margin) == [
        STAYS, STAYS, EASY, EASY, OTHER_CLASS, EASY, STAYS,
    ]  # fmt: skip
    assert rules_of({"keep": "entropy"}, labels[:4], entropy=[0.1, 0.2, 0.3, 0.3]) == [EASY, EASY, STAYS, STAYS]
    assert rules_of({"keep": "margin", "share": 1.0}, labels, margin=margin) == [STAYS] * 7
    assert rules_of({"keep": "margin", "share": 0.0}, [0, 0], margin=[0.1, np.nan]) == [EASY, STAYS]


def test_at_their_ends_thresholds_take_out_nothing():
    assert rules_of({}, outlier=[1.0], margin=[-1.0]) == [STAYS]
    assert rules_of({"max_distance": 0.999}, outlier=[1.0], margin=[-1.0]) == [OUTLIES]
