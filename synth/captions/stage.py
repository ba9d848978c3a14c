"""Stage kind `captions`: one caption a slot, asked of a caption engine, redrawn while it fails the checks on itself."""

import json
from collections.abc import Mapping

from synth.captions import engines, prompts
from synth.captions.checks import reject_reason
from synth.captions.engines import Request
from synth.captions.prompts import Prompt
from synth.config import CaptionsConfig
from synth.errors import InputError
from synth.stages import Sample, Stage, Tombstone
from synth.store.identity import file_identity
from synth.store.spec import canonical


class Captions(Stage):
    """A batch is a window of slots: all first attempts go to the engine together, then all second ones of those that
    failed, and so on. So a window's bytes depend on the window alone."""

    config: CaptionsConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.config = folder.config
        self.deterministic = self.config.captioner.engine not in engines.NOT_DETERMINISTIC
        self.engine = None
        self.maker = None
        self.said = {c.index: c.said for c in self.config.dataset.classes}

    def check(self) -> None:
        self.maker = prompts.make(self.config.dataset, self.config.prompts, self._table)
        self.engine = engines.make(self.folder)
        self.engine.check()

    def _table(self, role: str) -> Mapping:
        """A JSON input, verified to be the one that was planned."""
        file = self.folder.input(role)
        if file_identity(file.path) != file.identity:
            msg = f"{file.path}: changed since the stage was planned; run the command again to plan anew"
            raise InputError(msg)
        try:
            with open(file.path, encoding="utf-8") as f:
                data = json.load(f)
        except ValueError as e:
            msg = f"{file.path}: not JSON ({e})"
            raise InputError(msg) from e
        if not isinstance(data, dict):
            msg = f"{file.path}: expected an object of lists, found {type(data).__name__}"
            raise InputError(msg)
        return data

    def open(self) -> None:
        if self.maker is None or self.engine is None:
            self.check()
        self.engine.start()

    def compute(self, state, slots: range) -> list[tuple[int, dict | str]]:
        """One (slot, record or reason for a tombstone) a slot."""
        rejected: dict[int, list[dict]] = {slot: [] for slot in slots}
        done: dict[int, dict | str] = {}
        for attempt in range(self.config.max_attempts):
            todo = [slot for slot in slots if slot not in done]
            asked = [self.maker.prompt(self.config.seed, slot, attempt) for slot in todo]
            completions = self.engine.generate([Request(p.text, seed=p.seed) for p in asked]) if asked else []
            for slot, prompt, completion in zip(todo, asked, completions, strict=True):
                caption = " ".join(completion.text.split("\n")[0].split())
                reason = completion.error or reject_reason(caption, self.said[prompt.label], self.config)
                if reason:
                    rejected[slot].append({"caption": caption, "reason": reason, "attempt": attempt})
                else:
                    done[slot] = self._record(caption, prompt, rejected[slot])
        return [(slot, done.get(slot) or rejected[slot][-1]["reason"]) for slot in slots]

    def _record(self, caption: str, prompt: Prompt, rejected: list[dict]) -> dict:
        record = {
            "caption": caption,
            "class": prompt.class_name,
            "label": prompt.label,
            "mode": prompt.mode,
            "prompt": prompt.text,
            "seed": prompt.seed,
            "attempt": prompt.attempt,
            "slot_key": prompt.slot_key,
            "engine": self.config.captioner.id,
        }
        return record | ({"rejected": rejected} if rejected else {})

    def encode(self, state, item) -> Sample | Tombstone:
        slot, result = item
        if isinstance(result, str):
            return Tombstone(slot, result)
        return Sample(slot, f"{slot:09d}", {"json": canonical(result)})

    def usage(self) -> Mapping[str, float]:
        usage = getattr(self.engine, "usage", None)
        return usage() if usage else {}

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
