"""Stage kind `metaprompts`: hirpg's first level. A batch holds whole subjects, slot = subject * num_metaprompts + number.

The given metaprompts fill the first slots; the others are asked for one after the other, each request showing all before it.
"""

from synth import seeds
from synth.captions.asking import Asking, Dialogue, reason_told, unseen
from synth.captions.checks import answer_line, first_line, unfit
from synth.captions.config import AskConfig
from synth.captions.engines import Request
from synth.captions.prompts import gencl, hirpg
from synth.captions.prompts.gencl import CONCEPT
from synth.captions.prompts.hirpg import Subject
from synth.captions.words import names_class
from synth.errors import InputError


class Metaprompts(Asking):
    config: AskConfig

    def check(self) -> None:
        self.subjects = hirpg.subjects(self.config.dataset, self.config.prompts)
        self.given = hirpg.GIVEN
        if "metaprompts" in self.folder.spec.inputs:
            file = self.folder.input("metaprompts").path
            self.given = gencl.metaprompt_texts(self._table("metaprompts"), file)
        super().check()

    def compute(self, state, slots: range) -> list[tuple[int, dict | str]]:
        n = self.config.prompts.num_metaprompts
        if slots.start % n or slots.stop % n:
            raise InputError(f"{self.folder.path}: unit_size and batch must be multiples of prompts.num_metaprompts={n}")
        answers = self.ask([self._of(self.subjects[first // n]) for first in range(slots.start, slots.stop, n)])
        return list(zip(slots, (result for results in answers for result in results), strict=True))

    def _of(self, subject: Subject) -> Dialogue[list[dict | str]]:
        n = self.config.prompts.num_metaprompts
        texts = hirpg.given(subject, self.given)[:n]
        results: list[dict | str] = [_record(subject, k, text, []) for k, text in enumerate(texts)]
        while len(results) < n:
            result = yield from written(self, subject, len(results), texts, hirpg.META_WORDS, ("metaprompts", subject.key))
            if not isinstance(result, str):
                texts.append(result["text"])
            results.append(result)
        return results


def _record(subject: Subject, number: int, text: str, rejected: list[dict]) -> dict:
    record = {"subject": subject.key, "word": subject.word, "tree": number, "text": text, "kind": "metaprompt"}
    return record | ({"rejected": rejected} if rejected else {})


def written(stage: Asking, subject: Subject, number: int, earlier: list[str], words: int, path: tuple) -> Dialogue[dict | str]:
    """One more text about a subject, unlike all `earlier` ones; asked for at most max_attempts times. A record, or why not."""
    rejected: list[dict] = []
    request = (hirpg.plain_text(subject, earlier), hirpg.messages(subject, earlier, words))
    for attempt in range(stage.config.max_attempts):
        completion = yield Request(*request, seeds.derive(stage.config.seed, *path, number, attempt))
        answer = stage.answer_in(completion)
        text = _text(answer.text, subject)
        reason = answer.reason or refusal(text, subject, earlier)
        if not reason:
            return _record(subject, number, text, rejected)
        stage.refuse(reason, completion.text, subject.key)
        rejected.append({"text": text, "reason": reason, "attempt": attempt} | unseen(text, completion.text))
    stage.refused["left empty"] += 1
    return reason_told(rejected[-1])


def _text(answer: str, subject: Subject) -> str:
    """The line that follows "prompt:", else the first line."""
    for line in answer.split("\n"):
        head, mark, rest = line.partition("prompt:")
        if mark and len(head) < 10 and rest.strip():
            return answer_line(rest)
    line = answer_line(first_line(answer) or answer)
    return hirpg.with_concept(line) if subject.word == CONCEPT else line


def refusal(text: str, subject: Subject, earlier: list[str]) -> str:
    """Why a text is not taken; "" if it is."""
    if reason := unfit(text):
        return reason
    if not (CONCEPT in text if subject.word == CONCEPT else names_class(text, subject.word)):
        return "no_concept"
    return "said_before" if hirpg.said_before(text, earlier) else ""
