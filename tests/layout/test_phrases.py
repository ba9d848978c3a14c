"""Noun phrases of alt texts: what the rules find, what they leave alone, and that no text costs them much."""

import time

import pytest

from synth.layout.phrases import noun_phrases


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("A man riding a small brown horse", ["man", "small brown horse"]),
        ("a group of people sitting at a dining table with plates of food", ["people", "dining table", "plates", "food"]),
        ("Close-up photo of a smiling woman wearing sunglasses", ["smiling woman", "sunglasses"]),
        ("the car is red and new", ["car"]),
        ("a parked car, 2 dogs and one Dog", ["parked car", "dogs", "dog"]),
        ("Big Ben in London. The tower of it", ["big ben", "london", "tower"]),
        ("dog, DOG, Dog", ["dog"]),
        ("A Red Car and the red car", ["red car"]),
        ("<b>cat</b> &amp; dog &#128054; https://x.y/a_red_bus", ["cat", "dog"]),
        ("\U0001f436\U0001f436 cat \U0001f408 on sofa!!!", ["cat", "sofa"]),
        ("her mother\u2019s old house", ["mother's old house"]),
        ("", []),
        (" \n\t ", []),
        ("123 4,5 ...", []),
        ("a photo of the background", []),
        ("x" * 50 + " dog", ["dog"]),
    ],
)
def test_noun_phrases(text, phrases):
    assert noun_phrases(text, 4) == phrases


def test_a_phrase_keeps_its_last_words():
    assert noun_phrases("a very large old red wooden farm house", 3) == ["wooden farm house"]


def test_words_that_describe_nothing_take_no_time():
    begun = time.process_time()
    assert noun_phrases("red " * 60_000, 4) == []
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("piece", ["<", "&", "a ", "dog ", "'", "<b", "http://", "\u4e00", "ing ", "-"])
def test_a_text_of_100000_letters_takes_no_time(piece):
    begun = time.process_time()
    noun_phrases(piece * (100_000 // len(piece)), 4)
    assert time.process_time() - begun < 2
