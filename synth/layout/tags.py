"""Stage kind `tags`: the first of the chain. A record a picture of the source, with its size, its alt text and the tags that the taggers
give it. A picture that cannot be read is a tombstone, here and so in all later stages; left_out.jsonl names them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from synth import numerics
from synth.host.gpu import free
from synth.layout.asked import together
from synth.layout.config import FLORENCE2, SERVED, VLM, TagsConfig
from synth.layout.lists import Named
from synth.layout.records import Record
from synth.layout.stage import Item, LayoutStage
from synth.layout.tag_files import unique
from synth.layout.taggers import Tagger, tagger_of
from synth.store.files import write_atomic
from synth.store.folder import StageFolder
from synth.store.spec import canonical

LEFT_OUT = "left_out.jsonl"
NOT_FINITE = "the numbers of tagger {} for it are not finite"


class Tags(LayoutStage):
    config: TagsConfig

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self._taggers: list[Tagger] = []
        self._spent: dict[str, Any] = {}  # of taggers that were closed
        self.deterministic = all(tagger.kind != SERVED for tagger in self.config.taggers)

    def open(self) -> None:
        super().open()
        numerics.apply(self.folder.spec.numerics)
        for config in self.config.taggers:  # one by one: `close` ends the server of one where a later one fails
            self._taggers.append(tagger_of(config, self.folder))
        if any(config.kind in (FLORENCE2, VLM) for config in self.config.taggers):
            numerics.apply_to_text(self.folder.spec.numerics)  # a tagger behind it may have applied them as for pictures

    def close(self) -> None:
        super().close()
        self._spent = dict(self.usage())
        for tagger in self._taggers:
            tagger.close()
        self._taggers = []
        free()

    def usage(self) -> Mapping[str, Any]:
        return together([self._spent, *(tagger.usage() for tagger in self._taggers)])

    def prepare(self, record: Record, image: Any) -> list[Any]:
        return [tagger.prepare(image) for tagger in self._taggers]

    def label(self, items: Sequence[Item]) -> list[Record | str]:
        records = [item.record for item in items if item.record is not None]
        # [tagger][picture] -> tags
        found = [tagger.tags(records, [item.ready[n] for item in items]) for n, tagger in enumerate(self._taggers)]
        return [self._record(record, of_picture) for record, *of_picture in zip(records, *found, strict=True)]

    def _record(self, record: Record, found: Sequence[Named | None]) -> Record | str:
        """With its tags, found by each tagger; the reason why there is no record, if there is none."""
        broken = next((config.kind for config, tags in zip(self.config.taggers, found, strict=True) if tags is None), "")
        if broken:
            return NOT_FINITE.format(broken)
        named = [one for one in found if one is not None]
        dropped = sum((Counter(one.dropped) for one in named), Counter(record.dropped))
        return replace(record, tags=unique([tag for one in named for tag in one.tags], self.config.max_tags or None), dropped=dict(dropped))

    def broken(self) -> list[str]:
        return [NOT_FINITE.format(config.kind) for config in self.config.taggers]

    def finish(self) -> None:
        """left_out.jsonl in the stage's folder: every picture that gave no record, and why."""
        lines = []
        for number in range(self.folder.spec.n_units):
            with self.folder.reader(number) as reader:
                left_out = sorted(reader.index.tombstones.items())
            lines += [canonical({"slot": slot, "reason": why}) + b"\n" for slot, why in left_out]
        write_atomic(self.folder.path / LEFT_OUT, b"".join(lines))
