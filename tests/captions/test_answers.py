"""What models say beside their answer: never a caption, whichever engine it came from."""

import pytest

from synth.captions.answers import said

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
        (f"ASSISTANT: {CAT}\nUSER: and a dog?", ("control tokens",)),
        (f'{{"caption": "{CAT}"}}', ("wrapping",)),
        (f'```json\n{{"class": "cat", "caption": "{CAT}"}}\n```', ("wrapping",)),
        (f'["{CAT}"]', ("wrapping",)),
        (f"```\n{CAT}\n```", ("wrapping",)),
        ("A **cat** on a __mat__.", ("bold",)),
    ],
)  # fmt: skip
def test_the_answer_is_what_is_left_and_what_was_cut_is_named(text, cut):
    answer = said(text)
    assert (answer.text.strip(), answer.cut, answer.reason) == (CAT, cut, "")


@pytest.mark.parametrize("text", ["<think>The user wants a cat, so", "<thinking>hm</thinking>", "<|channel|>analysis<|message|>We need"])
def test_thoughts_alone_are_no_answer(text):
    assert (said(text).text, said(text).reason) == ("", "thinking")


@pytest.mark.parametrize("text", ["", "[a cat", "{cat}", "3 < 4 cats", "a <b> cat", "2 ** 3 ** 4", "snake__case__name", "[" * 100_000])
def test_texts_that_hold_such_marks_by_themselves_are_left_alone(text):
    assert said(text).text == text
