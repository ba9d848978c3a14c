"""One stage folder: every unit there and itself, keys unique, in step with its upstreams, labels within the classes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from synth.errors import InputError, StoreError
from synth.kinds import makes_files, stage_class
from synth.run.findings import Findings, ranges
from synth.run.stage import Stage
from synth.store.events import read_events
from synth.store.folder import StageFolder, done_in
from synth.store.framing import shared
from synth.store.names import classes_of
from synth.verify.files import gone_behind
from synth.verify.units import UnitCheck, check_unit

THREADS = 4  # reading waits for the disk, hashing and decoding release the interpreter
AHEAD = 64  # units that are read ahead: bounds memory

Progress = Callable[[int], None]


def verify_stage(folder: StageFolder, deep: bool, progress: Progress = lambda slots: None) -> Findings:
    """All that is wrong with one stage. Shallow reads the ends of units only; deep reads, hashes and decodes every sample."""
    findings = Findings(str(folder.path), folder.spec.kind, deep)
    missing = folder.missing()
    if missing:
        findings.unfinished = True
        aside = set(folder.set_aside())
        if left := [u for u in missing if u not in aside]:
            findings.add(
                folder.path,
                f"units {ranges(left)} of {folder.spec.n_units} are missing: run the command that made the stage again",
            )
        if aside:
            findings.add(
                folder.path,
                f"units {ranges(sorted(aside))} failed three times and were set aside; see {folder.path / 'failed'}",
            )
    if why := folder.reopening.why():
        findings.unfinished = True
        findings.add(folder.path, why)
    absent = set(missing)
    step = Step(folder, findings)
    marks: dict[int, np.ndarray] = {}
    for check in _checks(folder, [u for u in range(folder.spec.n_units) if u not in absent], deep):
        if check.index is not None and not check.wrong:
            check.wrong += step.problems(check)
            marks[check.number] = check.keys
            findings.units += 1
            findings.samples += len(check.index.samples)
            for reason in map(shared, check.index.tombstones.values()):
                findings.tombstones[reason] = findings.tombstones.get(reason, 0) + 1
        for text in check.wrong:
            findings.add(folder.unit_path(check.number), text, check.number)
        progress(len(folder.unit(check.number)))
    _duplicates(folder, marks, findings)
    _done(folder, findings)
    _provenance(folder, findings)
    return findings


def _checks(folder: StageFolder, units: list[int], deep: bool) -> Iterator[UnitCheck]:
    """The checks of many units, in order, a few threads ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(units), AHEAD):
            yield from pool.map(lambda u: check_unit(folder, u, deep), units[start : start + AHEAD])


class Step:
    """Whether units are in step with what their stage reads, and their records with the classes of the dataset."""

    def __init__(self, folder: StageFolder, findings: Findings):
        self.folder = folder
        self._caption = lru_cache(maxsize=8)(self._captions)
        self.classes: Mapping[int, str] = {}
        self.stage: Stage | None = None
        if makes_files(folder.spec.kind) and (gone := gone_behind(folder)):
            findings.notes += [f"{path} is gone: what was made of it is compared with the records of this stage alone" for path in gone]
            return
        try:
            for role in folder.spec.upstream:
                folder.upstream(role)
            self.stage = stage_class(folder.spec.kind)(folder)
            self.classes = classes_of(folder)
        except (InputError, StoreError) as e:
            findings.add(folder.path, f"cannot be compared with its upstream stages: {e}")

    def problems(self, check: UnitCheck) -> list[str]:
        """What is wrong between a unit and its upstream. A unit's index holds the digest of the rows that it was made of."""
        if self.stage is None:
            return []
        try:
            inputs = self.stage.unit_inputs(self.folder.unit(check.number))
        except (InputError, StoreError) as e:
            return [f"cannot be compared with its upstream: {e}"]
        if inputs != check.index.inputs:
            return ["is out of step with its upstream: it was made of other rows than those that are there now"]
        return [f"sample in slot {slot}: {w}" for slot, record in sorted(check.records.items()) for w in self._record(record)]

    def _record(self, record: Mapping) -> Iterator[str]:
        label, name = record.get("label"), record.get("class")
        if self.classes and isinstance(label, int):
            if label not in self.classes:
                yield f"label {label} is not one of the {len(self.classes)} classes of the dataset"
            elif name is not None and name != self.classes[label]:
                yield f"label {label} is {self.classes[label]!r} in the dataset, its record says {name!r}"
        row = record.get("caption_row")
        if isinstance(row, int) and "captions" in self.folder.spec.upstream:
            caption = self._caption(row // 1024).get(row)
            if caption != record.get("caption"):
                yield f"caption row {row} is {caption!r}, its record says {record.get('caption')!r}"

    def _captions(self, group: int) -> dict[int, str]:
        """row -> caption, of 1,024 rows of the captions table."""
        from synth.captions.table import rows

        return {r.row: r.caption for r in rows(self.folder.upstream("captions")[0], group * 1024, (group + 1) * 1024)}


def _duplicates(folder: StageFolder, marks: Mapping[int, np.ndarray], findings: Findings) -> None:
    """Keys that stand in more than one sample of the stage. 8 bytes a key are held; the few suspects are read again by name."""
    every = np.concatenate(list(marks.values())) if marks else np.empty(0, np.uint64)
    every.sort()
    suspects = set(every[1:][every[1:] == every[:-1]].tolist())
    if not suspects:
        return
    seen: dict[str, int] = {}
    for number, keys in sorted(marks.items()):
        if suspects.isdisjoint(keys.tolist()):
            continue
        with folder.reader(number) as reader:
            for entry in reader.index.samples:
                if hash(entry.key) & 0xFFFFFFFFFFFFFFFF in suspects:
                    if entry.key in seen:
                        findings.add(folder.unit_path(number), f"key {entry.key!r} stands in unit {seen[entry.key]} already", number)
                    seen.setdefault(entry.key, number)


def _done(folder: StageFolder, findings: Findings) -> None:
    """done.json is a cache; one that promises what is not there would keep the next run from making it."""
    try:
        done = done_in(folder.path / "done.json")
    except (InputError, StoreError) as e:
        findings.add(folder.path / "done.json", str(e).removeprefix(f"{folder.path / 'done.json'}: "))
        return
    if not done or findings.problems:
        return
    counted = {"samples": findings.samples, "tombstones": findings.n_tombstones}
    promised = {k: done.get(k) for k in counted}
    if promised != counted:
        findings.add(folder.path / "done.json", f"says {promised}, there are {counted}")


def _provenance(folder: StageFolder, findings: Findings) -> None:
    """Which kinds of device, in which versions, committed how many units: from the workers' events, as far as they are there."""
    opened: dict[str, tuple[str, Mapping]] = {}
    devices, versions = Counter(), {}
    for event in read_events(folder.path, findings.notes.append):
        if event["event"] == "open":
            opened[event["worker"]] = str(event.get("device") or "?"), event.get("versions") or {}
        elif event["event"] == "unit" and event.get("outcome") == "ours":
            device, its = opened.get(event["worker"], ("?", {}))
            devices[device] += 1
            for name, version in its.items():
                versions.setdefault(name, Counter())[str(version)] += 1
    findings.devices = dict(devices)
    if len(devices) > 1:
        findings.notes.append("units were made on several kinds of device: " + ", ".join(f"{d} {n}" for d, n in sorted(devices.items())))
    for name, counts in sorted(versions.items()):
        if len(counts) > 1:
            findings.notes.append(
                f"units were made by several versions of {name}: " + ", ".join(f"{v} {n}" for v, n in sorted(counts.items()))
            )
