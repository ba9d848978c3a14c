"""Tags that somebody else found, by picture: JSON {image: [tag, ..]}, JSONL with an object {image, tags} a line, or text, a line each:
image TAB tag, tag.

A picture is named as the source names it, or by its file name alone where one line has that name.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from synth import foreign
from synth.errors import InputError, not_trouble

FIX = 'write {"a.jpg": ["dog", "red ball"], ..}, or a line each: a.jpg TAB dog, red ball'
_TAGS = ([str], str)


def read_tags(path: Path) -> dict[str, tuple[str, ...]]:
    """name of a picture -> its tags. InputError, naming the file and the entry, for what is none, and for a picture that stands twice."""
    by_picture: dict[str, tuple[str, ...]] = {}
    try:
        for where, image, raw in _entries(path):
            if image in by_picture:
                raise InputError(f"{where}: {image!r} stands twice; write all of its tags in one entry")
            by_picture[image] = unique(raw.split(",") if isinstance(raw, str) else raw)
    except OSError as e:
        not_trouble(path, e)
        raise InputError(f"{path}: cannot be read ({e.strerror}); {FIX}") from e
    if not by_picture:
        raise InputError(f"{path}: names no picture; {FIX}")
    return by_picture


def tags_of(image: str, by_picture: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The tags of a picture, () of one that is not named."""
    return by_picture.get(image) or by_picture.get(image.rpartition("/")[2]) or ()


def strangers(by_picture: Collection[str], images: Iterable[str]) -> list[str]:
    """The names of a file of tags that name none of a source's pictures, in its order.

    >>> strangers(["a.jpg", "b/c.jpg", "d.jpg"], ["x/a.jpg", "c.jpg"])
    ['b/c.jpg', 'd.jpg']
    """
    left = dict.fromkeys(by_picture)
    for image in images:
        left.pop(image, None)
        left.pop(image.rpartition("/")[2], None)
    return list(left)


def unique(tags: list[str], most: int | None = None) -> tuple[str, ...]:
    """Tags without spaces around them, each once whatever its case, the empty ones left out.

    >>> unique([" dog", "", "Dog", "red  ball"])
    ('dog', 'red ball')
    """
    first: dict[str, str] = {}
    for tag in tags:
        if text := " ".join(tag.split()):
            first.setdefault(text.casefold(), text)
    return tuple(first.values())[:most]


def _entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(where it stands, picture, tags) of each entry."""
    if path.suffix.lower() == ".json":
        data = foreign.read_json(path, foreign.TABLE, FIX, once=True)
        if not foreign.fits(data, {str: _TAGS}):
            raise InputError(f"{path}: is no object of lists of tags; {FIX}")
        yield from ((f"{path}", image, tags) for image, tags in data.items())
        return
    for n, line in enumerate(foreign.lines(path, foreign.TABLE), 1):
        where = f"{path}: line {n}"
        if not line.strip():
            continue
        if path.suffix.lower() == ".jsonl":
            entry = foreign.obj(foreign.parse(line, where, FIX), where, FIX, image=str, tags=_TAGS)
            yield where, entry["image"], entry["tags"]
            continue
        try:
            image, tab, tags = str(line.rstrip(b"\r"), "utf-8-sig").partition("\t")
        except UnicodeDecodeError as e:
            raise InputError(f"{where}: is not UTF-8 text; convert the file") from e
        if not tab or not image.strip():
            raise InputError(f"{where}: holds no tab between a picture and its tags; {FIX}")
        yield where, image.strip(), tags
