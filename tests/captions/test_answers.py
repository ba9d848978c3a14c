"""What models say beside their answer: never a caption, whichever engine it came from."""

import time

import pytest

from synth.captions.answers import clean_answer
from synth.captions.checks import answer_line

CAT = "A cat on a mat."


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (CAT, ()),
        (f"<think>A cat? Where?\n\nOn a mat.</think>\n\n{CAT}", ("thoughts",)),
        (f"<think>hm</think> {CAT}", ("thoughts",)),
        (f"The user wants a cat.\n</think>\n{CAT}", ("thoughts",)),
        (f"<Reasoning>hm</Reasoning>{CAT}", ("thoughts",)),
        (f"<|channel|>analysis<|message|>Think of a cat.<|end|><|start|>assistant<|channel|>final<|message|>{CAT}<|return|>",
         ("thoughts", "control tokens")),
        (f"{CAT}</s>", ("control tokens",)),
        (f"{CAT}<|eot_id|>", ("control tokens",)),
        (f"{CAT}<|im_end|>\n<|im_start|>user\nAnother!", ("control tokens",)),
        (f"{CAT} [INST] And a dog? [/INST] A dog.", ("control tokens",)),
        (f"[/INST] {CAT}", ("control tokens",)),
        (f"<|im_start|>assistant\n{CAT}", ("control tokens",)),
        (f"<|start_header_id|>assistant<|end_header_id|>\n\n{CAT}", ("control tokens",)),
        (f"### Response:\n{CAT}\n\n### Instruction:\nNow a dog.", ("control tokens",)),
        (f"ASSISTANT: {CAT}", ("control tokens",)),
        (f'{{"caption": "{CAT}"}}', ("wrapping",)),
        (f'```json\n{{"class": "cat", "caption": "{CAT}"}}\n```', ("wrapping",)),
        (f'["{CAT}"]', ("wrapping",)),
        (f"```\n{CAT}\n```", ("wrapping",)),
        ("A **cat** on a mat.", ("bold",)),
        (f"[THINK]hm[/THINK]{CAT}", ("thoughts",)),
        (f"\u25c1think\u25b7hm\u25c1/think\u25b7{CAT}", ("thoughts",)),
        (f'<|channel|>final <|constrain|>json<|message|>{{"caption": "{CAT}"}}', ("thoughts", "wrapping")),
        (f"{CAT}<\uff5cend\u2581of\u2581sentence\uff5c>", ("control tokens",)),
        (f"{CAT}<pad><pad>", ("control tokens",)),
        (f"[INST] Write one [/INST] {CAT}", ("control tokens",)),
        (f'{{"caption": "{CAT}"}}\n\nHope it helps!', ("wrapping",)),
        (f'{{"captions": ["{CAT}", "Another."]}}', ("wrapping",)),
        (f'{{"image": {{"description": "{CAT}"}}}}', ("wrapping",)),
        (f"<caption>{CAT}</caption>", ("wrapping",)),
        (f"\\boxed{{{CAT}}}", ("wrapping",)),
    ],
)  # fmt: skip
def test_the_answer_is_what_is_left_and_what_was_cut_is_named(text, cut):
    answer = clean_answer(text)
    assert (answer.text.strip(), answer.cut, answer.reason) == (CAT, cut, "")


@pytest.mark.parametrize("text", ["<think>The user wants a cat, so", "<thinking>hm</thinking>", "<|channel|>analysis<|message|>We need"])
def test_thoughts_alone_are_no_answer(text):
    assert (clean_answer(text).text, clean_answer(text).reason) == ("", "thinking")


@pytest.mark.parametrize(
    "text",
    ["", "[a cat", "{cat}", "3 < 4 cats", "a <b> cat", "2 ** 3 ** 4", "a __dunder__ method", "a bubble with <think> in it", "[" * 30_000],
)
def test_texts_that_hold_such_marks_by_themselves_are_left_alone(text):
    assert clean_answer(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 20_000, "<think>" * 20_000 + "</think>", "\n" * 100_000, "**a " * 30_000, "<|channel|>aaaa" * 9_000, "[INST]" * 20_000,
        "<" * 100_000, "assistant:" * 10_000, "```\n" * 20_000, '{"a":' * 20_000,
    ],
)  # fmt: skip
def test_hostile_texts_take_no_time(text):
    begun = time.process_time()
    answer_line(clean_answer(text).text)
    assert time.process_time() - begun < 1.0  # milliseconds; patterns that look again and again took minutes
