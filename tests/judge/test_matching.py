"""Classes of several sets by name."""

import unicodedata

import pytest

from synth.errors import InputError
from synth.judge.matching import matched


def test_spellings_of_a_name_meet():
    found = matched({"made": ["Sea lion", "café"], "test": [unicodedata.normalize("NFD", "CAFÉ"), "sea_lion"]})
    assert found.classes == ("Sea lion", "café") and found.numbers["test"] == (1, 0) and not any(found.others.values())


def test_what_another_set_does_not_have_is_named():
    found = matched({"made": ["cat", "dog", "owl"], "real": ["dog", "cat"], "test": ["cat", "dog", "fox"]})
    assert found.classes == ("cat", "dog") and found.others == {"made": ("owl",), "real": (), "test": ("fox",)}
    assert found.numbers["test"] == (0, 1, -1)


def test_a_name_that_a_set_has_twice_is_nobodys():
    found = matched({"made": ["crane", "Crane", "cat"], "test": ["crane", "cat"]})
    assert found.classes == ("cat",) and found.others["test"] == ("crane",)


def test_sets_without_classes_are_left_out():
    assert matched({"made": ["cat"], "real": []}).classes == ("cat",) and matched({"made": [], "real": []}).classes == ()


def test_sets_without_a_class_in_common_are_refused_by_name():
    with pytest.raises(InputError, match=r"the made set has 'cat'; judge: the test set has 'n02123045', 'a', 'b', 'c', 'd' and 1 more"):
        matched({"made": ["cat"], "test": ["n02123045", *"abcde"]})
