"""Input files and folders of a stage: that they are there, and their content identity, hashed once a process."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from synth import foreign
from synth.errors import InputError
from synth.store import identity as store
from synth.store.spec import InputFile


def existing(path: str | None, key: str, what: str) -> Path:
    """What `key` points at, absolute; a path that is not set or not there is an InputError that names the key."""
    if not path:
        raise InputError(f"{key}: not set; it must name {what}: {key}=/path")
    full = Path(path).expanduser().absolute()
    if not full.exists():
        raise InputError(f"{key}: {full} is not there; it must name {what}")
    return full


def input_file(path: str | None, key: str, what: str) -> InputFile:
    """The identity of what `key` points at; InputErrors as `existing`. Reads every file below a folder."""
    full = existing(path, key, what)
    return InputFile(str(full), identity_of(full))


@cache
def identity_of(path: Path) -> str:
    """The content identity of a file or folder, hashed once a process."""
    return store.identity(os.path.realpath(path))


def read_json(path: str, key: str, form: str) -> Any:
    """The parsed file that `key` names; one that is not JSON in UTF-8 is an InputError. `form`: what it must hold."""
    full = Path(path).expanduser()
    try:
        data = foreign.read(full, foreign.TABLE)
    except OSError as e:
        raise InputError(f"{key}: {path} cannot be read as JSON ({e.strerror}); it must be {form}") from e
    except InputError as e:
        raise InputError(f"{key}: {e}; it must be {form}") from e
    return foreign.parse(data, f"{key}: {path}", f"it must be {form}", once=True)


def read_text(path: Path, key: str) -> str:
    """The text of a file that `key` names, in UTF-8; anything else is an InputError."""
    try:
        return str(foreign.read(path, foreign.TABLE), "utf-8-sig")
    except OSError as e:
        raise InputError(f"{key}: {path} cannot be read ({e.strerror})") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{key}: {path} is not UTF-8 ({e}); save it as UTF-8") from e
    except InputError as e:
        raise InputError(f"{key}: {e}") from e


def seen(value: object) -> str:
    """A value of a file as an error shows it."""
    return foreign.seen(value)


def text_of(text: str, path: str | None, key: str) -> str:
    """A text given as it is, or by its *_file twin; both at once is an InputError."""
    if path is None:
        return text
    if text:
        raise InputError(f"{key} and {key}_file are both set; give one of them")
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{key}_file: {path} cannot be read ({getattr(e, 'strerror', None) or e})") from e
