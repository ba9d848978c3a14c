"""Names of objects in what a model said when it was asked for a list of them: numbered, with bullets, between commas, in JSON, in a
sentence.

What is no name is left out and counted. Nothing is guessed beyond that: a name is what stands in the list, in small letters, without its
article, as the noun phrases of alt texts are.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from synth.captions.answers import LONGEST
from synth.captions.checks import unfit
from synth.layout.answers import Said, judged

# what is counted, behind "vlm_"
REPEATED, LONG, UNREADABLE, UNFINISHED, EMPTY = "repeated", "long", "unreadable", "unfinished", "empty"
PREFIX = "vlm_"
CHARACTERS = 60  # of a name
_DEPTH = 4  # of JSON around a name
_KEYS = ("label", "name", "object", "tag", "category", "class", "item", "text", "text_content")  # of an object that stands for a name
_MARK = re.compile(r"^\s*(?:[-*+>\u2022\u2023\u25aa\u25cf\u00b7\u2013\u2014]+|\(?\d{1,3}\s?[.):]|\(?[a-zA-Z][.)](?=\s))\s*")
_INLINE = re.compile(r"(?:^|\s)\(?\d{1,3}[.)]\s+(?=\S)")  # 1. dog 2. cat
_SEPARATORS = re.compile(r"[,;|\u3001\uff0c\uff1b\n]+|\s/\s|(?:^|\s)(?:and|&)\s")
_BEHIND = re.compile(r"(?:[:\uff1a](?: |$)| [-\u2013\u2014] |\(|\[| =>).*$")  # a remark behind a name
_ARTICLE = re.compile(r"^(?:a|an|the|some|another)\s+")
_SENTENCE = re.compile(  # what introduces a list on its line
    r"^(?:the|this|in|there|here|i|we|it|you)\b[^,;\n]{0,80}?\b"
    r"(?:contains?|shows?|depicts?|includes?|features?|displays?|are|is|see|has|have)\b\s*:?\s*"
    r"|^[^,:;\n]{0,40}?\b(?:objects?|items?|things?|tags?|names?|list|picture|image|photo|answer)\b[^,:;\n]{0,40}:\s*",
    re.IGNORECASE,
)
_STRING = re.compile(r'"((?:[^"\\\n]|\\.){1,400})"(\s*:)?')
_AROUND = " \t\"'`*_.,;:!?-\u201c\u201d\u2018\u2019()[]{}<>#~"
_NOTHING = re.compile(r"(?:none|nothing|n/a|empty)(?: of .*)?|no(?: \w+)? (?:objects?|items?|things?|people|tags?|names?)\b.*")
_NUMBER = re.compile(r"\s*\d+(?:\.\d+)?\s*")


@dataclass(frozen=True)
class Named:
    """tags of a picture, the best first; dropped: why -> how many were left out."""

    tags: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


def names_in(said: Said, max_words: int) -> Named:
    r"""The names in an answer, in order, each once. max_words: of a name; a longer one is none.

    >>> names_in(Said("1. A red car\n2. **Dog**: it sleeps\n3. dog\n4. tre", ended=False), 4)
    Named(tags=('red car', 'dog'), dropped={'vlm_repeated': 1, 'vlm_unfinished': 1})
    >>> names_in(Said('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "Cat"}, {"label": "sofa"}]\n```'), 4).tags
    ('cat', 'sofa')
    """
    answer = judged(said, json=False)
    reason = answer.reason or _refused(answer.text)
    if reason:
        return Named((), {f"{PREFIX}{reason}": 1})
    items, torn = _items(answer.text)
    dropped: Counter[str] = Counter()
    if torn or (items and not (said.ended and len(said.text) <= LONGEST)):
        items = items if torn else items[:-1]
        dropped[UNFINISHED] += 1
    found: dict[str, None] = {}
    for item in items:
        name = _name(item)
        if _NOTHING.fullmatch(name):
            continue
        if why := _no_name(name, max_words) or (REPEATED if name in found else ""):
            dropped[why] += 1
        else:
            found[name] = None
    if not found and not dropped:
        dropped[EMPTY] += 1
    return Named(tuple(found), {f"{PREFIX}{why}": n for why, n in sorted(dropped.items())})


def _refused(text: str) -> str:
    """Whether the whole answer says that there will be none: "refusal" or ""."""
    return "refusal" if unfit(" ".join(text[:200].split()) or "-") == "refusal" else ""


def _items(text: str) -> tuple[list[str], bool]:
    """(what stands in a list, as it was written; whether it breaks off behind them)"""
    begin = text.lstrip()
    if begin[:1] in ("[", "{"):
        return _in_json(begin)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    marked = [bare for line in lines if (mark := _MARK.match(line)) and (bare := line[mark.end() :].strip())]
    if len(marked) > 1:  # beside them are headings and farewells
        return marked, False
    if len(lines) > 1 and not any("," in line for line in lines):  # a name a line
        return [line for line in lines if not line.endswith(":")], False
    return [item for line in lines for item in _split(_SENTENCE.sub("", line, count=1))], False


def _split(text: str) -> Iterator[str]:
    """The names in a line: numbered in it, or between commas."""
    if _INLINE.search(text):
        yield from (part for part in _INLINE.split(text) if part.strip())
        return
    yield from (part for part in _SEPARATORS.split(text) if part.strip(_AROUND))


def _in_json(text: str) -> tuple[list[str], bool]:
    """As `_items`: the names in JSON; of JSON that breaks off or is none, those in quotes."""
    try:
        data, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return list(_quoted(text)), True
    return list(_names(data, _DEPTH)), False


def _names(data: Any, depth: int) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list) and depth:
        for value in data:
            yield from _names(value, depth - 1)
    elif isinstance(data, dict) and depth:
        keys = {str(key).casefold(): value for key, value in data.items()}
        if named := next((keys[key] for key in _KEYS if isinstance(keys.get(key), str)), None):
            yield named
        elif not all(map(_counts, data.values())):  # {"objects": [..]}
            for value in data.values():
                yield from _names(value, depth - 1)
        else:  # {"dog": 2, "cat": "1"}
            yield from map(str, data)


def _counts(value: Any) -> bool:
    """Whether a value says how many there are, or how sure it is, of what its key names."""
    return not isinstance(value, (list, dict, str)) or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def _quoted(text: str) -> Iterator[str]:
    """Texts in quotes that are no keys; where objects are in the list, the values of their keys for names alone."""
    strings = list(_STRING.finditer(text))
    keys = {match[1].casefold() for match in strings if match[2]}
    before = ""
    for match in strings:
        if match[2]:
            before = match[1].casefold()
        elif not keys & {*_KEYS} or before in _KEYS:
            yield match[1]


def _name(item: str) -> str:
    """An item in small letters, without marks, remark and article."""
    text = _BEHIND.sub("", " ".join(item.split()), count=1)
    return _ARTICLE.sub("", text.strip(_AROUND).casefold())


def _no_name(name: str, max_words: int) -> str:
    """Why a text is no name of an object; "" if it is one."""
    if not any(c.isalnum() for c in name):
        return UNREADABLE
    return LONG if len(name) > CHARACTERS or len(name.split()) > max_words else ""
