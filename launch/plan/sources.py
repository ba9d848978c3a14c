"""The pictures that an img2img stage starts from, listed when it is planned: names and sizes, no pixels."""

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from launch.config.near import did_you_mean
from launch.config.schema import Config
from launch.plan.datasets import list_path, official
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError
from synth.images.sources import LAYOUTS, Input, Reader, SourceClass, layout_of, reader
from synth.images.sources.base import EXTENSIONS, encodable
from synth.images.sources.listing import ListingWriter
from synth.seeds import derive

UNLABELLED = "unlabelled"  # the one class of a source that has none


@dataclass(frozen=True)
class Listed:
    """A listed source. classes: official index of each class number of the listing."""

    root: Path
    listing: bytes
    identity: str
    n: int
    dataset: DatasetConfig
    classes: tuple[int, ...]


def source_layout(config: Config) -> tuple[Path, str]:
    """(root, layout) of img2img.source; a path that is not there is an InputError."""
    keys = config.img2img
    if not keys.source:
        raise InputError("img2img.source: not set; it must name a folder of pictures: img2img.source=/path")
    # the real place: a link such as image_folder-latest points elsewhere when this run is through
    root = Path(keys.source).expanduser().resolve()
    if not root.exists():
        raise InputError(f"img2img.source: {keys.source} is not there; it must name a folder of pictures, a .tar or a stage folder")
    layout = layout_of(root) if keys.layout == "auto" else keys.layout
    if layout not in (*LAYOUTS, "stage"):
        there = ", ".join(("auto", "stage", *LAYOUTS))
        raise InputError(f"img2img.layout={layout}: no such layout; there are {there}{did_you_mean(layout, LAYOUTS)}")
    return root, layout


def listed(config: Config, root: Path, layout: str) -> Listed:
    """The listing of a folder, cut down to what the config asks for."""
    keys = config.img2img
    if keys.subset is not None:
        raise InputError("img2img.subset: is for stages of pictures; for a folder use img2img.subset_file (names) or img2img.random_count")
    wanted = _names_in(keys.subset_file) if keys.subset_file is not None else None
    found = _listed(root, layout, keys.prompt == "caption", wanted, keys.random_count, keys.seed)
    names = _class_names(keys.class_names_file, found.classes) if keys.class_names_file is not None else {}
    classes = [replace(c, name=encodable(names.get(c.name, c.name))) for c in found.classes]
    entries, indices = _with_dataset(classes, config.dataset) if keys.classes == "dataset" else _of_source(classes, config)
    dataset = replace(config.dataset, classes=entries, n_classes=max(e.index for e in entries) + 1, suffix="")
    return Listed(root, found.listing, found.identity, found.n, dataset, indices)


@dataclass(frozen=True)
class _Found:
    listing: bytes
    identity: str
    n: int
    classes: tuple[SourceClass, ...]


@cache  # the points of a sweep share it
def _listed(root: Path, layout: str, captions: bool, wanted: frozenset[str] | None, count: int | None, seed: int) -> _Found:
    inputs, writer = reader(layout, root, captions), ListingWriter()
    chosen: Iterable[Input] = inputs if wanted is None else _named(inputs, wanted)
    usable = captioned = 0
    for item in chosen if count is None else _drawn(chosen, count, seed):
        writer.add(item)
        usable += not item.reason
        captioned += bool(item.caption)
    if not writer.n:
        what = ", ".join(sorted(EXTENSIONS))
        raise InputError(f"img2img.source: {root} holds no picture ({what}) in the layout {layout}; check the path and img2img.layout")
    if not usable:
        first = _first_reason(reader(layout, root, captions))
        raise InputError(f"img2img.source: none of the {writer.n} inputs of {root} can be used: {first}")
    if captions and not captioned:
        raise InputError(f"img2img.prompt=caption: no input of {root} has a caption; use img2img.prompt=template")
    return _Found(*writer.finish(), writer.n, tuple(inputs.classes))


def _first_reason(inputs: Reader) -> str:
    return next((f"{i.key}: {i.reason}" for i in inputs if i.reason), "")


def _names_in(path: str) -> frozenset[str]:
    try:
        lines = Path(path).expanduser().read_bytes().split(b"\n")
    except OSError as e:
        raise InputError(f"img2img.subset_file: {path} cannot be read ({e.strerror})") from e
    found = frozenset(line.rstrip(b"\r").decode("utf-8", "backslashreplace") for line in lines if line.strip())
    if not found:
        raise InputError(f"img2img.subset_file: {path} names nothing; write a path, a file name or a stem a line")
    return found


def _named(inputs: Iterable[Input], wanted: frozenset[str]) -> Iterator[Input]:
    """The inputs that a line names: by path below the source, by file name, or by its stem."""
    met = set()
    for item in inputs:
        base = item.key.rpartition("/")[2]
        if hits := wanted & {item.key, base, base.rpartition(".")[0] or base}:
            met |= hits
            yield item
    if missing := sorted(wanted - met):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise InputError(f"img2img.subset_file: {missing[0]!r}{more} is the name of no input; remove the line, or check img2img.source")


def _drawn(inputs: Iterable[Input], count: int, seed: int) -> list[Input]:
    """`count` inputs drawn by seed, in their order. Each one's lot hangs on its name, so most stay when the source grows."""
    lots = ((derive(seed, "img2img", "subset", item.key), n, item) for n, item in enumerate(inputs))
    found = heapq.nsmallest(count, lots, key=lambda lot: lot[:2])
    if len(found) < count:
        raise InputError(f"img2img.random_count={count}: there are {len(found)} inputs; ask for fewer, or leave it null for all")
    return [item for _, _, item in sorted(found, key=lambda lot: lot[1])]


def _class_names(path: str, classes: tuple[SourceClass, ...]) -> dict[str, str]:
    try:
        data = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"img2img.class_names_file: {path} cannot be read as JSON ({getattr(e, 'strerror', None) or e})") from e
    if not isinstance(data, dict) or not all(isinstance(v, str) and v.strip() for v in data.values()):
        raise InputError(f'img2img.class_names_file: {path}: write an object {{"n01440764": "tench"}}')
    missing = [c.name for c in classes if c.name not in data]
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise InputError(f"img2img.class_names_file: {path} has no name for class {missing[0]!r}{more} of the source")
    return data


def _of_source(classes: list[SourceClass], config: Config) -> tuple[tuple[ClassEntry, ...], tuple[int, ...]]:
    """Classes as the source has them; what it does not number is numbered in the order of the names, as ImageFolder does."""
    if config.img2img.classes != "source":
        raise InputError(f"img2img.classes={config.img2img.classes}: use source or dataset")
    if config.dataset.classes != "all" or config.dataset.classes_file is not None:
        raise InputError("dataset.classes: chooses of the classes of dataset=; set img2img.classes=dataset, or use img2img.subset_file")
    if not classes:
        return (ClassEntry(0, UNLABELLED),), ()
    unnumbered = sorted({c.name for c in classes if c.index is None})
    if unnumbered and any(c.index is not None for c in classes):
        raise InputError(f"img2img.source: some classes have a number, {unnumbered[0]!r} has none; use img2img.classes=dataset")
    entries: dict[int, str] = {}
    indices = tuple(unnumbered.index(c.name) if c.index is None else c.index for c in classes)
    for index, c in zip(indices, classes, strict=True):
        if entries.setdefault(index, c.name) != c.name:
            raise InputError(f"img2img.source: class {index} is called {entries[index]!r} and {c.name!r}; use img2img.classes=dataset")
    return tuple(ClassEntry(i, n) for i, n in sorted(entries.items())), indices


def _with_dataset(classes: list[SourceClass], dataset: DatasetConfig) -> tuple[tuple[ClassEntry, ...], tuple[int, ...]]:
    """Classes found by name, or by index as text, among those of dataset=: with their official indices."""
    known = official(list_path(dataset))
    by_name: dict[str, list[int]] = {}
    for c in known:
        by_name.setdefault(_spoken(c.name), []).append(c.index)
    indices = []
    for c in classes:
        found = by_name.get(_spoken(c.name)) or ([int(c.name)] if c.name.isdecimal() and int(c.name) < len(known) else [])
        if len(found) != 1:
            none = f"is none of {dataset.name}'s {len(known)}{did_you_mean(c.name, by_name)}"
            why = f"is the name of classes {found}" if found else none
            raise InputError(f"img2img.classes=dataset: class {c.name!r} of the source {why}; say which it is in img2img.class_names_file")
        indices += found
    if not classes:
        raise InputError("img2img.classes=dataset: the source has no classes; use img2img.classes=source")
    return known, tuple(indices)


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
