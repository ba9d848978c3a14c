"""The JSON of a sample, judged when it is read: an object that can be written again, whose facts have the types that all who read them
expect. Names in it become names of files, numbers columns of tables."""

import json
import re
from collections.abc import Callable, Sequence

from synth import foreign
from synth.errors import InputError
from synth.store.inside import misplaced

_LARGE = re.compile(rb"[eE]\+?\d{3}|\d{300}")  # 1e999 is an infinite float, which JSON cannot say again


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
    "file_name": lambda value: not misplaced(value, foreign=True),  # of pairs, that of the annotated image
    "member": _text,
    "name": _text,
    "bytes": _size,
    "file_bytes": _size,
    "sha256": _sha256,
    "files": _files,
}


def record_of(data: bytes, where: str, fix: str, needs: Sequence[str] = ()) -> dict:
    """The record of a sample. InputError if it is none. where: names its unit and the sample; fix: ends the message.

    needs: facts that it must say, those of an export about its files among them.
    """
    record = foreign.parse(data, f"{where}: its json cannot be read", fix)
    if type(record) is not dict:
        raise InputError(f"{where}: its json is {foreign.seen(record)}, expected an object; {fix}")
    if _LARGE.search(data):
        try:
            json.dumps(record, allow_nan=False)
        except ValueError as e:
            raise InputError(f"{where}: its json holds a number that is infinite; {fix}") from e
    wrong = [name for name, right in _PICTURES.items() if (value := record.get(name)) is not None and not right(value)]
    wrong += [name for name in needs if name not in record or not _WRITTEN.get(name, _anything)(record[name])]
    if wrong:
        said = f"is {foreign.seen(record[wrong[0]])}, which is none" if wrong[0] in record else "is not said"
        raise InputError(f"{where}: its {wrong[0]} {said}; {fix}")
    return record


def _anything(value: object) -> bool:
    return True
