"""Numbers of a classifier's answers, of pictures and captions, and intervals."""

import numpy as np
import pytest

from synth.errors import InputError
from synth.judge.numbers import answers, intervals
from synth.judge.numbers.rows import Unmeasurable
from tests.judge.numbers import plain

RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.full(5, 0.4), 200)
LABELS = np.where(RNG.random(200) < 0.7, P.argmax(1), RNG.integers(0, 5, 200))


def test_accuracy_overall_and_by_class():
    assert answers.accuracy(P, LABELS) == np.mean([int(np.argmax(p)) == y for p, y in zip(P, LABELS, strict=True)])
    by_class = answers.per_class(answers.correct(P, LABELS), LABELS, P.shape[1])
    assert by_class.tolist() == [np.mean([np.argmax(p) == c for p, y in zip(P, LABELS, strict=True) if y == c]) for c in range(5)]


def test_a_class_without_a_test_picture_has_no_accuracy():
    by_class = answers.per_class(answers.correct(P[LABELS != 2], LABELS[LABELS != 2]), LABELS[LABELS != 2], P.shape[1])
    assert np.isnan(by_class).tolist() == [False, False, True, False, False]


def test_a_tie_is_the_first_class_s():
    assert answers.correct(np.full((2, 4), 0.25), np.array([0, 1])).tolist() == [True, False]


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_is_that_of_the_definition(bins):
    assert answers.calibration_error(P, LABELS, bins) == pytest.approx(plain.calibration_error(P.tolist(), LABELS.tolist(), bins))


def test_a_classifier_that_is_sure_and_right_is_calibrated_and_one_that_is_sure_and_wrong_is_not():
    sure = np.eye(5)[LABELS]
    assert answers.calibration_error(sure, LABELS) == 0
    assert answers.calibration_error(np.roll(sure, 1, axis=1), LABELS) == 1


def test_confusion_pairs_are_those_that_are_seen_most():
    labels, said = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([1, 1, 0, 2, 1, 2, 0, 1])
    table = np.zeros((2, 3, 3))
    np.add.at(table[0], (labels, said), 1)
    np.add.at(table[1], (labels, labels), 1)
    assert answers.confusion_pairs(table[0], 3) == [(0, 1, 2, 2 / 3), (1, 2, 1, 0.5), (2, 0, 1, 1 / 3)]
    assert answers.confusion_pairs(table[1], 3) == []


def test_clip_score_and_zero_shot():
    pictures, labels = plain.features(40, seed=1)
    texts = np.stack([pictures[labels == c].mean(0) for c in range(4)])
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    cosines = pictures.astype(np.float64) @ texts.T.astype(np.float64)
    assert answers.clip_score(pictures, texts[labels]) == pytest.approx(
        np.mean([100 * cosines[i, c] for i, c in enumerate(labels)]), abs=1e-4
    )
    assert answers.clip_score(pictures, -pictures) == 0
    assert answers.zero_shot(pictures, texts, labels) == (cosines.argmax(1) == labels).mean() > 0.5
    with pytest.raises(InputError, match="40 pictures and 4 captions"):
        answers.clip_score(pictures, texts)


def test_answers_that_are_none_are_named():
    with pytest.raises(InputError, match=r"row 1 adds up to 0\.5"):
        answers.accuracy(np.array([[0.5, 0.5], [0.5, 0]]), np.array([0, 0]))
    with pytest.raises(InputError, match="row 0 adds up to nan"):
        answers.accuracy(np.array([[np.nan, 0.5]]), np.array([0]))
    with pytest.raises(InputError, match=r"test: row 1 has the label 5; there are classes 0\.\.4"):
        answers.accuracy(P[:2], np.array([0, 5]))
    with pytest.raises(Unmeasurable, match="no pictures"):
        answers.accuracy(P[:0], LABELS[:0])


# -- intervals -----------------------------------------------------------------------------------------------------------


def holds(make, truth: float, times: int = 60) -> float:
    """In how many of many samples the interval holds the truth."""
    found = [make(np.random.default_rng(i)) for i in range(times)]
    return float(np.mean([i.low <= truth <= i.high for i in found]))


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda rng: intervals.interval(rng.random(40) < 0.9, 0), 0.9),
        (lambda rng: intervals.interval(rng.normal(3, 2, 60), 0, 200), 3),
        (lambda rng: intervals.interval(rng.normal(size=50), 0, 100, statistic=lambda v: float(v.mean())), 0),
        (lambda rng: intervals.interval(rng.normal(size=(8, 1)) * 0.1 + rng.normal(size=(8, 300)), 0, 200), 0),
        (lambda rng: intervals.difference(*_paired(rng), seed=0, n=200), 0.05),
    ],
    ids=["share", "mean", "statistic", "seeds", "difference"],
)
def test_an_interval_of_95_percent_holds_the_truth_about_as_often(make, truth):
    assert 0.88 <= holds(make, truth) <= 1


def _paired(rng):
    hard = rng.random(400)
    return (hard < 0.75), (hard < 0.70)


def test_a_paired_difference_is_surer_than_two_intervals():
    one, other = _paired(np.random.default_rng(1))
    assert intervals.difference(one, other, 0).low > 0
    assert intervals.interval(one, 0).low < intervals.interval(other, 0).high


def test_all_right_is_not_sure():
    found = intervals.interval(np.ones(10, bool), 0)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.7225, abs=1e-3)  # 10 / (10 + z^2)


def test_intervals_are_the_same_again_and_differ_by_seed():
    values = np.random.default_rng(0).normal(size=30)
    assert intervals.interval(values, 1) == intervals.interval(values, 1) != intervals.interval(values, 2)
    assert intervals.interval(values, 1, level=0.5).half < intervals.interval(values, 1, level=0.99).half


def test_two_seeds_that_differ_make_an_interval_wider():
    same, spread = np.zeros((2, 1000)), np.stack([np.zeros(1000), np.ones(1000)])
    assert intervals.interval(same, 0).half == 0
    assert intervals.interval(spread, 0).half > 0.49


def test_how_many_are_needed():
    values = np.random.default_rng(0).normal(size=400)
    wide = intervals.interval(values, 0)
    more = intervals.interval(np.random.default_rng(1).normal(size=intervals.needed(wide, wide.half / 3)), 0)
    assert more.half == pytest.approx(wide.half / 3, rel=0.15)
    assert intervals.needed_of_share(0.5, 0.01) == 9604


def test_what_has_no_interval_says_why():
    with pytest.raises(Unmeasurable, match="needs 2 pictures; there are 1"):
        intervals.interval(np.ones(1), 0)
    with pytest.raises(InputError, match="not finite"):
        intervals.interval(np.array([1, np.nan]), 0)
    with pytest.raises(InputError, match="different things"):
        intervals.difference(np.ones(3), np.ones(4), 0)
    with pytest.raises(InputError, match="a level between 0 and 1"):
        intervals.interval(np.ones(3), 0, level=95)


@pytest.mark.parametrize("right", [True, False])
def test_all_seeds_of_one_answer_are_not_sure_of_all(right):
    found = intervals.interval(np.full((3, 3), right), seed=0)
    assert found == intervals.wilson(3 * right, 3) and 0.5 < found.high - found.low < 0.7
