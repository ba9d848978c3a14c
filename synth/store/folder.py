"""A stage folder: the one place that knows where its files lie, and what is there.

runs/<dataset>/<name>-<fingerprint>/
  stage.json inputs.json units/000/000042.tar leases/ parts/ failed/ events/ submissions/ logs/ done.json
"""

import contextlib
import glob
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError
from synth.foreign import Maybe
from synth.redaction import redacted_data
from synth.store.blame import Reports
from synth.store.damage import Damaged, mending
from synth.store.files import hard_links_work, is_number, names_in, read_small, replace, storing, write_atomic, write_once
from synth.store.framing import FRAMINGS
from synth.store.inside import Inside, refuse_links
from synth.store.parts import finished_batches
from synth.store.reopening import Marks
from synth.store.samples import Unit
from synth.store.spec import AGAIN, InputFile, StageSpec, canonical
from synth.store.units import Stored, UnitReader

SHARD = 1000  # files a folder
SHARDED = ("units", "leases", "parts")
KEPT = ("before", "stale")  # parts that are no worker's: whole units that were put beside
FOLDERS = (*SHARDED, "failed", "events", "logs", "submissions")
BESIDE = ("aside", "partitions", "growing", "answers")  # that some stages have, too


class StageFolder:
    """Read and write access to one stage. Cheap to make; holds no open file."""

    def __init__(self, path: Path, spec: StageSpec, framing: str, links: bool):
        self.path, self.spec, self.framing, self.links = Path(path), spec, framing, links
        self._reports = Reports(self.path)
        self.reopening = Marks(self.path)

    # -- making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, dataset_root: Path, spec: StageSpec) -> "StageFolder":
        """Make runs/<dataset>/<name>-<fingerprint> if it is not there; stage.json comes last and is never replaced."""
        path = Path(dataset_root) / spec.folder_name
        if not (path / "stage.json").exists():
            with storing(path):
                for sub in FOLDERS:
                    (path / sub).mkdir(parents=True, exist_ok=True)
            links = hard_links_work(path / "parts", path / "units")
            write_once(path / "inputs.json", _inputs_json(spec, links))
            for name, data in spec.files.items():
                write_once(path / name, data)
            write_once(path / "stage.json", spec.to_json())
        else:
            _state_framing(path / "stage.json", spec.framing)
        folder = cls.open(path)
        moved = any(str(Path(i.path).absolute()) != folder.spec.inputs[r].path for r, i in spec.inputs.items())
        if moved or spec.settings != folder.spec.settings:  # same contents in a new place, or other settings
            write_atomic(path / "inputs.json", _inputs_json(spec, folder.links))
            folder = cls.open(path)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike) -> "StageFolder":
        """Open a planned stage; a missing, torn or edited stage.json is an InputError, as is a folder of it that leads out."""
        path = Path(path).absolute()
        data = None
        with storing(path / "stage.json"), contextlib.suppress(NotADirectoryError):
            data = read_small(path / "stage.json", foreign.STAGE)
        if data is None:
            raise InputError(f"{path}: no stage.json here; a stage folder is runs/<dataset>/<stage>-<fingerprint>")
        inputs = _read_inputs(path / "inputs.json")
        links = inputs["hard_links"]
        spec = StageSpec.from_json(data, inputs["paths"], str(path / "stage.json"), inputs["settings"])
        framing = spec.framing or _framing_of_files(path)
        if framing not in FRAMINGS:
            raise InputError(f"{path / 'stage.json'}: framing {framing!r}: there are {', '.join(FRAMINGS)}; put it back or plan anew")
        refuse_links(path, (*FOLDERS, *BESIDE), SHARDED)
        return cls(path, spec, framing, links)

    def upstream(self, role: str) -> list["StageFolder"]:
        """The stages that this one reads in a role, in order; a stage that is not what was planned is an InputError."""
        folders = []
        for up in self.spec.upstream.get(role, ()):
            folder = StageFolder.open(os.path.normpath(self.path / up.path))
            if folder.spec.fingerprint != up.fingerprint:
                raise InputError(f"{folder.path}: is {folder.spec.fingerprint}, but {self.path.name} was planned on {up.fingerprint}")
            folders.append(folder)
        return folders

    def input(self, role: str) -> InputFile:
        if role not in self.spec.inputs or not self.spec.inputs[role].path:
            raise InputError(f"{self.path}: has no input {role!r}; it has {sorted(self.spec.inputs)}")
        return self.spec.inputs[role]

    def input_path(self, role: str) -> Path:
        return Path(self.input(role).path)

    # -- names -------------------------------------------------------------------------------------------------------

    def _sharded(self, top: str, unit: int, name: str) -> Path:
        return self.path / top / f"{unit // SHARD:03d}" / name

    @property
    def preview_path(self) -> Path:
        """A look at the newest pictures, where the stage makes one."""
        return self.path / "preview.png"

    def unit_path(self, number: int) -> Path:
        return self._sharded("units", number, f"{number:06d}{FRAMINGS[self.framing].suffix}")

    def lease_path(self, number: int) -> Path:
        return self._sharded("leases", number, f"{number:06d}.g0")

    def part_path(self, number: int, worker: str, generation: int) -> Path:
        return self._sharded("parts", number, f"{number:06d}.{worker}.{generation}{FRAMINGS[self.framing].suffix}")

    def before_path(self, number: int) -> Path:
        """Where a unit lies that is made again, with the samples it has, until it exists anew."""
        return self._sharded("parts", number, f"{number:06d}.before{FRAMINGS[self.framing].suffix}")

    def shards(self) -> range:
        return range(-(-self.spec.n_units // SHARD))

    # -- what is there -----------------------------------------------------------------------------------------------

    def committed(self, shards: Iterable[int] | None = None) -> set[int]:
        """Numbers of the units that exist, by one listing a thousand (only those of `shards`, if given)."""
        numbers, suffix = set(), FRAMINGS[self.framing].suffix
        for shard in self.shards() if shards is None else shards:
            for name in names_in(self.path / "units" / f"{shard:03d}"):
                stem, dot, rest = name.partition(".")
                if dot + rest == suffix and is_number(stem) and int(stem) < self.spec.n_units:
                    numbers.add(int(stem))
        return numbers

    def missing(self, patience: float = 0.0) -> list[int]:
        """Units that are not there. Each absence of the listing is confirmed by open(), again and again for `patience`
        seconds, because a network file system's cached listing may be older than the file."""
        absent = sorted(set(range(self.spec.n_units)) - self.committed())
        end = time.monotonic() + patience
        while True:
            absent = [u for u in absent if not _opens(self.unit_path(u))]
            if not absent or time.monotonic() >= end:
                return absent
            time.sleep(min(1.0, max(0.01, end - time.monotonic())))

    def is_whole(self) -> bool:
        """Whether every unit is there, of what is there upstream, to stay; the first confirmed absence answers it."""
        committed = self.committed()
        return self.reopening.settled() and all(_opens(self.unit_path(u)) for u in range(self.spec.n_units) if u not in committed)

    def failures(self) -> dict[int, list[Path]]:
        """unit -> the reports of its errors, oldest first."""
        reports: dict[int, list[Path]] = {}
        for p in sorted(self.path / "failed" / name for name in names_in(self.path / "failed")):
            stem = p.name.partition(".")[0]
            if is_number(stem) and p.suffix == ".json":
                reports.setdefault(int(stem), []).append(p)
        return reports

    def to_blame(self) -> set[int]:
        """Units that failed so often, on so many devices, that it is their own fault (see synth.store.blame)."""
        return {u for u, reports in self.failures().items() if self._reports.blame(reports)}

    def set_aside(self) -> list[int]:
        """Those of them that are not there."""
        return [u for u in sorted(self.to_blame()) if not self.unit_path(u).exists()]

    def report_failure(self, unit: int, report: Mapping) -> int:
        """Write failed/<unit>.try<n>.json; the number of tries that failed so far."""
        data = json.dumps(redacted_data(report), indent=1, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        for n in range(1, 1000):
            if write_once(self.path / "failed" / f"{unit:06d}.try{n}.json", data):
                return n
        return 1000

    def retry_set_aside(self) -> list[int]:
        """Give units that were set aside new tries; their reports stay, renamed."""
        units, failures = self.set_aside(), self.failures()
        for unit in units:
            for report in failures[unit]:
                replace(report, report.with_name(f"{report.stem}.{secrets.token_hex(3)}.old"))
        return units

    # -- slots that are made again (synth.run.reopened) ------------------------------------------------------------------

    def put_beside(self, unit: int, name: str) -> None:
        """Take a unit from its place, to be made again; `sweep` removes it once it is. name: "before" if its samples stay."""
        beside = self.before_path(unit)
        with storing(beside):
            beside.parent.mkdir(parents=True, exist_ok=True)
            replace(self.unit_path(unit), beside.with_name(beside.name.replace(".before", f".{name}", 1)))

    def forget_parts(self, units: Set[int]) -> None:
        """Remove what workers left of some units: it may be of other rows than those that are there now, or of slots that stayed empty,
        and nobody is to go on with it."""
        for shard in {unit // SHARD for unit in units}:
            place = self.path / "parts" / f"{shard:03d}"
            for name in names_in(place):
                stem, _, rest = name.partition(".")
                if is_number(stem) and int(stem) in units and rest.partition(".")[0] not in KEPT:
                    with storing(place):
                        (place / name).unlink(missing_ok=True)

    def kept(self) -> int:
        """Units that are there and are sure to stay: none while they were not compared with what they are made of."""
        return 0 if self.reopening.in_doubt() else len(self.committed())

    def to_do(self) -> int:
        """Units that are to be made, at most."""
        return self.spec.n_units if self.reopening.in_doubt() else len(self.missing())

    def sweep(self) -> None:
        """Remove parts and leases of units that exist: what workers left that were killed between their commit and their end."""
        committed = self.committed()
        for top in ("parts", "leases"):
            for shard in self.shards():
                with contextlib.suppress(OSError), os.scandir(self.path / top / f"{shard:03d}") as entries:
                    for entry in entries:
                        stem = entry.name.partition(".")[0]
                        if is_number(stem) and int(stem) in committed:
                            with contextlib.suppress(OSError):
                                os.unlink(entry.path)

    def is_done(self) -> bool:
        """Whether somebody found the stage whole and finished it. A cache: units/ is the truth."""
        try:
            done = done_in(self.path / "done.json")
        except InputError:  # what is none promises nothing: the stage is finished again, and it is replaced
            return False
        return done.get("units") == self.spec.n_units and self.reopening.settled()

    def mark_done(self, facts: Mapping) -> None:
        write_atomic(self.path / "done.json", canonical(facts) + b"\n")

    def done(self) -> dict:
        """What done.json says: units, samples, tombstones; {} if it is not there, or says anything else."""
        with contextlib.suppress(InputError):  # a cache: units/ is the truth, and verify names a done.json that is none
            return done_in(self.path / "done.json")
        return {}

    def progress(self) -> int:
        """Slots in committed units and in the finished batches of parts. For progress bars: cheap, not exact."""
        units = self.committed()
        slots = self.spec.slots_in(units)
        best: dict[int, int] = {}
        for shard in self.shards():
            with contextlib.suppress(OSError):
                for p in (self.path / "parts" / f"{shard:03d}").iterdir():
                    unit = p.name.partition(".")[0]
                    if p.name.endswith(".idx") and is_number(unit) and int(unit) not in units:
                        done = sum(n for _, n in finished_batches(p.with_name(p.name[: -len(".idx")])))
                        best[int(unit)] = max(best.get(int(unit), 0), done)
        return slots + sum(best.values())

    # -- reading -----------------------------------------------------------------------------------------------------

    def reader(self, number: int) -> UnitReader:
        """An open unit; InputError if it is not there, is no whole unit, or is another one."""
        reader, unit = UnitReader(self.unit_path(number), self.framing), self.unit(number)
        index = reader.index
        if (index.unit, index.first, index.count) != (number, unit.start, len(unit)):
            reader.close()
            raise Damaged(
                f"{reader.path}: is not the unit of slots {unit.start}..{unit.stop - 1}, but unit {index.unit} of slots "
                f"{index.first}..{index.first + index.count - 1}; {mending(reader.path)}"
            )
        return reader

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """The samples of slots [start, stop) in slot order; opens only the units that cover them."""
        stop = self.spec.slots if stop is None else min(stop, self.spec.slots)
        if start >= stop:
            return
        for number in self.spec.units_of(start, stop):
            with self.reader(number) as reader:
                for entry in reader.index.samples:
                    if start <= entry.slot < stop:
                        yield Stored(entry.slot, entry.key, number, entry, reader)

    def relatives(self) -> list["StageFolder"]:
        """Stages beside this one that differ only in slots or upstream: their units may be linked where inputs agree."""
        folders = []
        for path in sorted(self.path.parent.glob(f"{glob.escape(self.spec.name)}-*")):
            with contextlib.suppress(InputError, StoreError, OSError):  # a stage that cannot be read lends nothing
                if path != self.path and b'"base": "%s"' % self.spec.base.encode() in (
                    read_small(path / "stage.json", foreign.STAGE) or b""
                ):
                    folders.append(StageFolder.open(path))
        return folders

    # -- exports -----------------------------------------------------------------------------------------------------

    @property
    def out_dir(self) -> Path:
        """Where an export writes: what the user asked for, else runs/<dataset>/exports/<name>-<short hash>."""
        out = self.spec.config.get("out", "")
        return Path(out) if out else self.path.parent / "exports" / f"{self.spec.name}-{self.spec.fingerprint[:8]}"

    def prove_out(self) -> None:
        """InputError where the place of an export's own is reached by a link that leads out of the dataset: whoever made the folder may
        have put it there. A place that the user chose may be reached by any."""
        if not self.spec.config.get("out", ""):
            own = self.out_dir.relative_to(self.path.parent).as_posix()
            fix = "remove it; to keep exports on another disk, set export.*.out or runs_dir"
            Inside(self.path.parent, fix).path(f"{own}/-")

    def link_latest(self) -> None:
        """Point exports/<name>-latest at this export; a place that the user chose gets no link."""
        if self.spec.config.get("out", ""):
            return
        link = self.out_dir.with_name(f"{self.spec.name}-latest")
        temp = link.with_name(f".{link.name}.{os.getpid()}")
        with storing(link):
            with contextlib.suppress(FileNotFoundError):
                temp.unlink()
            temp.symlink_to(self.out_dir.name)
            replace(temp, link)

    def unit(self, number: int) -> Unit:
        return self.spec.unit(number)


def _state_framing(path: Path, framing: str) -> None:
    """Write the framing into a stage.json that was planned before it was stated."""
    with contextlib.suppress(InputError):  # torn: opening it says so
        stated = foreign.parse(read_small(path, foreign.STAGE) or b"", path)
        if type(stated) is dict and "framing" not in stated:
            write_atomic(path, json.dumps(stated | {"framing": framing}, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n")


def _framing_of_files(path: Path) -> str:
    """The framing of a stage whose stage.json does not state it, by the first unit or part that is there."""
    for name, framing in FRAMINGS.items():
        if any(next(path.glob(f"{top}/*/*{framing.suffix}"), None) for top in ("units", "parts")):
            return name
    raise InputError(f"{path / 'stage.json'}: does not say how units are framed, and there are none; {AGAIN}")


def done_in(path: Path) -> dict:
    """What a done.json says; {} if there is none. Anything else of this name is an InputError."""
    fix = "remove it: the next run writes it anew"
    with storing(path):
        data = read_small(path)
    fields = {} if data is None else foreign.obj(foreign.parse(data, path, fix), path, fix, **_DONE)
    return {name: value for name, value in fields.items() if value is not None}


_DONE = dict.fromkeys(("units", "slots", "samples", "tombstones"), foreign.Maybe(foreign.COUNT))


def _read_inputs(path: Path) -> dict:
    """The fields of inputs.json, or what they are where there is none; a torn or foreign one is an InputError."""
    fix = AGAIN
    with storing(path):
        data = read_small(path, foreign.STAGE)
    raw = {} if data is None else foreign.parse(data, path, fix, halves=True)
    shapes = {"paths": Maybe({str: str}, {}), "hard_links": Maybe(bool, True), "settings": Maybe(dict, {})}
    return foreign.obj(raw, path, fix, **shapes)


def _opens(path: Path) -> bool:
    """Whether there is a file, asked by open() itself: a network file system's answer to stat() may be old. What is no file is none."""
    with storing(path):
        try:
            foreign.open_file(path).close()
        except (FileNotFoundError, NotADirectoryError, InputError):
            return False
    return True


def _inputs_json(spec: StageSpec, links: bool) -> bytes:
    inputs = {"paths": {r: str(Path(i.path).absolute()) for r, i in spec.inputs.items()}, "hard_links": links}
    inputs |= {"settings": dict(spec.settings)} if spec.settings else {}
    return json.dumps(inputs, indent=1, sort_keys=True).encode() + b"\n"
