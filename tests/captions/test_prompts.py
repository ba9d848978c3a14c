"""Prompt makers are pure functions of (dataset, seed, slot, attempt)."""

from collections import Counter

import pytest

from synth.captions import prompts
from synth.captions.config import ClassEntry
from synth.errors import InputError
from tests.configs import DatasetConfig, PromptsConfig

NAMES = [f"thing {c}" for c in "abcdefghij"]
EXAMPLES = {
    "class": [{"class": n, "caption": f"Example {i} shows one {n}."} for i, n in enumerate(NAMES)],
    "class_background": [{"class": n, "background": "field", "caption": f"Number {i}: {n} in a field."} for i, n in enumerate(NAMES)],
    "class_relation": [{"class": n, "relation": "on", "caption": f"Case {i}: {n} on a box."} for i, n in enumerate(NAMES)],
    "texture": [{"class": n, "caption": f"Texture {i} is {n}."} for i, n in enumerate(NAMES)],
}
BACKGROUNDS = {"*": ["beach", "meadow", "city street"]}


def dataset(indices=range(10), n=10, **kw) -> DatasetConfig:
    return DatasetConfig("d", tuple(ClassEntry(i, NAMES[i % 10]) for i in indices), n, **kw)


def maker(data=None, config=None, examples=EXAMPLES, backgrounds=BACKGROUNDS):
    tables = {"examples": examples, "backgrounds": backgrounds}
    return prompts.make(data or dataset(), config or PromptsConfig(), tables.__getitem__)


def test_same_slot_gives_same_prompt_whatever_was_asked_before():
    one, other = maker(), maker()
    for slot in range(50):
        other.prompt(3, 49 - slot, 0)
    assert [one.prompt(3, s, 0) for s in range(50)] == [other.prompt(3, s, 0) for s in range(50)]


def test_seeds_and_attempts_give_other_prompts_and_seeds():
    m = maker()
    base = m.prompt(0, 7, 0)
    assert len({base.seed, m.prompt(1, 7, 0).seed, m.prompt(0, 7, 1).seed, m.prompt(0, 8, 0).seed}) == 4
    assert m.prompt(0, 7, 1).mode == base.mode and m.prompt(0, 7, 1).class_name == base.class_name


def test_every_block_of_slots_has_each_class_once_in_an_order_of_its_own():
    m = maker()
    blocks = [[m.prompt(0, b * 10 + i, 0).label for i in range(10)] for b in range(20)]
    assert all(sorted(b) == list(range(10)) for b in blocks)
    assert len({tuple(b) for b in blocks}) > 15


def test_a_range_of_classes_gives_the_samples_that_these_classes_have_among_all():
    everything = {p.slot_key: p for p in (maker().prompt(5, s, 0) for s in range(200))}
    some = [maker(dataset(range(3, 6))).prompt(5, s, 0) for s in range(60)]
    assert [everything[p.slot_key] for p in some] == some
    assert Counter(p.label for p in some) == {3: 20, 4: 20, 5: 20}


def test_shares_of_modes_are_those_asked_for():
    counts = Counter(maker().prompt(0, s, 0).mode for s in range(4000))
    assert abs(counts["class"] / 4000 - 0.44) < 0.03
    assert abs(counts["class_background"] / 4000 - 0.45) < 0.03
    assert abs(counts["class_relation"] / 4000 - 0.11) < 0.03


def test_prompt_has_heading_three_different_examples_and_an_open_query():
    for slot in range(40):
        prompt = maker().prompt(0, slot, 0)
        heading, *shots, query = prompt.text.split("\n\n")
        assert heading.startswith("Describe a picture of the given object")
        assert len(set(shots)) == 3 and all(" => " in s for s in shots)
        assert query.startswith(prompt.class_name) and query.endswith("=>")


def test_textures_are_asked_for_as_textures():
    m = maker(dataset(kind="texture"))
    assert {m.prompt(0, s, 0).mode for s in range(30)} == {"texture"}


def test_suffix_is_in_the_query_and_not_in_the_class():
    prompt = maker(dataset(suffix=" aircraft"), PromptsConfig(modes={"class": 1.0})).prompt(0, 0, 0)
    assert prompt.text.endswith(f"{prompt.class_name} aircraft =>") and "aircraft" not in prompt.class_name


def test_a_newline_in_a_class_name_cannot_end_the_query():
    data = DatasetConfig("d", (ClassEntry(0, "odd\n\nname"),), 1)
    assert maker(data, PromptsConfig(modes={"class": 1.0})).prompt(0, 0, 0).text.endswith("\n\nodd name =>")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": PromptsConfig(modes={"clas": 1.0})}, "prompts.modes"),
        ({"config": PromptsConfig(modes={"class": 0.0})}, "prompts.modes"),
        ({"config": PromptsConfig(maker="none")}, "synclr"),
        ({"examples": {**EXAMPLES, "class": EXAMPLES["class"][:2]}}, "at least 3"),
        ({"examples": {**EXAMPLES, "class": [{"class": "x"}] * 3}}, r"class\[0\]"),
        ({"backgrounds": {}}, "thing a"),
    ],
)
def test_bad_tables_and_modes_are_named(change, said):
    with pytest.raises(InputError, match=said):
        maker(**change)
