"""Stage kind `captions_json`: the captions of one or several stages, without duplicates, as exactly `total` rows.

One unit of one sample, so it is committed whole: captions.json in SynCLR's form, captions.parquet, rejected.jsonl.
SynCLR's tools read {"captions_single_labeled": [[caption, [class name]], ...]}: the list holds class names, not indices, and a
caption's place in the list is the number of its image for ever. The Parquet file has the same rows with all their facts.
"""

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from synth.captions.config import CaptionsJsonConfig
from synth.captions.normalise import normalised
from synth.captions.prompts import WITHOUT_MODEL
from synth.captions.records import records_of
from synth.captions.table import CaptionRow, to_json, to_parquet
from synth.errors import InputError
from synth.run.place import WholeFiles
from synth.store.framing import shared
from synth.store.samples import Sample
from synth.store.spec import canonical

KEY = "captions"
NAMED = 5  # classes that a message names
ADVICE = {  # what helps against the commonest reason of a slot without a caption, where more slots alone do not
    "prompt_too_long": "raise captioner.max_seq_len, or lower prompts.shots, or ",
    "no_class": "take another captioner, or captions.must_name_class=false, or ",
    "too_few_prompts": "raise prompts.num_prompts_per_metaprompt, or ",
}


@dataclass
class Gathered:
    """What one pass over the captions stages found."""

    rows: list[CaptionRow] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)  # lines of JSON
    duplicates: int = 0
    tombstones: int = 0
    slots: int = 0
    reasons: Counter = field(default_factory=Counter)  # of tombstones
    of_class: Counter = field(default_factory=Counter)  # (label, class name) -> rows

    def short(self, per_class: int, classes: Iterable[tuple[int, str]]) -> list[tuple[str, int]]:
        """(class name, rows) of the classes that have fewer than `per_class`, the fewest first."""
        have = {(label, _encodable(name)): 0 for label, name in classes} | self.of_class
        return [(entry[1], n) for entry, n in sorted(have.items(), key=lambda item: (item[1], item[0])) if n < per_class]


def more_than(slots: int, wanted: int, have: int, total: int, n_classes: int) -> float:
    """The captions.oversample that would have been enough, if later slots fare as these did: `have` of `wanted` came of them. At least a
    round of all classes more: a factor that is rounded to as many slots would change nothing.

    >>> more_than(slots=200, wanted=8, have=7, total=160, n_classes=20)  # of the class with the fewest: 12 rounds in the place of 10
    1.5
    """
    needed = max(slots + n_classes, math.ceil(slots * wanted / max(1, have) / n_classes) * n_classes)
    return math.ceil(10_000 * needed / total) / 10_000


def _few(lacking: Sequence[tuple[str, int]]) -> str:
    """ "'cat' has 7, 'dog' 0, and 3 more have too few, all in the log" """
    shown = [f"{name!r} has {n}" for name, n in lacking[:NAMED]]
    return ", ".join(shown) + (f", and {len(lacking) - NAMED} more have too few, all in the log" if lacking[NAMED:] else "")


class CaptionsJson(WholeFiles):
    config: CaptionsJsonConfig
    key, exts = KEY, frozenset({"json", "parquet", "rejected.jsonl"})

    def check(self) -> None:
        if self.config.total < 0:
            raise InputError(f"captions.total={self.config.total}: must not be negative")
        if not self.folder.upstream("captions"):
            raise InputError(f"{self.folder.path}: captions_json needs at least one captions stage upstream")
        super().check()

    def compute(self, state, slots: range) -> list[dict[str, bytes]]:
        gathered = gather(self.folder.upstream("captions"), self.config.total, self.config.per_class)
        if len(gathered.rows) < self.config.total and not self.config.allow_short:
            short = self.config.total - len(gathered.rows)
            classes = self._classes()
            lacking = gathered.short(self.config.per_class, classes)
            for name, n in lacking if lacking[NAMED:] else ():  # into the log, whose path stands beside the message
                print(f"too few captions: {name!r} has {n} of {self.config.per_class}", file=sys.stderr)
            each = f" ({self.config.per_class} of each class are wanted; {_few(lacking)})" if lacking else ""
            wanted, have = (self.config.per_class, lacking[0][1]) if lacking else (self.config.total, len(gathered.rows))
            why = f" ({', '.join(f'{reason} {n}' for reason, n in sorted(gathered.reasons.items()))})" if gathered.reasons else ""
            enough = more_than(gathered.slots, wanted, have, self.config.total, len(classes))
            usual = ADVICE.get(max(gathered.reasons, key=gathered.reasons.get, default=""), "")
            raised = f"raise captions.oversample to {enough:g} or more, or " if have and self._asks() else ""
            raise InputError(
                f"captions: {len(gathered.rows)} of {self.config.total} are left{each} after {gathered.duplicates} duplicates and "
                f"{gathered.tombstones} slots without a caption{why} of {gathered.slots} slots: {short} are missing; {usual}{raised}"
                "set captions.allow_short=true"
            )
        return [{"json": to_json(gathered.rows), "parquet": to_parquet(gathered.rows), "rejected.jsonl": b"".join(gathered.rejected)}]

    def _classes(self) -> set[tuple[int, str]]:
        """(official index, name) of all that the captions stages were asked for."""
        asked = (c for stage in self.folder.upstream("captions") for c in stage.spec.config["dataset"]["classes"])
        return {(c["index"], c["name"]) for c in asked}

    def _asks(self) -> bool:
        """Whether the number of slots came of captions.oversample: makers that ask no model have a number of their own."""
        return not {stage.spec.config["prompts"].get("maker") for stage in self.folder.upstream("captions")} & WITHOUT_MODEL

    def encode(self, state, item) -> Sample:
        return Sample(0, KEY, item)

    def name_of(self, key: str, ext: str) -> str:
        return ext if ext == "rejected.jsonl" else f"{key}.{ext}"


def gather(stages, total: int, per_class: int = 0) -> Gathered:
    """Read stages in order and their slots in order; the first caption of each normalised form is kept, up to `total`, or up to
    `per_class` of each class.

    So the first rows do not depend on `total`, and a larger one only adds rows. 16 bytes a caption are kept to tell duplicates.
    """
    gathered, seen = Gathered(), {}
    for stage in stages:
        source = stage.spec.fingerprint
        for slot, record in records_of(stage):
            gathered.slots += 1
            where = {"source": source, "slot": slot}
            if isinstance(record, str):
                gathered.tombstones += 1
                gathered.reasons[shared(record)] += 1
                gathered.rejected.append(_line({"kind": "tombstone", "reason": record} | where))
                continue
            for tried in record.get("rejected", ()):
                gathered.rejected.append(_line({"kind": "attempt"} | tried | where))
            caption = _encodable(str(record["caption"]))
            entry = (record["label"], str(record["class"]))
            mark = hashlib.blake2b(normalised(caption).encode(), digest_size=16).digest()
            if mark in seen:
                gathered.duplicates += 1
                first = seen[mark]
                reason = f"duplicate of slot {first[1]}" + ("" if first[0] == source else f" of {first[0]}")
                gathered.rejected.append(_line({"kind": "duplicate", "reason": reason, "caption": caption, "of_row": first[2]} | where))
            elif len(gathered.rows) >= total or 0 < per_class <= gathered.of_class[entry]:
                seen[mark] = (source, slot, None)
                reason = f"more captions than captions.{'per_class' if per_class else 'total'}"
                gathered.rejected.append(_line({"kind": "surplus", "reason": reason, "caption": caption} | where))
            else:
                seen[mark] = (source, slot, len(gathered.rows))
                gathered.of_class[entry] += 1
                gathered.rows.append(_row(len(gathered.rows), caption, record, slot, source))
    return gathered


def _row(row: int, caption: str, record: dict, slot: int, source: str) -> CaptionRow:
    labels = tuple(record.get("labels", (record["label"],)))
    names = tuple(_encodable(n) for n in record.get("label_names", (record["class"],)))
    return CaptionRow(row, caption, _encodable(record["class"]), record["label"], labels, names, record["seed"], slot, source)


def _encodable(text: str) -> str:
    """Text without lone surrogates, which neither UTF-8 nor Parquet can hold."""
    return text.encode("utf-8", "replace").decode()


def _line(record: dict) -> bytes:
    return canonical(record) + b"\n"
