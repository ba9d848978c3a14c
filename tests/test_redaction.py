"""What is cut out of texts, what stays, and in what time."""

import json
import time

import pytest

from synth import redaction
from synth.captions.remote.reading import LONGEST, answer_in
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError
from synth.redaction import keep, redacted, redacted_data

KEY = "sk-4fJ2pQ9xLm0Zt7AbCdEfGhIjKl"


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setattr(redaction, "_told", set())
    monkeypatch.setattr(redaction, "_of_words", set())
    monkeypatch.setattr(redaction, "secrets", lambda: frozenset(redaction._told))


def answered(text: str) -> str:
    return answer_in(json.dumps({"choices": [{"text": text}]})).text


@pytest.mark.parametrize("key", ["EMPTY", "local-server-key", "token-abc123", "localServerKey", "My Empty Street 1", "vllm-server-2024"])
def test_a_key_of_words_changes_no_caption_and_is_cut_from_messages_as_a_whole(monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    assert Endpoint(base_url="http://x/v1", api_key_env="A_KEY").key() == key
    for said in ("An empty street", "A local server on a key... an abc123 token, server-2024"):
        assert answered(said) == redacted(said) == said
    assert answered(f"{key} and its server") == f"{key} and its server"
    assert redacted(f"no such key: {key}!") == ("no such key: EMPTY!" if key == "EMPTY" else "no such key: ***!")


@pytest.mark.parametrize("key", ["sk-server-photograph-4fJ2pQ9xLm0Zt7", "hf_anServerQzXwVbKjXqZwYvEmptyPlKq", "an3f9a0c77e1d2b4ex"])
def test_words_inside_a_key_that_is_random_stay_too(key):
    keep(key)
    said = "A server-photograph, an... empty ...ex and a hf... server"
    assert answered(said) == said
    assert answered(f"A cat, {key}.") == "A cat, ***."


@pytest.mark.parametrize("key", [KEY, "hf_" + "QzXwVbKjXqZwYvRtPlMnBvCxZsDfGhJkLp", "550e8400-e29b-41d4-a716-446655440000"])
@pytest.mark.parametrize("shown", [lambda k: k, lambda k: k[:20], lambda k: k[-16:], lambda k: k.upper(), lambda k: f"{k[:6]}****{k[-4:]}"])
def test_pieces_of_keys_are_cut(key, shown):
    keep(key)
    left = redacted(f"no key {shown(key)} here").removeprefix("no key ").removesuffix(" here")
    assert left.endswith("***") and len(left) <= 6


def test_keys_of_mappings_that_become_the_same_lose_nothing():
    keep(KEY)
    counts = {KEY: 2, KEY[:12]: 3, KEY[-12:]: {"a": 1}, "b": True, f"{KEY[:12]}!": 1}
    assert redacted_data(counts) == {"***": 5, "*** (2)": {"a": 1}, "b": True, "***!": 1}


@pytest.mark.parametrize(
    "text",
    ["the street empty photograph of a red building, INFO x.py:12 " * 17000, "* " * 500_000, "xxxx " * 200_000],
    ids=["plain", "stars", "masks"],
)
def test_a_million_characters_take_no_time_to_speak_of(text):
    keep(KEY)
    start = time.process_time()
    assert redacted(text) == text
    assert time.process_time() - start < 1  # 0.03 s on a quiet machine


def test_a_text_that_no_caption_has_is_no_answer():
    assert len(answered("a" * LONGEST)) == LONGEST
    with pytest.raises(InputError, match="1048577 characters"):
        answered("a" * (LONGEST + 1))
