"""The numbers of the filters, by hand-made scores and features."""

import numpy as np
import pytest

from synth.filters import ensemble, near_duplicates, rules
from synth.filters.ensemble import Pool


def test_the_top_share_of_each_class_is_kept_and_ties_fall_by_key():
    scores = np.array([0.5, 0.5, 0.5, 0.9, np.nan, 0.1])
    labels = np.array([0, 0, 0, 0, 1, 1])
    keys = np.array([3, 1, 2, 0, 4, 5])
    assert rules.top_of_class(scores, labels, keys, share=0.5).tolist() == [False, True, False, True, False, True]
    assert rules.top_of_class(scores, labels, keys, counts={0: 1}).tolist() == [False, False, False, True, False, False]
    assert rules.top_of_class(scores, labels, keys).all()


def test_classes_with_too_few_pictures_are_told():
    assert rules.missing_counts(np.array([0, 0, 1]), {0: 2, 1: 3, 2: 1}) == {1: 2, 2: 1}


def test_a_random_subsample_depends_on_the_pictures_own_keys_only():
    labels, keys = np.repeat([0, 1], 50), np.arange(100)
    kept = rules.random_of_class(labels, keys, {0: 10, 1: 80}, seed=3)
    assert kept[:50].sum() == 10 and kept[50:].all()
    order = np.random.default_rng(0).permutation(100)
    assert (rules.random_of_class(labels[order], keys[order], {0: 10, 1: 80}, 3) == kept[order]).all()
    assert (rules.random_of_class(labels, keys, {0: 10}, 4) != kept).any()


def test_near_duplicates_by_hash_are_those_of_the_plain_way():
    rng = np.random.default_rng(1)
    base = rng.integers(0, 1 << 64, 40, dtype=np.uint64)
    hashes = np.array(
        [int(rng.choice(base)) ^ sum(1 << int(b) for b in rng.choice(64, rng.integers(0, 9), replace=False)) for _ in range(300)],
        np.uint64,
    )
    kept: list[int] = []
    plain = np.full(300, -1)
    for i in range(300):
        near = [k for k in kept if (int(hashes[i]) ^ int(hashes[k])).bit_count() <= 5]
        if near:
            plain[i] = near[0]
        else:
            kept.append(i)
    of, known = near_duplicates.by_hash(hashes, 5)
    assert not known.any() and ((of >= 0) == (plain >= 0)).all() and 0 < (of >= 0).sum() < 300
    assert all((int(hashes[i]) ^ int(hashes[of[i]])).bit_count() <= 5 or hashes[i] in hashes[:i] for i in np.flatnonzero(of >= 0))


def test_pictures_like_those_of_a_test_set_are_known_and_stand_for_no_other():
    hashes = np.array([0b0000, 0b0001, 0b0111_1111_1111], np.uint64)
    of, known = near_duplicates.by_hash(hashes, 1, against=np.array([0], np.uint64))
    assert known.tolist() == [True, True, False] and of.tolist() == [-1, -1, -1]


def test_equal_hashes_in_millions_cost_no_pairs():
    of, _ = near_duplicates.by_hash(np.zeros(200_000, np.uint64), 4)
    assert (of[1:] == 0).all() and of[0] == -1


def test_near_duplicates_by_embedding_stay_within_their_group_over_block_borders(monkeypatch):
    monkeypatch.setattr(near_duplicates, "BLOCK", 4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 8))
    x[10] = x[1] + 0.01
    x[3] = x[2] + 0.01
    x[11] = x[0]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    groups = np.zeros(12, int)
    groups[11] = 1
    of, known = near_duplicates.by_embedding(x, 0.99, groups)
    assert {i: int(o) for i, o in enumerate(of) if o >= 0} == {3: 2, 10: 1} and not known.any()
    assert near_duplicates.by_embedding(x, 0.99)[0][11] == 0
    assert near_duplicates.by_embedding(x, 0.99, against=x[:1])[1].tolist() == [True] + 10 * [False] + [True]


def test_rmd_is_the_formula_written_out():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 30)
    x = rng.normal(size=(90, 4)) + labels[:, None]
    means = np.array([x[labels == c].mean(0) for c in range(3)])
    shared = sum((x[labels == c] - means[c]).T @ (x[labels == c] - means[c]) for c in range(3)) / 90
    every = (x - x.mean(0)).T @ (x - x.mean(0)) / 90
    plain = []
    for row, label in zip(x, labels, strict=True):
        d, a = row - means[label], row - x.mean(0)
        plain.append(-d @ np.linalg.inv(shared) @ d + a @ np.linalg.inv(every) @ a)
    assert np.allclose(ensemble.rmd_scores(x, labels), plain, atol=1e-3)


def test_rmd_of_fewer_pictures_than_dimensions_is_finite():
    assert np.isfinite(
        ensemble.rmd_scores(np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32), np.array([0, 0, 0, 1, 1, 1]))
    ).all()


def test_conan_weights_are_clipped_z_scores_in_a_softmax():
    scores = np.array([-100.0, 0.0, 1.0, 2.0, 100.0])
    clipped = np.clip(scores, *np.percentile(scores, (5, 95)))
    z = (clipped - clipped.mean()) / clipped.std()
    expected = np.exp(z / 0.5) / np.exp(z / 0.5).sum()
    assert np.allclose(ensemble.probabilities(scores), expected)
    inverse = (1 / expected) / (1 / expected).sum()
    assert np.allclose(ensemble.probabilities(scores, "inverse"), inverse)
    assert np.allclose(ensemble.probabilities(np.ones(4)), 0.25)


def pool(n=60) -> Pool:
    rng = np.random.default_rng(0)
    return Pool(rng.normal(size=n), np.arange(n) % 2, np.arange(n) % 3, np.arange(n))


@pytest.mark.parametrize("mode", ensemble.MODES)
def test_each_mode_takes_the_asked_number_of_each_class_and_all_where_there_are_fewer(mode):
    kept = ensemble.choose(pool(), {0: 7, 1: 100}, mode, seed=1)
    labels = pool().labels
    assert kept[labels == 0].sum() == 7 and kept[labels == 1].all()


def test_top_bottom_conan_and_inverse_prefer_what_they_say():
    p = pool(3000)
    mean = {m: p.scores[ensemble.choose(p, {0: 200, 1: 200}, m, 0)].mean() for m in ensemble.MODES}
    assert mean["top"] > mean["conan"] > 0.3 > mean["equal"] > -0.3 > mean["inverse"] > mean["bottom"]


def test_equal_takes_as_many_of_each_generator_however_many_they_have():
    sources = np.array([0] * 900 + [1] * 150)
    p = Pool(np.zeros(1050), np.zeros(1050, int), sources, np.arange(1050))
    kept = ensemble.choose(p, {0: 200}, "equal", 0)
    assert 75 <= kept[sources == 1].sum() <= 125
    with pytest.raises(ValueError, match="use one of conan"):
        ensemble.choose(p, {0: 1}, "TopK", 0)
