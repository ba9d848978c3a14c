"""hirpg: requests show what was written, trees draw their context, the final list repeats nothing."""

from collections import Counter
from typing import ClassVar

import pytest

from synth.captions.answers import clean_answer
from synth.captions.asking import converse, in_rounds
from synth.captions.config import ClassEntry
from synth.captions.engines import Reply
from synth.captions.metaprompts import refusal, written
from synth.captions.prompts import hirpg
from synth.captions.prompts.hirpg import Subject
from tests.configs import DatasetConfig, PromptsConfig

ALL, CAT = Subject(-1, "[concept]"), Subject(3, "cat")
DATA = DatasetConfig("d", (ClassEntry(3, "cat"), ClassEntry(7, "sea_lion")), 9)


def test_static_speaks_of_all_classes_and_dynamic_of_each():
    assert hirpg.subjects(DATA, PromptsConfig("hirpg", form="static")) == (ALL,)
    assert hirpg.subjects(DATA, PromptsConfig("hirpg", form="dynamic")) == (CAT, Subject(7, "sea lion"))
    assert all("cat" in text and "[" not in text for text in hirpg.given(CAT))


def test_a_request_shows_all_that_was_written_before():
    earlier = ["A cat on a mat.", "Two cats."]
    asked = hirpg.messages(CAT, earlier, 10)[-1][1]
    assert all(f"prompt: {t}" in asked for t in earlier) and "fewer than 10 words" in asked
    text = hirpg.plain_text(CAT, earlier)
    assert text.endswith("cat => A cat on a mat.\n\ncat => Two cats.\n\ncat =>")


def test_models_that_continue_texts_write_a_noun_that_becomes_the_concept():
    text = hirpg.plain_text(ALL, ["One [concept] here."])
    assert "[concept]" not in text and hirpg.STAND_IN in text
    assert hirpg.with_concept("Two Zorbels, a zorbel's hat, a zorbelly") == "Two [concept]s, a [concept]'s hat, a zorbelly"


@pytest.mark.parametrize(
    ("text", "subject", "reason"),
    [
        ("One [concept] at dusk.", ALL, ""),
        ("One cat at dusk.", ALL, "no_concept"),
        ("One cat at dusk.", CAT, ""),
        ("One [concept] at dusk.", CAT, "no_concept"),
        ("A CAT on \u201ca mat\u201d!", CAT, "said_before"),
        ("", CAT, "empty"),
        ("cat => dog", CAT, "markup"),
        ("I'm sorry, I cannot draw a cat.", CAT, "refusal"),
    ],
)
def test_what_is_refused(text, subject, reason):
    assert refusal(text, subject, ['a cat on "a mat"']) == reason


class Stage:
    refused: ClassVar = Counter()

    class config:
        seed, max_attempts = 0, 3

    @staticmethod
    def answer_in(completion):
        return clean_answer(completion.text)

    @classmethod
    def refuse(cls, reason, text, of):
        cls.refused[reason] += 1


def test_a_text_said_before_is_asked_for_again_a_bounded_number_of_times():
    seeds = []

    def stubborn(requests):
        seeds.extend(r.seed for r in requests)
        return [Reply("prompt: A cat on a mat.")]

    assert converse([written(Stage, CAT, 4, ["a cat on a mat"], 10, ("x",))], in_rounds(stubborn)) == ["said_before"]
    assert len(set(seeds)) == 3

    answers = iter(["A dog.", "A cat on a mat", "Sure!\nPrompt: none\nprompt: A cat in rain."])
    (record,) = converse([written(Stage, CAT, 4, ["a cat on a mat"], 10, ("x",))], in_rounds(lambda requests: [Reply(next(answers))]))
    assert record["text"] == "A cat in rain." and [r["reason"] for r in record["rejected"]] == ["no_concept", "said_before"]


def test_a_tree_starts_from_two_drawn_metaprompts_and_its_own():
    texts = [f"t{k}" for k in range(7)]
    drawn = [hirpg.context(0, ALL, texts, which) for which in range(7)]
    assert all(len(set(d)) == 3 and d[-1] == f"t{which}" for which, d in enumerate(drawn))
    assert len({tuple(d[:2]) for d in drawn}) > 3
    assert hirpg.context(0, ALL, ["only"], 0) == ["only"]


def test_the_final_list_has_all_metaprompts_then_drawn_prompts_and_nothing_twice():
    metaprompts, prompts = ["M one.", "M two."], [f"P {k}." for k in range(10)] + ["p 3", "M ONE"]
    final = hirpg.final_texts(0, -1, metaprompts, prompts, 7)
    assert final[:2] == metaprompts and len(final) == 7 == len({t.casefold().rstrip(".") for t in final})
    assert final[2:] != hirpg.final_texts(1, -1, metaprompts, prompts, 7)[2:]
    assert len(hirpg.final_texts(0, -1, metaprompts, prompts, 99)) == 12
    assert hirpg.final_texts(0, -1, metaprompts, prompts, 9)[:7] == final
