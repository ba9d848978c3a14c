"""Subsets given by numbers: rows of captions.json, slots of a stage of pictures."""

from pathlib import Path

from synth.errors import InputError
from synth.images.slots import Ranges


def subset_of(value: object, path: str | None, key: str, total: int, what: str) -> Ranges | None:
    """The numbers that `key` or its *_file twin gives, all below `total`; None if neither is set."""
    if value is not None and path is not None:
        raise InputError(f"{key} and {key}_file are both set; give one of them")
    if value is None and path is None:
        return None
    if path is not None:
        key = f"{key}_file"
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"{key}: {path} cannot be read ({getattr(e, 'strerror', None) or e})") from e
    else:
        text = ",".join(str(item) for item in (value if isinstance(value, (list, tuple)) else [value]))
    found = Ranges.parse(text, key)
    if not len(found):
        raise InputError(f"{key}: names no {what}; write 0..99, or leave it null for all")
    if found.last >= total:
        raise InputError(f"{key}: {what} {found.last}: there are {total}, counted from 0")
    return found
