"""The order of a shuffled export: a permutation that any worker can compute, and that reads the units in long strokes. Pure.

Blocks of slots (a block = a unit of the images) come in an order of their own, drawn by the seed; then, `MIX` blocks at a time, their slots
are shuffled among each other. So a shard of a thousand pictures is drawn from tens of thousands, and opens few units. A trainer's own
shuffle buffer does the rest.
"""

from functools import lru_cache

import numpy as np

from synth import seeds

MIX = 32  # blocks whose slots are shuffled among each other


class Order:
    """Position in the export -> slot. `seed` None: slots as they are."""

    def __init__(self, slots: int, block: int, seed: int | None):
        self.slots, self.block, self.seed = slots, max(1, block), seed
        self._n = -(-slots // self.block)
        self._group = lru_cache(maxsize=4)(self._make_group)
        if seed is not None:
            self._blocks = seeds.generator(seeds.derive(seed, "shuffle", "blocks")).permutation(self._n)
            sizes = np.minimum(slots, (self._blocks + 1) * self.block) - self._blocks * self.block
            groups = [sizes[g : g + MIX].sum() for g in range(0, self._n, MIX)]
            self._first = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)

    def at(self, start: int, stop: int) -> list[int]:
        """The slots of positions [start, stop)."""
        if self.seed is None:
            return list(range(start, min(stop, self.slots)))
        slots: list[int] = []
        position = start
        while position < min(stop, self.slots):
            group = int(np.searchsorted(self._first, position, side="right")) - 1
            members, first = self._group(group), int(self._first[group])
            slots += members[position - first : stop - first].tolist()
            position = first + len(members)
        return slots

    def _make_group(self, group: int) -> np.ndarray:
        blocks = self._blocks[group * MIX : (group + 1) * MIX]
        members = np.concatenate([np.arange(b * self.block, min(self.slots, (b + 1) * self.block)) for b in blocks])
        return seeds.generator(seeds.derive(self.seed, "shuffle", group)).permutation(members)
