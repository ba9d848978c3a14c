"""How many pictures each class gets where `images.count` or `images.count_file` is set: GenCL's rule."""

import json
from pathlib import Path

from launch.config.near import did_you_mean
from launch.config.schema import Config
from launch.plan.datasets import counts, dataset_of, list_path, official
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError
from synth.images.config import ClassCount

MA = "ma"  # manually annotated: the size of the real training set


def counts_of(config: Config) -> tuple[ClassCount, ...]:
    """The count of every chosen class; () where pictures are made per caption. A class without one is an InputError.

    `images.count_file` comes before `images.count`. The ratio is for numbers of real pictures, so not for a plain number.
    """
    images = config.images
    if images.increase_ratio != 1 and images.count != MA and images.count_file is None:
        raise InputError(f"images.increase_ratio={images.increase_ratio}: is for images.count=ma and images.count_file; leave it at 1")
    if images.count is None and images.count_file is None:
        return ()
    if images.per_caption != 1:
        raise InputError(f"images.per_caption={images.per_caption} and images.count or count_file are both set; leave it at 1")
    classes = dataset_of(config.dataset).classes
    known, rest = class_counts(config.dataset, classes, images.count, images.count_file, "images")
    found = {index: scaled(n, images.increase_ratio) for index, n in known.items()} | rest
    if not any(found[c.index] for c in classes):
        raise InputError("images: every class would get 0 pictures; raise images.count or images.increase_ratio")
    return tuple(ClassCount(c.index, found[c.index]) for c in classes)


def class_counts(
    dataset: DatasetConfig, classes: tuple[ClassEntry, ...], count: object, count_file: str | None, group: str
) -> tuple[dict[int, int], dict[int, int]]:
    """({index: number of real pictures or of the file}, {index: the plain number}) of all chosen classes, by `<group>.count`
    and `<group>.count_file`; a class without either is an InputError."""
    given = _file(count_file, official(list_path(dataset)), f"{group}.count_file") if count_file is not None else {}
    known, plain = {c.index: given[c.index] for c in classes if c.index in given}, {}
    rest = [c for c in classes if c.index not in known]
    if rest and count == MA:
        real = counts(dataset)
        known |= {c.index: real[c.index] for c in rest if c.index in real}
    elif rest and count is not None:
        plain = dict.fromkeys([c.index for c in rest], _number(count, f"{group}.count"))
    unknown = [c for c in classes if c.index not in known and c.index not in plain]
    if unknown:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        who = f"dataset {dataset.name} does not say how many real pictures"
        why = who if count == MA else f"{group}.count_file does not say how many"
        what = f"class {unknown[0].index} ({unknown[0].name!r}){more} {'have' if more else 'has'}"
        raise InputError(f"{group}: {why} {what}; add it to {group}.count_file, or set {group}.count to a number")
    return known, plain


def scaled(count: int, ratio: float) -> int:
    """Rounded down, in floating point as GenCL does, so that its published totals come out.

    >>> scaled(200, 1.15)
    229
    """
    return int(count * ratio)


def _file(path: str, classes: tuple[ClassEntry, ...], key: str) -> dict[int, int]:
    """{index: count} of a JSON object whose keys are class names, or indices as text."""
    try:
        data = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f'{key}: {path} cannot be read as JSON ({getattr(e, "strerror", None) or e}); write {{"class": 100}}') from e
    if not isinstance(data, dict):
        raise InputError(f'{key}: {path} holds a {type(data).__name__}; write an object {{"class": 100}}')
    by_name: dict[str, list[int]] = {}
    for c in classes:
        by_name.setdefault(c.name, []).append(c.index)
    indices, found = {c.index for c in classes}, {}
    for name, count in data.items():
        mine = by_name.get(name) or ([int(name)] if name.isdecimal() and int(name) in indices else [])
        if not mine:
            raise InputError(f"{key}: {path}: no class {name!r} among {len(classes)}{did_you_mean(name, by_name)}")
        if len(mine) > 1:
            raise InputError(f"{key}: {path}: {name!r} is the name of classes {mine}; write their indices instead")
        found[mine[0]] = _number(count, f"{key}: {path}: {name!r}")
    return found


def _number(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        allowed = f"a whole number, 0 or more{', or ma' if where.endswith('.count') else ''}"
        raise InputError(f"{where}={value!r}: must be {allowed}")
    return value
