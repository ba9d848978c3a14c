"""README.md of the exports of layout labels: a dataset card in Hugging Face's form, with what was counted of the labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.export.card import laid_out, lineage, plain_text
from synth.layout.config import TOY
from synth.layout.records import Record
from synth.store.folder import StageFolder
from synth.store.framing import shared

NAMED = 20  # labels and reasons that are named
LIMITS = """- Tags, boxes, masks and captions are what models said; nobody looked at them. They hold the models' errors and biases.
- Boxes and masks are in pixels of the picture as it is shown, turned as EXIF asks.
- The pictures and their alt texts keep their own licences; whether they may be used for a purpose is for those and for the licences of \
the models to say."""
COUNTED = (
    ("pictures", "pictures"),
    ("empty", "pictures in which no object was found"),
    ("anew", "pictures whose file was encoded anew: EXIF turned it, or few readers know its format"),
    ("objects", "objects"),
    ("masks", "objects with a mask"),
    ("bare", "objects without one"),
    ("captions", "objects with a caption"),
)


@dataclass
class Counts:
    """Of all labels. dropped, left_out: reason -> objects, pictures."""

    numbers: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record, anew: bool = False) -> None:
        """anew: whether the picture was encoded anew."""
        annos = record.annos or ()
        self.numbers.update(pictures=1, empty=not annos, anew=anew, objects=len(annos))
        masks = sum(a.mask is not None for a in annos)
        self.numbers.update(masks=masks, bare=len(annos) - masks, captions=sum(a.caption is not None for a in annos))
        self.labels.update(anno.label for anno in annos)
        self.dropped.update(record.dropped)


def reason_of(tombstone: str) -> str:
    """Why a picture has no labels, without its name and what else is its own: what can be counted.

    >>> reason_of("00001/000010001.jpg: cannot be decoded (OSError: image file is truncated)")
    'cannot be decoded'
    """
    return shared(tombstone).rpartition(": ")[2]


def reasons_of(folder: StageFolder) -> Counter[str]:
    """Why pictures have no labels -> how many, by the units of a stage."""
    reasons: Counter[str] = Counter()
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            reasons.update(map(reason_of, reader.index.tombstones.values()))
    return reasons


def labels_card(folder: StageFolder, counts: Counts, size: int, how_to_read: str, front_matter: Mapping | None = None) -> bytes:
    """counts: of all labels; size: bytes of all pictures."""
    n = counts.numbers
    head = f"{n['pictures']:,} pictures ({size:,} bytes) with {n['objects']:,} labelled objects, made by synthset."
    files = f"""{how_to_read}
- `manifest.parquet`: a row a picture: key, file, caption, width, height, size in bytes, sha256, unit. class, label and seed are empty."""
    front = {"task_categories": ["object-detection", "text-to-image"], "tags": ["layout", "synthset"], **(front_matter or {})}
    return laid_out(folder, n["pictures"], "layout labels", front, head, files, _tables(counts), "\n".join([*_toys(folder), LIMITS]))


def _toys(folder: StageFolder) -> list[str]:
    """What the stages that led to an export say of toy models: the labels of these are no labels."""
    notes = [note for stage in lineage(folder) for note in stage.spec.settings.get("notes", ()) if note.startswith(TOY)]
    return [f"- **{plain_text(note)}**" for note in dict.fromkeys(notes)]


def _tables(counts: Counts) -> str:
    rows = "\n".join(f"| {text} | {counts.numbers[key]:,} |" for key, text in COUNTED)
    parts = [f"## What is in it\n| what | number |\n| --- | --- |\n{rows}\n"]
    for head, column, counter in (
        ("Objects by label", "objects", counts.labels),
        ("Objects that were left out", "objects", counts.dropped),
        ("Pictures that were left out", "pictures", counts.left_out),
    ):
        if counter:
            ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
            lines = [f"| {plain_text(name)} | {n:,} |" for name, n in ordered[:NAMED]]
            if rest := ordered[NAMED:]:
                lines.append(f"| and {len(rest):,} more | {sum(n for _, n in rest):,} |")
            parts.append(f"## {head}\n| what | {column} |\n| --- | --- |\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)
