"""The JSON of a sample, judged when it is read: an object that can be written again, whose facts have the types that all who read them
expect. Names in it become names of files, numbers columns of tables."""

import json
import re
from collections.abc import Callable

from synth.errors import InputError
from synth.store.inside import misplaced

# what JSON can say and neither UTF-8 nor JSON itself can say again: lone surrogates, NaN, floats that are infinite. Looked at where it may be
_RARE = re.compile(rb"\\u[dD]|NaN|Infinity|[eE]\+?\d{3}|\d{300}")
FIX = "move its unit away and run the command that made it again"


def _integer(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value < high


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


_size, _bits64, _pixels, _index = _integer(0, 1 << 63), _integer(0, 1 << 64), _integer(0, 1 << 31), _integer(-(1 << 31), 1 << 31)


def _indices(value: object) -> bool:
    return isinstance(value, list) and all(map(_index, value))


def _files(value: object) -> bool:
    """name below the export -> [bytes, sha256]"""
    return isinstance(value, dict) and all(
        not misplaced(name) and isinstance(said, list) and len(said) == 2 and _size(said[0]) and _sha256(said[1])
        for name, said in value.items()
    )


# facts of pictures; null says that there is none
_PICTURES: dict[str, Callable[[object], bool]] = {
    "caption": _text,
    "class": _text,
    "label": _index,
    "labels": _indices,
    "label_names": _texts,
    "seed": _bits64,
    "caption_seed": _bits64,
    "width": _pixels,
    "height": _pixels,
}
# what exports say of their files
_WRITTEN: dict[str, Callable[[object], bool]] = {
    "file_name": lambda value: not misplaced(value),
    "member": _text,
    "name": _text,
    "bytes": _size,
    "file_bytes": _size,
    "sha256": _sha256,
    "files": _files,
}


def record_of(data: bytes, where: str, *needs: str) -> dict:
    """The record of a sample. InputError if it is none; `where` names its unit and the sample.

    needs: facts that it must say, those of an export about its files among them.
    """
    try:
        record = json.loads(data)
        if _RARE.search(data):
            json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as e:
        raise InputError(f"{where}: its json cannot be read ({e}); {FIX}") from e
    if not isinstance(record, dict):
        raise InputError(f"{where}: its json is no object; {FIX}")
    for name, right in _PICTURES.items():
        if (value := record.get(name)) is not None and not right(value):
            raise InputError(f"{where}: its {name} is {ascii(value)[:60]}, which is none; {FIX}")
    for name in needs:
        if name not in record:
            raise InputError(f"{where}: its json does not say {name!r}; {FIX}")
        if not _WRITTEN.get(name, lambda value: True)(record[name]):
            raise InputError(f"{where}: its {name} is {ascii(record[name])[:60]}, which is none; {FIX}")
    return record
