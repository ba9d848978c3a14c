"""Reading a stage: its samples by slot or one behind the other. Who reads need not know units, framing, or what chose the pictures.

    with synth.open_stage("runs/toys/images-0123456789ab") as stage:
        len(stage), stage.slots, stage.tombstones   # samples; slots; slot -> why it has no sample
        sample = stage[12]                          # by slot, also from the end or a slice; NoSample where there is a tombstone
        sample.key, sample.class_name, sample.metadata["caption"], sample["png"], sample.image()
        for sample in stage: ...                    # in slot order, tombstones left out
        stage.torch(transform)                      # a torch Dataset of (image, class)

What a filter left is read as the pictures behind it, by the slots of its images, one stage behind the other: they are never copied in
between. Nothing is read before it is asked for, and a stage in progress is read as far as it is there: `missing` says where it is not.

What is read of a sample is compared with the digest that was committed with it; Damaged names the unit, and how to mend it. Units that were
made before there were digests of files have one of all of a sample's files, so that all are read there, whichever is asked for.
open_stage(.., check=False) reads what it is asked for and takes it as it is, which may be wrong where the disk is.
"""

import bisect
import itertools
import operator
import os
import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from synth.errors import InputError
from synth.kinds import kind_of, makes_files
from synth.reading.sample import NoSample, StageSample
from synth.store.folder import StageFolder
from synth.store.framing import Entry
from synth.store.names import classes_of
from synth.store.out_folder import MARKER
from synth.store.units import Files, UnitReader

if TYPE_CHECKING:
    from synth.reading.torch_dataset import TorchDataset

ROLE = "images"  # in which filters and exports read pictures
CHUNK = 4096  # slots whose filter is read at once
THREADS, AHEAD = 4, 8  # that read ahead, and samples whose files are held meanwhile
OPEN = 64  # units that are open at once: a shuffled export draws from half as many at a time
GONE = "no picture in the images stage"


class StageReader:
    """The samples of a stage, or the pictures behind a filter. Cheap to make; keeps the units last read open, `max_open` at most.

    Threads may share one. A process that was forked, or sent one by pickle, opens its own files.
    """

    def __init__(self, stage: StageFolder, max_open: int | None = None, check: bool = True):
        self.stage, self.check = stage, check
        self.filters: list[StageFolder] = []  # from the last to the first
        below = [stage]
        while len(below) == 1 and kind_of(below[0].spec.kind).chooses:
            self.filters.append(below[0])
            below = below[0].upstream(ROLE)
        self.sources = tuple(below)
        if any(kind_of(s.spec.kind).chooses for s in self.sources):
            raise InputError(
                f"{self.filters[-1].path}: reads several stages of which one is a filter; give it the images stages themselves"
            )
        self._first = [0, *itertools.accumulate(s.spec.slots for s in self.sources)]
        self._units = _Units(max_open or OPEN)

    # -- what is there -----------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Places for samples, those that stay empty included."""
        return self._first[-1]

    @cached_property
    def sample_slots(self) -> "array[int]":
        """The slots that have a sample, in order. Reads the end of every unit, once; 8 bytes a sample stay."""
        return array("q", (slot for slot, *_ in self._found(0, self.slots)))

    @property
    def tombstones(self) -> dict[int, str]:
        """slot -> why it has no sample. Reads the end of every unit."""
        return self.reasons(0, self.slots)

    @cached_property
    def classes(self) -> dict[int, str]:
        """official index -> class name; {} where the stage knows of none."""
        return classes_of(self.stage)

    def gone(self) -> str:
        """Why the pictures of the samples cannot be read, where these lie outside of the stage; "" if they can."""
        return ""

    def missing(self) -> list[range]:
        """Slots that cannot be read, because their unit is not there (yet): of the stage, of a filter, or of the images behind."""
        layers = [(0, folder) for folder in self.filters] + list(zip(self._first, self.sources, strict=False))
        gaps = sorted((first + unit.start, first + unit.stop) for first, f in layers for unit in map(f.unit, f.missing()))
        merged: list[range] = []
        for start, stop in gaps:
            if merged and start <= merged[-1].stop:
                merged[-1] = range(merged[-1].start, max(stop, merged[-1].stop))
            else:
                merged.append(range(start, stop))
        return merged

    # -- samples -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Samples: slots without tombstones. The stage must be whole."""
        return len(self.sample_slots)

    def __iter__(self) -> Iterator[StageSample]:
        return self.samples()

    def __reversed__(self) -> Iterator[StageSample]:
        return self.picked(reversed(range(self.slots)))

    def __contains__(self, slot: object) -> bool:
        """Whether a slot has a sample."""
        return isinstance(slot, int) and 0 <= slot < self.slots and self.get(slot) is not None

    @overload
    def __getitem__(self, slot: int) -> StageSample: ...

    @overload
    def __getitem__(self, slot: slice) -> list[StageSample]: ...

    def __getitem__(self, slot: Any) -> Any:
        """The sample of a slot, from the end if it is negative; of a slice, a list of those that are there, in the slice's order.

        IndexError behind the last slot; NoSample at a tombstone.
        """
        if isinstance(slot, slice):
            return list(self.picked(range(*slot.indices(self.slots))))
        wanted = operator.index(slot)
        at = wanted + self.slots if wanted < 0 else wanted
        if not 0 <= at < self.slots:
            raise IndexError(f"slot {wanted}: {self.stage.path.name} has {self.slots} slots")
        if (sample := self.get(at)) is None:
            reason = self.reasons(at, at + 1).get(at, "not in its unit")
            raise NoSample(f"slot {at} of {self.stage.path.name} has no sample: {reason}", at, reason)
        return sample

    def get(self, slot: int) -> StageSample | None:
        """The sample of a slot, None at a tombstone."""
        source, own = self.at(slot)
        if self.filters and slot not in self._unit(self.filters[0], slot)[1].entries:
            return None
        number, unit = self._unit(self.sources[source], own)
        return StageSample(self, slot, source, number, unit.entries[own]) if own in unit.entries else None

    def picked(self, slots: Iterable[int]) -> Iterator[StageSample]:
        """The samples of any slots, in the order given; tombstones are left out."""
        return (sample for slot in slots if (sample := self.get(slot)) is not None)

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[StageSample]:
        """The samples of slots [start, stop) in slot order; only the units that cover them are opened."""
        return (StageSample(self, *found) for found in self._found(start, self.slots if stop is None else stop))

    def ahead(self, samples: Iterable[StageSample]) -> Iterator[StageSample]:
        """The same samples, read and compared with their digests a few threads ahead of whoever iterates. Each holds its files until the
        next one is asked for."""
        coming, samples = deque[tuple[StageSample, Future]](), iter(samples)
        with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0))), thread_name_prefix="read") as pool:
            try:
                while True:
                    while len(coming) < AHEAD and (sample := next(samples, None)) is not None:
                        coming.append((sample, pool.submit(sample.hold)))
                    if not coming:
                        return
                    sample, held = coming.popleft()
                    held.result()
                    yield sample
                    sample.drop()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def reasons(self, start: int, stop: int) -> dict[int, str]:
        """slot -> why it has no sample, for slots [start, stop): a filter's tombstone, or that of the stage behind it."""
        reasons: dict[int, str] = {}
        for first, folder in zip(self._first, self.sources, strict=False):
            reasons |= {first + s: r for s, r in self._tombstones(folder, start - first, stop - first)}
        for folder in reversed(self.filters):
            reasons = dict(self._tombstones(folder, start, stop)) | reasons
        return reasons

    def torch(self, transform: Callable | None = None, target_transform: Callable | None = None, target: str = "class") -> "TorchDataset":
        """A torch Dataset of (image, index of its class); see synth.reading.torch_dataset."""
        from synth.reading.torch_dataset import TorchDataset

        return TorchDataset(self, transform, target_transform, target)

    # -- where things lie --------------------------------------------------------------------------------------------

    def at(self, slot: int) -> tuple[int, int]:
        """(source, slot in it).

        With stages of 10 and 5 slots: slot 12 is (1, 2).
        """
        source = bisect.bisect_right(self._first, slot) - 1
        return source, slot - self._first[source]

    def unit_of(self, slot: int) -> int:
        """The unit of its stage that holds a slot."""
        source, own = self.at(slot)
        return self.sources[source].spec.unit_of(own)

    def label_of(self, key: str, record: Mapping) -> int:
        """The label of a sample, by its metadata; one that is no class of the dataset is an InputError."""
        label = record.get("label")
        if not isinstance(label, int) or label not in self.classes:
            raise InputError(f"{self.stage.path}: picture {key} has label {label}, which is not a class of the dataset")
        return label

    def read(self, source: int, unit: int, entry: Entry, ext: str) -> bytes:
        """Bytes of one file of one sample; Damaged if they are not those that were committed."""
        reader = self._units.get(self.sources[source], unit)
        return reader.read(entry, ext) if self.check else reader.unchecked(entry, ext)

    def files(self, source: int, unit: int, entry: Entry) -> Files:
        """All files of one sample; Damaged if they are not those that were committed."""
        return self._units.get(self.sources[source], unit).files(entry)

    def _found(self, start: int, stop: int) -> Iterator[tuple[int, int, int, Entry]]:
        """(slot, source, unit, entry) of the samples of slots [start, stop)."""
        start, stop = max(0, start), min(stop, self.slots)
        for begin in range(start, stop, CHUNK):
            end = min(stop, begin + CHUNK)
            kept = {e.slot for _, e in self._entries(self.filters[0], begin, end)} if self.filters else None
            for source, (first, folder) in enumerate(zip(self._first, self.sources, strict=False)):
                for number, entry in self._entries(folder, begin - first, end - first):
                    if kept is None or first + entry.slot in kept:
                        yield first + entry.slot, source, number, entry

    def _unit(self, folder: StageFolder, slot: int) -> tuple[int, UnitReader]:
        number = folder.spec.unit_of(slot)
        return number, self._units.get(folder, number)

    def _entries(self, folder: StageFolder, start: int, stop: int) -> Iterator[tuple[int, Entry]]:
        for number in folder.spec.units_of(max(0, start), min(folder.spec.slots, stop)):
            yield from ((number, e) for e in self._units.get(folder, number).index.samples if start <= e.slot < stop)

    def _tombstones(self, folder: StageFolder, start: int, stop: int) -> Iterator[tuple[int, str]]:
        for number in folder.spec.units_of(max(0, start), min(folder.spec.slots, stop)):
            yield from ((s, r) for s, r in self._units.get(folder, number).index.tombstones.items() if start <= s < stop)

    # -- its life ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all files. What is read afterwards opens them again."""
        self._units.close()

    def __enter__(self) -> "StageReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        behind = f", of {', '.join(s.path.name for s in self.sources)}" if self.filters else ""
        return f"<stage {self.stage.path.name}: {self.slots} slots{behind}>"


class _Units:
    """The units last read, open. One that falls out is closed by whoever holds it last, so that no thread's file is closed under it."""

    def __init__(self, most: int):
        self.most = most
        self.close()

    def close(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._open: OrderedDict[tuple[StageFolder, int], UnitReader] = OrderedDict()

    def get(self, folder: StageFolder, number: int) -> UnitReader:
        """An open unit; InputError if it is not there, or not the one that belongs there."""
        if self._process != os.getpid():  # forked: these are the parent's files, and its lock may be held for ever
            self.close()
        with self._lock:
            if (unit := self._open.get((folder, number))) is not None:
                self._open.move_to_end((folder, number))
                return unit
        unit = _opened(folder, number)
        with self._lock:
            self._open[folder, number] = unit
            while len(self._open) > self.most:
                self._open.popitem(last=False)
        return unit

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return _Units, (self.most,)


def _opened(folder: StageFolder, number: int) -> UnitReader:
    path, unit = folder.unit_path(number), folder.unit(number)
    try:
        return folder.reader(number)
    except InputError as e:
        if isinstance(e.__cause__, FileNotFoundError):
            raise InputError(
                f"{path}: is not there (yet): slots {unit.start}..{unit.stop - 1} of {folder.path.name}; run the command that made its "
                "stage again to complete it"
            ) from e
        raise


def open_stage(path: str | os.PathLike, max_open: int | None = None, check: bool = True) -> StageReader:
    """Read a stage (captions, images, what a filter left, scores), whole or in progress.

    path: runs/<dataset>/<stage>-<fingerprint>. max_open: files that are open at once (64). check: compare what is read of a sample with its
    digest, for which all of the sample is read where the unit has no digests of files; False: take it as it is. InputError for a folder
    that is no stage, and for an export, which names what to open instead.
    """
    path = Path(path).expanduser()
    if (path / MARKER).exists():
        raise InputError(
            f"{path}: is an export, as {path / 'README.md'} describes; open the stage that it was made of, runs/.../images-..."
        )
    folder = StageFolder.open(path)
    if makes_files(folder.spec.kind):
        roles = folder.spec.upstream
        behind = [os.path.normpath(folder.path / up.path) for ups in ([roles[ROLE]] if ROLE in roles else roles.values()) for up in ups]
        where = f", which lie in {folder.out_dir}" if "out" in folder.spec.config else ""
        raise InputError(
            f"{folder.path}: is of kind {folder.spec.kind}, which makes files{where}, and holds no samples of its own; "
            f"open what it was made of: {', '.join(behind)}"
        )
    return StageReader(folder, max_open, check)
