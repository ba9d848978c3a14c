"""A stage that makes nothing but empty slots: its worker stops before the days are over, and before they are stored as facts."""

from collections import Counter
from collections.abc import Iterable, Mapping

from synth.errors import InputError
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS, Batch, shared
from synth.store.parts import finished_batches

AFTER = "stop_when_empty"  # setting of stages that ask a model: slots that all stay empty, after which a worker stops; 0: never


class Empty:
    """Watches the batches of one worker until one has a sample."""

    def __init__(self, folder: StageFolder, stage: Stage):
        self._folder, self._stage, self._reasons, self._over = folder, stage, Counter[str](), False

    def judge(self, batch: Batch, before: int) -> None:
        """InputError if the stage says that more of the same will follow. Asked before the batch is stored. before: samples of its unit
        that are there, whoever made them."""
        if self._over or batch.entries or before:
            self._over = True
            return
        self._reasons.update(shared(reason) for _, reason in batch.tombstones)
        if why := self._stage.hopeless(self._reasons):
            self._over = has_samples(self._folder)  # of other workers, or of earlier runs
            if not self._over:
                raise InputError(why)


def has_samples(folder: StageFolder) -> bool:
    """Whether any unit of a stage has a sample, or what is left of one. Reads the ends of units, up to the first that has."""
    for number in sorted(folder.committed()):
        with folder.reader(number) as unit:
            if unit.index.samples:
                return True
    parts = (folder.path / "parts").glob(f"*/*{FRAMINGS[folder.framing].suffix}")
    return any(line["samples"] for part in parts for line, _ in finished_batches(part))


def reasons_of(folder: StageFolder) -> Counter[str]:
    """Why the slots of a stage are empty, without what is each one's own."""
    counted = Counter[str]()
    for number in sorted(folder.committed()):
        with folder.reader(number) as unit:
            counted.update(map(shared, unit.index.tombstones.values()))
    return counted


def mostly(reasons: Mapping[str, int], own: Iterable[str], after: int) -> tuple[str, int] | None:
    """The commonest of the stage's `own` reasons (beginnings of them) and how many slots all of these left empty; None below `after`.

    after: slots; 0: never.
    """
    beginnings = tuple(own)
    counted = {reason: n for reason, n in reasons.items() if reason.startswith(beginnings)}
    total = sum(counted.values())
    return (max(counted, key=lambda reason: (counted[reason], reason)), total) if after and total >= after else None
