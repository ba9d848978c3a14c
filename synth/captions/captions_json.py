"""Stage kind `captions_json`: the captions of one or several stages, without duplicates, as exactly `total` rows.

One unit of one sample, so it is committed whole: captions.json in SynCLR's form, captions.parquet, rejected.jsonl.
SynCLR's tools read {"captions_single_labeled": [[caption, [class name]], ...]}: the list holds class names, not indices, and a
caption's place in the list is the number of its image for ever. The Parquet file has the same rows with all their facts.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from synth.captions.config import CaptionsJsonConfig
from synth.captions.normalise import normalised
from synth.captions.records import records_of
from synth.captions.table import CaptionRow, to_json, to_parquet
from synth.errors import InputError
from synth.run.place import WholeFiles
from synth.store.framing import shared
from synth.store.samples import Sample
from synth.store.spec import canonical

KEY = "captions"
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

    def fewest(self) -> str:
        """The class with the fewest rows, in words."""
        if not self.of_class:
            return "there are none"
        entry = min(self.of_class, key=lambda e: (self.of_class[e], e))
        return f"{entry[1]!r} has {self.of_class[entry]}"


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
            each = f" ({self.config.per_class} of each class are wanted; {gathered.fewest()})" if self.config.per_class else ""
            why = f" ({', '.join(f'{reason} {n}' for reason, n in sorted(gathered.reasons.items()))})" if gathered.reasons else ""
            usual = ADVICE.get(max(gathered.reasons, key=gathered.reasons.get, default=""), "")
            raise InputError(
                f"captions: {len(gathered.rows)} of {self.config.total} are left{each} after {gathered.duplicates} duplicates and "
                f"{gathered.tombstones} slots without a caption{why} of {gathered.slots} slots: {short} are missing; {usual}raise "
                f"captions.oversample (by about {1 + short / max(1, len(gathered.rows)):.2f}x), or set captions.allow_short=true"
            )
        return [{"json": to_json(gathered.rows), "parquet": to_parquet(gathered.rows), "rejected.jsonl": b"".join(gathered.rejected)}]

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
