"""What all stages that ask a caption engine share: the engine's life, inputs verified, and dialogues side by side."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from synth import foreign
from synth.captions import engines
from synth.captions.answers import CleanAnswer, clean_answer
from synth.captions.engines import Completion, Generate, More, Request, Serve
from synth.captions.normalise import composed
from synth.captions.prompts import Sources
from synth.captions.records import records_of
from synth.errors import InputError
from synth.run.empty import AFTER, mostly
from synth.run.stage import Stage
from synth.store.identity import file_identity
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

# What fills a slot, or several: it yields requests, is sent their completions, and returns what it made of them.
Result = TypeVar("Result")
Dialogue = Generator[Request, Completion, Result]

SHOWN, SHOWN_OF = 3, 1000  # answers that were not taken, and characters of each
SAID_OF = 300  # characters of those that stand in events, one a reason, and of a server's words in a tombstone
_NO_BRACKETS = str.maketrans("()", "[]")  # what is one sample's own ends a reason in brackets: see synth.store.framing.shared
CAUSES = {  # reason -> what it mostly comes from
    "thinking": "it thinks and never answers: captioner.template={enable_thinking:false} (servers: captioner.body), or a longer answer",
    "cut_off": "captioner.max_gen_len is too small for it",
    "refusal": "it refuses what it is asked: another captioner, or prompts of another kind",
    "no_class": "it does not name the class: a model that continues texts needs prompts with examples, a chat model one with messages",
    "empty": "it says nothing: captioner.stop may come first, or the model does not know its chat template",
    "prompt_too_long": "captioner.max_seq_len is too small for the prompts: shorter ones (prompts.shots), or a longer context",
    "too_long": "it rambles: captions.max_words, captioner.stop, or a model that was instructed",
    "refused_by_server": "the server refuses each request: its log says why",
}


def converse(dialogues: Sequence[Dialogue[Result]], serve: Serve) -> list[Result]:
    """The results of dialogues, in order. What is asked, and in which order, depends on this batch of dialogues and on the order
    in which `serve` ends requests alone."""
    results: list = [None] * len(dialogues)
    asked_by: list[int] = []  # the dialogue of each request, by number

    def go_on(n: int, step: Callable[[], Request]) -> list[Request]:
        try:
            request = step()
        except StopIteration as e:
            results[n] = e.value
            return []
        asked_by.append(n)
        return [request]

    def more(ended: Sequence[tuple[int, Completion]]) -> list[Request]:
        heard = [(asked_by[number], completion) for number, completion in ended]
        return [request for n, completion in heard for request in go_on(n, partial(dialogues[n].send, completion))]

    first = [request for n, dialogue in enumerate(dialogues) for request in go_on(n, partial(next, dialogue))]
    if first:
        serve(first, more)
    return results


def in_rounds(generate: Generate) -> Serve:
    """Serve with an engine that answers many requests at once: in each round it is asked all that the last one left open."""

    def serve(requests: Sequence[Request], more: More) -> None:
        first = 0
        while requests:
            ended = list(zip(range(first, first + len(requests)), generate(requests), strict=True))
            first += len(requests)
            requests = more(ended)

    return serve


def unseen(taken: str, text: str) -> dict[str, str]:
    """For the record of a rejected answer: what was said, where nothing of it could be taken for a caption."""
    return {"said": text.strip()[:SHOWN_OF]} if text.strip() and not taken.strip() else {}


def reason_told(rejected: Mapping[str, str]) -> str:
    """The reason of a slot left empty by its last rejected answer; a server's words stand behind it, in brackets."""
    reason, said = rejected["reason"], " ".join(rejected.get("said", "").split())[:SAID_OF]
    if reason != engines.REFUSED_BY_SERVER or not said:
        return reason
    return f"{reason} ({said.translate(_NO_BRACKETS)})"


class Asking(Stage):
    """A stage whose slots are filled with what an engine answers. A result is a record, or the reason of a tombstone."""

    def __init__(self, folder):
        super().__init__(folder)
        self.deterministic = self.config.captioner.engine not in engines.NOT_DETERMINISTIC
        self.engine: engines.Engine | None = None
        self.refused: Counter[str] = Counter()  # answers that were not taken, and slots left empty, by reason
        self.examples: list[tuple[str, str]] = []  # (reason, text) of the first answers that were not taken
        self.said: dict[str, str] = {}  # reason -> the first answer that was not taken because of it
        self.refused_of: set[str] = set()  # two of the classes that they are about
        self.cut: Counter[str] = Counter()  # answers that came with thoughts, marks of templates or wrappings, by kind

    def check(self) -> None:
        self.engine = engines.make(self.folder)
        self.engine.check()

    def open(self) -> None:
        if self.engine is None:
            self.check()
        self.engine.start()

    def ask(self, dialogues: Sequence[Dialogue]) -> list:
        """The results of a window of dialogues, in order."""
        return converse(dialogues, getattr(self.engine, "serve", None) or in_rounds(self.engine.generate))

    def hopeless(self, reasons: Mapping[str, int], whole: bool = False) -> str:
        """Nothing that the model says is taken, of one class and of another: why, what it says, and what to do."""
        after = self.folder.spec.settings.get(AFTER, 0)
        if self.config.captioner.engine == "none" or not (commonest := mostly(reasons, ("",), min(after, self.folder.spec.slots))):
            return ""
        if not whole and len(self.refused_of) < min(2, len(self.config.dataset.classes)):
            return ""  # it may be the class that is refused
        reason, n = commonest
        cause = next((c for r, c in CAUSES.items() if reason.startswith(r)), "look at what it says; try another captioner or prompts")
        examples = "".join(f"\n  {why}: {text[:200]!r}" for why, text in self.examples)
        return (
            f"captioner {self.config.captioner.id}: none of its first {n} slots got a caption, mostly because of {reason!r}: {cause}; "
            f"captions.{AFTER}=0 goes on all the same" + (f"; it says:{examples}" if examples else "")
        )

    def refuse(self, reason: str, text: str, of: str) -> None:
        """Count an answer about something (a class) that is not taken; the first few are kept to be shown."""
        self.refused[reason] += 1
        if text.strip():
            self.said.setdefault(reason, text[:SAID_OF])
        if len(self.examples) < SHOWN:
            self.examples.append((reason, text[:SHOWN_OF]))
        if len(self.refused_of) < 2:
            self.refused_of.add(of)

    def answer_in(self, completion: Completion) -> CleanAnswer:
        """The answer in a completion, or why there is none; what was cut away is counted."""
        if completion.error:
            return CleanAnswer("", reason=completion.error)
        if self.config.captioner.engine == "none":  # texts of the user's own
            return CleanAnswer(completion.text)
        answer = clean_answer(completion.text)
        self.cut.update(answer.cut)
        return answer

    def encode(self, state, item: tuple[int, dict | str]) -> Sample | Tombstone:
        slot, result = item
        return Tombstone(slot, result) if isinstance(result, str) else Sample(slot, f"{slot:09d}", {"json": canonical(result)})

    def usage(self) -> Mapping[str, object]:
        """What this process spent, and what it refused: for the worker's events."""
        usage = getattr(self.engine, "usage", None)
        counted = {"refused": dict(self.refused), "cut": dict(self.cut), "said": dict(self.said)}
        return dict(usage() if usage else {}) | {name: counts for name, counts in counted.items() if counts}

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()

    # -- what it reads -----------------------------------------------------------------------------------------------

    @property
    def sources(self) -> Sources:
        def count(role: str) -> int:
            return sum(r == role or r.startswith(f"{role}.") for r in self.folder.spec.inputs)

        return Sources(self._table, lambda role: str(self.folder.input_path(role)), self.records, count)

    def _table(self, role: str):
        """A JSON input, verified to be the one that was planned."""
        file = self.folder.input(role)
        if file_identity(file.path) != file.identity:
            raise InputError(f"{file.path}: changed since the stage was planned; run the command again to plan anew")
        data = foreign.read_json(file.path, foreign.TABLE, once=True)
        if role in ("examples", "backgrounds") and not isinstance(data, dict):
            raise InputError(f"{file.path}: expected an object of lists, found {type(data).__name__}")
        return {composed(name): value for name, value in data.items()} if isinstance(data, dict) else data

    def records(self, role: str) -> Iterator[tuple[int, Mapping | str]]:
        """(slot, record or reason of its tombstone) of the whole upstream stages of a role, in order."""
        for stage in self.folder.upstream(role):
            yield from records_of(stage)
