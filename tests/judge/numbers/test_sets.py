"""Numbers of sets of features equal their definitions, say what they must of sets that are known, and do not depend on blocks or order."""

import numpy as np
import pytest

from synth.errors import InputError
from synth.judge.numbers import alike, balls, moments, neighbours
from synth.judge.numbers.rows import Unmeasurable, check
from tests.judge.numbers import plain

REAL, REAL_LABELS = plain.features(60, seed=1)
MADE, MADE_LABELS = plain.features(47, seed=2, spread=0.5)
OTHER, _ = plain.features(50, seed=3, spread=2.0)
ONE = np.repeat(REAL[:1], 40, axis=0)


@pytest.mark.parametrize("made", [MADE, OTHER, REAL[:30]], ids=["near", "far", "half of it"])
@pytest.mark.parametrize("k", [1, 5])
def test_precision_recall_density_and_coverage_are_those_of_the_definition(made, k):
    found = balls.prdc(REAL, made, k)
    if made is REAL[:30]:  # the rim: distances that are equal, which floats of the plain version round
        assert (found.precision, found.recall) == (1, pytest.approx(plain.prdc(REAL, made, k)[1]))
    else:
        assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(plain.prdc(REAL, made, k))


@pytest.mark.parametrize("made", [MADE, OTHER], ids=["near", "far"])
def test_clipped_density_and_coverage_are_those_of_the_paper(made):
    assert balls.clipped(REAL, made, 3) == pytest.approx(plain.clipped(REAL, made, 3), abs=1e-6)


def test_clipped_numbers_fall_as_the_share_of_good_rows_does():
    real, more = (plain.features(2000, seed=seed)[0] for seed in (10, 20))
    for share in (0.25, 0.5, 0.75, 1.0):
        good = int(2000 * share)
        made = np.concatenate([more[:good], -np.abs(more[good:])])
        assert balls.clipped(real, made) == pytest.approx((share, share), abs=0.04)


@pytest.mark.parametrize("made", [MADE, OTHER], ids=["near", "far"])
def test_cmmd_frechet_and_vendi_are_those_of_the_definition(made):
    assert moments.cmmd(REAL, made) == pytest.approx(plain.cmmd(REAL, made), abs=1e-5)
    assert moments.frechet(REAL, made) == pytest.approx(plain.frechet(REAL, made), abs=1e-6)
    assert moments.vendi(made) == pytest.approx(plain.vendi(made), rel=1e-5)


def test_cmmd_by_its_series_is_too_low_by_what_is_said(monkeypatch):
    all_pairs = moments.cmmd(REAL, OTHER)
    monkeypatch.setattr(moments, "DIRECT", 10)
    assert 0 <= all_pairs - moments.cmmd(REAL, OTHER) <= 0.0007


def test_a_frechet_distance_of_fewer_rows_than_numbers_a_row():
    real, made = plain.features(9, width=32, seed=1)[0], plain.features(7, width=32, seed=2)[0]
    assert moments.frechet(real, made) == pytest.approx(plain.frechet(real, made), abs=1e-5)


def test_the_mean_similarity_is_that_of_all_pairs():
    pairs = [float(MADE[i] @ MADE[j]) for i in range(len(MADE)) for j in range(i)]
    assert moments.mean_similarity(MADE) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_moments_of_parts_add_up_to_the_very_same():
    whole, parts = moments.moments(REAL), moments.moments(REAL[:7]) + moments.moments(REAL[7:])
    assert parts.n == whole.n
    np.testing.assert_array_equal(parts.total, whole.total)
    np.testing.assert_array_equal(parts.products, whole.products)


# -- sets that are known -------------------------------------------------------------------------------------------------


def test_a_set_against_itself_is_perfect():
    assert moments.frechet(REAL, REAL) == pytest.approx(0, abs=1e-9)
    assert moments.cmmd(REAL, REAL) == 0
    assert balls.prdc(REAL, REAL) == balls.Prdc(1, 1, 1, 1)
    assert balls.clipped(REAL, REAL) == (1, 1)


def test_a_set_of_repeated_pictures_against_itself_is_perfect_too():
    repeated = np.repeat(REAL[:6], 8, axis=0)
    found = balls.prdc(repeated, repeated)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_one_repeated_picture_covers_next_to_nothing_and_is_one_picture():
    found = balls.prdc(REAL, ONE, 5)
    assert (found.precision, found.recall) == (1, 1 / len(REAL))
    assert found.coverage <= 12 / len(REAL) < balls.prdc(REAL, MADE, 5).coverage / 3
    assert moments.vendi(ONE) == pytest.approx(1)
    assert moments.mean_similarity(ONE) == 1


def test_rows_that_have_nothing_in_common_are_as_diverse_as_there_are():
    assert moments.vendi(np.eye(8, dtype=np.float32)) == pytest.approx(8)
    assert moments.mean_similarity(np.eye(8, dtype=np.float32)) == 0


def test_a_copy_of_the_test_set_is_a_leak_in_whole():
    order = np.random.default_rng(0).permutation(len(REAL))
    found = alike.leaks(REAL[order], REAL, 0.999)
    assert (found.share, found.nearest.tolist()) == (1, order.tolist())
    np.testing.assert_array_equal(found.similarity, 1)
    assert alike.leaks(MADE, REAL, 0.999).share == 0


def test_duplicates_within_and_between_classes_are_counted_and_shown():
    x = np.concatenate([MADE[:10], MADE[[3, 3, 4]]])
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 3, 3, 1])  # rows 3, 10, 11 of class 3; row 4 of class 0, row 12 of class 1
    found = alike.duplicates(x, labels, 0.9999)
    assert (found.within, found.between, found.repeats_within, found.repeats) == (3, 1, 2, 3)
    assert found.examples_within == [(3, 10, 1.0), (3, 11, 1.0), (10, 11, 1.0)]
    assert found.examples_between == [(4, 12, 1.0)]
    assert alike.duplicates(x, labels, 0.9999, examples=1).examples_within == [(3, 10, 1.0)]


def test_pairs_below_the_threshold_are_none():
    pairs = [(i, j) for j in range(len(MADE)) for i in range(j) if float(MADE[i] @ MADE[j]) >= 0.8]
    found = alike.duplicates(MADE, MADE_LABELS, 0.8)
    assert 0 < found.within + found.between == len(pairs) < len(MADE) * (len(MADE) - 1) / 2
    assert found.within == sum(MADE_LABELS[i] == MADE_LABELS[j] for i, j in pairs)


# -- blocks, order, ties -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [5, 16, 64])
def test_nothing_depends_on_the_size_of_the_blocks(block):
    def exact(block):
        b = balls.balls(REAL, MADE, 3, block)
        near = neighbours.nearest(REAL, MADE, 4, block=block)
        m = moments.moments(REAL, block=block)
        pairs = alike.duplicates(np.concatenate([MADE, MADE[:5]]), np.arange(len(MADE) + 5) % 3, 0.7, block=block)
        return [
            *(v for v in vars(b).values()), near.index, near.squared, m.total, m.products, moments.cmmd(REAL, MADE, block),
            *vars(pairs).values(), alike.leaks(MADE, REAL, 0.9, block).similarity,
        ]  # fmt: skip

    for one, other in zip(exact(block), exact(2048), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_depends_on_the_order_of_rows():
    rng = np.random.default_rng(4)
    real, made = REAL[rng.permutation(len(REAL))], MADE[rng.permutation(len(MADE))]
    assert balls.prdc(real, made) == balls.prdc(REAL, MADE)
    assert balls.clipped(real, made) == pytest.approx(balls.clipped(REAL, MADE), rel=1e-12)
    assert moments.cmmd(real, made) == moments.cmmd(REAL, MADE)
    assert moments.frechet(real, made) == moments.frechet(REAL, MADE)
    assert moments.vendi(made) == moments.vendi(MADE)


def test_ties_fall_to_the_lower_row():
    x = np.repeat(np.eye(3, dtype=np.float32), 30, axis=0)[np.random.default_rng(0).permutation(90)]
    for block in (8, 64):
        assert neighbours.nearest(x, x, 4, block=block).index.tolist() == plain.nearest(x, x, 4)
        within = neighbours.nearest_within(x, 4, block=block).index
        assert within.tolist() == [[j for j in plain.nearest(x[i : i + 1], x, 5)[0] if j != i][:4] for i in range(90)]


def test_the_rows_of_a_memory_map_and_of_half_precision_are_read_alike(tmp_path):
    np.save(tmp_path / "real.npy", REAL)
    assert balls.prdc(np.load(tmp_path / "real.npy", mmap_mode="r"), MADE) == balls.prdc(REAL, MADE)
    assert balls.prdc(REAL.astype(np.float16), MADE.astype(np.float16)).coverage == pytest.approx(balls.prdc(REAL, MADE).coverage, abs=0.05)


# -- what cannot be ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda x: x.__setitem__((5, 3), np.nan), "made: the feature in row 5 is not finite"),
        (lambda x: x.__setitem__((46, 0), np.inf), "made: the feature in row 46 is not finite"),
        (lambda x: x.__setitem__(7, 0), "made: the feature in row 7 is of length 0, not 1"),
        (lambda x: x.__imul__(3), "made: the feature in row 0 is of length 3, not 1"),
    ],
    ids=["nan", "infinite", "zero", "long"],
)
def test_a_row_that_is_no_feature_is_named(spoil, told):
    made = MADE.copy()
    spoil(made)
    for number in (balls.prdc, balls.clipped, moments.cmmd, moments.frechet, lambda real, made: alike.leaks(made, real, 0.9)):
        with pytest.raises(InputError, match=told):
            number(REAL, made)
    for number in (moments.vendi, moments.mean_similarity, lambda made: alike.duplicates(made, MADE_LABELS, 0.9)):
        with pytest.raises(InputError, match=told):
            number(made)


def test_sets_of_two_models_are_refused():
    with pytest.raises(InputError, match=r"different sizes \(real 16, made 8\)"):
        check(real=REAL, made=plain.features(10, width=8)[0])
    with pytest.raises(InputError, match=r"the shape \[16\]"):
        check(real=REAL[0])


def test_too_few_rows_have_no_number_and_a_reason():
    with pytest.raises(Unmeasurable, match="made: has 5 pictures; the 5 nearest others of each need 6"):
        balls.prdc(REAL, MADE[:5])
    with pytest.raises(Unmeasurable, match="real: has 1 pictures"):
        balls.clipped(REAL[:1], MADE)
    with pytest.raises(Unmeasurable, match="made: there are no pictures"):
        moments.cmmd(REAL, MADE[:0])
    with pytest.raises(Unmeasurable, match="made: a picture has no covariance"):
        moments.frechet(REAL, MADE[:1])
    with pytest.raises(Unmeasurable, match="the mean similarity needs 2"):
        moments.mean_similarity(MADE[:1])
    with pytest.raises(Unmeasurable, match="test: there are no pictures"):
        alike.leaks(MADE, REAL[:0], 0.9)
    assert moments.vendi(MADE[:1]) == pytest.approx(1)


def test_labels_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="made: 47 rows and labels of the shape"):
        alike.duplicates(MADE, MADE_LABELS[:3], 0.9)
    with pytest.raises(InputError, match="row 2 has the label -1"):
        alike.duplicates(MADE, np.where(np.arange(47) == 2, -1, 0), 0.9)
