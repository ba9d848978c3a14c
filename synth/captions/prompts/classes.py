"""Which class a slot asks for."""

from functools import lru_cache

from synth import seeds
from synth.config import ClassEntry, DatasetConfig


class ExactBalance:
    """Equal counts: slots come in blocks of one slot a class, each block in an order of its own.

    The order of block b is drawn over the official class list and then filtered, so a chosen range of classes keeps the
    order, and the slot keys, that these classes have among all.
    """

    def __init__(self, dataset: DatasetConfig):
        self._chosen = {c.index: c for c in dataset.classes}
        self._n_official = dataset.n_classes
        self._order = lru_cache(maxsize=64)(self._draw_order)

    def _draw_order(self, seed: int, block: int) -> tuple[int, ...]:
        rng = seeds.generator(seeds.derive(seed, "captions", "order", block))
        return tuple(int(i) for i in rng.permutation(self._n_official) if int(i) in self._chosen)

    def at(self, seed: int, slot: int) -> tuple[ClassEntry, int]:
        """(class, slot key) of a slot; slot key = block * n_official + class index."""
        block, position = divmod(slot, len(self._chosen))
        index = self._order(seed, block)[position]
        return self._chosen[index], block * self._n_official + index
