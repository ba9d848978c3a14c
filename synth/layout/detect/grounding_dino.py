"""Grounding DINO (Liu et al. 2023), MM-Grounding-DINO (Zhao et al. 2024) and LLMDet (Fu et al. 2025), which has the latter's class.

The text is "a red car. dog." The label of a box is a tag, by where the tag's tokens are in the text: never pieces of words, and never
nothing (GroundingDINO issue 354, Grounded-Segment-Anything issue 240).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synth.errors import InputError
from synth.features.model_folder import IMAGENET, normalised, planes
from synth.layout.detect.base import BLANK, LONG, NOT_FINITE, Detector, corners, in_rows
from synth.layout.detect.boxes import Candidates, joined, none

SHORT, LONGEST = 800, 1333  # pixels
# of BERT's tokens, by which the classes of transformers know where a tag ends
CLS, SEP, STOP, QUESTION = 101, 102, 1012, 1029
_STOPS = str.maketrans(".?", "  ")  # in a tag they would end it


@dataclass(frozen=True)
class Pass:
    """One text and where its tags are: tag number of the picture's, first token, token behind the last."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]


class MMGroundingDino(Detector):
    types = ("mm-grounding-dino",)
    cls = "MMGroundingDinoForObjectDetection"
    fix = (
        "give a folder of MM-Grounding-DINO or LLMDet in transformers' layout, such as "
        "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det"
    )

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._colours = folder.colours(*IMAGENET)
        self._short, self._long = folder.edge("shortest_edge", SHORT), self._longest()

    def _longest(self) -> int:
        size = self.folder.pictures.get("size")
        return self.folder.edge("longest_edge", LONGEST) if isinstance(size, dict) else LONGEST

    def open(self, dtype: str) -> None:
        super().open(dtype)
        known = self.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", ".", "?"])
        if known != [CLS, SEP, STOP, QUESTION]:
            why = f"its tokenizer numbers [CLS] [SEP] . ? as {known}, {self.cls} as {[CLS, SEP, STOP, QUESTION]}: tags would run together"
            raise InputError(f"{self.folder.path}: {why}; {self.fix}")
        self._special = frozenset(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        self._ids = lru_cache(1 << 16)(self._tokens)

    def _tokens(self, tag: str) -> tuple[int, ...]:
        """Of a tag as it stands in the text; () if none is of a word that the tokenizer knows. "[SEP]" in a tag is no token of its own."""
        ids = self.tokenizer(self.settings.template.replace("{}", tag).lower().translate(_STOPS), add_special_tokens=False)["input_ids"]
        words = tuple(n for n in ids if n not in self._special)
        return words if any(n != self.tokenizer.unk_token_id for n in words) else ()

    def prepare(self, image) -> np.ndarray:
        """Shorter side to 800 pixels, the longer one to at most 1333."""
        from PIL import Image

        return planes(image.convert("RGB").resize(scaled(*image.size, self._short, self._long), Image.Resampling.BILINEAR))

    def find(self, pictures, sizes, tags) -> list[Candidates]:
        texts = [passes([self._ids(t) for t in own], self.model.config.max_text_len) for own in tags]
        rows = [(i, p) for i, (own, _) in enumerate(texts) for p in own]
        found: list[list[Candidates]] = [[none(dropped)] for _, dropped in texts]
        for together in in_rows(rows, lambda row: pictures[row[0]].shape, self.settings.rows):
            batch = [rows[n] for n in together]
            scores, boxes = self._forward(np.stack([pictures[i] for i, _ in batch]), [p.ids for _, p in batch])
            for (i, p), row_scores, row_boxes in zip(batch, scores, boxes, strict=True):
                found[i].append(self._candidates(row_scores, row_boxes, p, sizes[i]))
        return [joined(parts) for parts in found]

    def _forward(self, pixels: np.ndarray, texts: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
        """([N, Q, L] scores of tokens, [N, Q, 4] boxes: centre, size) of N pictures of one size with a text each."""
        import torch

        length = max(map(len, texts))
        ids = torch.tensor([(*text, *[0] * (length - len(text))) for text in texts], device=self.model.device)  # 0 is [PAD]
        with torch.inference_mode():
            out = self.model(
                pixel_values=normalised(torch.from_numpy(pixels), *self._colours, self.model),
                pixel_mask=torch.ones(len(texts), *pixels.shape[2:], dtype=torch.long, device=ids.device),
                input_ids=ids,
                attention_mask=(ids != 0).long(),
                token_type_ids=torch.zeros_like(ids),
            )
            return out.logits[..., :length].sigmoid().float().cpu().numpy(), out.pred_boxes.float().cpu().numpy()

    def _candidates(self, scores: np.ndarray, boxes: np.ndarray, p: Pass, size: tuple[int, int]) -> Candidates:
        if not (np.isfinite(scores[:, : len(p.ids)]).all() and np.isfinite(boxes).all()):
            return none(reason=NOT_FINITE)
        best, labels = labelled(scores, p.spans, self.settings.box_threshold, self.settings.text_threshold)
        stay = best > self.settings.box_threshold
        return Candidates(corners(boxes[stay], *size), best[stay], labels[stay])


class GroundingDino(MMGroundingDino):
    types = ("grounding-dino",)
    cls = "GroundingDinoForObjectDetection"
    fix = "give a folder of Grounding DINO in transformers' layout, such as IDEA-Research/grounding-dino-tiny"


def scaled(width: int, height: int, short: int, longest: int) -> tuple[int, int]:
    """(width, height) with the shorter side `short`, unless the longer one would be more than `longest`; the library's own rounding.

    >>> scaled(640, 480, 800, 1333), scaled(2000, 500, 800, 1333)
    ((1066, 800), (1333, 333))
    """
    low, high = min(width, height), max(width, height)
    exact = short if high / low * short <= longest else longest * low / high
    if round(exact) == low:
        return width, height
    edge, other = max(1, round(exact)), int(exact * high / low)
    return (edge, other) if width < height else (other, edge)


def passes(tags: Sequence[tuple[int, ...]], most: int) -> tuple[list[Pass], dict[str, int]]:
    """(the texts that hold all tags, as many tags in each as fit; tags that were left out, by reason).

    tags: the tokens of each; most: tokens of a text, with the first and last and a full stop behind each tag.

    >>> [p.spans for p in passes([(7,), (8, 9), (7, 7, 7)], 7)[0]]
    [((0, 1, 2), (1, 3, 5)), ((2, 1, 4),)]
    """
    dropped: Counter[str] = Counter()
    done, ids, spans = [], [CLS], []
    for number, tokens in enumerate(tags):
        if not tokens or len(tokens) > most - 3:
            dropped[LONG if tokens else BLANK] += 1
            continue
        if len(ids) + len(tokens) + 2 > most:
            done.append(Pass((*ids, SEP), tuple(spans)))
            ids, spans = [CLS], []
        spans.append((number, len(ids), len(ids) + len(tokens)))
        ids += [*tokens, STOP]
    if spans:
        done.append(Pass((*ids, SEP), tuple(spans)))
    return done, dict(dropped)


def labelled(scores: np.ndarray, spans: Sequence[tuple[int, int, int]], box: float, text: float) -> tuple[np.ndarray, np.ndarray]:
    """([Q] score, [Q] tag number) of each query, from [Q, L] scores of tokens in 0..1.

    The tag is, of those with a token above `box`, the one whose tokens score highest on average, those below `text` counting nothing:
    with the highest token alone "blue car" would win over "red car" by its car. The score is the tag's best token's.
    """
    best = np.stack([scores[:, a:b].max(1) for _, a, b in spans], 1)  # [Q, T]
    counted = np.where(scores >= text, scores, 0)
    mean = np.stack([counted[:, a:b].mean(1) for _, a, b in spans], 1)
    tag = np.where(best > box, mean, -1).argmax(1)
    return best[np.arange(len(best)), tag], np.array([number for number, _, _ in spans])[tag]
