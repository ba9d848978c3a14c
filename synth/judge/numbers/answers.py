"""Numbers of a classifier's answers: probabilities [N, C] for N pictures of known labels [N]."""

import numpy as np

from synth.errors import InputError
from synth.judge.numbers.neighbours import nearest
from synth.judge.numbers.rows import Unmeasurable, check, check_labels, unit_length

BINS = 15


def check_answers(probabilities: np.ndarray, labels: np.ndarray) -> None:
    """InputError unless each row is finite and sums to 1, and has a label; Unmeasurable without rows."""
    if probabilities.ndim != 2:
        raise InputError(f"probabilities are rows, one number a class; this array has the shape {list(probabilities.shape)}")
    if not len(probabilities):
        raise Unmeasurable("test: there are no pictures")
    wrong = ~(np.abs(probabilities.sum(1) - 1) < 1e-3)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"probabilities: row {row} adds up to {probabilities[row].sum():.3g}, not 1")
    check_labels(labels, len(probabilities), probabilities.shape[1], "test")


def correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[N] bool: whether the first class with the highest probability is the label. Their mean is the accuracy, and has its interval."""
    check_answers(probabilities, labels)
    return probabilities.argmax(1) == labels


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(correct(probabilities, labels).mean())


def per_class(values: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """[C] mean of values [N] over each class; NaN for a class that has none."""
    pictures = np.bincount(labels, minlength=n_classes)
    total = np.bincount(labels, values, n_classes)
    return np.divide(total, pictures, out=np.full(n_classes, np.nan), where=pictures > 0)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al., 1706.04599): |accuracy - confidence| of bins of equal width, weighted by their pictures."""
    right = correct(probabilities, labels)
    confidence = probabilities.max(1).astype(np.float64)
    # a bin is (low, high], as theirs are
    of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(of, right - confidence, bins)
    return float(np.abs(gaps).sum() / len(labels))


def confusion_pairs(table: np.ndarray, top: int) -> list[tuple[int, int, float, float]]:
    """(label, answer, pictures, share of the label's pictures), the most pictures first, ties by label and answer; at most `top`.

    table: [C, C] pictures of each label by answer.
    """
    wrong, of_class = np.array(table, np.float64), table.sum(1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:top]
    pairs = [divmod(int(k), len(wrong)) for k in order if wrong.flat[k] > 0]
    return [(label, answer, float(wrong[label, answer]), float(wrong[label, answer] / of_class[label])) for label, answer in pairs]


def clip_scores(pictures: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """[N] 100 max(cosine, 0) of each picture with its caption (Hessel et al., 2104.08718, with torchmetrics' factor)."""
    check(pictures=pictures, captions=captions)
    if len(pictures) != len(captions):
        raise InputError(f"{len(pictures)} pictures and {len(captions)} captions: give a caption a picture")
    return 100 * np.maximum((unit_length(pictures) * unit_length(captions)).sum(1), 0)


def clip_score(pictures: np.ndarray, captions: np.ndarray) -> float:
    return float(clip_scores(pictures, captions).mean())


def zero_shot_labels(pictures: np.ndarray, class_texts: np.ndarray) -> np.ndarray:
    """[N] int64: the class whose text is the most similar to each picture. pictures [N, D], class_texts [C, D]."""
    check(pictures=pictures, class_texts=class_texts)
    return nearest(pictures, class_texts, 1, "class_texts").index[:, 0]


def zero_shot(pictures: np.ndarray, class_texts: np.ndarray, labels: np.ndarray) -> float:
    """Share of pictures whose most similar class text is their label's."""
    check_labels(labels, len(pictures), len(class_texts), "pictures")
    return float((zero_shot_labels(pictures, class_texts) == labels).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """[N, C], row by row."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    e /= e.sum(1, keepdims=True)
    return e
