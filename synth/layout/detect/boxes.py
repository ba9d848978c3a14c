"""What becomes of the boxes that a detector proposes: which stay, in whole pixels, and how many went for which reason. Pure numpy."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

EMPTY, SMALL, NMS, MANY = "empty_box", "min_box", "nms", "max_boxes"  # reasons
DIGITS = 4  # of a score


@dataclass(frozen=True)
class Candidates:
    """Boxes of one picture that passed the detector's thresholds, in any order."""

    boxes: np.ndarray  # [N, 4] float: left, top, right, bottom in pixels of the picture; they may lie outside of it
    scores: np.ndarray  # [N] float in 0..1
    labels: np.ndarray  # [N] int: which of the picture's tags
    dropped: Mapping[str, int] = field(default_factory=dict)  # what the detector itself left out, by reason
    reason: str = ""  # why there is nothing to be had of the picture
    masks: tuple[np.ndarray, ...] = ()  # [h, w] float each, more than 0 where the object is, of the whole picture; () where none are found


@dataclass(frozen=True)
class Rules:
    """Which candidates stay."""

    nms: float = 0.5  # intersection over union beyond which the weaker of two boxes goes, whatever their labels; 1: none goes
    min_box: int = 1  # pixels: a box of fewer than its square goes
    max_boxes: int | None = None  # best ones of a picture; None: all


@dataclass(frozen=True)
class Box:
    """left, top, width, height in whole pixels of the picture, inside of it."""

    bbox: tuple[int, int, int, int]
    score: float
    label: int
    number: int = 0  # of the candidate that it was


def none(dropped: Mapping[str, int] | None = None, reason: str = "") -> Candidates:
    return Candidates(np.empty((0, 4)), np.empty(0), np.empty(0, int), dropped or {}, reason)


def joined(parts: list[Candidates]) -> Candidates:
    """Candidates of one picture from several passes over its tags, one at least."""
    if broken := next((p.reason for p in parts if p.reason), ""):
        return none(reason=broken)
    counts = sum((Counter(p.dropped) for p in parts), Counter())
    columns = (np.concatenate([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "labels"))
    return Candidates(*columns, dict(counts), masks=tuple(chain.from_iterable(p.masks for p in parts)))


def chosen(found: Candidates, width: int, height: int, rules: Rules) -> tuple[list[Box], dict[str, int]]:
    """(the boxes that stay, best first; how many went, by reason) of a picture of width x height pixels.

    Corners are cut at the picture's border and truncated to whole pixels; a box without a pixel left is none.
    """
    dropped = Counter(found.dropped)
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores, labels = (np.asarray(v)[order] for v in (found.boxes, found.scores, found.labels))
    corners = np.clip(boxes, 0, [width, height] * 2)
    pixels = corners.astype(int)
    size = pixels[:, 2:] - pixels[:, :2]
    there = (size > 0).all(1)
    large = there & (size.prod(1) >= rules.min_box**2)
    dropped[EMPTY] += int((~there).sum())
    dropped[SMALL] += int((there & ~large).sum())
    candidates = np.flatnonzero(large)
    kept = candidates[suppressed(corners[candidates], rules.nms)]
    dropped[NMS] += len(candidates) - len(kept)
    if rules.max_boxes is not None:
        dropped[MANY] += max(0, len(kept) - rules.max_boxes)
        kept = kept[: rules.max_boxes]
    result = [
        Box((*map(int, pixels[i, :2]), *map(int, size[i])), round(float(scores[i]), DIGITS), int(labels[i]), int(order[i]))
        for i in map(int, kept)
    ]
    return result, {reason: n for reason, n in sorted(dropped.items()) if n}


def suppressed(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of [N, 4] boxes, best first, of which none overlaps a better one by more than `threshold` (greedy, class-agnostic NMS)."""
    overlaps = iou(boxes, boxes)
    kept: list[int] = []
    for i in range(len(boxes)):
        if not (overlaps[i, kept] > threshold).any():
            kept.append(i)
    return np.array(kept, int)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, M] intersection over union of [N, 4] and [M, 4] boxes (left, top, right, bottom); 0 where both are empty."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = ((v[:, 2:] - v[:, :2]).prod(1) for v in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared, dtype=float), where=union > 0)
