"""Captions of one batch by any causal model of transformers: left padding, and one stream of random numbers a row.

A row's tokens depend on its prompt, its seed and the model alone; its neighbours touch them only by the rounding of the
logits (1e-5 in float32), where a draw lies that close to an edge.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from synth.captions.llama.sampling import draw, uniforms


@dataclass(frozen=True)
class Row:
    """One request of a batch."""

    ids: list[int]  # the prompt's tokens, one at least
    seed: int
    limit: int  # tokens to draw at most
    stop: tuple[str, ...] = ()  # texts that end it


class NotFinite(Exception):
    """The model gave NaN or infinity; holds the number of the token."""


class Decoder:
    """Draws the tokens of batches of one model. Holds no state between batches."""

    def __init__(self, model, ends: Sequence[int], temperature: float, top_p: float, stopped: Callable[[list[int], Sequence[str]], bool]):
        """ends: tokens that end a row. stopped(tokens, texts): whether one of the texts is among the last tokens."""
        self.model, self.ends, self.stopped = model, frozenset(ends), stopped
        self.temperature, self.top_p = temperature, top_p
        takes = inspect.signature(model.forward).parameters
        self._takes_positions, self._takes_keep = "position_ids" in takes, "logits_to_keep" in takes
        self.pads = "attention_mask" in takes  # a model that cannot be told about padding gets one row at a time

    @torch.inference_mode()
    def batch(self, rows: Sequence[Row]) -> list[list[int]]:
        """The tokens of each row, its end token included."""
        device = self.model.device
        width = max(len(r.ids) for r in rows)
        ids = torch.tensor([[0] * (width - len(r.ids)) + r.ids for r in rows], device=device)  # [B, width]
        mask = torch.tensor([[0] * (width - len(r.ids)) + [1] * len(r.ids) for r in rows], device=device)
        u = torch.from_numpy(uniforms([r.seed for r in rows], max(r.limit for r in rows)))  # [B, steps]
        drawn: list[list[int]] = [[] for _ in rows]
        live = list(range(len(rows)))  # the rows of the tensors, as indices of `rows`
        done = [False] * len(rows)
        feed, cache = ids, None
        for step in range(u.shape[1]):
            logits, cache = self._forward(feed, mask, cache)
            tokens, _ = draw(logits.to(device).float(), u[live, step].to(device), self.temperature, self.top_p)
            for row, token in zip(live, tokens.tolist(), strict=True):
                if done[row]:
                    continue
                if token < 0:
                    raise NotFinite(step)
                drawn[row].append(token)
                done[row] = token in self.ends or len(drawn[row]) >= rows[row].limit or self.stopped(drawn[row], rows[row].stop)
            if all(done):
                break
            keep = [i for i, row in enumerate(live) if not done[row]]
            if 2 * len(keep) <= len(live) and _selects(cache):  # half the rows are idle: go on without them
                at = torch.tensor(keep, device=device)
                tokens, mask, ids, live = tokens[at], mask[at], ids[at], [live[i] for i in keep]
                if cache is not None:
                    cache.batch_select_indices(at)
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            ids = torch.cat([ids, tokens.clamp(min=0)[:, None]], dim=1)
            feed = ids if cache is None else ids[:, -1:]
        return drawn

    def _forward(self, feed: torch.Tensor, mask: torch.Tensor, cache) -> tuple[torch.Tensor, object]:
        """Logits [B, V] after the last of feed's tokens [B, T], and the cache; None for models without one."""
        more = {"attention_mask": mask} if self.pads else {}
        if self._takes_positions:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -feed.shape[1] :]
        if self._takes_keep:
            more["logits_to_keep"] = 1
        if cache is not None:
            more["past_key_values"] = cache
        out = self.model(input_ids=feed, use_cache=True, **more)
        return out.logits[:, -1], getattr(out, "past_key_values", None)


def _selects(cache) -> bool:
    """Whether rows can be taken out of a cache."""
    return cache is None or all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [None]))
