"""Parquet files with pictures, as Hugging Face datasets and our own export write them: listed by their small columns alone.

`image` is a struct of bytes and path. Classes come from `label`, whose names stand in the file's note of Hugging Face; the classes.json of
an export of ours has their official indices. Captions come from `caption` or `text`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from synth.errors import InputError
from synth.images.sources.base import ROW, Input, Packed, SourceClass
from synth.images.sources.class_folders import CLASSES, listed_classes
from synth.images.sources.packed import SUFFIXES, PackedReader, apart
from synth.images.sources.row_groups import IS_NULL, SEEN, Columns, judge, opened
from synth.store.trees import plain

ROWS = 1024  # of small columns that are in memory at once
OURS = frozenset(("image", "label", "caption", "key", "seed"))  # columns of our export


class ParquetReader(PackedReader):
    suffixes = SUFFIXES["parquet"]

    def __iter__(self) -> Iterator[Input]:
        for name, path in self.files():
            identity = self.identify(path)
            with opened(path, self.key) as parquet:
                yield from self._of_file(name, path, parquet, identity)

    def _of_file(self, name: str, path: Path, parquet: pq.ParquetFile, identity: str) -> Iterator[Input]:
        where, row = f"{self.key}: {path}", 0
        columns = Columns.of(parquet.schema_arrow, where)
        ours = set(parquet.schema_arrow.names) == OURS
        self._note(columns.note)
        numbers = [self.number(c) for c in self._named(path, columns.names, ours)]
        judge(parquet, columns.image, where)
        packed, taken = Packed(identity, ROW), set[str]()
        for paths, labels, captions in self._small(parquet, columns):
            for image, label, caption in zip(paths, labels, captions, strict=True):
                classes, wrong = self._labels(label, numbers, bool(columns.names))
                reason = IS_NULL if image is None else wrong
                spoken = _spoken(image, row, ours)
                key = plain(f"{name}/{apart(spoken, row, taken) if ours else spoken}")
                yield Input(key, name, 0, row, classes, (caption or "").strip(), reason, packed=packed)
                row += 1

    def _small(self, parquet: pq.ParquetFile, columns: Columns) -> Iterator[tuple[list, list, list]]:
        """(structs with the path alone, labels, captions) of the rows, a part after the other; None where there is nothing."""
        image, caption = columns.image, columns.caption if self.captions else ""
        wanted, rows = [c for c in (columns.label, caption) if c], ROWS
        if columns.has_path:
            wanted.append(f"{image}.path")
        if not wanted:  # only what is read tells how many rows there are
            wanted, rows = [f"{image}.bytes"], SEEN
        for batch in parquet.iter_batches(rows, columns=wanted, use_threads=False):
            there: dict[str, list[Any]] = {field: batch.column(field).to_pylist() for field in batch.schema.names}
            nothing = [None] * batch.num_rows
            yield there.get(image, [{}] * batch.num_rows), there.get(columns.label, nothing), there.get(caption, nothing)

    def _labels(self, label: int | str | None, numbers: Sequence[int], named: bool) -> tuple[tuple[int, ...], str]:
        """(class numbers of a row, why it cannot be used). Hugging Face writes -1 where nobody labelled a picture."""
        if label is None or (isinstance(label, int) and label < 0):
            return (), ""
        if isinstance(label, str):
            return (self.number(SourceClass(None, label)),), ""
        if not named:
            return (self.number(SourceClass(label, str(label))),), ""
        return ((numbers[label],), "") if label < len(numbers) else ((), f"has label {label}, and the file names {len(numbers)} classes")

    def _named(self, path: Path, names: Sequence[str], ours: bool) -> list[SourceClass]:
        """The classes that a file names. Those of our export have the official indices of the classes.json beside them."""
        if not (ours and names):
            return [SourceClass(i, name) for i, name in enumerate(names)]
        file = next((f / CLASSES for f in (path.parent, path.parent.parent) if (f / CLASSES).is_file()), None)
        if file is None:
            self._note(f"there is no {CLASSES} beside {self.root}, so classes are counted from 0, in official order")
            return [SourceClass(i, name) for i, name in enumerate(names)]
        official = _official(file)
        if len(official) != len(names) or not all(_agree(c, name) for c, name in zip(official, names, strict=True)):
            fix = f"put the {CLASSES} of the export there, or remove it, and classes are counted from 0"
            raise InputError(f"{self.key}: {path}: its classes are not those of {file}; {fix}")
        return list(official)

    def _note(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)


def _official(file: Path) -> tuple[SourceClass, ...]:
    return tuple(SourceClass(index, name) for index, name, _ in sorted(listed_classes(file)))


def _agree(official: SourceClass, name: str) -> bool:
    """Whether the export writes a class so: as it is called, with its index where several are called so."""
    spoken = official.name.encode("utf-8", "replace").decode()
    return name in (spoken, f"{spoken} ({official.index})")


def _spoken(image: dict, row: int, ours: bool) -> str:
    """The name of a row in its file: what our export calls a picture; else its number, and its file's name if that is one."""
    base = (image.get("path") or "").rpartition("/")[2] if image else ""
    if base in ("", ".", "..") or not base.isprintable():
        return f"{row:06d}"
    return base if ours else f"{row:06d}/{base}"
