"""Probes learn what there is to learn and no more, give what a plain version gives, and the same bytes for any number of threads."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from synth.errors import InputError
from synth.judge.numbers.answers import accuracy
from synth.judge.numbers.products import product
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.probes import TEMPERATURE, equal_counts, knn, linear_probe
from tests.judge.numbers import plain

TRAIN, LABELS = plain.features(120, seed=1)
TEST, TEST_LABELS = plain.features(90, seed=2)
PROBES = [lambda *args: knn(*args, k=5), linear_probe]
CHILD = """
import hashlib, sys, numpy as np
from synth.judge import probes
from tests.judge.numbers import plain
train, labels = plain.features(1500, width=96, seed=1, spread=1.5)
test, _ = plain.features(700, width=96, seed=2, spread=1.5)
answers = [probes.knn(train, labels, test, 4), probes.linear_probe(train, labels, test, 4)]
print(hashlib.sha256(b"".join(a.tobytes() for a in answers)).hexdigest())
"""


@pytest.mark.parametrize("probe", PROBES, ids=["knn", "linear"])
def test_a_probe_learns(probe):
    answers = probe(TRAIN, LABELS, TEST, 4)
    assert answers.shape == (90, 4)
    np.testing.assert_allclose(answers.sum(1), 1)
    assert accuracy(answers, TEST_LABELS) > 0.85


@pytest.mark.parametrize("probe", PROBES, ids=["knn", "linear"])
def test_shuffled_labels_give_chance(probe):
    train, labels = plain.features(600, classes=10, seed=1, spread=2)
    test, truth = plain.features(600, classes=10, seed=2, spread=2)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert accuracy(probe(train, shuffled, test, 10), truth) == pytest.approx(0.1, abs=0.05)
    assert accuracy(probe(train, labels, test, 10), truth) > 0.2


@pytest.mark.parametrize("probe", PROBES, ids=["knn", "linear"])
def test_the_order_of_rows_changes_no_answer(probe):
    order = np.random.default_rng(0).permutation(len(TRAIN))
    np.testing.assert_allclose(probe(TRAIN[order], LABELS[order], TEST, 4), probe(TRAIN, LABELS, TEST, 4), atol=1e-4)


@pytest.mark.parametrize("probe", PROBES, ids=["knn", "linear"])
def test_a_class_that_is_missing_is_never_the_answer(probe):
    there = LABELS != 2
    answers = probe(TRAIN[there], LABELS[there], TEST, 4)
    assert not answers[:, 2].any()
    assert accuracy(answers[TEST_LABELS != 2], TEST_LABELS[TEST_LABELS != 2]) > 0.85


def test_knn_is_that_of_the_definition_ties_included():
    train = np.concatenate([TRAIN, TRAIN[:20]])
    labels = np.concatenate([LABELS, LABELS[:20][::-1]])
    for k in (1, 7):
        np.testing.assert_allclose(knn(train, labels, TEST, 4, k), plain.knn(train, labels, TEST, 4, k, TEMPERATURE), atol=1e-6)


def test_the_linear_probe_is_at_the_least_of_its_loss():
    """The slope of the loss is 0: by plain gradient descent from its answer nothing is gained."""
    answers = linear_probe(TRAIN, LABELS, TRAIN, 4, l2=1e-2)
    x = (TRAIN - TRAIN.mean(0, dtype=np.float64)).astype(np.float64)
    x = np.column_stack([x * np.sqrt(x.size / np.square(x).sum()), np.ones(len(x))])
    # mean cross entropy + l2/2 |W|^2 is least where x^T (p - y) / n = -l2 W: so W follows from the answers, and must give them again
    weights = -(x.T @ (answers - np.eye(4)[LABELS])) / len(x) / 1e-2
    logits = x[:, :-1] @ weights[:-1]
    left = np.log(answers) - logits  # the same for all rows but for a number a row: the bias
    left -= left[:, :1]
    assert np.abs(left - left.mean(0)).max() < 0.02
    assert np.abs((answers - np.eye(4)[LABELS]).mean(0)).max() < 1e-4  # the bias is not pulled to 0


def test_the_same_bytes_for_any_number_of_threads():
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = set()
    for threads in (1, 2):
        env |= {"OPENBLAS_NUM_THREADS": str(threads)}
        said.add(subprocess.run([sys.executable, "-c", CHILD], env=env, check=True, capture_output=True, text=True, timeout=120).stdout)
    assert len(said) == 1
    assert len(said.pop().strip()) == hashlib.sha256().digest_size * 2


def test_a_product_is_exact_in_any_order():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3000)) * 1e3, rng.normal(size=(3000, 20)) * 1e-4
    order = rng.permutation(3000)
    found = product(a, b)
    np.testing.assert_array_equal(product(a[:, order], b[order]), found)
    np.testing.assert_allclose(found, a @ b, atol=1e-6 * np.abs(a @ b).max())


def test_equal_counts_are_drawn_without_replacement_and_a_smaller_one_is_part_of_a_larger():
    labels = np.array([0] * 10 + [1] * 3 + [3] * 7)
    few, more = equal_counts(labels, 2, 0), equal_counts(labels, 5, 0)
    assert np.bincount(labels[more]).tolist() == [5, 3, 0, 5]
    assert set(few) < set(more)
    assert len(set(more)) == len(more)
    assert equal_counts(labels, 5, 1).tolist() != more.tolist()


def test_what_cannot_be_learned_says_why():
    with pytest.raises(Unmeasurable, match="train: has 4 pictures, and 5 nearest ones are asked for"):
        knn(TRAIN[:4], LABELS[:4], TEST, 4, k=5)
    with pytest.raises(Unmeasurable, match=r"all pictures are of one class \(1\)"):
        linear_probe(TRAIN[LABELS == 1], LABELS[LABELS == 1], TEST, 4)
    with pytest.raises(Unmeasurable, match="the same features"):
        linear_probe(np.repeat(TRAIN[:1], 8, axis=0), np.arange(8) % 4, TEST, 4)
    with pytest.raises(InputError, match=r"train: row 3 has the label 3; there are classes 0\.\.2"):
        linear_probe(TRAIN, LABELS, TEST, 3)
    spoilt = TRAIN.copy()
    spoilt[8] = np.nan
    with pytest.raises(InputError, match="train: the feature in row 8 is not finite"):
        knn(spoilt, LABELS, TEST, 4)


def test_one_picture_a_class_is_enough_for_an_answer():
    assert accuracy(linear_probe(TRAIN[:4], LABELS[:4], TEST, 4), TEST_LABELS) > 0.5
    assert accuracy(knn(TRAIN[:4], LABELS[:4], TEST, 4, k=1), TEST_LABELS) > 0.5
