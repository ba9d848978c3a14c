"""Which annotations become objects, and what variants are called."""

import pytest

from synth.tracking.objects import base_name, objects_of, variant_name


def test_objects_are_no_crowds_between_the_areas_the_largest_first_and_equal_ones_by_id():
    areas = {1: 100.0, 2: 100.5, 3: 900.0, 4: 2000.0, 5: 900.0, 6: 1999.0}
    annotations = [{"id": k, "area": area, "iscrowd": int(k == 6)} for k, area in areas.items()] + [{"id": 7, "area": 150}]
    assert [a["id"] for a in objects_of(annotations, 100, 2000)] == [3, 5, 7, 2]
    assert [a["id"] for a in objects_of(annotations[::-1], 100, 2000)] == [3, 5, 7, 2]


@pytest.mark.parametrize(
    ("name", "base", "variant"),
    [
        ("train2017/000000391895.jpg", "000000391895.jpg", "000000391895_v3.jpg"), ("a.b.png", "a.b.png", "a.b_v3.jpg"),
        ("none", "none", "none_v3.jpg"), (".hidden", ".hidden", ".hidden_v3.jpg"), ("a/b\\c.jpg", "b\\c.jpg", "b\\c_v3.jpg"),
    ],
)  # fmt: skip
def test_a_variant_is_named_after_its_original_without_folders(name, base, variant):
    assert base_name(name) == base and variant_name(name, 3) == variant
