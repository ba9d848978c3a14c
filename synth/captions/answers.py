"""What a model said, without what is no part of its answer: thoughts, marks of chat templates, code fences, JSON around one text."""

import json
import re
from dataclasses import dataclass

_TAGS = "think|thinking|thought|thoughts|reasoning|scratchpad|analysis|reflection"
_THOUGHT = re.compile(rf"<({_TAGS})>.*?</\1>", re.IGNORECASE | re.DOTALL)
_THOUGHT_ENDS = re.compile(rf"^.*</({_TAGS})>", re.IGNORECASE | re.DOTALL)  # templates put the first mark into the prompt
_THOUGHT_BEGINS = re.compile(rf"<({_TAGS})>.*", re.IGNORECASE | re.DOTALL)  # and never ends: the answer was cut
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>", re.IGNORECASE)  # of gpt-oss; "final" is the answer
# what templates put before an answer
_BEGINS = re.compile(
    r"^\s*(<s>|<bos>|<\|begin_of_text\|>|\[/INST\]|(<\|start\|>)?assistant(?=<\|)|<\|assistant\|>|<\|im_start\|>\s*assistant\b"
    r"|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<start_of_turn>\s*model\b|#{2,3}\s*(response|answer|output)\s*:"
    r"|assistant\s*:|<\|message\|>)\s*",
    re.IGNORECASE,
)
# and behind it; a model that goes on writes the next turn as well
_ENDS = re.compile(
    r"</s>|<eos>|<end_of_turn>|<start_of_turn>|<\|[a-z_]{2,24}\|>|\[/?INST\]|<</?SYS>>|^\s*#{2,3}\s*(instruction|input|response|question)s?\s*:"
    r"|^\s*(user|human)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^\s*```\w*\n(.*?)\n?```", re.DOTALL)
_BOLD = re.compile(r"(?<!\w)(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_KEYS = ("caption", "prompt", "description", "text", "answer", "response", "output")


@dataclass(frozen=True)
class Said:
    """text: of the answer; cut: kinds of what was taken away, for counting; reason: why there is no answer, "" if there is."""

    text: str
    cut: tuple[str, ...] = ()
    reason: str = ""


def said(text: str) -> Said:
    r"""The answer in what a model said.

    >>> said("<think>A cat? Yes.</think>\n\nA cat on a mat.</s>").text
    'A cat on a mat.'
    >>> said("<think>The user wants").reason
    'thinking'
    """
    cut: list[str] = []
    answer = _without_thoughts(text)
    if answer != text:
        cut.append("thoughts")
        if not answer.strip():
            return Said("", tuple(cut), "thinking")
    plain = _without_marks(answer)
    if plain != answer:
        cut.append("control tokens")
    unwrapped = _unwrapped(plain)
    if unwrapped != plain:
        cut.append("wrapping")
    bare = _BOLD.sub(r"\2", unwrapped)
    if bare != unwrapped:
        cut.append("bold")
    return Said(bare, tuple(cut))


def _without_thoughts(text: str) -> str:
    if "<" not in text:
        return text
    if channels := list(_CHANNEL.finditer(text)):
        last = channels[-1]
        text = text[last.end() :] if last[1].casefold() == "final" else ""
    text = _THOUGHT.sub("", text)
    text = _THOUGHT_ENDS.sub("", text)
    return _THOUGHT_BEGINS.sub("", text)


def _without_marks(text: str) -> str:
    """Without a template's marks before the answer, and without all from the first mark behind it on."""
    while begins := _BEGINS.match(text):
        text = text[begins.end() :]
    for mark in _ENDS.finditer(text):
        if text[: mark.start()].strip():
            return text[: mark.start()].rstrip()
    return text


def _unwrapped(text: str) -> str:
    """The text in a code fence, or the only one in JSON."""
    if fence := _FENCE.match(text):
        text = fence[1]
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(data, list) and len(data) == 1:
        (data,) = data
    if isinstance(data, dict):
        texts = {str(key).casefold(): value for key, value in data.items() if isinstance(value, str)}
        data = next((texts[key] for key in _KEYS if key in texts), next(iter(texts.values()), None) if len(texts) == 1 else None)
    return data if isinstance(data, str) else text
