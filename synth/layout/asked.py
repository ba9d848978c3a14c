"""What stages hear that ask a model: counted, and judged where it never is what was asked for."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from synth import foreign
from synth.captions.asking import SAID_OF, SHOWN, SHOWN_OF
from synth.errors import InputError
from synth.layout.records import Record
from synth.layout.stage import records_of
from synth.run.empty import AFTER
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS, Entry
from synth.store.parts import finished_batches

CAUSES = {  # reason -> what it mostly comes from
    "thinking": "it thinks and does not come to an end: a larger max_tokens, or a model that does not think",
    "refusal": "it refuses what it is asked: another prompt, or another model",
    "refused_by_server": "the server refuses each picture: its log says why; does the model take pictures?",
    "empty": "it says nothing: is it a model that answers questions about pictures?",
    "prompt_too_long": "max_seq_len is too small for a picture: a larger one, or smaller pictures",
    "too_long": "it rambles: another prompt, or a smaller max_tokens",
}


class Heard:
    """The answers of a worker's life, by what became of them. group: of the keys; what: is asked about; wanted: is asked for; gave: whether
    a record shows that what is asked gave something, in another life or to another worker."""

    def __init__(self, folder: StageFolder, group: str, what: str, wanted: str, gave: Callable[[Record], bool]):
        self._after, self._group, self._what, self._wanted = folder.spec.settings.get(AFTER, 0), group, what, wanted
        self._folder, self._gave = folder, gave
        self.refused: Counter[str] = Counter()  # by reason
        self.cut: Counter[str] = Counter()  # answers of which something was cut away, by kind
        self.said: dict[str, str] = {}  # reason -> the first such answer
        self._good = 0

    def note(self, reason: str, cut: Sequence[str], text: str, good: bool) -> None:
        """An answer. reason: why it was not taken, "" if it was; good: it gave something that was asked for."""
        self._good += good
        self.cut.update(cut)
        if reason:
            self.refused[reason] += 1
            self.said.setdefault(reason, text[:SHOWN_OF])

    def judge(self) -> None:
        """InputError where many were asked and none gave what was asked for: more of the same would follow."""
        bad = self.refused.total()
        if self._good or not self._after or bad < self._after:
            return
        if self._before():
            self._good = 1
            return
        reason, _ = max(self.refused.items(), key=lambda item: (item[1], item[0]))
        cause = CAUSES.get(reason, "look at what it says; try another prompt or model")
        examples = "".join(f"\n  {why}: {text[:200]!r}" for why, text in list(self.said.items())[:SHOWN])
        raise InputError(
            f"{self._group}: none of the first {bad} {self._what} got a {self._wanted}, mostly because of {reason!r}: {cause}; "
            f"{self._group}.{AFTER}=0 goes on all the same; what was heard so far is kept: where the model or its server was to blame "
            f"and no key changes, remove {self._folder.path} first; it says:{examples}"
        )

    def _before(self) -> bool:
        """Whether any unit, or what there is of one that is not through, holds something that was asked for, whoever made it. Reads up to
        the first that does."""
        units = (self._folder.unit(number) for number in sorted(self._folder.committed()))
        known = (record for unit in units for _, record in records_of(self._folder, unit.start, unit.stop))
        return any(isinstance(record, Record) and self._gave(record) for record in chain(known, _unfinished(self._folder)))

    def usage(self) -> dict[str, Any]:
        """For the worker's events."""
        said = {reason: text[:SAID_OF] for reason, text in self.said.items()}
        return {name: dict(counts) for name, counts in (("refused", self.refused), ("cut", self.cut), ("said", said)) if counts}


def _unfinished(folder: StageFolder) -> Iterator[Record]:
    """The records of the finished batches of units that are not there yet. One that goes meanwhile is a unit, or was of no use."""
    for part in (folder.path / "parts").glob(f"*/*{FRAMINGS[folder.framing].suffix}"):
        for line, _ in finished_batches(part):
            for entry in map(Entry.from_list, line["samples"]):
                at, size = entry.files.get("json", (0, 0))
                with contextlib.suppress(OSError, InputError), foreign.open_file(part) as f:
                    f.seek(line["offset"] + at)
                    yield Record.of_bytes(f.read(size), str(part))


def together(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What several models, or one that was opened anew, spent and heard: numbers are added, of texts the first ones stay.

    >>> together([{"requests": 2, "refused": {"empty": 1}}, {"requests": 3, "refused": {"empty": 2}, "said": {"empty": ""}}])
    {'requests': 5, 'refused': {'empty': 3}, 'said': {'empty': ''}}
    """
    whole: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            if name not in whole:
                whole[name] = value
            elif isinstance(value, Mapping):
                numbers = name != "said"
                whole[name] = dict(Counter(whole[name]) + Counter(value)) if numbers else {**value, **whole[name]}
            else:
                whole[name] += value
    return whole
