"""Input files and folders of a stage: that they are there, and their content identity, hashed once a process."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from launch.plan.absent import NotHere
from synth import foreign
from synth.errors import InputError
from synth.store import identity as store
from synth.store.spec import InputFile

LONG = 2 << 30  # bytes that take long enough to be told about


def existing(path: str | None, key: str, what: str) -> Path:
    """What `key` points at, absolute; a path that is not set or not there is an InputError that names the key."""
    if not path:
        raise InputError(f"{key}: not set; it must name {what}: {key}=/path")
    full = Path(path).expanduser().absolute()
    if not full.exists():
        why = foreign.absent(full) if full.is_symlink() else "not there"
        raise NotHere(f"{key}: {full} is {why}; it must name {what}")
    return full


def input_file(path: str | None, key: str, what: str) -> InputFile:
    """The identity of what `key` points at; InputErrors as `existing`. Reads every file below a folder."""
    full = existing(path, key, what)
    return InputFile(str(full), identity_of(full))


@cache
def identity_of(path: Path) -> str:
    """The content identity of a file or folder, hashed once a process. Who has to wait for it sees how far it is."""
    real = os.path.realpath(path)
    size = store.to_read(real)
    if size < LONG:
        return store.identity(real)
    console = Console(stderr=True)
    text = f"hashing {size / 1e9:.1f} GB below {path}, which is remembered"
    if not console.is_terminal:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return store.identity(real)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=32), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(text, total=size)
        return store.identity(real, lambda n: bar.advance(task, n))


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
        return foreign.read_text(Path(path).expanduser()).strip()
    except (OSError, InputError) as e:
        raise InputError(f"{key}_file: {path} cannot be read ({getattr(e, 'strerror', None) or e})") from e
