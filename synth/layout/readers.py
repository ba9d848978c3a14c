"""What a source of layout labels holds: its pictures with their alt texts, listed without decoding a pixel. No torch, no numpy.

Classes are of no interest here: a folder is a place. What cannot be used is listed with its reason, and an alt text that cannot be read is
"", counted in the reader's notes.
"""

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from synth import foreign
from synth.errors import REFUSALS, InputError, not_trouble
from synth.images import sources
from synth.images.sources.base import STATS, Input, Reader
from synth.images.sources.image_folder import METADATA, OURS, caption_in, listed_file, rows_of_metadata
from synth.images.sources.webdataset import Found, WebDatasetReader
from synth.layout.source import KEY
from synth.store.trees import Unread, entries, is_folder, is_picture_file, pictures, suffix_of

SIDECARS = frozenset(("txt", "json", "jsonl", "parquet"))  # beside pictures
# alt texts beside pictures are many small reads: on a network file system they wait, they do not work
THREADS, AHEAD, TOGETHER = 16, 4096, 64  # TOGETHER: a thread's task; a task an input would cost more than its read
SIDECAR_BYTES = 1 << 20  # of a .txt or .json beside a picture; an alt text has hundreds
Item = TypeVar("Item")
Said = TypeVar("Said")

READERS: Mapping[str, str] = {
    "files": "synth.layout.readers:FilesReader",
    "webdataset": "synth.layout.readers:TarsReader",
    "parquet": "synth.images.sources.parquet:ParquetReader",
    "hdf5": "synth.images.sources.hdf5:Hdf5Reader",
    "meta": "synth.layout.meta_files:MetaReader",
}


def layout_of(root: Path) -> str:
    """How a source lies there, by what is at its top: "stage", or one of READERS."""
    if root.is_file():
        return "meta" if root.suffix.lower() in (".json", ".jsonl") else sources.layout_of(root, KEY)
    there = entries(root, KEY)
    names = [e.name for e in there]
    lists = [n for n in names if n.lower().endswith((".json", ".jsonl")) and n not in OURS and not STATS.fullmatch(n)]
    others = "stage.json" in names or any(n.endswith(".tar") for n in names)
    if lists and not others and not any(is_folder(e, KEY) or is_picture_file(e) for e in there):
        return "meta"
    found = sources.layout_of(root, KEY)
    return found if found in ("stage", "webdataset", *sources.TABLES) else "files"


def reader(layout: str, root: Path) -> Reader:
    """The reader of one of READERS."""
    module, name = READERS[layout].split(":")
    return getattr(importlib.import_module(module), name)(root, True, KEY)


class Beside(Unread):
    """What is not read but for what stands beside pictures: their alt texts, and what img2dataset and exports say of them."""

    def other(self, path: str) -> None:
        if suffix_of(path) not in SIDECARS:
            super().other(path)


class FilesReader(Reader):
    """Pictures as files, in folders as deep as they like: img2dataset's output_format=files, an ImageFolder, any folder.

    Each picture's alt text comes from a metadata.jsonl at the top or in a folder there, else from a .txt beside it, else from a .json.
    """

    def __init__(self, root: Path, captions: bool, key: str = KEY):
        super().__init__(root, captions, key)
        self.unread = Beside()

    def __iter__(self) -> Iterator[Input]:
        inputs = (listed_file(path, entry) for path, entry in pictures(self.root, self.unread, key=self.key))
        metadata, without = self._metadata(), 0
        counted: Counter[str] = Counter()

        def ask(item: Input) -> tuple[str, str]:
            text = metadata.get(item.path, "")
            return (text, "") if text else caption_beside(os.path.join(self.root, item.path))

        for item, (caption, why) in beside_each(inputs, ask):
            counted[why] += bool(why)
            without += not caption and not why
            yield replace(item, caption=caption)
        self.notes += notes_of(counted)
        if metadata and without:
            self.notes.append(f"{without:,} pictures have no alt text, neither in a {METADATA} nor beside them")

    def _metadata(self) -> dict[str, str]:
        """path below the root -> alt text, of the files called metadata.jsonl that exports have at their top or in their splits."""
        texts: dict[str, str] = {}
        tops = ["", *(e.name for e in entries(self.root, self.key) if is_folder(e, self.key))]
        for top in tops:
            file = self.root / top / METADATA
            if file.is_file():
                rows = rows_of_metadata(file, True)
                texts |= {f"{top}/{name}" if top else name: caption for name, (caption, _) in rows.items()}
        return texts


def beside_each(items: Iterable[Item], ask: Callable[[Item], Said]) -> Iterator[tuple[Item, Said]]:
    """(item, what `ask` says of it) of each item, in order; asked by threads, some way ahead."""
    items = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(items, AHEAD)):
            tasks = [part[at : at + TOGETHER] for at in range(0, len(part), TOGETHER)]
            for task, answers in zip(tasks, pool.map(lambda task: [ask(item) for item in task], tasks), strict=True):
                yield from zip(task, answers, strict=True)


def caption_of(read: Callable[[str], bytes | None]) -> tuple[str, str]:
    """(alt text in what stands beside a picture, the first that is not empty; "" or why there is one that cannot be read)

    read: the content of its "txt" or "json", None if there is none; InputError where it cannot be read.
    """
    why = ""
    for suffix in ("txt", "json"):
        try:
            if (data := read(suffix)) is None:
                continue
            text = data.decode("utf-8-sig")
            caption = (text if suffix == "txt" else caption_in(foreign.parse(text, suffix, halves=True))).strip()
        except (ValueError, InputError):
            why = why or f".{suffix} beside it that cannot be read"
            continue
        if caption:
            return caption, ""
    return "", why


def caption_beside(picture: str) -> tuple[str, str]:
    """`caption_of` the .txt or .json beside a picture."""
    stem = os.path.splitext(picture)[0]
    return caption_of(lambda suffix: _sidecar(f"{stem}.{suffix}"))


def _sidecar(path: str) -> bytes | None:
    """A small file's content, None if there is none. InputError for one that cannot be read or is too large."""
    try:
        with foreign.open_file(path) as f:
            data = f.read(SIDECAR_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        not_trouble(path, e, REFUSALS)
        raise InputError(f"{path}: cannot be read ({e.strerror})") from e
    if len(data) > SIDECAR_BYTES:
        raise InputError(f"{path}: more than {SIDECAR_BYTES:,} bytes")
    return data


def notes_of(counted: Mapping[str, int]) -> list[str]:
    """What to say of alt texts that are taken for empty."""
    return [f"{n:,} pictures with a {why} have no alt text" for why, n in sorted(counted.items()) if n]


NO_CAPTION = "samples of tars whose alt text cannot be read, which is taken for empty"


class TarsReader(WebDatasetReader):
    """WebDataset tars, img2dataset's among them: alt texts from key.txt, else key.json."""

    def _facts(self, sample: Found, passed: Counter[str]) -> None:
        sample.caption, why = caption_of(sample.texts.get)
        if why:
            passed[NO_CAPTION] += 1
        sample.texts = {}
