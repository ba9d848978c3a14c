"""Which class a slot asks for."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from synth import seeds
from synth.captions.config import ClassEntry, DatasetConfig, PromptsConfig
from synth.errors import InputError


@dataclass(frozen=True)
class Turn:
    """What a slot asks for. All of it is the same in a range of classes as among all of them (exact balance)."""

    entry: ClassEntry
    key: int  # slot key: the stable name of the slot
    place: int  # where the slot lies in the order of all classes: neighbours may share what they draw
    nth: int  # which one of its class it is, from 0; a random number where classes are drawn


class Balance(Protocol):
    def turn(self, seed: int, slot: int) -> Turn: ...

    def slot_of(self, seed: int, key: int) -> int | None:
        """The slot of a key; None if no slot has it."""


class ExactBalance:
    """Equal counts: slots come in blocks of one slot a class, each block in an order of its own.

    The order of block b is drawn over the official class list and then filtered, so a chosen range of classes keeps the
    order, and the slot keys, that these classes have among all.
    """

    def __init__(self, dataset: DatasetConfig):
        self._chosen = {c.index: c for c in dataset.classes}
        self._n_official = dataset.n_classes
        self._order = lru_cache(maxsize=64)(self._draw_order)
        self._positions = lru_cache(maxsize=64)(self._find_positions)

    def _draw_order(self, seed: int, block: int) -> tuple[tuple[int, int], ...]:
        rng = seeds.generator(seeds.derive(seed, "captions", "order", block))
        order = enumerate(int(i) for i in rng.permutation(self._n_official))
        return tuple((place, index) for place, index in order if index in self._chosen)

    def turn(self, seed: int, slot: int) -> Turn:
        block, position = divmod(slot, len(self._chosen))
        place, index = self._order(seed, block)[position]
        first = block * self._n_official
        return Turn(self._chosen[index], first + index, first + place, block)

    def slot_of(self, seed: int, key: int) -> int | None:
        block, index = divmod(key, self._n_official)
        position = self._positions(seed, block).get(index)
        return None if position is None else block * len(self._chosen) + position

    def _find_positions(self, seed: int, block: int) -> dict[int, int]:
        return {index: position for position, (_, index) in enumerate(self._order(seed, block))}


class RandomBalance:
    """A class drawn for every slot, with replacement, as SynCLR does. Another range of classes gives other draws."""

    def __init__(self, dataset: DatasetConfig):
        self._classes = dataset.classes

    def turn(self, seed: int, slot: int) -> Turn:
        rng = seeds.generator(seeds.derive(seed, "captions", "class", slot))
        entry = self._classes[rng.integers(len(self._classes))]
        return Turn(entry, slot, slot, int(rng.integers(1 << 32)))

    def slot_of(self, seed: int, key: int) -> int | None:
        return key


BALANCES = {"exact": ExactBalance, "random": RandomBalance}


def balance(dataset: DatasetConfig, prompts: PromptsConfig) -> Balance:
    """How slots are dealt to classes: prompts.class_balance."""
    if not dataset.classes:
        raise InputError(f"dataset {dataset.name}: no class is chosen; choose one at least: dataset.classes=all")
    if prompts.class_balance not in BALANCES:
        allowed = f"must be {' or '.join(BALANCES)} for prompts.maker={prompts.maker}"
        raise InputError(f"prompts.class_balance={prompts.class_balance!r}: {allowed}")
    return BALANCES[prompts.class_balance](dataset)
