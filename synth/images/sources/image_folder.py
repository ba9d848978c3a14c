"""Pictures as files: <class>/<name>.<ext> (ImageFolder as torchvision, Hugging Face and our export have it), and img2dataset's.

The first folder below the root is the class, whatever lies between it and the picture; links are followed, hidden names left
out. Our own export says in classes.json which class a folder is, and in metadata.jsonl all labels of a picture. Captions come
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
from synth.images.sources.base import KEY, Input, Reader, SourceClass, too_large
from synth.store.trees import decoded_here, entries, is_folder, pictures, plain

METADATA, CLASSES = "metadata.jsonl", "classes.json"
THREADS, AHEAD = 16, 4096  # captions beside pictures are many small reads: on a network file system they wait, they do not work
SIDECAR_BYTES = 1 << 20
CAPTION_KEYS = ("caption", "text")
NO_CLASS = "lies beside the class folders, so it has no class"


class ImageFolderReader(Reader):
    """Class folders; pictures without any class folder are one class without a name."""

    def __iter__(self) -> Iterator[Input]:
        metadata = _metadata(self.root / METADATA, self.captions) if (self.root / METADATA).is_file() else {}
        folders, files = [], []
        for entry in entries(self.root, KEY):
            (folders if is_folder(entry, KEY) else files).append(entry)
        folders = [e.name for e in folders]
        loose = (_input(e.name, e) for e in files if decoded_here(e.name, self.undecoded))
        numbers, sorted_in = self._number_all(folders), False
        for folder in folders:
            for item in self._with_facts(self._below(folder), (numbers[folder],), metadata):
                sorted_in = True
                yield item
        if sorted_in:
            yield from (replace(item, reason=item.reason or NO_CLASS) for item in loose)
        else:
            self.classes.clear()
            yield from self._with_facts(loose, (), metadata)

    def _below(self, folder: str) -> Iterator[Input]:
        return (_input(path, entry) for path, entry in pictures(self.root, self.undecoded, folder, KEY))

    def _number_all(self, folders: list[str]) -> dict[str, int]:
        """folder -> class number. A class is a class without pictures too; golden_retriever is spoken as golden retriever."""
        known, numbers = _known_classes(self.root / CLASSES), {}
        for folder in folders:
            if known and folder not in known:
                raise InputError(f"{self.root / CLASSES}: does not name folder {plain(folder)!r}; remove the folder, or that file")
            spoken = folder.replace("_", " ")
            name = folder if spoken in folders else spoken
            numbers[folder] = self.number(known.get(folder) or SourceClass(None, plain(name)))
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


class Img2DatasetReader(ImageFolderReader):
    """img2dataset's output_format=files: folders are shards, not classes; a .txt and a .json stand beside each picture."""

    def __iter__(self) -> Iterator[Input]:
        yield from self._with_facts(self._below(""), (), {})


def _input(path: str, entry: os.DirEntry) -> Input:
    try:
        if not entry.is_file():
            return Input(plain(path), path, reason="a broken link" if entry.is_symlink() else "not a regular file")
        size = entry.stat().st_size
    except OSError as e:
        not_trouble(entry.path, e, REFUSALS)
        return Input(plain(path), path, reason=f"cannot be read: {e.strerror}")
    return Input(plain(path), path, size, reason=too_large(size))


_CLASS = {"index": foreign.COUNT, "name": str, "folder": str}
_ROW = {"file_name": str, "labels": foreign.Maybe([foreign.COUNT], []), "label_names": foreign.Maybe([str], [])}


def _known_classes(file: Path) -> dict[str, SourceClass]:
    """folder -> class of our own export's classes.json; {} if there is none, or another's file of that name."""
    where, fix = f"{file}: not the classes.json of an export", "remove it, and the folders name the classes"
    try:
        raw = foreign.parse(foreign.read(file, foreign.STAGE), where, fix, halves=True)
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise InputError(f"{where} ({e.strerror}); {fix}") from e
    listed = [foreign.obj(c, where, fix, **_CLASS) for c in foreign.obj(raw, where, fix, classes=[dict])["classes"]]
    return {c["folder"]: SourceClass(c["index"], c["name"]) for c in listed}


def _metadata(file: Path, captions: bool) -> dict[str, tuple[str, tuple[SourceClass, ...]]]:
    """path -> (caption, classes) of metadata.jsonl; without captions only of pictures that have several classes."""
    by_path = {}
    for n, line in enumerate(foreign.lines(file, foreign.TABLE), 1):
        where, fix = f'{file}: line {n} is torn or has no "file_name"', "mend or remove the line"
        raw = foreign.parse(line, where, fix, halves=True)
        record = foreign.obj(raw, where, fix, **_ROW)
        labels, names = record["labels"], record["label_names"]
        if len(labels) != len(names):
            raise InputError(f"{file}: line {n} has {len(labels)} labels with {len(names)} names; {fix}")
        classes = tuple(map(SourceClass, labels, names)) if len(labels) > 1 else ()
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
