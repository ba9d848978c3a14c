"""Base of exports that pack pictures into files of a wanted number: a unit of the stage is a file, written in one go.

The stage's own units hold a record for each picture; the file lies in the place of the export, under its name from the moment it is whole.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path

from synth.errors import not_trouble
from synth.export.base import Export
from synth.export.config import ShardedConfig
from synth.export.shuffle import Order
from synth.export.sources import FACTS, Sources
from synth.reading.sample import StageSample
from synth.reading.stage import GONE
from synth.run.findings import Check
from synth.store.files import storing
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical


class Sharded(Export):
    """A kind says how a file is called and written: `file_name`, `write`."""

    config: ShardedConfig

    @cached_property
    def _order(self) -> Order:
        seed = self.config.shuffle_seed
        return Order(self.pictures.slots, self.pictures.sources[0].spec.unit_size, None if seed < 0 else seed)

    def file_name(self, number: int) -> str:
        raise NotImplementedError

    def write(self, path: Path, pictures: Iterable[tuple[int, StageSample]]) -> Iterator[tuple[int, str, dict]]:
        """Write (position, picture) into a new file at `path`; yields (position, key, record with bytes, sha256 and `member`) of each.

        The file is whole when the iterator ends.
        """
        raise NotImplementedError

    def file_of(self, name: str) -> str:
        return name.rpartition("/")[0]

    def begin(self, unit: Unit) -> Unit:
        return unit

    def compute(self, state: Unit, slots: range) -> list[Sample | Tombstone]:
        return self._make(state)

    def encode(self, state, item: Sample | Tombstone) -> Sample | Tombstone:
        return item

    def _make(self, unit: Unit) -> list[Sample | Tombstone]:
        """Write the file of a unit; what is in it, by position in the export. A file without a picture is not written."""
        wanted = self._order.at(unit.start, unit.stop)
        position = {slot: unit.start + n for n, slot in enumerate(wanted)}
        name = self.file_name(unit.number)
        temp = self.out.part(name)
        packed: dict[int, tuple[str, dict]] = {}
        with storing(self.out.path / name):
            try:
                for at, key, record in self.write(temp, ((position[p.slot], p) for p in self.pictures.ahead(self.pictures.picked(wanted)))):
                    packed[at] = key, record | {"file_name": f"{name}/{record['member']}"}
                if packed:
                    size = temp.stat().st_size
                    self.out.place(temp, name)
            finally:
                temp.unlink(missing_ok=True)
        gone = self._reasons(wanted, position) if len(packed) < len(wanted) else {}
        samples = {at: Sample(at, key, {"json": canonical(record | {"file_bytes": size})}) for at, (key, record) in packed.items()}
        return [samples.get(at) or Tombstone(at, gone.get(at, GONE)) for at in range(unit.start, unit.stop)]

    def _reasons(self, wanted: list[int], position: dict[int, int]) -> dict[int, str]:
        block = self.pictures.sources[0].spec.unit_size
        by_position: dict[int, str] = {}
        for b in sorted({s // block for s in wanted}):
            reasons = self.pictures.reasons(b * block, min(self.pictures.slots, (b + 1) * block))
            by_position |= {position[s]: r for s, r in reasons.items() if s in position}
        return by_position

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def records(self, mend: bool = True) -> Iterator[dict]:
        looked = -1
        for stored in self.folder.samples():
            record = stored.json(*FACTS)
            if stored.unit != looked:
                looked = stored.unit
                if mend and not self.out.has(self.file_name(looked), record["file_bytes"]):
                    self._make(self.folder.unit(looked))
            slot = self._order.at(stored.slot, stored.slot + 1)[0]
            yield {**record, "slot": slot, "key": stored.key}

    # -- whether it is still as it was -------------------------------------------------------------------------------

    def members_of(self, path: Path) -> Iterator[tuple[str, str]]:
        """(what, digest) of all that a file holds, in order. Raises what damaged files make its reader raise."""
        raise NotImplementedError

    def expected_of(self, record: dict) -> list[tuple[str, str]]:
        """The same of one picture, by its record."""
        raise NotImplementedError

    def verify(self, check: Check) -> None:
        """Every file is there, of its size; deep: what it holds is the pictures of the units and their records, in order."""
        self.look_alone(check)
        sources = Sources(check, lambda: self.pictures)
        records = check.records(self.folder, *FACTS)
        for name, group in groupby(records, lambda r: self.file_name(r[0].unit)):
            mine, path = [], check.out / name
            for stored, record in group:
                mine.append(record)
                if sources:
                    slot = self._order.at(stored.slot, stored.slot + 1)[0]
                    sources.compare(slot, record, record["member"], self.folder.unit_path(stored.unit), stored.unit, name)
            check.progress(len(mine))
            if (seen := check.status(name)) is None:
                continue
            if (size := seen.st_size) != mine[0]["file_bytes"]:
                check.wrong(name, f"has {size} bytes, {mine[0]['file_bytes']} when it was written")
            elif check.deep and (wrong := self._differs(mine, path)):
                check.wrong(name, wrong)
        self.verify_beside(check, self.n_samples())

    def _differs(self, records: list[dict], path: Path) -> str:
        """What in a file is not as its records say; "" if nothing is."""
        import pyarrow as pa

        try:
            there = list(self.members_of(path))
        except (OSError, pa.ArrowException, ValueError, TypeError, AttributeError) as e:
            not_trouble(path, e)
            return f"cannot be read ({type(e).__name__}: {e})"
        expected = [pair for r in records for pair in self.expected_of(r)]
        if there == expected:
            return ""
        bad = next((b for a, b in zip(there, expected, strict=False) if a != b), ("its number of pictures", ""))
        return f"{bad[0]} is not as in its unit"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
