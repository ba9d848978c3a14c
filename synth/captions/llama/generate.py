"""Captions of one window of prompts: rows are refilled as they finish, from an empty cache to an empty cache.

A window may grow while it runs: what has ended is handed over, and what is asked next joins those that wait, so that a caption
that was rejected is asked for again beside the others. The host learns what has ended a fixed number of steps late and answers
at fixed points, so what is computed together depends on the window alone: its bytes are the same wherever and whenever it is run.
Under model parallelism every rank runs this same loop, rank 0 draws and the others receive its tokens: logits that differ
between ranks in the last bit could otherwise send them apart, and then into a deadlock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from synth.captions.llama import parallel
from synth.captions.llama.config import Completion
from synth.captions.llama.cuda import DecodeGraphs, Notes, plain_writes
from synth.captions.llama.memory import PREFILL_TOKENS
from synth.captions.llama.model import Transformer, decode_one_token, prefill
from synth.captions.llama.ragged import Group, Resident, share_order, to_device
from synth.captions.llama.sampling import NOT_FINITE, WIDER, draw, uniforms
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import InputError

_NONE = -2  # in the table of drawn tokens: none yet
_DONE, _BROKEN, _WIDER = 1, 2, 4  # flags of a row

PATIENCE = 8  # steps: a prefill of a few prompts costs a GPU about a decode step
# What becomes of requests that ended, by number: the prompts and seeds that are asked next. They are numbered on in this order.
More = Callable[[Sequence[tuple[int, Completion]]], tuple[Sequence[str], Sequence[int]]]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn and when a caption ends."""

    temperature: float = 0.8
    top_p: float = 0.9
    max_gen_len: int = 100  # tokens, the stop token included
    stop: tuple[str, ...] = ("\n",)


@dataclass(frozen=True)
class Window:
    """The outcome of a window, in the order of its requests, and what it cost."""

    completions: list[Completion]
    tokens: list[list[int]]  # as drawn, stop token included
    margins: list[list[float]] | None  # see sampling.draw
    prefill_tokens: int  # computed; tokens shared by prompts count once
    decode_tokens: int  # rows through decode steps, idle ones included
    steps: int  # sequential passes through the model
    prefills: int  # of them

    @property
    def drawn_tokens(self) -> int:
        """Tokens of all captions."""
        return sum(map(len, self.tokens))

    @property
    def live_row_steps(self) -> int:
        """Tokens drawn by decode steps, one a live row; a caption's first token is drawn by its prefill."""
        return self.drawn_tokens - sum(1 for tokens in self.tokens if tokens)

    @property
    def live_rows(self) -> float:
        """Rows that a decode step drew a token for, on average."""
        return self.live_row_steps / max(1, self.steps - self.prefills)


class Generator:
    """Serves windows with one model. Holds no state between windows.

    share: compute common beginnings of a window's prompts once. refill: give a finished row to the next request at once;
    without, all rows end before any is filled again. Both are on but for comparisons: they change captions only by rounding.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, sampling: Sampling, margins: bool = False,
        share: bool = True, refill: bool = True,
    ):  # fmt: skip
        self.model, self.tokenizer, self.sampling, self.margins, self.share = model, tokenizer, sampling, margins, share
        ends = set(tokenizer.ends).union(*(tokenizer.ids_containing(s) for s in sampling.stop))
        self.ends = torch.zeros(model.params.vocab_size, dtype=torch.bool)
        self.ends[sorted(ends)] = True
        self.ends = self.ends.to(model.device)
        cuda = model.device.type == "cuda"
        # rows wait for company: a prefill of one prompt costs a GPU nearly as much as one of many
        self.refill_at = max(1, model.rows // 8) if refill else model.rows
        # steps that requests of a growing window wait, where they are few, for others to come
        self.patience = PATIENCE if cuda else 0
        # on CUDA the host reads what became of a step while the next one runs: looking at once would drain the queue
        self.lag = 1 if cuda else 0
        self.prefill_tokens = PREFILL_TOKENS["cuda" if cuda else "cpu"]
        self.decode = DecodeGraphs(model) if cuda else partial(decode_one_token, model)

    @torch.inference_mode()
    def window(self, prompts: Sequence[str], seeds: Sequence[int], more: More | None = None) -> Window:
        """One caption a prompt, those asked for by `more` included. A prompt that leaves no room in max_seq_len gets an error
        in its place.

        Raises InputError if the model gives logits that are not finite.
        """
        run = _Run(self, more)
        run.ask(prompts, seeds)
        try:
            with plain_writes(self.model.device):
                run.all()
        except BaseException:
            self.model.clear()
            raise
        margins = run.margins if self.margins else None
        completions = [run.completions[i] for i in range(len(run.ids))]
        return Window(completions, run.tokens, margins, run.prefill_tokens, run.decode_tokens, run.steps, run.prefills)

    def completions(self, prompts: Sequence[list[int]], tokens: Sequence[list[int]]) -> list[Completion]:
        """What was drawn after each prompt, as texts."""
        texts = self.tokenizer.decode([t[:-1] if t and t[-1] in self.tokenizer.ends else t for t in tokens])
        return [self._completion(*item) for item in zip(prompts, tokens, texts, strict=True)]

    def _completion(self, prompt: list[int], tokens: list[int], text: str) -> Completion:
        room = self.model.columns - len(prompt)
        if room < 1:
            msg = (
                f"the prompt has {len(prompt)} tokens, which leaves no room for a caption in "
                f"captioner.max_seq_len={self.model.columns}: shorten the prompt or raise max_seq_len"
            )
            return Completion("", 0, "error", msg)
        cuts = [at for s in self.sampling.stop if (at := text.find(s)) >= 0]
        if cuts:
            return Completion(text[: min(cuts)], len(tokens), "stop")
        if tokens[-1] in self.tokenizer.ends:
            return Completion(text, len(tokens), "eos")
        return Completion(text, len(tokens), "max_gen_len" if len(tokens) == self.sampling.max_gen_len else "max_seq_len")


class _Run:
    """The moving parts of one window: which request sits in which row, and each row's state on the device.

    Rows 0..n-1 are decoded. A finished row stays among them, idle, until it is refilled; when nothing waits any more the
    last live row moves into its place and n shrinks. What a request draws goes into its entry of a table, which the host sees
    in notes: it learns from them, `lag` steps late, what has become of the rows, and then the entry is another's.
    """

    def __init__(self, owner: Generator, more: More | None):
        self.owner, self.model, self.more = owner, owner.model, more
        device, rows, longest = self.model.device, self.model.rows, owner.sampling.max_gen_len
        # requests, by number
        self.ids: list[list[int]] = []
        self.seeds: list[int] = []
        self.tokens: list[list[int]] = []
        self.margins: list[list[float]] = []
        self.completions: dict[int, Completion] = {}
        self.waiting: list[int] = []  # taken from the back
        self.ended: list[int] = []  # not handed over yet
        self.since = 0  # step at which the first of those that wait came
        self.resident: Resident | None = None
        # rows
        self.request: list[int | None] = [None] * rows  # request in each row
        self.entry = [0] * rows  # its entry
        self.born = [0] * rows  # notes made before it came
        self.free_entries = list(range(rows))[::-1]
        self.column = np.zeros(rows, dtype=np.int64)  # host's bound on each row's next column
        self.n = 0
        self.wide = False  # some row's nucleus was larger than the candidates: it repeats its step until this is set
        # entries; one more than rows: idle rows write there
        self.idle = rows
        table = torch.full((rows + 1, 1 + longest), _NONE, dtype=torch.int32, device=device)  # flags, and the tokens drawn
        self.notes, self.flags, self.drawn = Notes(table, owner.lag), table[:, 0], table[:, 1:]
        self.u = torch.zeros((rows + 1, longest), dtype=torch.float64, device=device)
        self.margin = torch.zeros((rows + 1, longest), device=device) if owner.margins else None
        self.limit = torch.full((rows + 1,), longest, device=device)  # tokens each request may draw
        # [rows]
        self.slot = torch.full((rows,), self.idle, device=device)  # entry
        self.step = torch.zeros(rows, dtype=torch.int64, device=device)  # tokens drawn so far
        self.token = torch.zeros(rows, dtype=torch.int64, device=device)  # drawn last, not yet in the cache
        self.position = torch.zeros(rows, dtype=torch.int64, device=device)  # its column
        self.prefill_tokens = self.decode_tokens = self.steps = self.prefills = 0

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> None:
        """Number more requests and put them among those that wait."""
        first = len(self.ids)
        self.ids += self.owner.tokenizer.encode(list(prompts))
        self.seeds += seeds
        self.tokens += [[] for _ in prompts]
        self.margins += [[] for _ in prompts]
        new = range(first, len(self.ids))
        fits = [i for i in new if len(self.ids[i]) < self.model.columns]
        self.ended += [i for i in new if len(self.ids[i]) >= self.model.columns]
        if first == 0 and self.owner.share and share_order([self.ids[i] for i in fits]) is not None:
            self.resident = Resident(self.model.rows, self.model.columns)
        if fits and not self.waiting:
            self.since = self.steps
        if self.resident is not None:  # prompts that begin alike come one after the other
            self.waiting = sorted([*self.waiting, *fits], key=lambda i: (self.ids[i], i), reverse=True)
        else:  # long prompts first, equal lengths together: less padding in attention, and a short tail at the end
            self.waiting = sorted([*self.waiting, *fits], key=lambda i: (len(self.ids[i]), -i))

    def all(self) -> None:
        while True:
            self.refill()
            if self.n:
                self.decode()
                if (note := self.notes.exchange()) is not None:
                    self.retire(note)
            elif self.ended:  # what is asked next may be served, or end at once, as a prompt that is too long does
                self.hand_over()
            else:
                break

    def hand_over(self) -> None:
        """Turn what has ended into completions, and take in what is asked next."""
        if not self.ended:
            return
        ended, self.ended = self.ended, []
        completions = self.owner.completions([self.ids[i] for i in ended], [self.tokens[i] for i in ended])
        numbered = list(zip(ended, completions, strict=True))
        self.completions.update(numbered)
        if self.more is not None:
            self.ask(*self.more(numbered))

    def refill(self) -> None:
        """Give free rows to requests that wait."""
        free = [row for row, request in enumerate(self.request) if request is None]
        if self.more is not None and len(self.waiting) < len(free):
            self.hand_over()
        if self.few_wait(self.model.rows - len(free)):
            self.close_gaps()
            return
        if len(free) < min(self.owner.refill_at, len(self.waiting)):
            return
        while free and self.waiting:
            group, rows, requests = Group(self.resident), [], []
            while free and self.waiting and group.add(self.ids[self.waiting[-1]], free[0], self.owner.prefill_tokens):
                rows.append(free.pop(0))
                requests.append(self.waiting.pop())
            self.admit(group, rows, requests)
        self.n = 1 + max(row for row, request in enumerate(self.request) if request is not None)

    def few_wait(self, live: int) -> bool:
        """Whether nothing waits, or so little that it had better wait until others come."""
        company = len(self.waiting) >= min(self.owner.refill_at, live)
        may_come = self.more is not None and self.steps < self.since + self.owner.patience
        return not self.waiting or (may_come and not company)

    def admit(self, group: Group, rows: list[int], requests: list[int]) -> None:
        """Prefill `requests` into `rows` and draw the first token of each."""
        entries = [self.free_entries.pop() for _ in rows]
        lengths = [len(self.ids[i]) for i in requests]
        for row, entry, i, length in zip(rows, entries, requests, lengths, strict=True):
            self.request[row], self.entry[row], self.born[row], self.column[row] = i, entry, self.notes.made, length
        device, longest = self.model.device, self.owner.sampling.max_gen_len
        limits = [min(longest, self.model.columns - length) for length in lengths]
        at, slot, position, limit = to_device(np.array([rows, entries, lengths, limits]), device)
        self.u[slot] = to_device(uniforms([self.seeds[i] for i in requests], longest), device)
        self.limit[slot], self.drawn[slot] = limit, _NONE
        batch = group.ragged(device)
        logits = prefill(self.model, batch)
        self.slot[at], self.position[at], self.step[at] = slot, position, 0
        self.take(logits, at, wide=True)
        self.prefill_tokens += batch.tokens.shape[0]
        self.steps += 1
        self.prefills += 1

    def decode(self) -> None:
        """One more token for each of the rows 0..n-1."""
        rows = slice(0, self.n)
        span = int(self.column[rows].max()) + 1
        logits = self.owner.decode(self.token[rows], self.position[rows], span)
        np.minimum(self.column[rows] + 1, self.model.columns - 1, out=self.column[rows])
        moved = self.take(logits, rows, self.wide or not self.owner.lag)
        # an idle row stays in the last column at most
        self.position[rows] = (self.position[rows] + moved).clamp(max=self.model.columns - 1)
        self.decode_tokens += self.n
        self.steps += 1

    def take(self, logits: torch.Tensor, rows: torch.Tensor | slice, wide: bool) -> torch.Tensor:
        """Draw a token for each of `rows`, note it, and turn rows that are finished idle. All on the device.

        False where a row's nucleus exceeds the candidates and `wide` is not set: such a row stays as it was.
        """
        sampling = self.owner.sampling
        slot, step = self.slot[rows], self.step[rows]
        if parallel.rank() == 0:
            u = self.u[slot, step]
            tokens, margin = draw(logits, u, sampling.temperature, sampling.top_p, self.owner.margins, wide)
            if margin is not None:
                self.margin[slot, step] = margin
        else:
            tokens = torch.empty_like(slot)
        parallel.from_first(tokens)
        self.drawn[slot, step] = tokens.int()
        moved, broken = tokens != WIDER, tokens == NOT_FINITE
        step = step + moved
        word = tokens.clamp(min=0)
        ended = moved & (self.owner.ends[word] | broken | (step >= self.limit[slot]))
        self.flags[slot] = (ended * _DONE + broken * _BROKEN + ~moved * _WIDER).int()
        self.slot[rows] = torch.where(ended, self.idle, slot)
        self.step[rows] = step * ~ended  # an idle row draws its step 0 again and again
        self.token[rows] = torch.where(moved, word, self.token[rows])
        return moved

    def retire(self, note: np.ndarray) -> None:
        """Free the rows whose requests ended by the time of the note [entries, flags and tokens], and keep what they drew."""
        self.wide = False
        number = self.notes.made - 1 - self.owner.lag
        flags = note[:, 0].tolist()
        for row, request in enumerate(self.request[: self.n]):
            entry = self.entry[row]
            if request is None or self.born[row] > number:  # then the note speaks of the entry's former request
                continue
            if flags[entry] & _BROKEN:
                raise self.not_finite(request, int((note[entry, 1:] == NOT_FINITE).argmax()))
            self.wide |= bool(flags[entry] & _WIDER)
            if flags[entry] & _DONE:
                drawn = note[entry, 1:]
                self.tokens[request] = drawn[drawn != _NONE].tolist()
                if self.margin is not None:
                    self.margins[request] = self.margin[entry, : len(self.tokens[request])].tolist()
                self.ended.append(request)
                self.free_entries.append(entry)
                self.request[row] = None

    def close_gaps(self) -> None:
        """Move the last live rows into the places of idle ones, and decode fewer."""
        live = [row for row in range(self.n) if self.request[row] is not None]
        gaps = (row for row in range(len(live)) if self.request[row] is None)
        for target, source in zip(gaps, reversed(live), strict=False):
            self.model.move(source, target, int(self.column[source]))
            if self.resident is not None:
                self.resident.move(source, target)
            self.request[target], self.request[source] = self.request[source], None
            for kept in (self.entry, self.born, self.column, self.slot, self.step, self.token, self.position):
                kept[target] = kept[source]
            self.slot[source] = self.idle
        self.n = len(live)

    def not_finite(self, request: int, step: int) -> InputError:
        msg = (
            f"the model's logits are not finite (NaN or infinity) at token {step} of request {request} of this window: the "
            f"weights in {self.model.name} are damaged, or captioner.dtype=float16 overflows (try bfloat16 or float32)"
        )
        return InputError(msg)
