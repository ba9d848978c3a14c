"""Weights that are not on this machine. A dry run is planned without them: counts are those of presets and classes, what hangs on the
weights themselves is said to be unknown, and what is missing is listed. Anything else that plans refuses."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.store.spec import InputFile

ABSENT = "absent"  # in the place of the identity of weights that nobody has read


class NotHere(InputError):
    """A key names weights that are not on this machine."""


_missing: dict[str, None] | None = None


@contextlib.contextmanager
def allowed(yes: bool = True) -> Iterator[Mapping[str, None]]:
    """Inside, weights may be absent: what is missing, in words, each once."""
    global _missing
    before, _missing = _missing, ({} if yes else None)
    try:
        yield {} if _missing is None else _missing
    finally:
        _missing = before


def unless_absent(find: Callable[[], Path]) -> Path | None:
    """What `find` says; None where it says NotHere and that is allowed."""
    try:
        return find()
    except NotHere as e:
        if _missing is None:
            raise
        _missing[str(e)] = None
        return None


def stand_in(key: str) -> InputFile:
    """In the place of weights that are absent."""
    return InputFile(f"/{ABSENT}/{key}", ABSENT)


def unknown(stages: Iterable[PlannedStage]) -> set[Path]:
    """Folders of the stages whose fingerprints are not known without the weights: their names say nothing."""
    found: set[Path] = set()
    for stage in stages:
        if any(file.identity == ABSENT for file in stage.spec.inputs.values()) or found.intersection(stage.upstream):
            found.add(stage.folder)
    return found
