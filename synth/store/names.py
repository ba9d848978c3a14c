"""Class names -> folder names that every file system, shell and loader takes; reversible, without clashes. Pure.

Letters and digits of any script, `-`, `.`, `,` and `+` stay; a space becomes `_`; all else becomes `%XX` a byte of UTF-8, as
in addresses. Names that would still clash (two classes of one name, or names that differ in case only) get `~<index>`.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote

from synth.errors import InputError

if TYPE_CHECKING:
    from synth.store.folder import StageFolder
    from synth.store.spec import StageSpec


class HasSpec(Protocol):
    """A stage as it is planned, or as it is there."""

    @property
    def spec(self) -> "StageSpec": ...


S = TypeVar("S", bound=HasSpec)
MAX_BYTES = 200  # most file systems stop at 255; what is longer keeps a readable head and a hash
EMPTY = "~"
HELD_AGAINST = (
    "against",
    "real",
    "test",
    "real_neighbours",
    "lora",
)  # roles of sets that a stage is held against, or learned from: their classes, and how they are numbered, are none of its own
MOST_CLASSES = 1 << 31  # an official index is below that
_STAY = frozenset("-.,+")
# names that Windows keeps for devices, and the files that stand beside the class folders
_RESERVED = re.compile(
    r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?|metadata\.jsonl|classes\.json|manifest\.parquet|readme\.md",
    re.IGNORECASE,
)
# Hugging Face's loaders take a folder called "train", "test-tube" or "bullet train" for a split and drop all others
_SPLIT = re.compile(r"(?<![^-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![^-._ 0-9])", re.IGNORECASE)


def folder_name(name: str) -> str:
    """The safe form of one class name. Names that differ give forms that differ, except by letter case (see `folder_names`)."""
    if not name:
        return EMPTY
    safe = "".join(_safe(c) for c in name)
    if unicodedata.normalize("NFC", safe) != safe:  # some file systems compose letters, so two spellings would meet
        safe = "".join(c if c.isascii() else _hex(c) for c in safe)
    if safe[0] in ".-":  # hidden, "..", or taken for an option
        safe = _hex(safe[0]) + safe[1:]
    if safe[0] == "_":
        safe = "%20" + safe[1:]
    if safe[-1] == "_":
        safe = safe[:-1] + "%20"
    if safe[-1] == ".":  # Windows drops trailing dots
        safe = safe[:-1] + "%2E"
    if _RESERVED.fullmatch(safe):
        safe = _hex(safe[0]) + safe[1:]
    safe = _SPLIT.sub(lambda m: _hex(m[0][0]) + m[0][1:], safe)
    if len(safe.encode()) > MAX_BYTES:
        mark = "~h" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        safe = _head(safe, MAX_BYTES - len(mark)) + mark
    return safe


def class_name(folder: str) -> str | None:
    """The class name of a folder name; None if it was shortened, and classes.json has to tell."""
    stem, mark, rest = folder.partition("~")
    if mark and rest.startswith("h"):
        return None
    return unquote(stem.replace("_", " "), errors="surrogatepass")


def folder_names(classes: Mapping[int, str]) -> dict[int, str]:
    """official index -> folder name, for all classes of a dataset; no two are equal on any file system."""
    plain = {index: folder_name(name) for index, name in sorted(classes.items())}
    same: dict[str, list[int]] = {}
    for index, name in plain.items():
        same.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(index)
    for indices in same.values():
        if len(indices) > 1:
            for index in indices:
                plain[index] += f"~{index}"
    return plain


def classes_of(stage: "StageFolder") -> dict[int, str]:
    """official index -> class name, from the first stages upstream that have a dataset in their config."""
    return classes_in(stage, lambda s: [up for role in own_roles(s) for up in s.upstream(role)])


def own_roles(stage: HasSpec) -> list[str]:
    """The roles of what a stage is made of, in order: without what it is compared with."""
    return sorted(set(stage.spec.upstream) - set(HELD_AGAINST))


def classes_in(stage: S, above: Callable[[S], Iterable[S]]) -> dict[int, str]:
    """The same of stages of which not all are there yet. above: the stages that one is made of, by role and in order."""
    dataset = stage.spec.config.get("dataset")
    if isinstance(dataset, Mapping) and (classes := dataset.get("classes")):
        return judged_classes(classes, f"{stage.spec.folder_name}: its stage.json: dataset.classes", "plan the stage again")
    names: dict[int, str] = {}
    for up in above(stage):
        for index, name in classes_in(up, above).items():
            if names.setdefault(index, name) != name:
                raise InputError(
                    f"{stage.spec.folder_name}: class {index} is {names[index]!r} in one upstream, {name!r} in another; export them apart"
                )
    return names


def judged_classes(classes: object, where: str, fix: str) -> dict[int, str]:
    """official index -> name, of a list of classes. Indices and names become folders: others than such are an InputError."""
    names: dict[int, str] = {}
    for n, entry in enumerate(classes if isinstance(classes, (list, tuple)) else [None]):
        index, name = (entry.get("index"), entry.get("name")) if isinstance(entry, Mapping) else (None, None)
        if type(index) is not int or not 0 <= index < MOST_CLASSES or not isinstance(name, str) or index in names:
            raise InputError(f"{where}[{n}] is no class with an index of its own and a name; {fix}")
        names[index] = name
    return names


def _safe(c: str) -> str:
    if c == " ":
        return "_"
    if c in _STAY or (c.isascii() and c.isalnum()):
        return c
    # letters, digits and the marks that many scripts need; not what looks like a separator, nor a private or unknown character
    if not c.isascii() and unicodedata.category(c)[0] in "LMN":
        return c
    return _hex(c)


def _hex(c: str) -> str:
    return "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass"))


def _head(safe: str, size: int) -> str:
    """The longest beginning of at most `size` bytes that cuts neither a character nor a %XX."""
    head = safe.encode()[:size].decode("utf-8", "ignore")
    return re.sub(r"%[0-9A-F]?$", "", head)
