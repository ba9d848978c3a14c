"""Judgements as they are read again: judge.json against its schema, which test pictures were got right, and what tells the points apart."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from synth import foreign
from synth.errors import InputError
from synth.schema import violations
from synth.store.inside import Inside

JSON, CORRECT, PICTURES = "judge.json", "correct.npy", "pictures"
FIX = "run the command that judged it again, or remove it"
MOST = 1 << 30  # bytes of correct.npy: a byte a test picture and seed
NAMED = 60  # characters of a value in a label
BEGINS = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff"}  # how the pictures of a page begin
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
SCHEMA = Path(__file__).with_name("judge.schema.json")

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Point:
    """A judgement. facts: judge.json. correct: [S, M] bool, whether the probe of a seed on the judged set was right about a test picture;
    None without a test set. folder: where it lies. keys: what tells it from the points beside it."""

    folder: Path
    facts: Mapping
    correct: np.ndarray | None = None
    keys: Mapping[str, Scalar] = field(default_factory=dict)
    title: str = ""  # what whoever asked for it called it

    @property
    def label(self) -> str:
        return self.title or " ".join(f"{key}={shown(value)}" for key, value in self.keys.items()) or self.facts["name"]

    def picture(self, name: str) -> bytes:
        """A picture that the page shows; InputError for what is none: a page may be given away, so no other file gets into it."""
        data = _read(self.folder, name, foreign.RECORD)
        if not data.startswith(BEGINS.get(name.rpartition(".")[2], b"\0")):
            raise InputError(f"{self.folder / name}: begins as no picture of its name; {FIX}")
        return data


def shown(value: Scalar) -> str:
    """A value as it is written on the command line."""
    text = (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, bool) or value is None
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return text if len(text) <= NAMED else text[:NAMED] + "\u2026"


@cache
def schema() -> Mapping:
    return json.loads(SCHEMA.read_bytes())


def read_point(folder: Path) -> Point:
    """The judgement in a folder that the stage `judge_report` wrote; InputError for anything else."""
    path = folder / JSON
    facts = foreign.parse(_read(folder, JSON, foreign.STAGE), path, FIX)
    if wrong := next(violations(facts, schema()), ""):
        raise InputError(f"{path}: {wrong}; {FIX}")
    return point_of(folder, facts)


def point_of(folder: Path, facts: Mapping) -> Point:
    """The judgement of a folder whose judge.json says this."""
    return Point(folder, facts, _correct(folder, facts) if facts["test_rows"] else None)


def _read(folder: Path, name: str, most: int) -> bytes:
    """A file of a judgement itself; InputError for a link, which may lead anywhere, and for a name that leads out of the folder."""
    path = Path(Inside(folder, FIX).path(name))
    if path.is_symlink():
        raise InputError(f"{path}: is a link, where a file is expected; {FIX}")
    try:
        return foreign.read(path, most)
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror}); {FIX}") from e


def _correct(folder: Path, facts: Mapping) -> np.ndarray:
    """[S, M] bool. The header is compared before anything is made of the rows: one of a few bytes may tell of terabytes."""
    path, expected = folder / CORRECT, (len(facts["seeds"]), int(facts["test_rows"]))
    data = io.BytesIO(_read(folder, CORRECT, MOST))
    try:
        version = np.lib.format.read_magic(data)
        if version not in HEADERS:
            raise ValueError(f"of version {version}")
        shape, by_columns, dtype = HEADERS[version](data)
    except (ValueError, EOFError, SyntaxError, RecursionError) as e:
        raise InputError(f"{path}: is no array ({e}); {FIX}") from e
    if (shape, dtype) != (expected, np.dtype(bool)):
        raise InputError(f"{path}: holds {dtype} {shape}, {JSON} tells of bool {expected}; {FIX}")
    rows = np.frombuffer(data.read(), np.uint8)
    if len(rows) != expected[0] * expected[1]:
        raise InputError(f"{path}: holds {len(rows):,} of {expected[0] * expected[1]:,} values; {FIX}")
    return rows.reshape(expected, order="F" if by_columns else "C") != 0


def told_apart(points: Sequence[Point]) -> list[Point]:
    """Points with the keys that differ among them. Of keys that always differ together, as all those of a model, the plainest is told."""
    keys = sorted({key for p in points for key in p.facts["point"]}, key=_plainness)
    differ: dict[tuple[int, ...], str] = {}
    for key in keys:
        values = [json.dumps(p.facts["point"].get(key)) for p in points]
        kinds = {value: n for n, value in enumerate(dict.fromkeys(values))}
        if len(kinds) > 1:
            differ.setdefault(tuple(kinds[value] for value in values), key)
    return [replace(p, keys={key: p.facts["point"].get(key) for key in differ.values()}) for p in points]


def _plainness(key: str) -> tuple:
    """Names before numbers that follow from them, and what happened (slots) last."""
    return key.endswith(".slots"), not key.endswith(".id"), key.count("."), key


def comparable(points: Sequence[Point]) -> list[list[Point]]:
    """Points in groups that were measured alike: with the same features, real and test set, classes and settings of the judge."""
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in points:  # one that nothing could be trained on has no test rows, and is told beside the others
        rows = point.facts["test_rows"] or max(p.facts["test_rows"] for p in points if p.facts["measured"] == point.facts["measured"])
        groups.setdefault((point.facts["measured"], rows), []).append(point)
    return [told_apart(group) for group in groups.values()]
