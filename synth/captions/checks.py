"""Checks of a caption on itself alone. A caption that fails is redrawn; duplicates are aggregation's business."""

import re

from synth.captions import words
from synth.captions.config import CaptionsConfig

_REFUSAL = re.compile(
    r"\b(as an? (ai|language model|assistant)|(large )?language model"
    r"|i('m| am) (sorry|unable|not able|not allowed)|i (can't|cannot|can not|won't|will not)\b"
    r"|unable to (help|assist|comply|provide))",
    re.IGNORECASE,
)
_META = re.compile(
    r"^(sure|certainly|absolutely|of course|okay|ok|great|as requested)\b[,!:.]|^here('s| is| are)\b.*:|^sure thing\b"
    r"|^((an?|the|your) )?(image |picture |photo )?(caption|prompt|description)s?\s*:"
    r"|\b(this|the following|your) (caption|prompt|request)\b|\blet me know\b|\bhope this helps\b|\bword count\b"
    r"|\[insert\b|<\|",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(r"^\W*(sure|certainly|absolutely|of course|okay|ok|here('s| is| are)?|caption|the caption)\b.*:\W*$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\[(concept|class|object|name)\]|\{(concept|class|object|name)?\}", re.IGNORECASE)
LONGEST = 4096  # characters of a caption, however few its words are
_RAW = re.compile(r"\s*(\{|\[\s*[{\"]|```|</?[a-z])", re.IGNORECASE)  # JSON, a code fence, HTML
_LEAD = re.compile(
    r"^(#{1,6}\s+|>\s+)?(\d{1,3}[.)]\s+|[-*\u2022]\s+)?(\**(caption|prompt|description|answer)\**\s*:\**\s*)?", re.IGNORECASE
)
_PAIRS = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "*": "*", "`": "`"}


def first_line(text: str) -> str:
    """What a model that continues a text said until the end of its line."""
    return " ".join(text.split("\n")[0].split())


def answer_line(text: str) -> str:
    """The caption in a chat model's answer: its first line that is not empty and does not only announce the next one, without list
    marks, a label or quotes around it.

    >>> answer_line('\\n**Caption:** "A cat on a mat."\\n')
    'A cat on a mat.'
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and _ANNOUNCES.search(lines[0]):
        del lines[0]
    line = next(iter(lines), "")
    line = _LEAD.sub("", " ".join(line.split()), count=1)
    while len(line) > 1 and _PAIRS.get(line[0]) == line[-1] and line[-1] not in line[1:-1]:
        line = line[1:-1].strip()
    return line


def reject_reason(caption: str, class_name: str, config: CaptionsConfig) -> str:
    """Why a caption is not taken: empty, placeholder, markup, refusal, meta, too_short, too_long, repetition, no_class; "" if it is."""
    if len(caption) > LONGEST:
        return "too_long"
    if reason := unusable(caption):
        return reason
    if _RAW.match(caption):
        return "markup"
    if _REFUSAL.search(caption):
        return "refusal"
    if _META.search(caption):
        return "meta"
    n = words.count(caption)
    if n < config.min_words:
        return "too_short"
    if n > config.max_words:
        return "too_long"
    if words.repeats(caption):
        return "repetition"
    if config.must_name_class and not words.names_class(caption, class_name):
        return "no_class"
    return ""


def unusable(caption: str) -> str:
    """What no caption may be, whoever wrote it: empty, or with a placeholder or the arrow of the raw files left in it."""
    if not caption.strip():
        return "empty"
    if _PLACEHOLDER.search(caption):
        return "placeholder"
    return "markup" if "=>" in caption else ""


def unfit(text: str) -> str:
    """What is wrong with an answer that is no caption yet (a metaprompt, a place): empty, markup, refusal or meta talk."""
    if not text.strip():
        return "empty"
    if "=>" in text:
        return "markup"
    return "refusal" if _REFUSAL.search(text) else "meta" if _META.search(text) else ""
