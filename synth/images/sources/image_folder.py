"""Pictures as files: <class>/<name>.<ext> (ImageFolder as torchvision, Hugging Face and our export have it), and img2dataset's.

A folder is a class, whatever lies between it and the picture; `class_folders` says which folders these are. Links are followed, hidden
names left out. Our own export says in classes.json which class a folder is, and in metadata.jsonl all labels of a picture. Captions come
from metadata.jsonl (`caption` or `text`), else from a .txt beside the picture, else from a .json.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from synth import foreign
from synth.errors import REFUSALS, InputError, not_trouble
from synth.images.sources.base import MANIFEST, STATS, Input, Reader, SourceClass, too_large
from synth.images.sources.class_folders import CLASSES, METADATA, ClassFolders, class_folders
from synth.store.trees import decoded_here, entries, form_suffix, is_folder, of_one_size, pictures, plain, suffix_of

OURS = frozenset((METADATA, CLASSES, "README.md", MANIFEST))  # beside the pictures of an export: nothing is missing without them
THREADS, AHEAD = 16, 4096  # captions beside pictures are many small reads: on a network file system they wait, they do not work
SIDECAR_BYTES = 1 << 20
CAPTION_KEYS = ("caption", "text")
NO_CLASS = "lies beside the class folders, so it has no class"


class ImageFolderReader(Reader):
    """Class folders (`class_folders`); pictures without any class folder are one class without a name."""

    at_top = False  # the folders at the top are the classes, whatever they are called

    def __iter__(self) -> Iterator[Input]:
        found = class_folders(self.root, self.key, self._fix(), self.at_top)
        self.notes += found.notes
        metadata = self._all_metadata(found)
        loose = [listed_file(path, e) for base in found.around for path, e in self._beside(base) if decoded_here(path, e, self.unread)]
        numbers, sorted_in = self._number_all(found), False
        for folder in found.folders:
            labels = () if found.by_rows else (numbers[folder.rpartition("/")[2]],)
            for item in self._with_facts(self._below(folder), labels, metadata):
                sorted_in = True
                yield item
        for folder in found.beside:
            yield from (replace(item, reason=item.reason or NO_CLASS) for item in self._below(folder))
        if sorted_in:
            yield from (replace(item, reason=item.reason or NO_CLASS) for item in loose)
        else:
            self.classes.clear()
            yield from self._with_facts(iter(loose), (), metadata)

    def _fix(self) -> str:
        return self.plainly("takes the folders at the top for the classes", "for other classes, name the folder that they lie in")

    def _below(self, folder: str) -> Iterator[Input]:
        return (listed_file(path, entry) for path, entry in pictures(self.root, self.unread, folder, self.key))

    def _beside(self, base: str) -> Iterator[tuple[str, os.DirEntry]]:
        """(path, entry) of what lies directly in a folder and is none."""
        for entry in entries(self.root / base, self.key, unread=self.unread):
            path = f"{base}/{entry.name}" if base else entry.name
            if not is_folder(entry, self.key) and entry.name not in OURS:
                yield path, entry

    def _all_metadata(self, found: ClassFolders) -> dict:
        """The rows of metadata.jsonl at the root and of those in its splits, by path below the root."""
        metadata = {}
        for base in dict.fromkeys(("", *found.bases)):
            file = self.root / base / METADATA
            if file.is_file():
                rows = rows_of_metadata(file, self.captions, found.by_rows)
                metadata |= {f"{base}/{name}": row for name, row in rows.items()} if base else rows
        return metadata

    def _number_all(self, found: ClassFolders) -> dict[str, int]:
        """name of a folder -> class number. A class is a class without pictures too; golden_retriever is spoken as golden retriever."""
        known = found.known or {}
        names = list(known) if found.by_rows else list(dict.fromkeys(folder.rpartition("/")[2] for folder in found.folders))
        numbers = {}
        for name in sorted(names) if len(found.bases) > 1 else names:  # an order that is the same whatever the splits are called
            spoken = name.replace("_", " ")
            said = name if spoken in names else spoken
            numbers[name] = self.number(known.get(name) or SourceClass(None, plain(said)))
        return numbers

    def _with_facts(self, inputs: Iterator[Input], labels: tuple[int, ...], metadata: dict) -> Iterator[Input]:
        """Labels and captions: of metadata.jsonl, else of the class folder and of the files beside the picture."""
        if not self.captions or metadata:
            for item in inputs:
                caption, more = metadata.get(item.path, ("", ()))
                numbers = tuple(self.number(c) for c in more)
                yield replace(item, labels=numbers or labels, caption=caption)
            return
        with ThreadPoolExecutor(THREADS) as pool:
            while part := list(islice(inputs, AHEAD)):
                captions = pool.map(lambda item: _caption_beside(self.root / item.path), part)
                yield from (replace(i, labels=labels, caption=c) for i, c in zip(part, captions, strict=True))


class PlainFolderReader(ImageFolderReader):
    """layout=image_folder, asked for by name: the first folder below the root is the class, whatever it is called."""

    at_top = True


class FilesReader(ImageFolderReader):
    """Pictures whose classes nobody asks for: a folder is a place."""

    def __iter__(self) -> Iterator[Input]:
        yield from self._with_facts(self._below(""), (), {})


class Img2DatasetReader(ImageFolderReader):
    """img2dataset's output_format=files: folders are shards, not classes; a .txt and a .json stand beside each picture."""

    def __iter__(self) -> Iterator[Input]:
        if not any(STATS.fullmatch(e.name) for e in entries(self.root, self.key)):  # folders of persons may be numbered so too
            self.notes.append(f"the folders of {self.root} are taken for shards of img2dataset, which are no classes; {self._fix()}")
        yield from self._with_facts(self._below(""), (), {})


def listed_file(path: str, entry: os.DirEntry) -> Input:
    """A file as an input, or as one with a reason: it may be no file at all. path: below the root of the source."""
    try:
        if not entry.is_file():
            return Input(plain(path), path, reason="a broken link" if entry.is_symlink() else "not a regular file")
        size = entry.stat().st_size
    except OSError as e:
        not_trouble(entry.path, e, REFUSALS)
        return Input(plain(path), path, reason=f"cannot be read: {e.strerror}")
    return Input(plain(path), path, size, reason=too_large(size), to_read=of_one_size(suffix_of(entry.name) or form_suffix(entry)))


_ROW = {"file_name": str, "labels": foreign.Maybe([foreign.COUNT], []), "label_names": foreign.Maybe([str], [])}


def rows_of_metadata(file: Path, captions: bool, labelled: bool = False) -> dict[str, tuple[str, tuple[SourceClass, ...]]]:
    """path -> (caption, classes) of metadata.jsonl; without captions only of pictures that have several classes, labelled: of all."""
    by_path = {}
    for n, line in enumerate(foreign.lines(file, foreign.TABLE), 1):
        where, fix = f'{file}: line {n} is torn or has no "file_name"', "mend or remove the line"
        raw = foreign.parse(line, where, fix, halves=True)
        record = foreign.obj(raw, where, fix, **_ROW)
        labels, names = record["labels"], record["label_names"]
        if len(labels) != len(names):
            raise InputError(f"{file}: line {n} has {len(labels)} labels with {len(names)} names; {fix}")
        classes = tuple(map(SourceClass, labels, names)) if len(labels) > (not labelled) else ()
        caption = next((str(raw[k]) for k in CAPTION_KEYS if raw.get(k)), "") if captions else ""
        if caption or classes:
            by_path[record["file_name"]] = caption, classes
    return by_path


def _caption_beside(picture: Path) -> str:
    """The caption in the .txt or .json beside a picture; "" if there is none that can be read."""
    for suffix in (".txt", ".json"):
        try:
            with foreign.open_file(picture.with_suffix(suffix)) as f:
                text = f.read(SIDECAR_BYTES).decode("utf-8")
            if suffix == ".txt":
                return text.strip()
            return caption_in(foreign.parse(text, picture, halves=True))
        except (OSError, ValueError, InputError) as e:  # no such file, or torn: an input without a caption, whose tombstone says so
            not_trouble(picture.with_suffix(suffix), e, REFUSALS)
    return ""


def caption_in(record: object) -> str:
    """The caption of a sample's JSON; "" if it has none."""
    if not isinstance(record, dict):
        return ""
    return next((str(record[k]) for k in CAPTION_KEYS if record.get(k)), "")
