"""Hypernyms and definitions: files, a small WordNet of our own in WordNet's format, our table, super-classes."""

import pytest

from launch.plan.hypernyms import definitions, hypernyms
from synth.captions.config import ClassEntry
from synth.errors import InputError
from tests.configs import DatasetConfig

DATA = DatasetConfig(
    "d", (ClassEntry(0, "cat"), ClassEntry(1, "fire_engine"), ClassEntry(2, "glorb", "gadget"), ClassEntry(3, "old tom cat")), 4
)
NOUNS = [  # words, hypernym (index), gloss
    (["entity"], None, "that which is"),
    (["feline", "felid"], 0, "an animal that lands on its feet"),
    (["cat"], 1, "a small feline kept for company"),
    (["motor_vehicle"], 0, "a vehicle with a motor"),
    (["fire_engine", "fire_truck"], 3, "a motor vehicle that carries hoses"),
]


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    """A WordNet database of five nouns; other parts of speech are empty."""
    import nltk.data

    folder = tmp_path / "nltk" / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    sizes = [len(_line(0, *noun, [0] * 5)) for noun in NOUNS]
    offsets = [sum(sizes[:i]) for i in range(5)]
    (folder / "data.noun").write_text("".join(_line(offsets[i], *noun, offsets) for i, noun in enumerate(NOUNS)))
    index = sorted((w, offsets[i]) for i, (words, _, _) in enumerate(NOUNS) for w in words)
    (folder / "index.noun").write_text("".join(f"{w} n 1 1 @ 1 0 {at:08d}  \n" for w, at in index))
    (folder / "index.sense").write_text("")
    (folder / "lexnames").write_text("".join(f"{k:02d}\tnoun.x\t1\n" for k in range(45)))
    for pos in ("verb", "adj", "adv"):
        (folder / f"data.{pos}").write_text("")
        (folder / f"index.{pos}").write_text("")
    for pos in ("noun", "verb", "adj", "adv"):
        (folder / f"{pos}.exc").write_text("")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])


def _line(at, words, above, gloss, offsets):
    pointer = f"001 @ {offsets[above]:08d} n 0000" if above is not None else "000"
    said = " ".join(f"{w} 0" for w in words)
    return f"{at:08d} 03 n {len(words):02x} {said} {pointer} | {gloss}  \n"


@pytest.fixture
def no_wordnet(monkeypatch, tmp_path):
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nowhere")])


def test_wordnet_knows_words_phrases_and_the_last_word_of_a_name(wordnet):
    assert hypernyms(DATA, None, "auto") == {"0": "feline", "1": "motor vehicle", "2": "gadget", "3": "cat"}
    some = DatasetConfig("d", DATA.classes[:2], 4)
    assert definitions(some, None) == {"0": "a small feline kept for company", "1": "a motor vehicle that carries hoses"}


def test_a_users_file_comes_first(wordnet, tmp_path):
    (tmp_path / "h.json").write_text('{"cat": "pet\\n animal"}')
    assert hypernyms(DATA, str(tmp_path / "h.json"), "auto")["0"] == "pet animal"
    (tmp_path / "d.json").write_text('{"glorb": "a thing", "old tom cat": "an old cat"}')
    assert definitions(DATA, str(tmp_path / "d.json"))["2"] == "a thing"


def test_without_wordnet_our_table_or_the_super_class_answers(no_wordnet):
    data = DatasetConfig("d", (ClassEntry(0, "glorb", "gadget"), ClassEntry(1, "x", "fish")), 2)
    assert hypernyms(data, None, "auto") == hypernyms(data, None, "table")
    assert hypernyms(data, None, "auto")["0"] == "gadget" and hypernyms(data, None, "auto")["1"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f: hypernyms(DATA, None, "wordnet"), "its data is not there"),
        (lambda f: definitions(DATA, None), "its data is not there"),
        (
            lambda f: hypernyms(DatasetConfig("d", (ClassEntry(0, "glorb"),), 1), None, "auto"),
            "no hypernym is known for 'glorb'",
        ),
        (lambda f: definitions(DATA, f('{"cat": "x"}')), "no definition is known for 'fire_engine', 'glorb'"),
        (lambda f: hypernyms(DATA, f('{"glorbs": "x"}'), "table"), "did you mean glorb"),
        (lambda f: hypernyms(DATA, f('["x"]'), "table"), "must be a JSON object"),
        (lambda f: hypernyms(DATA, f("{"), "table"), "cannot be read"),
    ],
)
def test_what_is_lacking_is_told(no_wordnet, tmp_path, call, said):
    def file(text):
        (tmp_path / "own.json").write_text(text)
        return str(tmp_path / "own.json")

    with pytest.raises(InputError, match=said):
        call(file)
