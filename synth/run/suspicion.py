"""Whether units that fail one after the other tell of a bad GPU, of themselves, or of the whole stage; and kills that do not end."""

import re

from synth.errors import DeviceFailed, StoreError
from synth.host import allocation
from synth.run.judgement import brief
from synth.store.blame import TRIES
from synth.store.events import read_events
from synth.store.folder import StageFolder

IN_A_ROW = 3  # units that fail for the first time, with none made between them, after which a worker leaves its GPU


KILLS = 3  # times in a row, without a batch made between them, that processes of the stage are killed until the worker leaves


class NothingWorks(Exception):
    """Unit after unit fails, here and elsewhere: the stage is to blame. Ends the worker with exit code 70."""


class Suspicion:
    """What one worker on `place` makes of the errors of its units."""

    def __init__(self, folder: StageFolder, place: str):
        self._folder, self._place = folder, place
        self._row: list[tuple[int, str]] = []  # units that never failed before and their errors, since a unit was made here
        self._trusts_device = False  # others met the same errors in a row

    def made(self) -> None:
        """A unit was made here."""
        self._row.clear()

    def failed(self, unit: int, error: BaseException) -> None:
        """A unit failed, and never had before."""
        self._row.append((unit, brief(error)))

    def check(self) -> None:
        """Raise why a worker leaves whose units all fail: its GPU may be bad, unless others say that the units or the stage are.

        Where others met the same and some units of the stage were made, it goes on: each of the rest has its three tries.
        """
        row = list(self._row)  # the writer's thread adds to it
        if len(row) < IN_A_ROW or self._trusts_device or not self._on_gpu():
            return
        why = f"the last {IN_A_ROW} units failed one after the other; the last one by {row[-1][1]}"
        failures = self._folder.failures()
        tries, works = sum(map(len, failures.values())), bool(self._folder.committed())
        self._trusts_device = {unit for unit, _ in row} <= set(self._folder.set_aside()) or self._others_left_by(why)
        if not works and (self._trusts_device or tries >= IN_A_ROW * TRIES):
            raise NothingWorks(f"{why}. {len(failures)} units failed in {tries} tries; see {self._folder.path / 'failed'}")
        if not self._trusts_device:
            raise DeviceFailed(f"{why}; see {self._folder.path / 'failed'}")

    def _on_gpu(self) -> bool:
        """Whether a GPU is in use, so that there is one to suspect."""
        return self._place != allocation.DEFAULT or bool(allocation.gpu())

    def _others_left_by(self, why: str) -> bool:
        """Whether another worker left its device for the same reason, whatever numbers stand in it."""
        left = (str(e.get("why")) for e in read_events(self._folder.path) if e["event"] == "device")
        return any(_without_numbers(text).startswith(_without_numbers(f"{why};")) for text in left)


class Kills:
    """Of processes of the stage, from outside, since a batch was last made here."""

    def __init__(self) -> None:
        self._row = 0

    def made(self) -> None:
        """A batch was made, or a whole unit."""
        self._row = 0

    def another(self, error: BaseException) -> BaseException:
        """What a kill means: itself, or that it is of no use to go on here."""
        self._row += 1
        if self._row < KILLS:
            return error
        gone = StoreError(f"{KILLS} times in a row, with nothing made in between: {error}")
        gone.__cause__ = error
        return gone


def _without_numbers(text: str) -> str:
    """A message without what it says of one unit.

    >>> _without_numbers("slot 17 of 20 failed")
    'slot # of # failed'
    """
    return re.sub(r"\d+", "#", text)
