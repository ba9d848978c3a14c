"""Which point is best, and when nobody is."""

import numpy as np
import pytest

from synth.judge.choice import choose


def answers(accuracy: float, rows: int, seeds: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, rows)) < accuracy


def test_a_point_that_is_clearly_better_wins():
    found = choose([answers(0.6, 800), answers(0.75, 800, seed=1), answers(0.5, 800, seed=2)])
    assert found.order == (1, 0, 2) and found.winner == 1
    assert all(a.low < a.value < a.high for a in found.accuracies)


def test_points_that_answer_alike_have_no_winner():
    same = answers(0.7, 300)
    assert choose([same, same, same]).winner is None and choose([same, same]).tied == (0, 1)


def test_the_same_pictures_make_a_small_difference_certain_that_other_ones_would_not():
    """Paired: a point that is right wherever the other is, and a little more often."""
    one = np.tile(np.arange(1000) < 600, (3, 1))
    more = np.tile(np.arange(1000) < 625, (3, 1))
    assert choose([one, more]).winner == 1
    shuffled = np.random.default_rng(0).permuted(more, axis=1)
    assert choose([one, shuffled]).winner is None


def test_picking_the_best_of_many_makes_no_winner_of_noise():
    """30 sweeps of 12 points that are all alike: one or two of them may have a winner. Where each pair is compared alone, most have one."""
    wins = sum(choose([answers(0.7, 100, 1, seed=100 * sweep + n) for n in range(12)], draws=200).winner is not None for sweep in range(30))
    assert wins <= 4


def test_a_seed_that_is_far_from_the_others_is_noise_too():
    steady = np.tile(np.arange(400) < 280, (3, 1))
    swings = np.stack([np.arange(400) < n for n in (240, 300, 390)])  # a higher mean, by one lucky draw
    assert choose([steady, swings]).winner is None


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_pictures_makes_no_winner(rows):
    assert choose([np.ones((3, rows), bool), np.zeros((3, rows), bool)]).winner is None
    assert choose([np.ones((3, 6), bool), np.zeros((3, 6), bool)]).winner == 0


def test_all_right_is_not_sure_of_all():
    (accuracy,) = choose([np.ones((2, 20), bool)]).accuracies
    assert accuracy.value == accuracy.high == 1 and 0.8 < accuracy.low < 0.9


def test_other_test_pictures_cannot_be_compared():
    with pytest.raises(ValueError, match="different pictures"):
        choose([answers(0.5, 10), answers(0.5, 11)])
