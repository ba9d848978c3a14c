"""The tables of our own writing: in-context examples, places, hypernyms."""

import json
import re
from pathlib import Path

import pytest

import launch.plan.makers
import synth.captions
from synth.captions.prompts.modes import HEADINGS, RELATIONS, SECOND
from synth.captions.words import names_class

HERE = Path(synth.captions.__file__).parent
EXAMPLES, PLACES, BACKGROUNDS, HYPERNYMS = (
    json.loads((HERE / "tables" / f"{name}.json").read_text()) for name in ("examples", "places", "backgrounds", "hypernyms")
)
DATASETS = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "datasets").glob("*.json"))}
OBJECTS = {name: data for name, data in DATASETS.items() if data["kind"] == "object"}
EVERY = [(mode, example) for mode, examples in EXAMPLES.items() for example in examples]
# words of grammar: what stands between them are the nouns, verbs and adjectives of an example
GRAMMAR = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "my",
        "your",
        "his",
        "her",
        "its",
        "our",
        "their",
        "some",
        "any",
        "every",
        "each",
        "no",
        "of",
        "in",
        "on",
        "at",
        "to",
        "from",
        "with",
        "without",
        "by",
        "for",
        "over",
        "under",
        "above",
        "below",
        "behind",
        "beside",
        "next",
        "before",
        "after",
        "between",
        "among",
        "against",
        "along",
        "across",
        "through",
        "into",
        "onto",
        "around",
        "as",
        "and",
        "or",
        "but",
        "while",
        "when",
        "where",
        "who",
        "which",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "do",
        "does",
        "not",
        "just",
        "only",
        "so",
        "too",
        "it",
        "he",
        "she",
        "they",
        "we",
        "you",
        "i",
        "all",
        "both",
        "half",
        "up",
        "down",
        "out",
        "off",
    ]
)
VAGUE = frozenset(  # colours and numbers
    [
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "grey",
        "silver",
        "gold",
        "golden",
        "teal",
        "navy",
        "ochre",
        "cream",
        "mustard",
        "yellowish",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "twelve",
        "hundred",
        "thousand",
        "first",
        "second",
    ]
)


def test_the_launcher_knows_the_modes_of_the_worker():
    assert launch.plan.makers.SECOND == SECOND and set(launch.plan.makers.MODES) == set(HEADINGS)


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def masked(mode: str, example: dict) -> tuple[str, ...]:
    """The caption with its class, place, relation, colours and numbers as one mark."""
    text = " ".join(words(example["caption"]))
    given = [example["class"], *([example[SECOND[mode]]] if mode in SECOND else [])]
    for phrase in sorted((" ".join(words(g)) for g in given), key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(phrase)}\b", "_", text)
    return collapsed("_" if word in VAGUE else word for word in text.split())


def skeleton(mode: str, example: dict) -> tuple[str, ...]:
    """Its words of grammar alone, whatever stands between two of them as one mark."""
    return collapsed(word if word in GRAMMAR else "_" for word in words(example["caption"]))


def collapsed(marks) -> tuple[str, ...]:
    kept: list[str] = []
    for mark in marks:
        if mark != "_" or kept[-1:] != ["_"]:
            kept.append(mark)
    return tuple(kept)


def start(mode: str, example: dict) -> tuple[str, ...]:
    return tuple(words(example["caption"])[:4])


@pytest.mark.parametrize("rule", [start, masked, skeleton])
def test_no_two_examples_share_their_first_four_words_or_their_frame(rule):
    seen: dict[tuple, dict] = {}
    for mode, example in EVERY:
        assert rule(mode, example) not in seen, (seen[rule(mode, example)], example)
        seen[rule(mode, example)] = example


def test_the_rules_see_a_frame_that_differs_in_its_nouns_alone():
    one = {"class": "cat", "background": "sofa", "caption": "A red cat sleeps on the sofa."}
    other = {"class": "sea lion", "background": "rocky shore", "caption": "A grey sea lion sleeps on the rocky shore."}
    assert masked("class_background", one) == masked("class_background", other)
    third = {"class": "owl", "background": "barn", "caption": "An owl hoots on the barn."}
    assert skeleton("class_background", one)[1:] == skeleton("class_background", third)[1:]


def test_an_example_names_its_class_and_what_else_it_was_given_in_eight_to_twenty_five_words():
    for mode, example in EVERY:
        caption = example["caption"]
        assert set(example) == {"class", "caption", *([SECOND[mode]] if mode in SECOND else [])}
        assert names_class(caption, example["class"]), example
        if mode in SECOND:
            assert names_class(caption, example[SECOND[mode]]), example
        assert 8 <= len(caption.split()) <= 25 and caption[-1] in ".!?" and caption.isprintable(), example


def test_each_mode_has_forty_examples_of_different_classes_and_every_relation():
    assert set(EXAMPLES) == {"class", *SECOND, "texture"}
    for mode, examples in EXAMPLES.items():
        assert len(examples) >= 40 and len({e["class"] for e in examples}) >= len(examples) - 2, mode
    assert {e["relation"] for e in EXAMPLES["class_relation"]} == set(RELATIONS) and len(RELATIONS) == 10
    assert {c["name"] for c in DATASETS["dtd"]["classes"]} == {e["class"] for e in EXAMPLES["texture"]}


def test_every_super_class_has_sixty_places_and_every_place_is_a_phrase():
    used = {c["superclass"] for data in OBJECTS.values() for c in data["classes"]}
    assert len({c["superclass"] for c in OBJECTS["imagenet"]["classes"]}) >= 25
    assert len({c["superclass"] for c in OBJECTS["domainnet"]["classes"]}) >= 25
    names = {c["name"] for data in OBJECTS.values() for c in data["classes"]}
    for key in {"*", *used}:
        assert len(set(BACKGROUNDS[key])) >= 60, key
    assert set(BACKGROUNDS) - used - {"*"} <= names
    for key, places in BACKGROUNDS.items():
        assert len(places) == len(set(places)) >= 15, key
        for place in places:
            assert place == " ".join(place.split()) and len(place.split()) <= 6, place
            assert not set(place) & set(",>=\n"), place


def test_there_are_three_hundred_general_places():
    assert len(PLACES) == len(set(PLACES)) >= 300
    assert all(p == " ".join(p.split()) and "=>" not in p and "," not in p for p in PLACES)


@pytest.mark.parametrize("name", [*DATASETS, "pictures"])
def test_every_class_has_a_hypernym_of_its_own_or_by_its_super_class(name):
    pictures = json.loads((HERE.parent / "embedded" / "pictures" / "classes.json").read_text())
    pictures = {"classes": [{"name": n, "superclass": pictures["superclass"][n]} for n in pictures["classes"]]}
    for c in DATASETS.get(name, pictures)["classes"]:
        found = HYPERNYMS.get(c["name"]) or HYPERNYMS.get(c.get("superclass"))
        assert found and (found != c["name"]), c


def test_texts_are_ascii_so_that_every_tokenizer_reads_them():
    assert json.dumps([EXAMPLES, PLACES, BACKGROUNDS, HYPERNYMS], ensure_ascii=False).isascii()
