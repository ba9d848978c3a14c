"""Prompt maker `from_file`: captions that the user has already. See synth.captions.prompts.own for the formats."""

from dataclasses import replace

from synth import seeds
from synth.captions.config import ClassEntry, DatasetConfig, PromptsConfig
from synth.captions.prompts import Prompt, Sources
from synth.captions.prompts.classes import balance
from synth.captions.prompts.gencl import CONCEPT
from synth.captions.prompts.own import Own, Reading, read_own
from synth.errors import InputError


class FromFile:
    """class_balance file: slot k is the k-th caption of the chosen classes. exact: blocks of one caption a class; a class with
    fewer captions leaves its slots empty."""

    def __init__(self, dataset: DatasetConfig, prompts: PromptsConfig, sources: Sources):
        self.dataset = dataset
        # what could not be taken was judged when the stage was planned: `content` tells whether the rest is still the same
        skip = prompts.on_bad == "skip" or prompts.content != ""
        paths = sources.files("captions")
        own = read_own(paths, dataset, Reading(prompts.official, prompts.also, prompts.prompts_key, skip))
        if prompts.content and own.content != prompts.content:
            raise InputError(f"{paths[0]}: changed since the stage was planned; run the command again to plan anew")
        self.own, self.rows = own, own.rows
        self.balance = None if prompts.class_balance == "file" else balance(dataset, prompts)
        self.of_class: dict[int, list[Own]] = {}
        for row in self.rows:
            self.of_class.setdefault(row.classes[0].index, []).append(row)

    @property
    def n_slots(self) -> int:
        """Slots that hold every caption once."""
        if self.balance is None:
            return len(self.rows)
        return max(len(rows) for rows in self.of_class.values()) * len(self.dataset.classes)

    def text(self, own: Own) -> str:
        return own.caption.replace(CONCEPT, self.dataset.phrase(own.classes[0]))

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt:
        if self.balance is None:
            return self._prompt(seed, self.rows[slot] if slot < len(self.rows) else None, self.dataset.classes[0], attempt)
        turn = self.balance.turn(seed, slot)
        rows = self.of_class.get(turn.entry.index, [])
        return self._prompt(seed, rows[turn.nth] if turn.nth < len(rows) else None, turn.entry, attempt)

    def _prompt(self, seed: int, own: Own | None, entry: ClassEntry, attempt: int) -> Prompt:
        if own is None:
            return Prompt(-1, "", entry.name, entry.index, "own", 0, attempt, error="no_caption")
        entry = own.classes[0]
        text = self.text(own)
        sample_seed = seeds.derive(seed, "captions", own.row, attempt)
        several = own.classes if len(own.classes) > 1 else ()
        labels, names = tuple(c.index for c in several), tuple(c.name for c in several)
        prompt = Prompt(own.row, text, entry.name, entry.index, "own", sample_seed, attempt, entry.said)
        return replace(prompt, labels=labels, label_names=names)
