"""Dialogues side by side."""

import pytest

from synth.captions.asking import converse, in_rounds
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

    results = converse([counting("a", 2), counting("b", 0), counting("c", 3)], in_rounds(generate))
    assert asked == [["a0", "c0"], ["a1", "c1"], ["c2"]]
    assert results == [["A0", "A1"], [], ["C0", "C1", "C2"]]


def test_requests_may_end_in_any_order_and_what_is_asked_next_joins_those_that_run():
    served = []

    def serve(requests, more):
        """The last request that came ends first, two at a time."""
        waiting = list(enumerate(requests))
        count = len(waiting)
        while waiting:
            ended, waiting = waiting[-2:], waiting[:-2]
            served.append([r.text for _, r in ended])
            come = more([(number, Reply(r.text.upper())) for number, r in ended])
            waiting += enumerate(come, count)
            count += len(come)

    results = converse([counting("a", 2), counting("b", 0), counting("c", 3), counting("d", 1)], serve)
    assert served == [["c0", "d0"], ["a0", "c1"], ["a1", "c2"]]
    assert results == [["A0", "A1"], [], ["C0", "C1", "C2"], ["D0"]]


def test_nothing_is_asked_where_nobody_asks():
    assert converse([], None) == [] and converse([counting("a", 0)], None) == [[]]


def test_an_engine_that_answers_too_few_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        converse([counting("a", 1), counting("b", 1)], in_rounds(lambda requests: [Reply("one")]))
