"""What models say of pictures: what of it is a caption, which names stand in a list, and what never gets through."""

import time

import pytest

from synth.layout.answers import Said, caption_of
from synth.layout.lists import names_in

FULL = 32_768  # characters of an answer that are looked at


@pytest.mark.parametrize(
    ("text", "caption", "cut"),
    [
        ("A red ball.", "A red ball.", ()),
        ("<think>Round, so\na ball.</think>\n\nA red ball.", "A red ball.", ("thoughts",)),
        ('**Caption:** "A red ball."', "A red ball.", ("bold",)),
        ("A red ball.\n\nIt lies on grass.", "A red ball.", ("more lines",)),
        ('```json\n{"caption": "A red ball."}\n```', "A red ball.", ("wrapping",)),
        ("<p>A <b>red</b> ball.</p>", "A red ball.", ("markup",)),
        ("A &quot;red&quot; ball.", 'A "red" ball.', ()),
        ("A red\x00 ball\ufffd\ud800.", "A red ball.", ("unreadable",)),
        ("A red ball.<|im_end|>\n<|im_start|>user\nWhat else?", "A red ball.", ("control tokens",)),
        ("3 < 4 balls \N{SOCCER BALL}\N{VARIATION SELECTOR-16}", "3 < 4 balls \N{SOCCER BALL}\N{VARIATION SELECTOR-16}", ()),
    ],
)
def test_a_caption_is_one_line_and_what_was_cut_is_named(text, caption, cut):
    answer = caption_of(Said(text), chat=True)
    assert (answer.text, answer.cut, answer.reason) == (caption, cut, "")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said(""), "empty"),
        (Said("\n \ufffd\x07"), "empty"),
        (Said("<think>The picture shows"), "thinking"),
        (Said("I'm sorry, I cannot describe people."), "refusal"),
        (Said("Sure! Here is a caption."), "meta"),
        (Said("ball " * 2000), "too_long"),  # 10,000 characters
        (Said("a red ball and " * 40), "repetition"),
        (Said(error="refused_by_server", text="HTTP 400"), "refused_by_server"),
    ],
)
def test_what_is_no_caption_has_a_reason(said, reason):
    answer = caption_of(said, chat=True)
    assert (answer.text, answer.reason) == ("", reason)


def test_a_captioner_that_answers_nobody_may_say_nothing_too():
    assert caption_of(Said(" \ufffd\n"), chat=False).reason == "empty"
    assert caption_of(Said("a  red\nball"), chat=False).text == "a red ball"


def test_a_caption_that_was_cut_off_is_counted_and_stays():
    answer = caption_of(Said("A red ball that lies on", ended=False), chat=True)
    assert (answer.text, answer.cut) == ("A red ball that lies on", ("cut off",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dog\ncat\nfire hydrant", ["dog", "cat", "fire hydrant"]),
        ("1. A red car\n2) the dog\n(3) cat", ["red car", "dog", "cat"]),
        ("Sure! Here are the objects:\n\n- dog\n* cat\n\u2022 ball\n\nLet me know if you need more!", ["dog", "cat", "ball"]),
        ("1. dog 2. cat 3. t-shirt", ["dog", "cat", "t-shirt"]),
        ("dog, a cat; the ball and tree.", ["dog", "cat", "ball", "tree"]),
        ("The image shows a dog, a cat and a ball.", ["dog", "cat", "ball"]),
        ("Objects in the picture: dog, cat", ["dog", "cat"]),
        ("**Dog**: it sleeps on the sofa\n**Cat** (black)\nball - red", ["dog", "cat", "ball"]),
        ('["Dog", "cat"]', ["dog", "cat"]),
        ('```json\n{"objects": ["dog", {"name": "cat", "color": "black"}]}\n```', ["dog", "cat"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "dog"}, {"label": "cat"}]', ["dog", "cat"]),
        ('{"dog": 2, "cat": 1}', ["dog", "cat"]),
        ('{"cat": 2, "dog": "1"}', ["cat", "dog"]),
        ("apple, no entry sign, cat", ["apple", "no entry sign", "cat"]),
        ("<think>I see a horse.</think>dog\ncat", ["dog", "cat"]),
        ("<ul><li>dog</li><li>cat</li></ul>", ["dog", "cat"]),
        ("\u4e00\u53ea\u72d7\u3001\u732b", ["\u4e00\u53ea\u72d7", "\u732b"]),
        ("dog<|im_end|>\n<|im_start|>user\ncat", ["dog"]),
    ],
)
def test_names_are_found_however_a_list_is_written(text, names):
    found = names_in(Said(text), 4)
    assert (list(found.tags), dict(found.dropped)) == (names, {})


@pytest.mark.parametrize(
    ("said", "names", "dropped"),
    [
        (Said("dog, " * 40), ["dog"], {"vlm_repeated": 39}),
        (Said("dog\nDog\nthe dog"), ["dog"], {"vlm_repeated": 2}),
        (Said("dog\ncat\nfire hyd", ended=False), ["dog", "cat"], {"vlm_unfinished": 1}),
        (Said('["dog", "ca', ended=False), ["dog"], {"vlm_unfinished": 1}),
        (Said('[{"bbox_2d": [1, 2], "label": "dog"}, {"bbox_2d": [1'), ["dog"], {"vlm_unfinished": 1}),
        (Said("dog\na very long description of what a cat does\ncat"), ["dog", "cat"], {"vlm_long": 1}),
        (Said("x" * 10_000), [], {"vlm_long": 1}),
        (Said("dog, ***, !!, cat"), ["dog", "cat"], {}),
        (Said("1. dog\n2. ...\n3. cat"), ["dog", "cat"], {"vlm_unreadable": 1}),
        (Said("dog, \ufffd\ufffd"), ["dog"], {}),
        (Said("<think>dog, cat"), [], {"vlm_thinking": 1}),
        (Said("I'm sorry, but I can't help with that."), [], {"vlm_refusal": 1}),
        (Said("There are no objects in this picture."), [], {"vlm_empty": 1}),
        (Said("None"), [], {"vlm_empty": 1}),
        (Said("none of them, no other objects here"), [], {"vlm_empty": 1}),
        (Said(""), [], {"vlm_empty": 1}),
        (Said(error="refused_by_server"), [], {"vlm_refused_by_server": 1}),
        (Said("dog, cat, " + "b" * FULL), ["dog", "cat"], {"vlm_unfinished": 1}),
    ],
)
def test_what_is_no_name_is_left_out_and_counted(said, names, dropped):
    found = names_in(said, 4)
    assert (list(found.tags), dict(found.dropped)) == (names, dropped)


@pytest.mark.parametrize(
    "text",
    [
        "[" * FULL, '{"a":' * 6000, '["' * 16_000, '"a' * 16_000, " " * FULL + "dog", "a " * 16_000, "1. " * 10_000, "the " * 8000,
        "<b " * 10_000, "&lt;" * 8000, "dog:" * 8000, "(" * FULL, "- " * 16_000, "dog - " * 5000, "\ud800" * FULL, "," * FULL,
    ],
)  # fmt: skip
def test_hostile_answers_take_no_time(text):
    begun = time.process_time()
    names_in(Said(text), 4)
    caption_of(Said(text), chat=True)
    caption_of(Said(text), chat=False)
    assert time.process_time() - begun < 1.0
