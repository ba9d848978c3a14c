"""The rules of a chain: which style text a picture is drawn with, and which picture it starts from. Pure.

A chain is serial in prompts. Its lanes are the styles: lane i keeps its tag and its weight. After every prompt the last
pictures move one lane to the left (interleave), and so do the style texts (cycle_styles), each for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from synth.images.strength import steps_run

T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """progressive: a picture starts from the last one of its lane, if there is one."""

    progressive: bool
    interleave: bool
    cycle_styles: bool
    steps: int
    weights: tuple[float, ...]  # of the lanes: share of the steps that is run from a last picture

    @property
    def lanes(self) -> int:
        return len(self.weights)

    def text(self, step: int, lane: int) -> int:
        """Which style's text lane `lane` has at the step-th prompt of its chain (from 0)."""
        return (lane + step) % self.lanes if self.cycle_styles else lane

    def passed_on(self, last: Sequence[T]) -> tuple[T, ...]:
        """The last pictures by lane, as the next prompt finds them."""
        return (*last[1:], *last[:1]) if self.interleave else tuple(last)

    def run(self, lane: int) -> int:
        """Steps that are run from a last picture; 0: it is kept as it is."""
        return steps_run(self.steps, self.weights[lane])

    def starts(self, last: Sequence[T | None]) -> tuple[T | None, ...]:
        """What each lane's next picture starts from; None: from noise, all steps."""
        return tuple(last) if self.progressive else (None,) * self.lanes

    def groups(self, starts: Sequence[object | None]) -> dict[int | None, tuple[int, ...]]:
        """steps to run (None: from noise) -> lanes: what one call of the model can draw together."""
        by_run: dict[int | None, list[int]] = {}
        for lane, start in enumerate(starts):
            by_run.setdefault(None if start is None else self.run(lane), []).append(lane)
        return {run: tuple(lanes) for run, lanes in by_run.items()}


@dataclass
class Last:
    """The last picture of each lane, as prompts go by. `pictures`: those of one prompt, None where it gave none:
    such a lane stays with the picture that it started from."""

    rules: Rules
    of: tuple = field(default=())

    def __post_init__(self):
        self.of = self.of or (None,) * self.rules.lanes

    def add(self, pictures: Sequence[object | None]) -> None:
        self.of = self.rules.passed_on([old if new is None else new for old, new in zip(self.of, pictures, strict=True)])


def last_after(rules: Rules, first: int, stop: int, pictures: Mapping[int, T]) -> tuple[T | None, ...]:
    """The last pictures after the slots [first, stop) of a chain, whole prompts; pictures: slot -> picture, where there is one."""
    last = Last(rules)
    for start in range(first, stop, rules.lanes):
        last.add([pictures.get(start + lane) for lane in range(rules.lanes)])
    return last.of
