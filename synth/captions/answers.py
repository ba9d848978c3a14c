"""What a model said, without what is no part of its answer: thoughts, marks of chat templates, code fences, JSON around one text.

All patterns are bounded, and so is the text: what a server sends may be of any size and shape.
"""

import json
import re
from dataclasses import dataclass

LONGEST = 32_768  # characters that are looked at
_TAGS = "think|thinking|thought|thoughts|reasoning|scratchpad|analysis|reflection|seed:think"
_TAG = re.compile(rf"<(/?)(?:{_TAGS})>|\[(/?)THINK\]|\u25c1(/?)think\u25b7", re.IGNORECASE)
_CHANNEL = re.compile(r"<\|channel\|>[ ]{0,4}(\w{1,16})[^\n]{0,80}?<\|message\|>", re.IGNORECASE)  # of gpt-oss; "final" is the answer
# what templates put before an answer
_BEGINS = re.compile(
    r"\s*(<s>|<bos>|<\|begin_of_text\|>|\[/INST\]|(<\|start\|>)?assistant(?=<\|)|<\|assistant\|>|<\|im_start\|>\s*assistant\b"
    r"|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<start_of_turn>\s*model\b|#{2,3}[ ]*(response|answer|output)[ ]*:"
    r"|assistant[ ]*:|<\|message\|>)\s*",
    re.IGNORECASE,
)
# and behind it; a model that goes on writes the next turn as well. DeepSeek's marks have full-width bars
_ENDS = re.compile(
    r"</s>|<(eos|pad|unk|end_of_turn|start_of_turn)>|<[|\uff5c][^<>\s]{2,40}[|\uff5c]>|\[/?INST\]|<</?SYS>>"
    r"|^[ \t]*#{2,3}[ ]*(instruction|input|response|question)s?[ ]*:",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"\s*```\w{0,20}[ ]*\n")
_WRAPPED = re.compile(r"\s*<(caption|answer|response|output|description|prompt)>", re.IGNORECASE)
_BOXED = re.compile(r"\s*\\boxed\{([^{}\n]{1,4000})\}")
_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)([^\n*]{1,400}?)(?<=\S)\*\*(?!\w)")
_KEYS = ("caption", "captions", "prompt", "prompts", "description", "text", "answer", "response", "output")
_DEPTH = 4  # of JSON around an answer


@dataclass(frozen=True)
class CleanAnswer:
    """text: of the answer; cut: kinds of what was taken away, for counting; reason: why there is no answer, "" if there is."""

    text: str
    cut: tuple[str, ...] = ()
    reason: str = ""


def clean_answer(text: str, json: bool = True) -> CleanAnswer:
    r"""The answer in what a model said. json: whether JSON stands for one text in it, which is the answer then.

    >>> clean_answer("<think>A cat? Yes.</think>\n\nA cat on a mat.</s>").text
    'A cat on a mat.'
    >>> clean_answer("<think>The user wants").reason
    'thinking'
    """
    text = text[:LONGEST]
    unwrapped = _unwrapped if json else _unfenced
    steps = (("thoughts", _without_thoughts), ("control tokens", _without_marks), ("wrapping", unwrapped), ("bold", _plain))
    cut: list[str] = []
    for kind, step in steps:
        before, text = text, step(text)
        if text != before:
            cut.append(kind)
            if kind == "thoughts" and not text.strip():
                return CleanAnswer("", tuple(cut), "thinking")
    return CleanAnswer(text, tuple(cut))


def _without_thoughts(text: str) -> str:
    if channels := list(_CHANNEL.finditer(text)):
        last = channels[-1]
        text = text[last.end() :] if last[1].casefold() == "final" else ""
    kept: list[str] = []
    at, begun = 0, -1  # where the answer goes on; where a thought began that has not ended
    for tag in _TAG.finditer(text):
        if any(tag.groups()):  # the end of one, which templates may have begun in the prompt
            kept = kept if begun >= 0 else []
            at, begun = tag.end(), -1
        elif begun < 0:
            kept.append(text[at : tag.start()])
            begun = tag.start()
    if begun < 0:
        return "".join(kept) + text[at:]
    # one that never ends: the answer was cut. Behind words it is a mark in a text
    before = "".join(kept)
    return before + text[begun:] if before.strip() else before


def _without_marks(text: str) -> str:
    """Without a template's marks before the answer, and without all from the first mark behind it on."""
    if text.lstrip().startswith("[INST]"):
        text = text.partition("[/INST]")[2] or text
    while begins := _BEGINS.match(text):
        text = text[begins.end() :]
    for mark in _ENDS.finditer(text):
        if text[: mark.start()].strip():
            return text[: mark.start()].rstrip()
    return text


def _unfenced(text: str) -> str:
    """The text in a code fence, or in tags of its own."""
    if fence := _FENCE.match(text):
        text = text[fence.end() :].partition("```")[0].rstrip("\n")
    if tag := _WRAPPED.match(text):
        text = text[tag.end() :].partition(f"</{tag[1]}>")[0]
    return boxed[1] if (boxed := _BOXED.match(text)) else text


def _unwrapped(text: str) -> str:
    """The text in a code fence, in tags of its own, or the first in JSON."""
    text = _unfenced(text)
    begin = text.lstrip()
    if begin[:1] not in ("{", "["):
        return text
    try:
        data, _ = json.JSONDecoder().raw_decode(begin)
    except (ValueError, RecursionError):
        return text
    inner = _text_in(data, _DEPTH) if isinstance(data, dict) or (isinstance(data, list) and len(data) == 1) else None
    return text if inner is None else inner


def _text_in(data: object, depth: int) -> str | None:
    """The text that JSON is about: the value of a key that says so, else the only one; of a list the first."""
    if isinstance(data, str) or depth == 0:
        return data if isinstance(data, str) else None
    if isinstance(data, list):
        return next((text for value in data[:8] if (text := _text_in(value, depth - 1)) is not None), None)
    if not isinstance(data, dict):
        return None
    named = {str(key).casefold(): value for key, value in data.items()}
    wanted = [named[key] for key in _KEYS if key in named] or (list(named.values()) if len(named) == 1 else [])
    return _text_in(wanted, depth) if wanted else None


def _plain(text: str) -> str:
    return _BOLD.sub(r"\1", text)
