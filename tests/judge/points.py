"""Judgements made by hand."""

from pathlib import Path

import numpy as np

from synth.judge.reading import CORRECT, JSON, Point
from synth.store.spec import canonical


def number(value, half=0.01, n=100):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def facts(point=None, test_rows=100, seeds=(0, 1), classes=("cat", "dog"), **more):
    """judge.json of a judged set beside a real and a test set."""
    one = {"pictures": 40, "without_class": 0, "left_out": {}, "other_classes": [], "fewest": 20, "most": 20, "balance": 1.0}
    probe = {"rows": 30, "accuracy": number(0.7), "knn": number(0.6), "calibration_error": {"value": 0.1}}
    found = {
        "version": 1,
        "name": "images-0123456789ab",
        "point": point or {},
        "measured": "m",
        "features": "clip",
        "seeds": list(seeds),
        "test_rows": test_rows,
        "sets": {"made": one, "real": one, "test": one},
        "numbers": {"coverage": number(0.5), "cmmd": {"value": 1.25}, "vendi": {"value": 3.0}},
        "probes": {"made": probe, "real": probe, "both": probe} if test_rows else {},
        "no_probes": {},
        "confusions": [{"class": c, "taken_for": c, "pictures": 3.0, "share": 0.25} for c in classes],
        "classes": [{"name": c, "pictures": {"made": 20}, "numbers": {"coverage": number(0.5), "accuracy": number(0.7)}} for c in classes],
        "duplicates": {"within": 2, "between": 0, "repeats": 1, "of": 40, "from": 0.97, "examples": {"within": [], "between": []}},
        "leaks": {"pictures": 1, "of": 40, "from": 0.97, "nearest": {"median": 0.5, "highest": 0.99}, "examples": []},
        "pictures": {"looked_at": 0, "undecodable": 0},
        "shown": [],
    }
    return found | more


def right(accuracy: float, rows: int = 100, seeds: int = 2) -> np.ndarray:
    """[S, M] bool: the first ones are right."""
    return np.tile(np.arange(rows) < round(accuracy * rows), (seeds, 1))


def point(accuracy: float | None, keys: dict, **more) -> Point:
    correct = None if accuracy is None else right(accuracy)
    return Point(Path("/nowhere"), facts(keys, 0 if accuracy is None else 100, **more), correct)


def written(folder: Path, found: dict, correct: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_bytes(canonical(found))
    if correct is not None:
        np.save(folder / CORRECT, correct)
    return folder
