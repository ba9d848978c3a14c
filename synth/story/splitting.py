"""A text -> chapters -> prompts, by two regular expressions. Standard library only: a child process runs this file by its path,

so that a pattern that would never end can be stopped (Python's re holds the interpreter). It reads one JSON object from stdin,
tells on stderr what it is about to match, and prints one JSON object.
"""

import json
import re
import sys
from collections.abc import Mapping

SHOWN = 60  # characters of the text in a message


class Unsplit(ValueError):
    """The text cannot be split as asked; says where."""


def pieces(pattern: str, text: str) -> list[tuple[str, str, int]]:
    """[(match, the text behind it up to the next match, where that begins)]: what re.split gives, without its first piece.

    Groups in the pattern add no pieces of their own.

    >>> pieces("Gen[.]", "front Gen.1 a Gen.2 b")
    [('Gen.', '1 a ', 10), ('Gen.', '2 b', 18)]
    """
    matches = list(re.finditer(pattern, text))
    ends = [m.start() for m in matches] + [len(text)]
    return [(m[0], text[m.end() : end], m.end()) for m, end in zip(matches, ends[1:], strict=True)]


def one_line(text: str) -> str:
    return " ".join(text.split())


def shown(text: str) -> str:
    """The beginning of a text, for messages."""
    text = one_line(text)
    return repr(text[:SHOWN] + ("\u2026" if len(text) > SHOWN else ""))


def split(
    text: str,
    chapter_regex: str | None,
    prompt_regex: str,
    max_chapters: int | None,
    max_entries: int | None,
    tell=lambda what: None,
) -> dict:
    """{"chapters": [{"number", "title", "prompts"}], "skipped": prompts that were empty}. Raises Unsplit.

    chapter_regex None: all of the text is one chapter, and nothing of it is dropped.
    max_entries counts prompts that are not empty.
    """
    tell("chapter_split_regex")
    parts = [("", text, 0)] if chapter_regex is None else pieces(chapter_regex, text)
    if not parts:
        lines = f"its {text.count(chr(10)) + 1} lines, which begin with {shown(text)}"
        raise Unsplit(f"chapter_split_regex={chapter_regex!r}: matches nothing in {lines}")
    chapters, skipped, line, at = [], 0, 1, 0
    for number, (mark, body, start) in enumerate(parts[:max_chapters], start=1):
        line, at = line + text.count("\n", at, start), start
        title = one_line(mark)
        where = f"chapter {number}{f' ({shown(title)})' if title else ''}, line {line}"
        tell(f"prompt_split_regex in {where}")
        entries = [one_line(entry) for _, entry, _ in pieces(prompt_regex, body)]
        if not entries:
            raise Unsplit(f"prompt_split_regex={prompt_regex!r}: matches nothing in {where}, which holds {shown(body)}")
        kept = [e for e in entries if e]
        if not kept:
            behind = f"behind a match of prompt_split_regex={prompt_regex!r}; it holds {shown(body)}"
            raise Unsplit(f"{where}: no prompt in it (only {len(entries)} empty ones) {behind}")
        if max_entries is not None and len(kept) > max_entries:
            last = [i for i, e in enumerate(entries) if e][max_entries - 1]
            entries, kept = entries[: last + 1], kept[:max_entries]
        skipped += len(entries) - len(kept)
        chapters.append({"number": number, "title": title, "prompts": kept})
    return {"chapters": chapters, "skipped": skipped}


def answer(request: Mapping, tell=lambda what: None) -> dict:
    """What `split` gives, or {"error": why not}."""
    try:
        return split(**request, tell=tell)
    except Unsplit as e:
        return {"error": str(e)}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin), lambda what: print(what, file=sys.stderr, flush=True)), sys.stdout)
