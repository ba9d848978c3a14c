"""What makes stages of one name different: the values of a sweep beside each. Reads stage.json alone."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from launch.plan.nearest import comparable
from synth.errors import InputError, StoreError
from synth.store.folder import StageFolder

NAMED = 3  # keys that are told of a stage
LONG = 40  # characters of a value


def told_apart(stages: Iterable[Path]) -> dict[Path, str]:
    """stage folder -> "images.guidance_scale=2, images.seed=1": keys of it, or of what it reads, that differ among the stages of its name
    beside it; "" where there is no other one."""
    known: dict[Path, Mapping[str, object]] = {}
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in stages:
        if _facts(path, known):
            groups[path.parent, path.name.rpartition("-")[0]].append(path)
    told = {}
    for alike in groups.values():
        keys = sorted({key for path in alike for key in known[path]})
        differ = [key for key in keys if len({str(known[path].get(key)) for path in alike}) > 1]
        for path in alike:
            words = [f"{key}={_short(str(known[path].get(key)), [str(known[p].get(key)) for p in alike])}" for key in differ]
            told[path] = ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")
    return told


def _facts(path: Path, known: dict[Path, Mapping[str, object]]) -> Mapping[str, object]:
    """The keys of a stage and of all that it reads; none of one that cannot be read. known: of those that were read already."""
    if path not in known:
        known[path] = {}  # whoever reads itself is not read twice
        with contextlib.suppress(InputError, StoreError, OSError):
            spec = StageFolder.open(path).spec
            facts: dict[str, object] = {}
            for ups in spec.upstream.values():
                for up in ups:
                    facts |= _facts(Path(os.path.normpath(path / up.path)), known)
            own = {key: value for key, value in comparable(spec).items() if not key.startswith("upstream ")}
            known[path] = facts | own
    return known[path]


def _short(text: str, others: Sequence[str]) -> str:
    """A text, or of a long one what stands where it is no longer like the others."""
    if len(text) <= LONG:
        return text
    alike = next((n for n, letters in enumerate(zip(*others, strict=False)) if len(set(letters)) > 1), min(map(len, others)))
    begin = max(0, min(alike - LONG // 4, len(text) - LONG))
    return "..." * (begin > 0) + text[begin : begin + LONG] + "..." * (begin + LONG < len(text))
