"""Words in any script, and whether a caption names its class in whatever form."""

import pytest

from synth.captions.words import count, names_class, repeats


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("Two CATS sleep.", "cat"),
        ("An F-16A/B takes off.", "F-16A/B"),
        ("The Great Wall of China at dawn.", "The_Great_Wall_of_China"),
        ("Ein Café am Abend.", "cafe\u0301"),
        ("A cafe at night.", "café"),
        ("A colt's foot grows here.", "colt's foot"),
        ("A colt\u2019s foot grows here.", "colt's foot"),
        ("A jack\u2010o\u2011lantern glows.", "jack-o'-lantern".replace("'", "")),
        ("A black eyed susan.", "black-eyed Susan"),
        ("A black\u2013eyed susan.", "black eyed susan"),
        ("Three butterflies on a leaf.", "butterfly"),
        ("Dry leaves.", "leaf"),
        ("Two firemen at work.", "fireman"),
        ("Mice in the barn.", "mouse"),
        ("A box of matches, and boxes.", "box"),
        ("One petunia.", "petunias"),
        ("A cherry.", "cherries"),
        ("一只猫在垫子上", "猫"),
        ("東京タワーの夜景", "東京タワー"),
        ("แมวนอนบนเสื่อ", "แมว"),
        ("고양이 한 마리", "고양이"),
        ("Кот на коврике", "кот"),
    ],
)
def test_a_class_is_found_whatever_its_form(caption, name):
    assert names_class(caption, name)


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A concatenated list.", "cat"),
        ("A bas-relief.", "bass"),
        ("A glas.", "glass"),
        ("かばん", "がばん"),  # marks tell letters of other scripts apart
        ("Women at work.", "man"),
        ("A scatter of leaves.", "cat"),
        ("", "cat"),
        ("A cat.", ""),
    ],
)
def test_what_only_looks_like_a_class_is_none(caption, name):
    assert not names_class(caption, name)


def test_words_are_counted_where_a_script_puts_no_blanks():
    assert [count(t) for t in ("", "a cat", "一只猫在垫子上睡觉", "a 猫 sits", "แมวนอนบนเสื่อ", "кот спит")] == [0, 2, 5, 3, 4, 2]


def test_a_text_that_goes_round_in_circles_is_told_from_one_that_repeats_a_word():
    assert repeats("a dog and a dog and a dog and a dog and a cat")
    assert not repeats("a very, very, very big dog, a dog and a dog")
