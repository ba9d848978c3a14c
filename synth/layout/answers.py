"""What a model of transformers writes token by token: how likely each token was, and where the answer is none."""

import math
from collections.abc import Collection, Sequence


class Chances:
    """A logits processor that changes nothing: it notes how likely the tokens were that were taken, one column a step."""

    def __init__(self) -> None:
        self._steps: list = []  # [N] log-probabilities of the tokens of each step but the last
        self._last = None  # [N, V]

    def __call__(self, input_ids, scores):
        self._note(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        return scores

    def _note(self, taken) -> None:
        if self._last is not None:
            self._steps.append(self._last.gather(1, taken[:, None])[:, 0])

    def of(self, sequences) -> list[list[float]]:
        """[N] lists of probabilities, of all tokens of [N, L] sequences that a step gave: their last ones."""
        import torch

        self._note(sequences[:, -1])
        return torch.stack(self._steps, 1).exp().cpu().tolist()


def written(tokens: Sequence[int], chances: Sequence[float], ends: Collection[int]) -> int | None:
    """How many of the tokens that a model wrote come before its end; None where a number up to there is not finite.

    What stands behind the end is of no interest: it is there because another answer of the batch is longer.

    >>> nan = float("nan")
    >>> written([5, 6, 2, 1], [0.5, 0.5, 0.5, nan], [2]), written([5, 6], [0.5, 0.5], [2]), written([5, 2], [0.5, nan], [2])
    (2, 2, None)
    """
    stop = next((n for n, token in enumerate(tokens) if token in ends), len(tokens))
    return stop if all(map(math.isfinite, chances[: stop + 1])) else None


def ends_of(config) -> frozenset[int]:
    """The tokens at which `generate` stops, of a GenerationConfig."""
    ends = config.eos_token_id
    return frozenset(() if ends is None else [ends] if isinstance(ends, int) else ends)


def decoded(tokenizer, sequences, chances: Chances, ends: Collection[int]) -> list[str | None]:
    """The texts of [N, L] sequences as far as the model wrote them, without special tokens: `generate` puts the prompt before them, or a
    token that begins them, or neither. None where a number is not finite."""
    likely = chances.of(sequences)
    rows = [row[len(row) - len(own) :] for row, own in zip(sequences.cpu().tolist(), likely, strict=True)]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    finite = (written(row, own, ends) is not None for row, own in zip(rows, likely, strict=True))
    return [" ".join(text.split()) if good else None for text, good in zip(texts, finite, strict=True)]
