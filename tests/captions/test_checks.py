"""Checks of a caption on itself alone."""

import pytest

from synth.captions.checks import answer_line, first_line, reject_reason, unusable
from synth.captions.config import ClassEntry
from tests.configs import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig

CONFIG = CaptionsConfig(0, DatasetConfig("d", (ClassEntry(0, "cat"),), 1), PromptsConfig(), CaptionerConfig())


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("A small cat in the snow.", ""),
        ("", "empty"),
        (" \t ", "empty"),
        ("cat", "too_short"),
        ("cat " * 61, "too_long"),
        ("A small dog in the snow.", "no_class"),
        ("A concatenated list of words.", "no_class"),
        ("dog => A cat on a mat.", "markup"),
        ("A photo of a [concept] cat.", "placeholder"),
        ("A cat and a {class}.", "placeholder"),
        ("Sure, here is a caption about a cat.", "meta"),
        ("Here is one that shows a cat: a cat.", "meta"),
        ("Caption: a cat on a mat", "meta"),
        ("A cat on a mat. Let me know if you want more.", "meta"),
        ("As an AI I see a cat.", "refusal"),
        ("I'm sorry, but I cannot describe a cat.", "refusal"),
        ("I am unable to help with a cat.", "refusal"),
        ("Great cat of the northern forest.", ""),
        ("Here a yellow cat, on the left.", ""),
        ("OK corral with a cat in front of it", ""),
        ("A cat on a mat on a mat on a mat on a mat on a mat.", "repetition"),
        ("A cat and aaaaaaaaaaaaaaaaaaaaaaaa dog", "repetition"),
        ('{"a": "A cat", "b": "on a mat"}', "markup"),
        ('{"caption": "A cat on', "markup"),
        ("```json A cat", "markup"),
        ("<b>A cat</b> on a mat", "markup"),
        ("[A cat] on a mat", ""),
        ("A cat " + "x" * 5000, "too_long"),
        ("A cat asleep on a caption writer's desk.", ""),
    ],
)
def test_reason_of_rejection(caption, reason):
    assert reject_reason(caption, "cat", CONFIG) == reason


def test_class_that_is_not_required_need_not_be_named():
    free = CaptionsConfig(0, CONFIG.dataset, CONFIG.prompts, CONFIG.captioner, must_name_class=False)
    assert reject_reason("A small dog in the snow.", "cat", free) == ""


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A cat.", "A cat."),
        ('\n\n**Caption:** "A cat on a  mat."\nIt is warm.', "A cat on a mat."),
        ("1. A cat.", "A cat."),
        ("- \u201cA cat\u201d", "A cat"),
        ('"A" and "B"', '"A" and "B"'),
        ("", ""),
        ("3 cats on a mat", "3 cats on a mat"),
        ("Sure! Here is a caption:\n\nA cat on a mat.", "A cat on a mat."),
        ("Here's one:", "Here's one:"),
        ("# A cat on a mat", "A cat on a mat"),
        ("> A cat on a mat", "A cat on a mat"),
    ],
)
def test_the_caption_of_an_answer(answer, caption):
    assert answer_line(answer) == caption


def test_a_model_that_continues_texts_has_said_its_caption_at_the_end_of_the_line():
    assert first_line(" A cat.\n\ndog => A dog.") == "A cat."
    assert first_line("\n\ndog => A dog.") == ""


def test_words_of_the_users_own_are_refused_only_where_nobody_could_use_them():
    assert [unusable(t) for t in ("x", "I'm sorry.", "", "[concept] here")] == ["", "", "empty", "placeholder"]
