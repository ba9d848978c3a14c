"""Stage kind `captions`: one caption a slot, asked of a caption engine, redrawn while it fails the checks on itself alone."""

from collections.abc import Mapping

from synth.captions import prompts
from synth.captions.asking import Asking, Dialogue, reason_told, unseen
from synth.captions.checks import answer_line, first_line, reject_reason, unusable
from synth.captions.config import CaptionsConfig
from synth.captions.earlier import EarlierCaptions
from synth.captions.engines import Request
from synth.captions.prompts import Prompt


class Captions(Asking):
    """A batch is a window of slots: all first attempts go to the engine together, and the second one of a caption that failed joins
    those that wait, or the next round of an engine that answers in rounds. So a window's bytes depend on the window alone."""

    config: CaptionsConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.maker = None
        self._earlier: EarlierCaptions | None = None
        self._taken_over = 0  # captions that another run has already

    def check(self) -> None:
        self.maker = prompts.make(self.config.dataset, self.config.prompts, self.sources)
        super().check()

    def open(self) -> None:
        super().open()
        if self.config.prompts.maker not in prompts.WITHOUT_MODEL and self._may_take_over():
            self._earlier = EarlierCaptions(self.folder, self.config, self.maker)

    def _may_take_over(self) -> bool:
        """Whether captions are the same bytes beside other ones: what is taken over leaves its window, and the rest gets other neighbours.
        In 16 bits a few of those come out different (3 of 32 with the small model that ships, in bfloat16 on cores; in float32 none). Where
        no bytes are promised, nothing is lost by that."""
        promised = self.deterministic and self.folder.spec.numerics.get("deterministic", True)
        return not promised or self.config.captioner.dtype == "float32"

    def compute(self, state, slots: range) -> list[tuple[int, dict | str]]:
        """One (slot, record or reason for a tombstone) a slot."""
        records = self._earlier.records(slots) if self._earlier is not None else {}
        self._taken_over += len(records)
        asked = self.ask([self._caption(slot) for slot in slots if slot not in records])
        return sorted([*records.items(), *asked], key=lambda made: made[0])

    def usage(self) -> Mapping[str, object]:
        return dict(super().usage()) | ({"taken_over": self._taken_over} if self._taken_over else {})

    def _caption(self, slot: int) -> Dialogue[tuple[int, dict | str]]:
        rejected: list[dict] = []
        for attempt in range(self.config.max_attempts):
            prompt = self.maker.prompt(self.config.seed, slot, attempt)
            if prompt.error:
                self.refused[prompt.error] += 1
                rejected.append({"caption": "", "reason": prompt.error, "attempt": attempt})
                break
            completion = yield Request(prompt.text, prompt.messages, prompt.seed)
            answer = self.answer_in(completion)
            line = answer_line if prompt.messages else first_line
            caption = line(answer.text)
            reason = answer.reason or self._reason(caption, prompt)
            if not reason and not completion.ended and line(answer.text.rstrip().rpartition("\n")[2]) == caption:
                reason = "cut_off"  # by max_gen_len, in the caption itself
            if not reason:
                return slot, self._record(caption, prompt, rejected)
            self.refuse(reason, completion.text, prompt.class_name)
            rejected.append({"caption": caption, "reason": reason, "attempt": attempt} | unseen(caption, completion.text))
            if self.config.prompts.maker in prompts.WITHOUT_MODEL:
                break  # the next attempt would say the same
        self.refused["left empty"] += 1
        return slot, reason_told(rejected[-1])

    def _reason(self, caption: str, prompt: Prompt) -> str:
        if not self.config.prompts.check:
            return unusable(caption)
        return reject_reason(caption, prompt.said or prompt.class_name, self.config)

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
        if prompt.messages:
            record["messages"] = [list(message) for message in prompt.messages]
        if prompt.labels:
            record |= {"labels": list(prompt.labels), "label_names": list(prompt.label_names)}
        return record | ({"rejected": rejected} if rejected else {})
