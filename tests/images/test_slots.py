"""Which caption and replica each slot is: ranges, captions x replicas, GenCL's counts."""

from collections import Counter

import pytest

from synth.errors import InputError
from synth.images.config import ClassCount
from synth.images.slots import PerCaption, Ranges, per_class
from tests.configs import ImagesConfig, ModelConfig

CONFIG = ImagesConfig(seed=5, model=ModelConfig("tiny"))


def test_ranges_are_read_counted_and_written_back_shortly():
    found = Ranges.parse("10..12, 3\n4 , 11..14", "key")
    assert list(found) == [3, 4, 10, 11, 12, 13, 14] and len(found) == 7 and str(found) == "3..4,10..14"
    assert [found[i] for i in range(7)] == list(found)
    assert [n for n in range(20) if n in found] == list(found)
    assert str(Ranges.of([7, 5, 6, 1])) == "1,5..7"
    assert len(Ranges.parse("", "key")) == 0 and 0 not in Ranges.parse("", "key")


@pytest.mark.parametrize("text", ["x", "3-5", "5..3", "1.5", "-1", "1..2..3", "0x10"])
def test_what_is_no_range_is_told(text):
    with pytest.raises(InputError, match=r"key.*0\.\.99"):
        Ranges.parse(f"1,{text}", "key")


def test_captions_come_with_their_replicas_and_a_subset_keeps_their_rows():
    table = PerCaption(ImagesConfig(seed=5, model=ModelConfig("tiny"), per_caption=2, subset="4..5,9"))
    assert [(table.place(s).row, table.place(s).replica) for s in range(6)] == [(4, 0), (4, 1), (5, 0), (5, 1), (9, 0), (9, 1)]


def table(counts: dict[int, int], rows: dict[int, int], seed=5, subset=""):
    """Tables of classes with so many captions each, dealt in turn; the seed of row r is 1000 + r."""
    labels = [label for k in range(max(rows.values())) for label, n in rows.items() if k < n]
    config = ImagesConfig(seed=seed, model=ModelConfig("tiny"), subset=subset, counts=tuple(ClassCount(i, n) for i, n in counts.items()))
    return labels, per_class(config, labels, [1000 + r for r in range(len(labels))])


def places(counts, rows, **more):
    labels, found = table(counts, rows, **more)
    return labels, [found.place(s) for s in range(sum(counts.values()))]


def test_every_class_gets_its_count_and_any_first_part_is_balanced():
    counts = {0: 3, 2: 7, 5: 1}
    labels, found = places(counts, {0: 4, 2: 3, 5: 2})
    drawn = [labels[p.row] for p in found]
    assert Counter(drawn) == counts
    assert drawn == [0, 2, 5, 0, 2, 0, 2, 2, 2, 2, 2]


def test_fewer_pictures_than_captions_take_the_first_captions():
    _, found = places({0: 3}, {0: 5})
    assert [p.row for p in found] == [0, 1, 2] and all(p.replica == 0 for p in found)


def test_more_pictures_than_captions_repeat_the_whole_list_and_draw_the_rest_by_seed():
    _, found = places({0: 13}, {0: 5})
    assert [p.row for p in found[:10]] == [0, 1, 2, 3, 4] * 2
    assert [p.replica for p in found] == [0] * 5 + [1] * 5 + [2] * 3
    rest = [p.row for p in found[10:]]
    assert len(set(rest)) == 3
    assert rest == [p.row for p in places({0: 13}, {0: 5})[1][10:]]
    assert rest == [p.row for p in places({0: 14}, {0: 5})[1][10:13]], "a larger count keeps what the smaller one drew"
    others = {tuple(p.row for p in places({0: 13}, {0: 5}, seed=s)[1][10:]) for s in range(20)}
    assert len(others) > 5, "another seed draws another remainder"


def test_no_row_and_replica_is_drawn_twice():
    for n in range(1, 40):
        _, found = places({0: n, 1: 2 * n}, {0: 7, 1: 3})
        assert len({(p.row, p.replica) for p in found}) == 3 * n


def test_a_class_without_captions_is_told_by_slot_and_shifts_no_other():
    labels, found = places({0: 2, 1: 2, 2: 2}, {0: 2, 2: 2})
    assert [p.reason for p in found] == ["", "no caption of class 1", ""] * 2
    assert [labels[p.row] for p in found if not p.reason] == [0, 2, 0, 2]


def test_a_count_of_nothing_takes_no_slot_and_a_subset_limits_the_captions():
    _, found = places({0: 0, 1: 4}, {0: 2, 1: 2}, subset="0..1")
    assert [p.row for p in found] == [1, 1, 1, 1] and [p.replica for p in found] == [0, 1, 2, 3]
