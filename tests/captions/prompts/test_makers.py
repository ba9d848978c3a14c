"""What holds for every prompt maker: same slot, same prompt; a range of classes agrees with all of them; redraws differ."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from synth.captions import prompts
from synth.captions.config import ClassEntry
from synth.captions.prompts import Sources
from synth.errors import InputError
from tests.captions.test_prompts import BACKGROUNDS, EXAMPLES, NAMES
from tests.configs import DatasetConfig, PromptsConfig

CONFIGS = {
    "synclr": PromptsConfig(),
    "synclr_group": PromptsConfig(group=4),
    "synclr_chat": PromptsConfig("synclr_chat"),
    "synthclip": PromptsConfig("synthclip"),
    "hirpg_static": PromptsConfig("hirpg", form="static", max_prompts=6),
    "hirpg_dynamic": PromptsConfig("hirpg", form="dynamic", max_prompts=6),
    "class_name": PromptsConfig("class_name", templates=("a photo of a {}", "one [concept] drawn", "the {} itself")),
    "fake_it": PromptsConfig("fake_it", senses={str(i): f"kind {i}" for i in range(10)}),
    "fake_definition": PromptsConfig("fake_definition", senses={str(i): f"what {i} is" for i in range(10)}),
    "from_file": PromptsConfig("from_file", "exact", official=tuple(NAMES)),
}


def tree_records():
    for key in (-1, *range(10)):
        word = "[concept]" if key < 0 else NAMES[key]
        for tree in range(2):
            base = {"subject": key, "tree": tree}
            yield 0, base | {"kind": "metaprompt", "text": f"Tree {tree} of {word}."}
            yield 0, "no_concept"
            for k in range(4):
                yield 0, base | {"kind": "prompt", "text": f"Tree {tree}, leaf {k % 3} of {word}."}


def place_records():
    return ((i, {"label": i, "backgrounds": [f"place {i} {k}" for k in range(5)]}) for i in range(10))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    own = tmp_path_factory.mktemp("own") / "own.jsonl"
    own.write_text("".join(json.dumps({"caption": f"text {n} on {n % 10}", "class": NAMES[n % 10]}) + "\n" for n in range(60)))
    tables = {"examples": EXAMPLES, "backgrounds": BACKGROUNDS, "places": [f"hall {k}" for k in range(30)]}
    records = {"prompts": tree_records, "backgrounds": place_records}
    return Sources(tables.__getitem__, {"captions": str(own)}.__getitem__, lambda role: records[role]())


def dataset(indices=range(10), **kw):
    return DatasetConfig("d", tuple(ClassEntry(i, NAMES[i]) for i in indices), 10, **kw)


def make(name, sources, data=None, **change):
    return prompts.make(data or dataset(), replace(CONFIGS[name], **change), sources)


@pytest.mark.parametrize("name", CONFIGS)
def test_same_slot_gives_same_prompt_whatever_was_asked_before(sources, name):
    one, other = make(name, sources), make(name, sources)
    for slot in range(40):
        other.prompt(3, 39 - slot, 0)
    assert [one.prompt(3, s, 0) for s in range(40)] == [other.prompt(3, s, 0) for s in range(40)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_range_of_classes_gives_the_prompts_that_these_classes_have_among_all(sources, name):
    everything = {p.slot_key: p for p in (make(name, sources).prompt(5, s, 0) for s in range(50))}
    some = [make(name, sources, dataset(range(3, 6))).prompt(5, s, 0) for s in range(15)]
    assert [everything[p.slot_key] for p in some] == some
    assert Counter(p.label for p in some) == {3: 5, 4: 5, 5: 5}


@pytest.mark.parametrize("name", CONFIGS)
def test_attempts_have_streams_of_their_own_and_the_same_class(sources, name):
    tries = [make(name, sources).prompt(0, 7, attempt) for attempt in range(3)]
    assert len({p.seed for p in tries}) == 3 and len({(p.label, p.slot_key, p.mode) for p in tries}) == 1


@pytest.mark.parametrize("name", ["synclr", "synclr_group", "synclr_chat", "synthclip"])
def test_redraws_ask_something_else(sources, name):
    asked = {make(name, sources).prompt(0, 7, attempt).text for attempt in range(4)}
    assert len(asked) > 1


@pytest.mark.parametrize("name", CONFIGS)
def test_no_class_and_a_class_of_any_name(sources, name):
    with pytest.raises(InputError, match=r"no class|holds no caption"):
        make(name, sources, DatasetConfig("d", (), 10))
    if name == "from_file":
        return
    odd = ("x" * 10_000, "a => b", "odd\n\nname", '"quoted" {} [concept]', "<b>", "../../etc")
    classes = tuple(ClassEntry(i, n) for i, n in enumerate(odd))
    maker = make(name, sources, DatasetConfig("d", classes, 6))
    for slot in range(12):
        prompt = maker.prompt(0, slot, 0)
        assert prompt.class_name == odd[prompt.label]
        assert "odd\n" not in prompt.text


def test_random_classes_are_drawn_with_replacement_and_are_about_even(sources):
    maker = make("synclr", sources, class_balance="random")
    counts = Counter(maker.prompt(0, s, 0).label for s in range(2000))
    blocks = [{maker.prompt(0, b * 10 + i, 0).label for i in range(10)} for b in range(20)]
    assert set(counts) == set(range(10)) and max(counts.values()) < 260 and any(len(b) < 10 for b in blocks)
    assert maker.prompt(0, 3, 0).slot_key == 3


def test_a_group_shares_its_examples_for_each_mode_and_neighbouring_groups_do_not(sources):
    maker = make("synclr_group", sources, group=5)
    sets = {}
    for slot in range(100):
        prompt = maker.prompt(0, slot, 0)
        sets.setdefault((slot // 5, prompt.mode), set()).add(tuple(prompt.text.split("\n\n")[1:-1]))
    assert all(len(drawn) == 1 for drawn in sets.values())
    assert len({d for drawn in sets.values() for d in drawn}) > 0.9 * len(sets)


def test_groups_change_examples_only(sources):
    alone, grouped = make("synclr", sources), make("synclr_group", sources)
    for slot in range(30):
        a, b = alone.prompt(0, slot, 0), grouped.prompt(0, slot, 0)
        assert (a.slot_key, a.label, a.mode, a.seed) == (b.slot_key, b.label, b.mode, b.seed)


def test_chat_requests_name_class_place_and_relation(sources):
    maker = make("synclr_chat", sources, modes={"class_background": 0.5, "class_relation": 0.5})
    for slot in range(20):
        prompt = maker.prompt(0, slot, 0)
        (_, system), (role, asked) = prompt.messages
        second = prompt.text.rsplit("\n\n", 1)[1].removesuffix(" =>").split(", ", 1)[1]
        assert role == "user" and prompt.class_name in asked and second in asked and "caption" in system
        assert prompt.mode != "class_background" or second.startswith(f"place {prompt.label} ")


def test_a_class_without_places_is_asked_for_without_one(sources):
    few = replace(sources, records=lambda role: (r for r in place_records() if r[0] != 2))
    maker = make("synclr_chat", few, modes={"class_background": 1.0})
    modes = {p.label: p.mode for p in (maker.prompt(0, s, 0) for s in range(10))}
    assert modes.pop(2) == "class" and set(modes.values()) == {"class_background"}


def test_synthclip_bounds_the_words_and_speaks_of_textures_as_textures(sources):
    asked = make("synthclip", sources, max_words=9).prompt(0, 0, 0).messages[-1][1]
    assert "at most 9 words" in asked
    texture = make("synthclip", sources, dataset(kind="texture")).prompt(0, 0, 0)
    assert "texture" in texture.messages[-1][1] and texture.mode == "texture"


def test_templates_and_places_come_in_turn_before_any_comes_twice(sources):
    for name, n in (("class_name", 3), ("fake_it", 30)):
        maker = make(name, sources)
        of_class = [p.text for p in (maker.prompt(0, s, 0) for s in range(10 * n)) if p.label == 4]
        assert maker.capacity == n == len(set(of_class)) and all(NAMES[4] in t for t in of_class)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("elephant", "object", "a photo of an elephant"),
        ("unicycle", "object", "a photo of a unicycle"),
        ("umbrella", "object", "a photo of an umbrella"),
        ("F/A-18", "object", "a photo of an F/A-18"),
        ("MD-90", "object", "a photo of an MD-90"),
        ("Fokker 70", "object", "a photo of a Fokker 70"),
        ("Ida's owl", "object", "a photo of an Ida's owl"),
        ("{} [concept]", "object", "a photo of a {} [concept]"),
        ("dotted", "texture", "a photo of a dotted texture"),
    ],
)
def test_templates_fit_the_name(sources, name, kind, text):
    data = DatasetConfig("d", (ClassEntry(0, name),), 1, kind)
    assert make("class_name", sources, data, templates=("a photo of a {}",)).prompt(0, 0, 0).text == text


def test_what_fake_makers_say(sources):
    said = make("fake_it", sources).prompt(0, 0, 0)
    assert said.text.startswith(f"{said.class_name}, kind {said.label} inside hall ")
    said = make("fake_definition", sources, dataset(suffix=" car")).prompt(0, 0, 0)
    assert said.text == f"{said.class_name} car, what {said.label} is"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("class_name", {"templates": ()}, "templates"),
        ("class_name", {"templates": ("a photo",)}, "a photo"),
        ("class_name", {"templates": ("{} and {}",)}, "once"),
        ("fake_it", {"senses": {}}, "hypernym"),
        ("fake_definition", {"senses": {"0": " "}}, "definition"),
        ("synclr", {"class_balance": "fair"}, "class_balance"),
    ],
)
def test_bad_settings_are_named(sources, name, change, said):
    with pytest.raises(InputError, match=said):
        make(name, sources, **change)
