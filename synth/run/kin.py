"""Kin: stages beside this one whose samples are in part the same, at other slots. A run of fewer classes is kin to one of more.

A sample is a function of its stage's config and of its slot's key, so whoever finds its own sample in a kin takes it over instead of
computing it. What a kin holds is proved by its digests when it is read; whoever takes it judges that it is what it would have made.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from synth import foreign
from synth.errors import InputError, StoreError
from synth.store.files import names_in, read_small
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec
from synth.store.units import UnitReader

Config = Mapping[str, Any]


def kin_of(folder: StageFolder, comparable: Callable[[Config], Config]) -> list[StageFolder]:
    """The whole stages beside this one, by name, that agree with it in all that a sample hangs on.

    comparable: a config without what only says which samples there are. One that cannot be read lends nothing, nor does one that is not
    whole: what its units are depends on when one looks.
    """
    found, prefix = [], f"{folder.spec.name}-"
    own = _sameness(folder.spec, comparable)
    for name in names_in(folder.path.parent):
        path = folder.path.parent / name
        if not name.startswith(prefix) or path == folder.path or not _may_be(path, folder.spec.kind):
            continue
        with contextlib.suppress(InputError, StoreError, OSError, KeyError, TypeError):
            other = StageFolder.open(path)
            if other.framing == folder.framing and _sameness(other.spec, comparable) == own and other.is_whole():
                found.append(other)
    return found


def _may_be(path: Path, kind: str) -> bool:
    """Whether a stage of this kind seems to lie there: most of those beside this one need not be parsed."""
    with contextlib.suppress(InputError, StoreError, OSError):
        return b'"kind": "%s"' % kind.encode() in (read_small(path / "stage.json", foreign.STAGE) or b"")
    return False


def _sameness(spec: StageSpec, comparable: Callable[[Config], Config]) -> tuple:
    inputs = {role: i.identity for role, i in spec.inputs.items()}
    return spec.kind, comparable(spec.config), spec.numerics, spec.batch, inputs


def stored_in(kin: StageFolder, slots: Collection[int]) -> Iterator[tuple[int, dict[str, bytes], dict]]:
    """(slot, files, record) of those of `slots` that a kin has a whole sample of; what is damaged or cannot be read is left out."""
    for number, wanted in groupby(sorted(slots), kin.spec.unit_of):
        with contextlib.suppress(InputError, StoreError), kin.reader(number) as reader:
            for slot in wanted:
                if found := _whole(reader, slot):
                    yield slot, *found


def _whole(reader: UnitReader, slot: int) -> tuple[dict[str, bytes], dict] | None:
    """(files, record) of a sample of an open unit; None if there is none, or a damaged one."""
    if (entry := reader.entries.get(slot)) is None:
        return None
    try:
        return dict(reader.files(entry)), reader.record(entry)
    except (InputError, StoreError):
        return None
