"""Dialogues side by side."""

import pytest

from synth.captions.asking import lockstep
from synth.captions.engines import Reply, Request


def counting(name: str, rounds: int):
    heard = []
    for n in range(rounds):
        reply = yield Request(f"{name}{n}")
        heard.append(reply.text)
    return heard


def test_each_round_asks_all_that_are_not_at_their_end_and_each_hears_its_own_answers():
    asked = []

    def generate(requests):
        asked.append([r.text for r in requests])
        return [Reply(r.text.upper()) for r in requests]

    results = lockstep([counting("a", 2), counting("b", 0), counting("c", 3)], generate)
    assert asked == [["a0", "c0"], ["a1", "c1"], ["c2"]]
    assert results == [["A0", "A1"], [], ["C0", "C1", "C2"]]


def test_nothing_is_asked_where_nobody_asks():
    assert lockstep([], None) == [] and lockstep([counting("a", 0)], None) == [[]]


def test_an_engine_that_answers_too_few_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        lockstep([counting("a", 1), counting("b", 1)], lambda requests: [Reply("one")])
