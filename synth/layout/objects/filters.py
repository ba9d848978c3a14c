"""Stage kinds `objects` and `crop_clip`: layout labels without some of their objects. Pictures stay, be it without an object.

A record counts in `dropped` what each rule took out of it; `objects.json` in the stage's folder tells it of all of them. No picture is
read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from synth.errors import InputError
from synth.layout.judging import judge
from synth.layout.objects.base import OfRecords
from synth.layout.objects.config import SCORES, CropClipConfig, ObjectsConfig
from synth.layout.records import Anno, Record
from synth.layout.source import ROLE
from synth.layout.stage import records_of
from synth.run.findings import Check
from synth.store.files import write_atomic
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

COUNTS = "objects.json"  # {"kept": objects, "taken_out": {reason: objects}}
Known = tuple[int, Record | str]  # a slot with its record, or the reason why it has none


class ObjectFilter(OfRecords):
    """A kind says in `chosen` which objects of a picture stay, and how many went by which of its `reasons`."""

    config: ObjectsConfig | CropClipConfig

    def chosen(self, annos: Sequence[Anno]) -> tuple[list[Anno], Mapping[str, int]]:
        raise NotImplementedError

    def compute(self, state: Mapping[int, Record | str], slots: range) -> list[Known]:
        return [(slot, state[slot]) for slot in slots]

    def encode(self, state: Any, item: Known) -> Sample | Tombstone:
        slot, record = item
        if isinstance(record, str):
            return Tombstone(slot, record)
        if record.annos:
            annos, dropped = self.chosen(record.annos)
            record = replace(record, annos=tuple(annos), dropped=dict(Counter(record.dropped) + Counter(dropped)))
        return Sample(slot, f"{slot:09d}", {"json": record.to_bytes()})

    def finish(self) -> None:
        write_atomic(self.folder.path / COUNTS, self._counts())

    def _counts(self) -> bytes:
        """The bytes of objects.json, by the units."""
        kept, dropped = 0, Counter[str]()
        for _, record in records_of(self.folder, 0, self.folder.spec.slots):
            if not isinstance(record, str):
                kept += len(record.annos or ())
                dropped.update(record.dropped)
        return canonical({"kept": kept, "taken_out": {why: dropped[why] for why in self.config.reasons if dropped[why]}}) + b"\n"

    def verify(self, check: Check) -> None:
        """objects.json is there (deep: is what the units say), and (deep) labels are right by themselves."""
        if not check.deep:
            check.status(COUNTS)
            return
        judge(self.folder, replace(check, progress=lambda slots: None))
        if not check.found.bad_units():
            check.same(COUNTS, self._counts())


class Objects(ObjectFilter):
    config: ObjectsConfig

    def chosen(self, annos: Sequence[Anno]) -> tuple[list[Anno], Mapping[str, int]]:
        return by_rules(annos, self.config)


class CropClip(ObjectFilter):
    config: CropClipConfig

    def check(self) -> None:
        super().check()
        stages = self.folder.upstream(ROLE)
        while stages and stages[0].spec.kind != SCORES:
            stages = stages[0].upstream(ROLE)
        if not stages:
            raise InputError(f"{self.folder.path}: reads a stage whose objects have no crop_score; run the command again to plan it anew")

    def chosen(self, annos: Sequence[Anno]) -> tuple[list[Anno], Mapping[str, int]]:
        least = self.config.min_score
        kept = [anno for anno in annos if anno.crop_score is not None and anno.crop_score >= least]
        return kept, dict(zip(self.config.reasons, [len(annos) - len(kept)], strict=True))


def by_rules(annos: Sequence[Anno], config: ObjectsConfig) -> tuple[list[Anno], Mapping[str, int]]:
    """The objects that stay, in their order, and reason -> how many went by it. An object goes by the first rule that it fails.

    Of equal scores the earlier one is the better one.
    """
    scored = [anno for anno in annos if anno.score >= config.min_score]
    large = [anno for anno in scored if anno.area >= config.min_box**2]
    best = sorted(range(len(large)), key=lambda n: (-large[n].score, n))[: config.max_boxes or None]
    kept = [large[n] for n in sorted(best)]
    gone = (len(annos) - len(scored), len(scored) - len(large), len(large) - len(kept))
    return kept, dict(zip(config.reasons, gone, strict=True))
