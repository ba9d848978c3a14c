"""Slots that something outside of them left empty, made again: a server that was in trouble, a picture that could not be read.

launch/clean.py puts a unit that holds such slots beside its place, and says so to all stages that are made of it. The next worker
makes the unit again: samples that it held keep their bytes, whatever the worker computes; empty slots of these reasons are filled as
if they had never failed. A stage that was told looks once which of its units are still in step with what it reads.
"""

import time
from collections.abc import Callable, Sequence

from synth.errors import InputError
from synth.run.stage import Stage
from synth.store import leases
from synth.store.folder import StageFolder
from synth.store.framing import shared
from synth.store.heartbeat import Heartbeat
from synth.store.leases import Observer, Owner
from synth.store.reopening import OPENED_NOW
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import StageSpec
from synth.store.units import UnitReader

# What the reason of a tombstone says where the sample is not to blame; the families' own words, which a test compares with these
OUTSIDE = (
    *("refused_by_server", "the command failed on it"),
    *(
        "cannot be read: ",
        "a broken link",
        "is not there any more",
        "is a folder now",
        "is a link to itself",
        "has a name that is too",
    ),
)
SERVERS = ("openai", "served")  # engines whose answers were those of a server as it was then
OWN = ("prompt_too_long", "content_filter", "refusal")  # what also such an engine says of the request itself


def from_outside(spec: StageSpec, reason: str) -> bool:
    """Whether a slot of a stage that was left empty for this reason may be filled if it is made again.

    What a sample is itself to blame for is not: a safety checker, a filter's decision, a prompt without room, what a model on this
    machine says, which would say the same again.
    """
    what = shared(reason)
    return any(words in what for words in OUTSIDE) or (asks_a_server(spec) and not what.startswith(OWN))


def asks_a_server(spec: StageSpec) -> bool:
    """Whether the captioner of a stage is a server, whose answers are kept and may be others by now."""
    captioner = spec.config.get("captioner")
    return isinstance(captioner, dict) and captioner.get("engine") in SERVERS


class Before:
    """What a unit held before it was put beside its place."""

    def __init__(self, folder: StageFolder, stage: Stage, reader: UnitReader):
        self._reader = reader
        self._kept = {slot: reason for slot, reason in reader.index.tombstones.items() if not from_outside(folder.spec, reason)}
        builds = type(stage).resume is not Stage.resume  # its batches build on earlier ones: all are computed
        self._whole, self._single = builds, not builds and asks_a_server(folder.spec)

    @classmethod
    def of(cls, folder: StageFolder, stage: Stage, unit: Unit, inputs: str) -> "Before | None":
        """None if the unit is a new one, or was made of other rows than there are now: then nothing of it is kept."""
        path = folder.before_path(unit.number)
        if not path.exists():
            return None
        reader = UnitReader(path, folder.framing)
        index = reader.index
        if (index.unit, index.first, index.count, index.inputs) != (unit.number, unit.start, len(unit), inputs):
            reader.close()
            return None
        return cls(folder, stage, reader)

    @property
    def empty(self) -> int:
        """Slots that are to be filled."""
        return self._reader.index.count - len(self._reader.entries) - len(self._kept)

    def to_compute(self, slots: range) -> list[range]:
        """What of a batch is computed: all or nothing of it, as a sample may hang on its batch; a server is asked for what is empty alone,
        as each answer has its price."""
        if self._whole:
            return [slots]
        empty = [s for s in slots if s not in self._reader.entries and s not in self._kept]
        return [range(s, s + 1) for s in empty] if self._single else [slots] if empty else []

    def filled(self, slots: range, made: Sequence[Sample | Tombstone]) -> list[Sample | Tombstone]:
        """A whole batch: what the unit held, and for its empty slots what was made now."""
        new = {result.slot: result for result in made}
        return [self._held(slot) or new[slot] for slot in slots]

    def _held(self, slot: int) -> Sample | Tombstone | None:
        if slot in self._kept:
            return Tombstone(slot, self._kept[slot])
        entry = self._reader.entries.get(slot)
        return Sample(slot, entry.key, self._reader.files(entry)) if entry else None


def back_in_step(
    folder: StageFolder,
    stage: Stage,
    owner: Owner,
    observer: Observer,
    beats: Heartbeat,
    *,
    draining: Callable[[], bool],
    log: Callable,
) -> None:
    """Let go of the units of a stage that are made of other rows than those that are there now, if it was told that some may be. One worker
    at a time, under the lease of the stage's end; the others wait. InputError where an upstream stage is not whole, to stay: then nobody
    can tell yet; and where units of this one are just being put beside."""
    number = folder.spec.n_units
    path = folder.lease_path(number)
    if folder.reopening.is_on():
        raise InputError(f"{folder.path}: {OPENED_NOW}")
    while folder.reopening.in_doubt() and not draining():
        newest = leases.newest_generations(path.parent).get(number, -1)
        free = newest < 0 or observer.is_free(number, path, newest)
        lease = leases.create(path, number, newest + 1, owner) if free else None
        if lease is None:
            time.sleep(min(1.0, observer.times.dead_after / 20))
            continue
        beats.hold(lease)
        try:
            _prove_upstream(folder)
            stale = [unit for unit in sorted(folder.committed()) if _is_stale(folder, stage, unit)]
            for unit in stale:
                folder.put_beside(unit, "stale")
            folder.forget_parts(set(range(number)) - folder.committed())  # of rows that nobody can tell: they are begun anew
            folder.reopening.in_step()
            log("out_of_step", units=len(stale), of=number)
        finally:
            beats.release(lease)


def _prove_upstream(folder: StageFolder) -> None:
    for up in (up for role in folder.spec.upstream for up in folder.upstream(role)):
        if up.reopening.is_on():
            raise InputError(f"{up.path}, which {folder.path.name} reads: {OPENED_NOW}")
        if not up.is_whole():
            raise InputError(f"{up.path}: is made again in part, and {folder.path.name} reads it: run the command that made both again")


def _is_stale(folder: StageFolder, stage: Stage, number: int) -> bool:
    """Whether a unit is to be made again: it was made of other rows, or its stage does not tell of which."""
    if type(stage).unit_inputs is Stage.unit_inputs:
        return True
    now = stage.unit_inputs(folder.unit(number))
    with folder.reader(number) as reader:
        return now == folder.spec.fingerprint or reader.index.inputs != now
