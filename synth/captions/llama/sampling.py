"""Temperature and nucleus sampling, with one stream of random numbers a caption.

The uniform for token t of a caption is the t-th output of Philox keyed by the caption's seed (Salmon et al., SC 2011), so
neither neighbours nor the batch size nor the number of ranks touch it. It is inverted through the distribution function,
which is laid out by token id: rounding moves the edges of that function a little, but cannot, as in an order by
probability, swap two tokens of nearly equal probability.
"""

from collections.abc import Sequence

import numpy as np
import torch

CANDIDATES = (64, 512)  # tokens taken before the full sort is tried; a nucleus of a trained model seldom holds more
NOT_FINITE, WIDER = -1, -3  # in place of a token


def uniforms(seeds: Sequence[int], n: int) -> np.ndarray:
    """[len(seeds), n] numbers in [0, 1), row i a function of seeds[i] (0 <= seed < 2**64) alone."""
    out = np.empty((len(seeds), n))
    for row, seed in zip(out, seeds, strict=True):
        row[:] = np.random.Philox(key=seed).random_raw(n) >> 11  # raw bits: numpy promises their stability, not random()'s
    return out * 2.0**-53


def draw(
    logits: torch.Tensor, u: torch.Tensor, temperature: float, top_p: float, margins: bool = False, wide: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tokens [N] from logits [N, V] (float32) and uniforms u [N]; NOT_FINITE where a row's logits are not.

    The nucleus is Meta's: tokens by falling probability, each kept if those before it sum to at most `top_p`, so the one
    that crosses the threshold stays and one is always left. Temperature 0 takes the likeliest token.

    A nucleus larger than the candidates is looked for among more of them, which the host must decide; with wide=False such
    rows get WIDER instead, and the host need not wait for the device.

    With `margins`, also how near each draw came to falling otherwise, [N]: the least of its distance to the next edge of the
    distribution function, of the threshold's distance to the sums next to it, and of the logits' gap at the nucleus's end.
    """
    if temperature == 0:
        top = logits.topk(2, dim=-1)
        tokens = torch.where(torch.isfinite(logits.sum(-1)), top.indices[:, 0], NOT_FINITE)
        return tokens, (top.values[:, 0] - top.values[:, 1] if margins else None)
    logits = logits / temperature
    norm = logits.logsumexp(-1, keepdim=True)  # [N, 1]; not finite if any logit is NaN or +inf
    finite = torch.isfinite(norm[:, 0])
    if top_p >= 1:
        tokens, margin = _invert((logits - norm).exp(), None, u, margins)
        return torch.where(finite, tokens, NOT_FINITE), margin
    sizes = [k for k in CANDIDATES if k < logits.shape[-1]]
    if not wide:
        tokens, margin, whole = _from_largest(logits, norm, u, top_p, (sizes or [logits.shape[-1]])[-1], margins)
        tokens = torch.where(whole, tokens, WIDER) if sizes else tokens
        return torch.where(finite, tokens, NOT_FINITE), margin
    first, *more = [*sizes, logits.shape[-1]]
    tokens, margin, whole = _from_largest(logits, norm, u, top_p, first, margins)
    for k in more:  # each row by itself decides, so that a row's path does not depend on its neighbours
        if not (rest := ~whole & finite).any():
            break
        rows = rest.nonzero()[:, 0]
        tokens[rows], again, whole[rows] = _from_largest(logits[rows], norm[rows], u[rows], top_p, k, margins)
        if margins:
            margin[rows] = again
    return torch.where(finite, tokens, NOT_FINITE), margin


def _sums(x: torch.Tensor) -> torch.Tensor:
    """Running sums of each row [N, k]. Never of one row alone: for that CUDA has a kernel that adds in whatever order comes."""
    return x.expand(2, -1).cumsum(-1)[:1] if len(x) == 1 else x.cumsum(-1)


def _from_largest(logits, norm, u, top_p, k, margins):
    """Draw within the k largest: tokens [N], margins [N] or None, and whether the nucleus ends among them [N]."""
    top = logits.topk(k, dim=-1)  # falling
    probs = (top.values - norm).exp()
    sums = _sums(probs)
    kept = sums - probs <= top_p  # a prefix
    kept[:, 0] = True  # top_p 0, and rounding
    whole = ~kept[:, -1]
    ids, order = top.indices.sort(dim=-1)
    tokens, margin = _invert((probs * kept).gather(-1, order), ids, u, margins)
    if margins:
        count = kept.sum(-1, keepdim=True)  # [N, 1]
        ends = top.values.gather(-1, (count - 1 + torch.arange(2, device=u.device)).clamp(max=k - 1))  # last in, first out
        gap = torch.where(count[:, 0] < k, ends[:, 0] - ends[:, 1], torch.inf)
        margin = torch.minimum(torch.minimum(margin, gap), (sums - top_p).abs().amin(-1))
    return tokens, margin, whole


def _invert(probs, ids, u, margins):
    """Invert the distribution function of probs [N, k] (zeros allowed, sum not 1) whose columns are tokens `ids`."""
    cdf = _sums(probs.double())
    total = cdf[:, -1:]
    target = u.double().unsqueeze(-1) * total
    # the last token with any probability bounds the index, should u * total round up to total
    index = torch.minimum((cdf <= target).sum(-1), (cdf < total).sum(-1)).unsqueeze(-1)
    tokens = index if ids is None else ids.gather(-1, index)
    margin = ((cdf - target).abs().amin(-1) / total[:, 0]).float() if margins else None
    return tokens[:, 0], margin
