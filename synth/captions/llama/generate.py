"""Captions of one window of prompts: rows are refilled as they finish, from an empty cache to an empty cache.

What is computed together depends on the window alone, so a window's bytes are the same wherever and whenever it is run.
Under model parallelism every rank runs this same loop, rank 0 draws and the others receive its tokens: logits that differ
between ranks in the last bit could otherwise send them apart, and then into a deadlock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from fairscale.nn.model_parallel import initialize as groups

from synth.captions.llama.config import Completion
from synth.captions.llama.model import Ragged, Transformer, decode_one_token, prefill
from synth.captions.llama.sampling import draw, uniforms
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import InputError

PREFILL_TOKENS = 16384  # at most this many tokens in one prefill (one prompt is never split)
_NONE, _NOT_FINITE = -2, -1  # in the table of drawn tokens


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
    prefill_tokens: int
    decode_tokens: int  # rows through decode steps, idle ones included
    steps: int  # sequential passes through the model


class Generator:
    """Serves windows with one model. Holds no state between windows."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, sampling: Sampling, margins: bool = False):
        self.model, self.tokenizer, self.sampling, self.margins = model, tokenizer, sampling, margins
        ends = {tokenizer.eos}.union(*(tokenizer.ids_containing(s) for s in sampling.stop))
        self._ends = torch.zeros(model.params.vocab_size, dtype=torch.bool)
        self._ends[sorted(ends)] = True
        self._ends = self._ends.to(model.device)
        # rows wait for company: a prefill of one prompt costs a GPU nearly as much as one of many
        self._refill_at = max(1, model.rows // 8)
        # on CUDA the host looks at the finished rows every few steps, not at each: looking drains the queue of kernels
        self._look_every = 4 if model.device.type == "cuda" else 1

    @torch.inference_mode()
    def window(self, prompts: Sequence[str], seeds: Sequence[int]) -> Window:
        """One caption a prompt. A prompt that leaves no room in max_seq_len gets an error in its place.

        Raises InputError if the model gives logits that are not finite.
        """
        ids = self.tokenizer.encode(list(prompts))
        run = _Run(self, ids, seeds)
        try:
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
    last live row moves into its place and n shrinks.
    """

    def __init__(self, owner: Generator, ids: list[list[int]], seeds: Sequence[int]):
        self.owner, self.model, self.ids = owner, owner.model, ids
        device, rows = self.model.device, self.model.rows
        longest = owner.sampling.max_gen_len
        fits = [i for i, prompt in enumerate(ids) if len(prompt) < self.model.columns]
        # long prompts first, equal lengths together: less padding in attention, and a short tail at the end
        self.waiting = sorted(fits, key=lambda i: (len(ids[i]), -i))  # taken from the back
        self.request: list[int | None] = [None] * rows  # request in each row
        self.column = np.zeros(rows, dtype=np.int64)  # host's bound on each row's next column
        self.n = 0
        # one row of the tables more than requests: idle rows write there
        self.u = torch.from_numpy(np.concatenate([uniforms(seeds, longest), np.zeros((1, longest))])).to(device)
        self.drawn = torch.full((len(ids) + 1, longest), _NONE, dtype=torch.int64, device=device)
        self.margins = torch.zeros((len(ids) + 1, longest), device=device) if owner.margins else None
        limit = [min(longest, max(1, self.model.columns - len(p))) for p in ids] + [longest]
        self.limit = torch.tensor(limit, device=device)  # tokens each request may draw
        self.idle = len(ids)  # the extra row
        self.slot = torch.full((rows,), self.idle, device=device)  # [rows] row of the tables
        self.step = torch.zeros(rows, dtype=torch.int64, device=device)  # tokens drawn so far
        self.token = torch.zeros(rows, dtype=torch.int64, device=device)  # drawn last, not yet in the cache
        self.position = torch.zeros(rows, dtype=torch.int64, device=device)  # its column
        self.prefill_tokens = self.decode_tokens = self.steps = 0

    def all(self) -> None:
        while self.waiting or self.n:
            self.refill()
            for _ in range(self.owner._look_every):
                self.decode()
            self.retire()

    def refill(self) -> None:
        free = [row for row, request in enumerate(self.request) if request is None]
        if not self.waiting or len(free) < min(self.owner._refill_at, len(self.waiting)):
            return
        while free and self.waiting:
            rows, requests, total = [], [], 0
            while free and self.waiting and (not rows or total + len(self.ids[self.waiting[-1]]) <= PREFILL_TOKENS):
                rows.append(free.pop(0))
                requests.append(self.waiting.pop())
                total += len(self.ids[requests[-1]])
            self.admit(rows, requests)
        self.n = 1 + max(row for row, request in enumerate(self.request) if request is not None)

    def admit(self, rows: list[int], requests: list[int]) -> None:
        """Prefill `requests` into `rows` and draw the first token of each."""
        prompts = [self.ids[i] for i in requests]
        for row, i, prompt in zip(rows, requests, prompts, strict=True):
            self.request[row] = i
            self.column[row] = len(prompt)
        logits = prefill(self.model, Ragged.of(prompts, rows, self.model.device))
        where = torch.tensor([rows, requests, [len(p) for p in prompts]], device=self.model.device)
        at = where[0]
        self.slot[at], self.position[at], self.step[at] = where[1], where[2], 0
        self.take(logits, at)
        self.prefill_tokens += sum(map(len, prompts))
        self.steps += 1

    def decode(self) -> None:
        """One more token for each of the rows 0..n-1."""
        if not self.n:
            return
        rows = slice(0, self.n)
        span = int(self.column[rows].max()) + 1
        logits = decode_one_token(self.model, self.token[rows], self.position[rows], span)
        self.position[rows] += 1
        np.minimum(self.column[rows] + 1, self.model.columns - 1, out=self.column[rows])
        self.take(logits, rows)
        self.decode_tokens += self.n
        self.steps += 1

    def take(self, logits: torch.Tensor, rows: torch.Tensor | slice) -> None:
        """Draw a token for each of `rows`, note it, and turn rows that are finished idle. All on the device."""
        sampling = self.owner.sampling
        slot, step = self.slot[rows], self.step[rows]
        if groups.get_model_parallel_rank() == 0:
            tokens, margin = draw(logits, self.u[slot, step], sampling.temperature, sampling.top_p, self.owner.margins)
            if margin is not None:
                self.margins[slot, step] = margin
        else:
            tokens = torch.empty_like(slot)
        if groups.get_model_parallel_world_size() > 1:
            source = groups.get_model_parallel_src_rank()
            dist.broadcast(tokens, src=source, group=groups.get_model_parallel_group())
        self.drawn[slot, step] = tokens
        step = step + 1
        live = ~(self.owner._ends[tokens] | (tokens == _NOT_FINITE) | (step >= self.limit[slot]))
        self.slot[rows] = torch.where(live, slot, self.idle)
        self.step[rows] = step * live  # an idle row draws its step 0 again and again
        self.token[rows] = tokens.clamp(min=0)
        # an idle row stays in the last column at most
        self.position[rows] = self.position[rows].clamp(max=self.model.columns - 1)

    def retire(self) -> None:
        """Free the rows that finished; with nothing waiting, close the gaps they leave."""
        slots = self.slot[: self.n].tolist()  # the one place where the host waits for the device
        for row, slot in enumerate(slots):
            if slot == self.idle and self.request[row] is not None:
                self.check_finite(self.request[row])
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

    def check_finite(self, request: int) -> None:
        if bool((self.drawn[request] == _NOT_FINITE).any()):
            step = int((self.drawn[request] != _NONE).sum()) - 1
            msg = (
                f"the model's logits are not finite (NaN or infinity) at token {step} of request {request} of this window: "
                "the weights are damaged, or captioner.dtype=float16 overflows (try bfloat16 or float32)"
            )
            raise InputError(msg)
