"""Answers in all the forms that servers give them."""

import json
from dataclasses import replace

import pytest

from synth.captions.answers import clean_answer
from synth.captions.remote.journal import Answer
from synth.captions.remote.reading import REFUSAL, ErrorInside, answer_in
from synth.errors import InputError
from tests.captions.remote.conftest import CONFIG, requests
from tests.captions.remote.fake import Fake, status

CAT = "A cat on a mat."


def chat(**message):
    return json.dumps({"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    "body",
    [
        chat(content=CAT),
        chat(content=[{"type": "text", "text": "A cat "}, {"type": "text", "text": "on a mat."}]),
        chat(content=["A cat ", "on a mat."]),
        chat(content={"type": "text", "text": CAT}),
        chat(content=[{"type": "output_text", "text": CAT, "annotations": []}]),
        chat(content=[{"type": "text", "text": {"value": CAT, "annotations": []}}]),
        chat(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": CAT}]),
        chat(content=[{"type": "image_url", "image_url": {"url": "x"}}, {"text": CAT}]),
        chat(content=CAT, reasoning_content="hm", refusal=None, tool_calls=None),
        chat(content=CAT, reasoning=["hm"], refusal=""),
        json.dumps({"choices": [{"text": CAT, "finish_reason": "stop", "logprobs": None}]}),
        json.dumps({"choices": [{"delta": {"content": CAT}, "message": None, "finish_reason": "stop"}]}),
        "\ufeff" + chat(content=CAT),
    ],
)
def test_the_text_of_an_answer_is_found_in_each_form(body):
    assert answer_in(body) == Answer(CAT, "stop")


def test_thoughts_without_an_answer_are_no_answer_and_are_kept():
    for name, thoughts in (("reasoning_content", "A cat?"), ("reasoning", "A cat?"), ("reasoning", [{"type": "text", "text": "A cat?"}])):
        for content in (None, "", []):
            said = answer_in(chat(content=content, **{name: thoughts})).text
            assert said == "<think>A cat?" and clean_answer(said).reason == "thinking"


def test_a_refusal_is_one_by_the_servers_own_word_and_is_kept():
    for message in ({"content": None, "refusal": "Not a cat."}, {"content": [{"type": "refusal", "refusal": "Not a cat."}]}):
        assert answer_in(chat(**message)) == Answer("Not a cat.", REFUSAL)


def stream(*events, end="\n\n", done=True):
    lines = [f"data: {json.dumps(e) if isinstance(e, dict) else e}{end}" for e in events]
    return "".join(lines) + ("data: [DONE]" + end if done else "")


def delta(finish=None, **message):
    return {"choices": [{"index": 0, "delta": message, "finish_reason": finish}]}


PIECES = [delta(role="assistant", content=""), delta(content="A cat "), delta(content="on a mat."), delta("length")]
USED = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (stream(*PIECES, USED), Answer(CAT, "length", 5, 7)),
        (": ping\n\nevent: message\n" + stream(*PIECES, end="\r\n\r\n"), Answer(CAT, "length")),
        (stream(*PIECES, done=False), Answer(CAT, "length")),
        (stream(*({"choices": [{"index": 0, "text": t, "finish_reason": None}]} for t in ("A cat ", "on a mat."))), Answer(CAT)),
        (stream({"choices": [{"index": 1, "delta": {"content": "no"}}]}, *PIECES), Answer(CAT, "length")),
        (stream(delta(reasoning_content="A "), delta(reasoning_content="cat?"), delta("length")), Answer("<think>A cat?", "length")),
        (stream(delta(refusal="Not "), delta("stop", refusal="a cat.")), Answer("Not a cat.", REFUSAL)),
    ],
)
def test_a_stream_that_nobody_asked_for_is_read_as_one_answer(body, expected):
    assert answer_in(body) == expected


def test_what_breaks_off_or_tells_of_an_error_is_no_answer():
    for body, said in [
        (stream(*PIECES[:-1], done=False), "its stream breaks off"),
        (stream("{torn"), "is not JSON"),
        ("", "is not JSON"),
        ("<!DOCTYPE html><html>Sign in", "it is a web page"),
        (json.dumps({"content": CAT}), "has no 'choices'"),
        (json.dumps({"choices": []}), "it has no choices"),
        (json.dumps({"choices": [{"finish_reason": "stop"}]}), "neither message nor text"),
        (chat(content=7), "'content' is 7"),
        (chat(content="x" * (2 << 20)), "characters, more than"),
    ]:
        with pytest.raises(InputError, match=said):
            answer_in(body)
    error = {"message": "overloaded", "code": 529}
    for body in (
        json.dumps({"error": error}),
        json.dumps({"choices": [{"error": error, "text": "A c"}]}),
        stream(PIECES[0], {"error": error}),
    ):
        with pytest.raises(ErrorInside) as e:
            answer_in(body)
        assert e.value.status == 529 and "overloaded" in e.value.body
    with pytest.raises(ErrorInside) as e:
        answer_in(json.dumps({"error": "model crashed", "choices": None}))
    assert e.value.status == 500


def test_a_server_that_only_streams_is_read_by_the_client(engine):
    with Fake(default=status(200, {"Content-Type": "text/event-stream"}, stream(*PIECES[:-1], delta("stop"), USED))) as server:
        one = engine(server, replace(CONFIG, api="chat", body={"stream": True}))
        assert [r.text for r in one.generate(requests(2))] == [CAT] * 2
        assert server.seen[0]["body"]["stream"] is True and one.usage()["tokens_out"] == 14
