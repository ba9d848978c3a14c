"""The source text of a story at plan time: read, and split in a child process with a time limit."""

import json
import re
import subprocess
import sys
from pathlib import Path

from launch.config.schema import StoryPrompts
from launch.plan.inputs import existing
from synth.errors import InputError
from synth.story import splitting
from synth.story.book import Book

GROUP = "story.prompt_config"
LIMIT = 10.0  # seconds that both regexes may take; a book of 10,000 prompts takes a tenth of one


def read_source(path: str | None) -> tuple[Path, str]:
    """(absolute path, its text with \\n line ends). Not there, not a file, not UTF-8: an InputError that shows where."""
    source = existing(path, f"{GROUP}.source", "the text file that is to be illustrated")
    try:
        data = source.read_bytes()
    except OSError as e:
        raise InputError(f"{GROUP}.source: {source} cannot be read ({e.strerror}); it must name a text file") from e
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        start = e.start + (len(data) - len(e.object))  # the decoder counts from behind a byte order mark
        line, before = data.count(b"\n", 0, start) + 1, data[:start].rpartition(b"\n")[2].decode("utf-8", "replace")
        fix = f"convert it: iconv -f latin1 -t utf-8 {source.name}"
        raise InputError(
            f"{GROUP}.source: {source}, line {line}: byte 0x{data[start]:02X} after {before[-30:]!r} is not UTF-8; {fix}"
        ) from e
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InputError(f"{GROUP}.source: {source} is empty; it must hold the text that is to be illustrated")
    return source, text


def read_book(keys: StoryPrompts) -> tuple[Path, Book, int]:
    """(source, its chapters of prompts, how many empty prompts were skipped). Anything wrong is an InputError."""
    for key in ("chapter_split_regex", "prompt_split_regex"):
        check_regex(key, getattr(keys, key))
    for key in ("max_chapters", "max_entries_per_chapter"):
        if (value := getattr(keys, key)) is not None and value < 1:
            raise InputError(f"{GROUP}.{key}={value}: must be 1 or more, or null for all")
    source, text = read_source(keys.source)
    found = split_in_child(
        {
            "text": text,
            "chapter_regex": keys.chapter_split_regex,
            "prompt_regex": keys.prompt_split_regex,
            "max_chapters": keys.max_chapters,
            "max_entries": keys.max_entries_per_chapter,
        },
        source,
    )
    if "error" in found:
        raise InputError(f"{GROUP}: {source}: {found['error']}; mend the regex or the text")
    same = splitting.one_line(keys.prompt_override or "")
    return (
        source,
        Book.of((c["number"], c["title"], [same or p for p in c["prompts"]]) for c in found["chapters"]),
        found["skipped"],
    )


def check_regex(key: str, pattern: str | None) -> None:
    """InputError that shows where a pattern is wrong."""
    if pattern is None and key == "chapter_split_regex":
        return  # all of the text is one chapter
    try:
        if not pattern:
            raise InputError(f"{GROUP}.{key}={pattern!r}: is empty; give a regular expression, such as '\\n'")
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as e:
        at = getattr(e, "pos", None)
        where = f" at {pattern[:at]!r} >>> {pattern[at:]!r}" if at is not None else ""
        raise InputError(f"{GROUP}.{key}={pattern!r}: is no regular expression of Python ({getattr(e, 'msg', e)}{where})") from e


def split_in_child(request: dict, source: Path, limit: float = LIMIT) -> dict:
    """What synth.story.splitting answers. A pattern that does not end in `limit` seconds is an InputError that names it."""
    command = [sys.executable, "-I", splitting.__file__]
    try:
        done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as e:
        told = (e.stderr or b"").decode("utf-8", "replace").splitlines()
        what = told[-1] if told else "the regexes"
        key = what.partition(" ")[0]
        pattern = request.get({"chapter_split_regex": "chapter_regex"}.get(key, "prompt_regex"))
        fix = "avoid one repeat inside another, as in (a+)+"
        raise InputError(f"{GROUP}.{key}={pattern!r}: {what} of {source} took longer than {limit:g} s, so it may never end; {fix}") from e
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").splitlines()
        raise InputError(f"{GROUP}: {source} cannot be split ({told[-1] if told else f'exit code {done.returncode}'})")
    return json.loads(done.stdout)
