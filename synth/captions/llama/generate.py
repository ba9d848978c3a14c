"""Captions of one window of prompts: rows are refilled as they finish, from an empty cache to an empty cache.

What is computed together depends on the window alone, so a window's bytes are the same wherever and whenever it is run.
Under model parallelism every rank runs this same loop, rank 0 draws and the others receive its tokens: logits that differ
between ranks in the last bit could otherwise send them apart, and then into a deadlock.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from fairscale.nn.model_parallel import initialize as groups

from synth.captions.llama.config import Completion
from synth.captions.llama.cuda import DecodeGraphs, Notes, plain_writes
from synth.captions.llama.memory import PREFILL_TOKENS
from synth.captions.llama.model import Transformer, decode_one_token, prefill
from synth.captions.llama.ragged import Ragged, Resident, share_order, shared, to_device
from synth.captions.llama.sampling import NOT_FINITE, WIDER, draw, uniforms
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import InputError

_NONE = -2  # in the table of drawn tokens: none yet
_LIVE, _DONE, _BROKEN, _WIDER = 0, 1, 2, 4  # bits in the notes


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
        ends = {tokenizer.eos}.union(*(tokenizer.ids_containing(s) for s in sampling.stop))
        self.ends = torch.zeros(model.params.vocab_size, dtype=torch.bool)
        self.ends[sorted(ends)] = True
        self.ends = self.ends.to(model.device)
        cuda = model.device.type == "cuda"
        # rows wait for company: a prefill of one prompt costs a GPU nearly as much as one of many
        self.refill_at = max(1, model.rows // 8) if refill else model.rows
        # on CUDA the host reads what became of a step while the next one runs: looking at once would drain the queue
        self.lag = 1 if cuda else 0
        self.prefill_tokens = PREFILL_TOKENS["cuda" if cuda else "cpu"]
        self.decode = DecodeGraphs(model) if cuda else partial(decode_one_token, model)

    @torch.inference_mode()
    def window(self, prompts: Sequence[str], seeds: Sequence[int]) -> Window:
        """One caption a prompt. A prompt that leaves no room in max_seq_len gets an error in its place.

        Raises InputError if the model gives logits that are not finite.
        """
        ids = self.tokenizer.encode(list(prompts))
        run = _Run(self, ids, seeds)
        try:
            with plain_writes(self.model.device):
                run.all()
        except BaseException:
            self.model.clear()
            raise
        drawn = run.drawn.cpu().numpy()
        tokens = [row[: int((row != _NONE).sum())].tolist() for row in drawn[: len(ids)]]
        texts = self.tokenizer.decode([self._text_ids(row) for row in tokens])
        completions = [self._completion(*item) for item in zip(ids, tokens, texts, strict=True)]
        margins = None
        if self.margins:
            table = run.margins.cpu().numpy()
            margins = [row[: len(t)].tolist() for row, t in zip(table[: len(ids)], tokens, strict=True)]
        return Window(completions, tokens, margins, run.prefill_tokens, run.decode_tokens, run.steps)

    def _text_ids(self, tokens: list[int]) -> list[int]:
        return tokens[:-1] if tokens and tokens[-1] == self.tokenizer.eos else tokens

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
        if tokens[-1] == self.tokenizer.eos:
            return Completion(text, len(tokens), "eos")
        return Completion(text, len(tokens), "max_gen_len" if len(tokens) == self.sampling.max_gen_len else "max_seq_len")


class _Run:
    """The moving parts of one window: which request sits in which row, and each row's state on the device.

    Rows 0..n-1 are decoded. A finished row stays among them, idle, until it is refilled; when nothing waits any more the
    last live row moves into its place and n shrinks. The host learns from notes, by request, what has become of the rows.
    """

    def __init__(self, owner: Generator, ids: list[list[int]], seeds: Sequence[int]):
        self.owner, self.model, self.ids = owner, owner.model, ids
        device, rows = self.model.device, self.model.rows
        longest = owner.sampling.max_gen_len
        self.resident: Resident | None = None
        self.waiting, self.fresh = self.order()
        self.request: list[int | None] = [None] * rows  # request in each row
        self.column = np.zeros(rows, dtype=np.int64)  # host's bound on each row's next column
        self.n = 0
        self.wide = False  # some row's nucleus was larger than the candidates: it repeats its step until this is set
        # one row of the tables more than requests: idle rows write there
        self.u = torch.from_numpy(np.concatenate([uniforms(seeds, longest), np.zeros((1, longest))])).to(device)
        self.drawn = torch.full((len(ids) + 1, longest), _NONE, dtype=torch.int64, device=device)
        self.margins = torch.zeros((len(ids) + 1, longest), device=device) if owner.margins else None
        limit = [min(longest, max(1, self.model.columns - len(p))) for p in ids] + [longest]
        self.limit = torch.tensor(limit, device=device)  # tokens each request may draw
        self.idle = len(ids)  # the extra row
        self.notes = Notes(torch.full((len(ids) + 1,), _LIVE, dtype=torch.int8, device=device), owner.lag)
        self.slot = torch.full((rows,), self.idle, device=device)  # [rows] row of the tables
        self.step = torch.zeros(rows, dtype=torch.int64, device=device)  # tokens drawn so far
        self.token = torch.zeros(rows, dtype=torch.int64, device=device)  # drawn last, not yet in the cache
        self.position = torch.zeros(rows, dtype=torch.int64, device=device)  # its column
        self.prefill_tokens = self.decode_tokens = self.steps = 0

    def order(self) -> tuple[list[int], list[int]]:
        """The requests as they are taken, from the back, and how many tokens of each its forerunner does not have."""
        fits = [i for i, prompt in enumerate(self.ids) if len(prompt) < self.model.columns]
        fresh = [len(prompt) for prompt in self.ids]
        order = share_order([self.ids[i] for i in fits]) if self.owner.share else None
        if order is None:
            # long prompts first, equal lengths together: less padding in attention, and a short tail at the end
            return sorted(fits, key=lambda i: (len(self.ids[i]), -i)), fresh
        self.resident = Resident(self.model.rows, self.model.columns)
        taken = [fits[i] for i in order]
        for before, i in itertools.pairwise(taken):
            fresh[i] = max(1, fresh[i] - shared(np.asarray(self.ids[before]), np.asarray(self.ids[i])))
        return taken[::-1], fresh

    def all(self) -> None:
        while self.waiting or self.n:
            self.refill()
            self.decode()
            if (status := self.notes.exchange()) is not None:
                self.retire(status)

    def refill(self) -> None:
        free = [row for row, request in enumerate(self.request) if request is None]
        if not self.waiting or len(free) < min(self.owner.refill_at, len(self.waiting)):
            return
        while free and self.waiting:
            rows, requests, total = [], [], 0
            while free and self.waiting and (not rows or total + self.fresh[self.waiting[-1]] <= self.owner.prefill_tokens):
                rows.append(free.pop(0))
                requests.append(self.waiting.pop())
                total += self.fresh[requests[-1]]
            self.admit(rows, requests)
        self.n = 1 + max(row for row, request in enumerate(self.request) if request is not None)

    def admit(self, rows: list[int], requests: list[int]) -> None:
        """Prefill `requests` into `rows` and draw the first token of each."""
        prompts = [self.ids[i] for i in requests]
        for row, i, prompt in zip(rows, requests, prompts, strict=True):
            self.request[row] = i
            self.column[row] = len(prompt)
        batch = Ragged.of(prompts, rows, self.model.device, self.resident)
        logits = prefill(self.model, batch)
        where = to_device(np.array([rows, requests, [len(p) for p in prompts]]), self.model.device)
        at = where[0]
        self.slot[at], self.position[at], self.step[at] = where[1], where[2], 0
        self.take(logits, at, wide=True)
        self.prefill_tokens += batch.tokens.shape[0]
        self.steps += 1

    def decode(self) -> None:
        """One more token for each of the rows 0..n-1."""
        if not self.n:
            return
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
        if groups.get_model_parallel_rank() == 0:
            u = self.u[slot, step]
            tokens, margin = draw(logits, u, sampling.temperature, sampling.top_p, self.owner.margins, wide)
            if margin is not None:
                self.margins[slot, step] = margin
        else:
            tokens = torch.empty_like(slot)
        if groups.get_model_parallel_world_size() > 1:
            source = groups.get_model_parallel_src_rank()
            dist.broadcast(tokens, src=source, group=groups.get_model_parallel_group())
        self.drawn[slot, step] = tokens
        moved, broken = tokens != WIDER, tokens == NOT_FINITE
        step = step + moved
        word = tokens.clamp(min=0)
        ended = moved & (self.owner.ends[word] | broken | (step >= self.limit[slot]))
        self.notes.tensor[slot] = (ended * _DONE + broken * _BROKEN + ~moved * _WIDER).to(torch.int8)
        self.slot[rows] = torch.where(ended, self.idle, slot)
        self.step[rows] = step * ~ended  # an idle row draws its step 0 again and again
        self.token[rows] = torch.where(moved, word, self.token[rows])
        return moved

    def retire(self, status: np.ndarray) -> None:
        """Free the rows whose requests ended by the time of the note; with nothing waiting, close the gaps they leave."""
        self.wide = False
        for row, request in enumerate(self.request[: self.n]):
            if request is None:
                continue
            if status[request] & _BROKEN:
                raise self.not_finite(request)
            self.wide |= bool(status[request] & _WIDER)
            if status[request] & _DONE:
                self.request[row] = None
        if self.waiting:
            return
        live = [row for row in range(self.n) if self.request[row] is not None]
        gaps = (row for row in range(len(live)) if self.request[row] is None)
        for target, source in zip(gaps, reversed(live), strict=False):
            self.model.move(source, target, int(self.column[source]))
            self.request[target], self.request[source] = self.request[source], None
            self.column[target] = self.column[source]
            for state in (self.slot, self.step, self.token, self.position):
                state[target] = state[source]
            self.slot[source] = self.idle
        self.n = len(live)

    def not_finite(self, request: int) -> InputError:
        step = int((self.drawn[request] == NOT_FINITE).nonzero()[0])
        msg = (
            f"the model's logits are not finite (NaN or infinity) at token {step} of request {request} of this window: the "
            f"weights in {self.model.name} are damaged, or captioner.dtype=float16 overflows (try bfloat16 or float32)"
        )
        return InputError(msg)
