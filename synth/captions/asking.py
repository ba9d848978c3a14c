"""What all stages that ask a caption engine share: the engine's life, inputs verified, and dialogues side by side."""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from synth.captions import engines
from synth.captions.engines import Completion, Request
from synth.captions.prompts import Sources
from synth.captions.records import records_of
from synth.errors import InputError
from synth.run.stage import Stage
from synth.store.identity import file_identity
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

# What fills a slot, or several: it yields requests, is sent their completions, and returns what it made of them.
Result = TypeVar("Result")
Dialogue = Generator[Request, Completion, Result]


Generate = Callable[[Sequence[Request]], Sequence[Completion]]


def lockstep(dialogues: Sequence[Dialogue[Result]], generate: Generate) -> list[Result]:
    """The results of dialogues, in order. In each round the requests of all that are not at their end are asked together:
    so what is asked depends on this batch of dialogues alone."""
    results: list = [None] * len(dialogues)
    waiting: dict[int, Request] = {}

    def go_on(n: int, step: Callable[[], Request]) -> None:
        try:
            waiting[n] = step()
        except StopIteration as e:
            waiting.pop(n, None)
            results[n] = e.value

    for n, dialogue in enumerate(dialogues):
        go_on(n, partial(next, dialogue))
    while waiting:
        asked = sorted(waiting)
        for n, completion in zip(asked, generate([waiting[n] for n in asked]), strict=True):
            go_on(n, partial(dialogues[n].send, completion))
    return results


class Asking(Stage):
    """A stage whose slots are filled with what an engine answers. A result is a record, or the reason of a tombstone."""

    def __init__(self, folder):
        super().__init__(folder)
        self.deterministic = self.config.captioner.engine not in engines.NOT_DETERMINISTIC
        self.engine: engines.Engine | None = None
        self.refused: Counter[str] = Counter()  # answers that were not taken, and slots left empty, by reason

    def check(self) -> None:
        self.engine = engines.make(self.folder)
        self.engine.check()

    def open(self) -> None:
        if self.engine is None:
            self.check()
        self.engine.start()

    def ask(self, dialogues: Sequence[Dialogue]) -> list:
        return lockstep(dialogues, self.engine.generate)

    def encode(self, state, item: tuple[int, dict | str]) -> Sample | Tombstone:
        slot, result = item
        return Tombstone(slot, result) if isinstance(result, str) else Sample(slot, f"{slot:09d}", {"json": canonical(result)})

    def usage(self) -> Mapping[str, object]:
        """What this process spent outside, and what it refused: for the worker's events."""
        usage = getattr(self.engine, "usage", None)
        return dict(usage() if usage else {}) | ({"refused": dict(self.refused)} if self.refused else {})

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()

    # -- what it reads -----------------------------------------------------------------------------------------------

    @property
    def sources(self) -> Sources:
        return Sources(self._table, lambda role: str(self.folder.input_path(role)), self.records)

    def _table(self, role: str):
        """A JSON input, verified to be the one that was planned."""
        file = self.folder.input(role)
        if file_identity(file.path) != file.identity:
            raise InputError(f"{file.path}: changed since the stage was planned; run the command again to plan anew")
        try:
            with open(file.path, encoding="utf-8") as f:
                data = json.load(f)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{file.path}: not JSON ({e})") from e
        if role in ("examples", "backgrounds") and not isinstance(data, dict):
            raise InputError(f"{file.path}: expected an object of lists, found {type(data).__name__}")
        return data

    def records(self, role: str) -> Iterator[tuple[int, Mapping | str]]:
        """(slot, record or reason of its tombstone) of the whole upstream stages of a role, in order."""
        for stage in self.folder.upstream(role):
            yield from records_of(stage)
