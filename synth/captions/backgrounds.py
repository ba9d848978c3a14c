"""Stage kind `backgrounds`: for each class the places that a model names for it; slot = class, in the order of the dataset.

A class that the user's own file names (prompts.backgrounds_file) has its places from there, and no model is asked.
What several attempts found is joined. A class for which half of what was asked is not found takes the dataset's own table,
where there is one; else what was found; and is a tombstone if that is nothing.
"""

from synth import seeds
from synth.captions.asking import Asking, Dialogue
from synth.captions.config import AskConfig, ClassEntry
from synth.captions.engines import Request
from synth.captions.normalise import normalised
from synth.captions.prompts import places
from synth.errors import InputError


class Backgrounds(Asking):
    config: AskConfig

    def check(self) -> None:
        self.table = self._table("backgrounds") if "backgrounds" in self.folder.spec.inputs else {}
        super().check()

    def compute(self, state, slots: range) -> list[tuple[int, dict | str]]:
        classes = self.config.dataset.classes
        return list(zip(slots, self.ask([self._of(classes[slot]) for slot in slots]), strict=True))

    def _of(self, entry: ClassEntry) -> Dialogue[dict | str]:
        if self.config.prompts.own_places and (given := self.table.get(entry.name)):
            return self._record(entry, _checked(given), "file")
        wanted, phrase = self.config.prompts.num_backgrounds, self.config.dataset.phrase(entry)
        distinct: dict[str, str] = {}
        reason = "empty"
        for attempt in range(self.config.max_attempts):
            request = (places.plain_text(phrase), places.messages(phrase, wanted, distinct.values()))
            completion = yield Request(*request, seeds.derive(self.config.seed, "backgrounds", entry.index, attempt))
            answer = self.answer_in(completion)
            for place in places.places_in(answer.text):
                distinct.setdefault(normalised(place), place)
            if len(distinct) >= places.ENOUGH * wanted:
                return self._record(entry, list(distinct.values())[:wanted], "model")
            reason = answer.reason or "too_few_places"
            self.refuse(reason, completion.text, entry.name)
        own = next((self.table[k] for k in (entry.name, entry.superclass, "*") if self.table.get(k)), [])
        if own:
            return self._record(entry, _checked(own)[:wanted], "table")
        return self._record(entry, list(distinct.values()), "model") if distinct else reason

    def _record(self, entry: ClassEntry, backgrounds: list[str], source: str) -> dict:
        record = {"class": entry.name, "label": entry.index, "backgrounds": backgrounds}
        return record | {"source": source, "engine": self.config.captioner.id}


def _checked(places: object) -> list[str]:
    if not isinstance(places, list) or not all(isinstance(p, str) and p.strip() for p in places):
        raise InputError(f"backgrounds: a class's places must be a list of texts, it is {str(places)[:80]!r}")
    return places
