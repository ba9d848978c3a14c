"""Captions that a run of fewer classes, or of another number of slots, has already: taken over, so that no model is asked again."""

from collections.abc import Mapping
from typing import Any

from synth.captions.config import CaptionsConfig
from synth.captions.prompts import PromptMaker
from synth.captions.prompts.classes import Balance, balance
from synth.kinds import config_of
from synth.run.kin import kin_of, stored_in
from synth.store.folder import StageFolder


class EarlierCaptions:
    """Looks in the kin of a captions stage for what the stage would ask. A slot is found by its key, and a record is taken only if the
    maker asks the very same for it: prompt, messages and seed."""

    def __init__(self, folder: StageFolder, config: CaptionsConfig, maker: PromptMaker):
        self._seed, self._maker = config.seed, maker
        self._own = balance(config.dataset, config.prompts)
        self._kin: list[tuple[StageFolder, Balance]] = []
        for stage in kin_of(folder, _comparable):
            theirs = config_of(stage)
            self._kin.append((stage, balance(theirs.dataset, theirs.prompts)))

    def records(self, slots: range) -> dict[int, dict]:
        """slot -> its record, of those that a kin has."""
        records: dict[int, dict] = {}
        for stage, theirs in self._kin:
            wanted = {}
            for slot in slots:
                there = theirs.slot_of(self._seed, self._own.turn(self._seed, slot).key)
                if slot not in records and there is not None and there < stage.spec.slots:
                    wanted[there] = slot
            for there, _, record in stored_in(stage, wanted):
                if self._asked_for(wanted[there], record):
                    records[wanted[there]] = record
        return records

    def _asked_for(self, slot: int, record: Mapping[str, Any]) -> bool:
        """Whether a record answers what is asked for a slot at the record's attempt."""
        if type(attempt := record.get("attempt")) is not int:
            return False
        prompt = self._maker.prompt(self._seed, slot, attempt)
        said = {"prompt": prompt.text, "seed": prompt.seed, "slot_key": prompt.slot_key, "label": prompt.label, "class": prompt.class_name}
        messages = [list(message) for message in prompt.messages]
        return all(record.get(name) == value for name, value in said.items()) and record.get("messages", []) == messages


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A captions config without its choice of classes: an official list is the same in all of its ranges."""
    return {**config, "dataset": {name: value for name, value in config["dataset"].items() if name != "classes"}}
