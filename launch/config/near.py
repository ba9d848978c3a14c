"""Dotted keys of a composed tree, and the ones that look like a misspelt one. Pure."""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher

NEAR = 0.68  # ratio from which two keys look alike: "guidance_scal" .. "guidance_scale" is .96, "seed" .. "steps" .67
AT_MOST = 3
BAND = 0.12  # how much worse than the best one is still told


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """{"images": {"steps": 20}} -> {"images.steps": 20}; empty mappings and lists are leaves."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, path + ".")
        else:
            flat[path] = value
    return flat


def inner(tree: Mapping, prefix: str = "") -> list[str]:
    """All dotted keys, those of mappings too."""
    keys = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += inner(value, f"{prefix}{key}.")
    return keys


def near(key: str, known: Iterable[str]) -> list[str]:
    """Known keys that look like `key`, best first: alike as a whole, alike in the last part, or its beginning.

    Only those nearly as good as the best are told: a long list helps nobody.
    """
    scored = [(max(_alike(key, other), 0.97 * _alike(_last(key), _last(other)), _begins(key, other)), other) for other in known]
    best = sorted((s for s in scored if s[0] >= NEAR), key=lambda s: (-s[0], -_alike(key, s[1]), len(s[1]), s[1]))
    return [other for score, other in best[:AT_MOST] if score >= best[0][0] - BAND]


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """ "; did you mean a, b?" or nothing."""
    alike = near(key, known)
    return f"; did you mean {' or '.join(alike)}?" if alike else ""


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _alike(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b).ratio()


def _begins(key: str, other: str) -> float:
    """ "images.guidance" .. "images.guidance_scale": same group, and one is the beginning or end of the other."""
    a, b = _last(key), _last(other)
    same = key.rpartition(".")[0] == other.rpartition(".")[0]
    return 0.85 if same and len(a) >= 3 and (b.startswith(a) or a in b.split("_")) else 0.0
