"""Stage kind `rounds`: the pictures of all rounds of feedback as those of one stage, for filters, exports and the judge. Nothing is taken
out; a sample tells the round that drew its picture. Slots of a round follow those of the one before."""

from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from synth.filters.selection import Selection, There, Verdicts
from synth.reading.stage import ROLE, StageReader
from synth.store.samples import Unit


class Rounds(Selection):
    def open(self) -> None:
        stages = self.folder.upstream(ROLE)
        self._readers = [StageReader(stage) for stage in stages]
        self._firsts = [0, *accumulate(stage.spec.slots for stage in stages)][:-1]
        super().open()

    def there(self) -> Iterator[tuple[int, int]]:
        """Their labels decide nothing, and are not read."""
        for first, reader in zip(self._firsts, self._readers, strict=True):
            yield from ((first + slot, -1) for slot in reader.sample_slots)

    def judge(self, there: There) -> Verdicts:
        number = np.searchsorted(self._firsts, there.slots, "right")
        return Verdicts(np.ones(len(there.slots), bool), lambda at: ({"round": int(number[at])}, ""))

    def begin(self, unit: Unit) -> dict[int, str]:
        """slot -> why a round has no picture there."""
        reasons: dict[int, str] = {}
        for first, reader in zip(self._firsts, self._readers, strict=True):
            reasons |= {first + slot: why for slot, why in reader.reasons(unit.start - first, unit.stop - first).items()}
        return reasons
