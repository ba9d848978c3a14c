"""What a model says of a picture: how likely each token was, where the answer is none, and what of it is a caption.

The one place that judges answers, whether a model of transformers wrote them here or a server sent them.
"""

import html
import math
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from synth.captions.answers import CleanAnswer, clean_answer
from synth.captions.checks import LONGEST, answer_line, unfit
from synth.captions.words import repeats

_BLOCK = re.compile(r"</?(li|ul|ol|p|div|br|tr|td|h[1-6])\b[^<>]{0,400}>", re.IGNORECASE)  # of HTML: these end a line
_MARKUP = re.compile(r"</?[A-Za-z][\w:-]{0,30}(\s[^<>]{0,400})?/?>|<!--[^<>]{0,400}-->")


@dataclass(frozen=True)
class Said:
    """What a model said, as it came. ended: by itself; False: it may have been cut off. error: why it said nothing, in a server's way."""

    text: str = ""
    ended: bool = True
    error: str = ""


def judged(said: Said, json: bool = True) -> CleanAnswer:
    """The answer in what a chat model said: without thoughts, marks of templates, wrappings and what cannot be read; or why there is none.

    json: whether JSON stands for one text in it.
    """
    if said.error:
        return CleanAnswer("", reason=said.error)
    answer = clean_answer(said.text, json)
    unescaped = html.unescape(answer.text)
    plain = _MARKUP.sub(" ", _BLOCK.sub("\n", unescaped))
    text = readable(plain)
    more = (("markup", plain != unescaped), ("unreadable", text != plain))
    return CleanAnswer(text, answer.cut + tuple(kind for kind, there in more if there), answer.reason)


def caption_of(said: Said, chat: bool) -> CleanAnswer:
    """The caption in what a model said of a box, on one line, or why there is none. chat: it answers, and may say more than a caption.

    >>> caption_of(Said("<think>Hm.</think>**Caption:** A red ball.\\nI hope this helps!"), chat=True)
    CleanAnswer(text='A red ball.', cut=('thoughts', 'bold', 'more lines'), reason='')
    >>> caption_of(Said("I'm sorry, I can't help with that."), chat=True).reason, caption_of(Said("\ufffd"), chat=False).reason
    ('refusal', 'empty')
    """
    if not chat:
        text = " ".join(readable(said.text).split())
        return CleanAnswer(text, reason=said.error or ("" if text else "empty"))
    answer = judged(said)
    line = answer_line(answer.text)
    cut = answer.cut + (("more lines",) if len(answer.text.split("\n")) > 1 and answer.text.split()[-1:] != line.split()[-1:] else ())
    reason = answer.reason or _unfit(line)
    return CleanAnswer("" if reason else line, cut if said.ended else (*cut, "cut off"), reason)


def _unfit(line: str) -> str:
    """Why a line is no caption; "" if it is one."""
    if len(line) > LONGEST:
        return "too_long"
    return unfit(line) or ("repetition" if repeats(line) else "")


def readable(text: str) -> str:
    """Without control characters, halves of characters and what stands for bytes that are no text; line breaks and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or (c != "\ufffd" and unicodedata.category(c) not in ("Cc", "Cs")))


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


def decoded(tokenizer, sequences, chances: Chances, ends: Collection[int]) -> list[Said | None]:
    """The texts of [N, L] sequences as far as the model wrote them, without special tokens: `generate` puts the prompt before them, or a
    token that begins them, or neither. None where a number is not finite."""
    likely = chances.of(sequences)
    rows = [row[len(row) - len(own) :] for row, own in zip(sequences.cpu().tolist(), likely, strict=True)]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    stops = [written(row, own, ends) for row, own in zip(rows, likely, strict=True)]
    return [None if stop is None else Said(text, stop < len(row)) for text, row, stop in zip(texts, rows, stops, strict=True)]
