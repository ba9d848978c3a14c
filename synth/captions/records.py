"""What a whole stage of records holds."""

from collections.abc import Iterator, Mapping

from synth.store.folder import StageFolder


def records_of(stage: StageFolder) -> Iterator[tuple[int, Mapping | str]]:
    """(slot, record or reason of its tombstone) in slot order."""
    for number in range(stage.spec.n_units):
        with stage.reader(number) as reader:
            unit = stage.spec.unit(number)
            for slot in range(unit.start, unit.stop):
                if slot in reader.entries:
                    yield slot, reader.record(reader.entries[slot])
                else:
                    yield slot, reader.index.tombstones.get(slot, "not in its unit")
