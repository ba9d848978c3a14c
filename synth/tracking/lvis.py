"""LVIS's files made ready for tracking pairs:

    python -m synth.tracking.lvis base IN.json OUT.json                without the rare classes; the others numbered from 1
    python -m synth.tracking.lvis merge LVIS.json COCO.json OUT.json   LVIS's annotations and those of COCO that it lacks

base: images lose no class silently: neg_category_ids and not_exhaustive_category_ids are numbered anew too. merge: an object of COCO is
added unless LVIS has one of its class whose box overlaps by 0.7 (IoU), or says that its class is not there; images without any
annotation of LVIS get COCO's. Classes are found by synset and name, never by id; what finds none, or no image, is counted
and named. Both give images a file_name. For the base classes of a merge, run merge first, then base.

OUT.json appears when it is whole; one that is there is never replaced. Exit codes: 0; 65 bad input; 75 the disk refuses, run it again.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth import foreign
from synth.errors import InputError, tool
from synth.store.files import beside, replace, storing
from synth.tracking.coco import Category, CocoFile, Image, Raw, Struct, decoded, msgspec, read, with_name, with_values
from synth.tracking.lvis_merge import Counted, Merge

RARE = "r"  # frequency of the classes that open-vocabulary work holds back
LISTS = ("neg_category_ids", "not_exhaustive_category_ids")  # of an image


@dataclass(frozen=True)
class Numbers:
    """category id -> its new id, None for classes that are left out."""

    new: dict[int, int | None]

    @property
    def change(self) -> bool:
        return any(old != new for old, new in self.new.items())

    def categories(self, rows: Sequence[Raw]) -> list[bytes]:
        return [with_values(row, id=n) for row in rows if (n := self._id(row, "id")) is not None]

    def image(self, row: Raw | bytes, where: str) -> bytes:
        """An image with the classes that its lists name numbered anew; those that are left out are left out there too."""
        fields = msgspec.json.decode(row, type=dict[str, Raw])
        for key in LISTS:
            if key in fields:
                try:
                    old = msgspec.json.decode(fields[key], type=list[int])
                    fields[key] = Raw(msgspec.json.encode([n for i in old if (n := self.new[i]) is not None]))
                except (msgspec.DecodeError, KeyError) as e:
                    what = f"names category {e}, which is none" if isinstance(e, KeyError) else f"is no list of category ids ({e})"
                    raise InputError(f"{where}: {key} {what}; mend it") from e
        return msgspec.json.encode(fields)

    def annotation(self, row: Raw | bytes) -> bytes:
        """An annotation of a class that remains."""
        return with_values(row, category_id=self._id(row, "category_id"))

    def _id(self, row: Raw | bytes, key: str) -> int | None:
        return self.new[msgspec.json.decode(msgspec.json.decode(row, type=dict[str, Raw])[key])]


def all_numbers(categories: Sequence[Category]) -> Numbers:
    """Every class as it is."""
    return Numbers({c.id: c.id for c in categories})


def base_numbers(categories: Sequence[Category], path: Path) -> Numbers:
    """The classes that are not rare, from 1 on in the file's order. InputError if a class does not say how frequent it is."""
    for c in categories:
        if c.frequency not in ("f", "c", RARE):
            raise InputError(
                f"{path}: category {c.id} ({c.name!r}) has the frequency {c.frequency!r}, not f, c or r; base classes are LVIS's"
            )
    kept = [c.id for c in categories if c.frequency != RARE]
    if not kept:
        raise InputError(f"{path}: all of its {len(categories)} classes are rare; use dataset.base_classes=false")
    return Numbers({c.id: None for c in categories} | {old: new for new, old in enumerate(kept, 1)})


# -- the tool ----------------------------------------------------------------------------------------------------------


class _Class(Struct, gc=False):
    category_id: int


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m synth.tracking.lvis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tools = p.add_subparsers(dest="tool", required=True)
    one = tools.add_parser("base", help="without the rare classes")
    one.add_argument("lvis", type=Path, metavar="IN.json")
    two = tools.add_parser("merge", help="with COCO's annotations")
    two.add_argument("lvis", type=Path, metavar="LVIS.json")
    two.add_argument("coco", type=Path, metavar="COCO.json")
    for either in (one, two):
        either.add_argument("out", type=Path, metavar="OUT.json")
    args = p.parse_args(argv)
    return tool(lambda: merge(args.lvis, args.coco, args.out) if args.tool == "merge" else base(args.lvis, args.out))


def base(path: Path, out: Path) -> str:
    """Write the base classes of `path` to `out`; what to say."""
    _free(out, path)
    file = read(path, "IN.json")
    numbers = base_numbers(list(decoded(path, "categories", file.categories, Category)), path)
    images = (
        numbers.image(with_name(raw, i), f"{path}: image {i.id}")
        for i, raw in zip(decoded(path, "images", file.images, Image), file.images, strict=True)
    )
    categories = numbers.categories(file.categories)
    kept = _Count(_base_annotations(file, numbers))
    summary = _write(out, file, images, kept, categories)
    return f"{summary}: {len(categories):,} of {len(file.categories):,} classes, {kept.n:,} of {len(file.annotations):,} annotations"


def _base_annotations(file: CocoFile, numbers: Numbers) -> Iterator[bytes]:
    for i, (a, raw) in enumerate(zip(decoded(file.path, "annotations", file.annotations, _Class), file.annotations, strict=True)):
        if a.category_id not in numbers.new:
            raise InputError(f"{file.path}: annotations[{i}]: category_id {a.category_id} is no category of the file; mend it")
        if numbers.new[a.category_id] is not None:
            yield with_values(raw, category_id=numbers.new[a.category_id])


def merge(lvis: Path, coco: Path, out: Path) -> str:
    """Write the annotations of both to `out`; what to say."""
    _free(out, lvis, coco)
    file = read(lvis, "LVIS.json")
    both = Merge(file, read(coco, "COCO.json"))
    summary = _write(out, file, both.images(), both.annotations(), file.categories)
    n = both.counted
    return (
        f"{summary}: {n.lvis:,} annotations of LVIS and {n.coco:,} of COCO ({n.same:,} others are LVIS's own objects, "
        f"{n.negative:,} of classes that LVIS says are not there); {n.only_coco:,} images have annotations of COCO alone" + _left_out(n)
    )


def _left_out(n: Counted) -> str:
    """What of COCO's annotations a merge could not take."""
    said = [f"{n.other_images:,} of images that LVIS does not have"] if n.other_images else []
    if n.other_classes:
        most = ", ".join(f"{name!r} {count:,}" for name, count in n.other_classes.most_common(10))
        said.append(f"{n.other_classes.total():,} of {len(n.other_classes)} classes that LVIS does not have ({most})")
    return f"; left out of COCO's: {' and '.join(said)}" if said else ""


class _Count:
    """Passes items on and counts them."""

    def __init__(self, items: Iterable[bytes]):
        self._items, self.n = items, 0

    def __iter__(self) -> Iterator[bytes]:
        for item in self._items:
            self.n += 1
            yield item


def _free(out: Path, *inputs: Path) -> None:
    for path in inputs:
        if os.path.realpath(path) == os.path.realpath(out):
            raise InputError(f"{out}: is an input too; write to another file")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out.absolute().parent}: no such folder; make it first")


def _write(out: Path, file: CocoFile, images: Iterable[bytes], annotations: Iterable[bytes], categories: Iterable[bytes]) -> str:
    """A file with the other parts of `file` and these lists, item by item; its path. One that is there must hold the very same."""
    temp = beside(out)
    sha = hashlib.sha256()
    lists = {"images": images, "annotations": annotations, "categories": categories}
    try:
        with storing(out), open(temp, "wb", buffering=1 << 20) as f:
            for data in _json(file, lists):
                sha.update(data)
                f.write(data)
            f.flush()
            os.fsync(f.fileno())
        with storing(out):
            if out.exists():
                if _sha(out) != sha.digest():
                    raise InputError(f"{out}: is there already and holds something else; remove it or choose another one")
            else:
                replace(temp, out)
    finally:
        temp.unlink(missing_ok=True)
    return str(out)


def _json(file: CocoFile, lists: dict[str, Iterable[bytes]]) -> Iterator[bytes]:
    yield b"{"
    for key, value in file.rest().items():
        yield msgspec.json.encode(key) + b":" + bytes(value) + b","
    for at, (key, items) in enumerate(lists.items()):
        yield (b"," if at else b"") + msgspec.json.encode(key) + b":["
        for number, item in enumerate(items):
            yield (b",\n" if number else b"\n") + bytes(item)
        yield b"]"
    yield b"}\n"


def _sha(path: Path) -> bytes:
    with foreign.open_file(path) as f:
        return hashlib.file_digest(f, "sha256").digest()


if __name__ == "__main__":
    sys.exit(main())
