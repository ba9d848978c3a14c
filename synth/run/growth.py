"""Which export may grow into which: one of fewer classes or fewer captions of the same run, and nothing else."""

from collections.abc import Callable, Mapping
from functools import partial
from os.path import normpath
from pathlib import Path
from typing import Any

from synth.errors import InputError, StoreError
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec

MORE = ("total", "per_class", "count")  # numbers in a config that may be larger
WIDER = ("classes", "counts")  # lists in a config, of objects with an index, that may be longer

SpecAt = Callable[[Path], StageSpec]


def spec_at(path: Path) -> StageSpec:
    return StageFolder.open(path).spec


def grows(folder: StageFolder, known: Mapping[Path, StageSpec] | None = None) -> Callable[[Path], bool]:
    """Whether the export in a folder of a stage may grow into that of `folder`. known: stages that are planned and not there yet, by
    their folders."""

    def at(path: Path) -> StageSpec:
        return known[path] if known and path in known else spec_at(path)

    return partial(_may_grow, folder, at)


def _may_grow(folder: StageFolder, at: SpecAt, earlier: Path) -> bool:
    try:
        return _covers_stage((folder.path, folder.spec), (earlier, spec_at(earlier)), at)
    except (InputError, StoreError, KeyError, TypeError):  # of a stage that is gone, or edited, nobody knows what it was made of
        return False


def _covers_stage(new: tuple[Path, StageSpec], old: tuple[Path, StageSpec], at: SpecAt) -> bool:
    """Whether a stage makes what another one does, and maybe more of it; so do those that they read."""
    (path, spec), (there, before) = new, old
    same_batch = spec.batch == before.batch or before.batch >= before.slots  # of all that it had
    same_inputs = {r: i.identity for r, i in spec.inputs.items()} == {r: i.identity for r, i in before.inputs.items()}
    if not (spec.kind == before.kind and spec.numerics == before.numerics and same_batch and same_inputs and spec.slots >= before.slots):
        return False
    if spec.upstream.keys() != before.upstream.keys() or not covers(spec.config, before.config):
        return False
    for role, ups in spec.upstream.items():
        if len(ups) != len(before.upstream[role]):
            return False
        for up, below in zip(ups, before.upstream[role], strict=True):
            mine, theirs = Path(normpath(path / up.path)), Path(normpath(there / below.path))
            if up.fingerprint != below.fingerprint and not _covers_stage((mine, at(mine)), (theirs, at(theirs)), at):
                return False
    return True


def covers(new: Any, old: Any, name: str = "") -> bool:
    """Whether a value of a config is another one, or one of more classes or more captions.

    >>> covers({"total": 9, "classes": [{"index": 0}, {"index": 3}]}, {"total": 5, "classes": [{"index": 3}]})
    True
    >>> covers({"total": 9, "steps": 5}, {"total": 9, "steps": 4})
    False
    """
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return new.keys() == old.keys() and all(covers(value, old[key], key) for key, value in new.items())
    if name in WIDER and isinstance(new, (list, tuple)) and isinstance(old, (list, tuple)):
        by_index = {item["index"]: item for item in new}
        return all(item["index"] in by_index and covers(by_index[item["index"]], item) for item in old)
    return new >= old if name in MORE and type(new) is type(old) is int else bool(new == old)
