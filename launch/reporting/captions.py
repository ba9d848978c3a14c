"""Captions as a report tells them: how long they are, which come again, and which were not taken, with why."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.reporting.stages import StageFacts
from synth import foreign
from synth.errors import InputError, StoreError
from synth.kinds import KINDS, TABLE
from synth.redaction import redacted
from synth.store.framing import shared

PARQUET, REJECTED = "captions.parquet", "rejected.jsonl"  # in the place of a captions table
TABLES = 50  # that are told
ROWS, LINES = 200_000, 200_000  # captions and rejects that are read of a table
BIN = 5  # words of a bar of the histogram
AGAIN, REASONS, EXAMPLES, LONG = 5, 12, 3, 300  # captions that come again; reasons of rejects, texts of each, characters of a text
LONGEST_LINE = 1 << 20

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Rejects:
    """Captions that did not come into a table for one reason. examples: some of their texts."""

    reason: str
    captions: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Captions:
    """Of one table. words: first number of words of a bar -> captions; read: rows that were looked at."""

    stage: str
    read: int
    all: bool  # whether those are all rows
    distinct: int
    words: Mapping[int, int]
    longest: int  # words
    again: tuple[tuple[str, int], ...]  # captions that come most often
    rejects: tuple[Rejects, ...]
    rejects_read: int


def captions(stages: Sequence[StageFacts], tell: Tell) -> list[Captions]:
    """Of the first tables that are there; one that cannot be read is told, and how many more there are."""
    found: list[Captions] = []
    tables = [s for s in stages if s.kind in KINDS and TABLE in KINDS[s.kind].makes and s.done]
    if len(tables) > TABLES:
        tell(f"captions of {len(tables) - TABLES:,} more tables are not told")
    for stage in tables[:TABLES]:
        if stage.place is None:
            continue
        try:
            found.append(_captions(stage.folder, Path(stage.place.path)))
        except (InputError, StoreError, OSError, ValueError, KeyError) as e:  # pyarrow's errors are ValueError, KeyError and OSError
            tell(f"{stage.place.path}: its captions cannot be read: {e}")
    return found


def _captions(stage: str, place: Path) -> Captions:
    import pyarrow.parquet as pq

    texts: Counter[str] = Counter()
    words: Counter[int] = Counter()
    read = longest = 0
    with foreign.open_file(place / PARQUET) as file:
        table = pq.ParquetFile(file)
        for batch in table.iter_batches(batch_size=8192, columns=["caption"]):
            for text in batch.column(0).to_pylist()[: ROWS - read]:
                n = len((text or "").split())
                texts[(text or "")[:LONG]] += 1
                words[n // BIN * BIN] += 1
                read, longest = read + 1, max(longest, n)
            if read == ROWS:
                break
        rows = table.metadata.num_rows
    again = tuple((redacted(text, caption=True), n) for text, n in texts.most_common(AGAIN) if n > 1)
    rejects, looked = _rejects(place / REJECTED)
    return Captions(stage, read, read == rows, len(texts), dict(sorted(words.items())), longest, again, rejects, looked)


def _rejects(path: Path) -> tuple[tuple[Rejects, ...], int]:
    counts: Counter[str] = Counter()
    texts: dict[str, list[str]] = {}
    looked = 0
    if not path.exists():
        return (), 0
    for line in itertools.islice(foreign.lines(path, most=foreign.TABLE, longest=LONGEST_LINE), LINES):
        record = foreign.parse(line, f"{path}: line {looked + 1}")
        looked += 1
        if type(record) is not dict:
            raise InputError(f"{path}: line {looked} is no record of a caption")
        reason = redacted(_reason(record))
        counts[reason] += 1
        if record.get("caption") and len(texts.setdefault(reason, [])) < EXAMPLES:
            texts[reason].append(redacted(_text(record["caption"])[:LONG], caption=True))
    common = sorted(counts, key=lambda reason: (-counts[reason], reason))[:REASONS]
    return tuple(Rejects(reason, counts[reason], tuple(texts.get(reason, ()))) for reason in common), looked


def _reason(record: Mapping) -> str:
    """What is counted together. Answers that were asked for again are told as such: their slots may have a caption."""
    kind, reason = (_text(record.get(name) or "") for name in ("kind", "reason"))
    if kind == "duplicate":  # its reason names the slot of the first one
        return "like an earlier one"
    return f"asked again: {shared(reason)}" if kind == "attempt" else shared(reason) or kind


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
