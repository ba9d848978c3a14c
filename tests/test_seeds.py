"""Seeds: a draw depends on its slot's name and on nothing else."""

import numpy as np

from synth import seeds


def test_a_seed_never_changes():
    """These numbers are in the metadata of datasets: a change of them is a change of every dataset."""
    assert [seeds.derive(0), seeds.derive(0, "captions", 7, 0), seeds.derive(-1, "")] == [
        4335765584570680175,
        5777685346495801289,
        16927783309491493529,
    ]
    assert seeds.generator(12345).bytes(8).hex() == "60a5d60e0a2c79a5"


def test_a_hundred_thousand_slots_share_no_seed():
    got = {seeds.derive(s, "probe", slot, attempt) for s in (0, 1) for slot in range(25_000) for attempt in (0, 1)}
    assert len(got) == 100_000


def test_paths_that_read_alike_when_joined_differ():
    paths = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("ab", "c", ""),
        (1, 23),
        (12, 3),
        (123,),
        ("123",),
        ("1", "23"),
        ("a:b",),
        ("a", "b"),
        ("i1:1",),
        (1,),
        (-1,),
    ]
    assert len({seeds.derive(0, *p) for p in paths}) == len(paths)
    assert seeds.derive(0, 1) != seeds.derive(1, 0)
    assert seeds.derive(1, "x") != seeds.derive(11, "x")


def test_numpy_integers_give_the_seed_of_the_same_number():
    assert seeds.derive(np.int64(3), "a", np.uint8(5)) == seeds.derive(3, "a", 5)


def test_streams_of_neighbours_are_unrelated_and_repeatable():
    a, b = (seeds.generator(seeds.derive(0, "x", k)).standard_normal(20_000) for k in (0, 1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert np.array_equal(a, seeds.generator(seeds.derive(0, "x", 0)).standard_normal(20_000))


def test_all_64_bits_count():
    for bit in (0, 31, 32, 62, 63):
        assert seeds.generator(1 << bit).bytes(8) != seeds.generator(0).bytes(8)
