"""How many pictures each class gets where `images.count` or `images.count_file` is set: GenCL's rule."""

import json
from pathlib import Path

from launch.classes import official
from launch.keys import did_you_mean
from launch.kinds.captions import dataset_of
from launch.schema import Config
from synth.config import ClassCount, ClassEntry
from synth.errors import InputError

MA = "ma"  # manually annotated: the size of the real training set


def counts_of(config: Config) -> tuple[ClassCount, ...]:
    """The count of every chosen class; () where pictures are made per caption. A class without one is an InputError.

    `images.count_file` comes before `images.count`. The ratio is for numbers of real pictures, so not for a plain number.
    """
    images = config.images
    if images.count is None and images.count_file is None:
        if images.increase_ratio != 1:
            msg = f"images.increase_ratio={images.increase_ratio}: needs images.count=ma or images.count_file"
            raise InputError(msg)
        return ()
    if images.per_caption != 1:
        msg = f"images.per_caption={images.per_caption} and images.count or count_file are both set; leave images.per_caption at 1"
        raise InputError(msg)
    classes = dataset_of(config.dataset).classes
    given = _file(images.count_file, official(config.dataset.classes_json)) if images.count_file is not None else {}
    found = {index: scaled(n, images.increase_ratio) for index, n in given.items()}
    rest = [c for c in classes if c.index not in found]
    if rest and images.count == MA:
        from launch.classes import counts

        known = counts(config.dataset)
        found |= {c.index: scaled(known[c.index], images.increase_ratio) for c in rest if c.index in known}
    elif rest and images.count is not None:
        found |= dict.fromkeys([c.index for c in rest], _number(images.count, "images.count"))
    unknown = [c for c in classes if c.index not in found]
    if unknown:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        why = f"dataset {config.dataset.name} does not say how many real pictures" if images.count == MA else "images.count_file does not say how many"
        msg = f"images: {why} class {unknown[0].index} ({unknown[0].name!r}){more} has; add it to images.count_file, or set images.count to a number"
        raise InputError(msg)
    if not any(found[c.index] for c in classes):
        msg = "images: every class would get 0 pictures; raise images.count or images.increase_ratio"
        raise InputError(msg)
    return tuple(ClassCount(c.index, found[c.index]) for c in classes)


def scaled(count: int, ratio: float) -> int:
    """Rounded down, in floating point as GenCL does, so that its published totals come out.

    >>> scaled(200, 1.15)
    229
    """
    return int(count * ratio)


def _file(path: str, classes: tuple[ClassEntry, ...]) -> dict[int, int]:
    """{index: count} of a JSON object whose keys are class names, or indices as text."""
    try:
        data = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        msg = f"images.count_file: {path} cannot be read as JSON ({getattr(e, 'strerror', None) or e}); write {{\"class\": 100}}"
        raise InputError(msg) from e
    if not isinstance(data, dict):
        msg = f"images.count_file: {path} holds a {type(data).__name__}; write an object {{\"class\": 100}}"
        raise InputError(msg)
    by_name: dict[str, list[int]] = {}
    for c in classes:
        by_name.setdefault(c.name, []).append(c.index)
    indices, found = {c.index for c in classes}, {}
    for name, count in data.items():
        mine = by_name.get(name) or ([int(name)] if name.isdecimal() and int(name) in indices else [])
        if not mine:
            msg = f"images.count_file: {path}: no class {name!r} among {len(classes)}{did_you_mean(name, by_name)}"
            raise InputError(msg)
        if len(mine) > 1:
            msg = f"images.count_file: {path}: {name!r} is the name of classes {mine}; write their indices instead"
            raise InputError(msg)
        found[mine[0]] = _number(count, f"images.count_file: {path}: {name!r}")
    return found


def _number(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        allowed = f"a whole number, 0 or more{', or ma' if where == 'images.count' else ''}"
        msg = f"{where}={value!r}: must be {allowed}"
        raise InputError(msg)
    return value
