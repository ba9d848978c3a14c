"""Words in any script, and whether a caption names its class in whatever form."""

import time

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
        ("A jack\u2010o\u2019\u2011lantern glows.", "jack-o'-lantern"),
        ("一部iPhone放在桌上", "iPhone"),
        ("一件红色T恤", "T恤"),
        ("MRIの写真", "MRI"),
        ("고양이가 매트 위에", "고양이"),
        ("القطة على سجادة", "قطة"),
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
        ("A glass of water on a desk.", "glasses"),
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
    assert repeats("A cat sits. A cat sits. A cat sits. A cat sits.")
    assert repeats("一只猫坐着。" * 4) and repeats("猫" * 8)
    assert not repeats("a very, very, very big dog, a dog and a dog") and not repeats("一只猫在垫子上睡觉 另一只在窗边")


@pytest.mark.parametrize("text", ["a b c " + "/x" * 2000, "/a1" * 5000, "<x" * 10_000, "猫狗鸟鱼" * 3000, "a " * 20_000])
def test_circles_are_looked_for_in_no_time(text):
    begun = time.process_time()
    repeats(text)
    assert time.process_time() - begun < 1.0
