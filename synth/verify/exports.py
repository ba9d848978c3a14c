"""An export against the units that it was made of. A kind of export that has files of its own is one function and one line."""

import hashlib
import importlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from synth.errors import InputError
from synth.export.base import CLASSES
from synth.export.card import CARD
from synth.export.image_folder import METADATA, public
from synth.export.manifest import MANIFEST, row_of, stored_row
from synth.kinds import config_of
from synth.reading.stage import ROLE, StageReader
from synth.store.folder import StageFolder
from synth.store.out_folder import CLAIM, MARKER
from synth.store.spec import canonical
from synth.verify.findings import Findings

CHECKS = {
    "image_folder": "synth.verify.exports:image_folder",
    "captions_json": "synth.verify.exports:captions_json",
    "contact_sheet": "synth.verify.exports:contact_sheet",
    "webdataset": "synth.verify.packed:webdataset",
    "parquet": "synth.verify.packed:parquet",
    "hdf5": "synth.verify.packed:hdf5",
    "story_pages": "synth.verify.story:story_pages",
    "pairs_page": "synth.verify.pairs_page:pairs_page",
    "captions_txt": "synth.verify.packed:captions_txt",
    "annotations": "synth.verify.tracking:annotations",
}
AGAIN = "set it aside with --repair, or remove it; then run the same command again"

Progress = Callable[[int], None]


def is_export(folder: StageFolder) -> bool:
    """Whether a stage writes a place for people beside its units."""
    return "out" in folder.spec.config


def verify_export(folder: StageFolder, deep: bool, found: Findings, progress: Progress = lambda slots: None) -> None:
    """Add what is wrong with the place of an export, whose units are whole. Deep compares bytes, else names and sizes."""
    out, marker = folder.out_dir, folder.out_dir / MARKER
    if not out.is_dir():
        found.add(out, "the export is gone: run the same command again to write it anew")
        return
    if not marker.exists():
        if (out / CLAIM).exists():
            found.add(out, "is not finished; run the same command again")
        else:
            found.add(
                out,
                f"has no {MARKER}, so nothing tells that it is this export; --repair lets the next run of the same command complete it",
            )
        return
    try:
        owner = json.loads(marker.read_bytes())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        found.add(marker, f"torn ({type(e).__name__}); run the same command again", file=MARKER)
        return
    if owner != folder.spec.fingerprint:
        found.add(out, f"holds the export of another stage ({owner}); this one is {folder.spec.fingerprint}")
        return
    if folder.spec.kind in CHECKS:
        module, name = CHECKS[folder.spec.kind].split(":")
        getattr(importlib.import_module(module), name)(folder, deep, found, progress)


def stage_of(out: Path) -> StageFolder:
    """The stage that wrote an export folder, by its marker; InputError if it cannot be found."""
    marker = Path(out) / MARKER
    try:
        said = json.loads(marker.read_bytes())
        name, path = said["stage"], said.get("path")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{marker}: not the marker of a finished export ({type(e).__name__}); give the folder of its stage") from e
    near = Path(os.path.realpath(out)).parent.parent / name
    for place in ([Path(path)] if path else []) + [near]:
        if (place / "stage.json").exists():
            return StageFolder.open(place)
    raise InputError(f"{out}: was made by stage {name}, which is neither in {path} nor in {near.parent}; give the path of the stage")


def captions_json(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The three files are those of the unit, byte by byte: they are small."""
    with folder.reader(0) as reader:
        for entry in reader.index.samples:
            for ext in sorted(entry.files):
                name = ext if ext == "rejected.jsonl" else f"{entry.key}.{ext}"
                same(folder.out_dir, name, reader.read(entry, ext), found)


def contact_sheet(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The one picture is that of the unit."""
    from synth.export.contact_sheet import NAME

    with folder.reader(0) as reader:
        for entry in reader.index.samples:
            same(folder.out_dir, NAME, reader.read(entry, "png"), found)


def image_folder(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every picture of the units is there, in its class, whole (deep: byte by byte), and no other; the lists agree with them."""
    out, expected = folder.out_dir, Counter()
    splits = ("train/", "val/") if config_of(folder).val_share else ("",)
    lines = {split: _lines(out / split / METADATA) for split in splits}
    in_step = set(splits)
    sources = _source_digests(folder) if deep else None
    for stored in folder.samples():
        record = stored.json()
        name = record["file_name"]
        split = name[: name.index("/") + 1] if config_of(folder).val_share else ""
        expected[name.rpartition("/")[0]] += 1
        picture(out, name, record["bytes"], record["sha256"] if deep else "", found)
        if sources is not None and next(sources, "") != record["sha256"]:
            found.add(folder.unit_path(stored.unit), f"{name} was made of other bytes than its unit holds", stored.unit, name)
        if split in in_step and next(lines[split], b"") != canonical(public({**record, "file_name": name.removeprefix(split)})):
            in_step.discard(split)
            found.add(out / split / METADATA, f"edited or torn at the line of {name}; {AGAIN}", file=split + METADATA)
        progress(1)
    for split in sorted(in_step):
        if next(lines[split], None) is not None:
            found.add(out / split / METADATA, f"has more lines than there are pictures; {AGAIN}", file=split + METADATA)
    strangers(folder, expected, found)
    beside(folder, samples_in(folder), deep, found)


def samples_in(folder: StageFolder) -> int:
    return sum(1 for _ in folder.samples())


def beside(folder: StageFolder, pictures: int, deep: bool, found: Findings) -> None:
    """What lies beside so many pictures of an export: classes.json, the card, and the manifest with a row a picture (deep: every value)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from synth.kinds import stage_class

    out, stage = folder.out_dir, stage_class(folder.spec.kind)(folder)
    stage.check()
    same(out, CLASSES, stage.classes_json(), found)
    if not (out / CARD).exists():
        found.add(out / CARD, "missing; --repair lets the next run of the same command write it again", file=CARD)
    try:
        with pq.ParquetFile(out / MANIFEST) as manifest:
            if not deep:
                rows = manifest.metadata.num_rows
                wrong = f"has {rows} rows for {pictures} pictures" if rows != pictures else ""
            else:
                said = (row for batch in manifest.iter_batches(8192) for row in batch.to_pylist())
                expected = (stored_row(row_of(r, stage.pictures.unit_of(r["slot"]))) for r in stage.records(mend=False))
                wrong = next(
                    (
                        f"does not agree with the units at picture {(b or a)['key']}"
                        for a, b in itertools.zip_longest(said, expected)
                        if a != b
                    ),
                    "",
                )
    except FileNotFoundError:
        wrong = "is missing"
    except (OSError, KeyError, pa.ArrowException) as e:
        wrong = f"cannot be read ({type(e).__name__})"
    if wrong:
        found.add(out / MANIFEST, f"{wrong}; {AGAIN}", file=MANIFEST)


def _source_digests(folder: StageFolder) -> Iterator[str]:
    """sha256 of the pictures of the stage that an export reads, in slot order."""
    for picture in StageReader(folder.upstream(ROLE)[0]):
        yield hashlib.sha256(picture.read()).hexdigest()


def strangers(folder: StageFolder, expected: Counter, found: Findings) -> None:
    """Files in class folders that no unit has. Names are compared only where their number differs."""
    out = folder.out_dir
    for name, number in sorted(expected.items()):
        try:
            there = [e.name for e in os.scandir(out / name) if not e.name.startswith(".")]
        except FileNotFoundError:
            continue  # told picture by picture
        if len(there) <= number:
            continue
        mine = {Path(s.json()["file_name"]).name for s in folder.samples() if s.json()["file_name"].startswith(f"{name}/")}
        for stranger in sorted(set(there) - mine):
            found.add(out / name / stranger, f"no unit has this picture; {AGAIN}", file=f"{name}/{stranger}")


def picture(out: Path, name: str, size: int, sha256: str, found: Findings) -> None:
    """One file of an export: there, of this size and, if given, of this digest."""
    path = out / name
    try:
        there = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        found.add(path, "missing; --repair lets the next run of the same command write it again", file=name)
        return
    if there != size or (sha256 and file_digest(path) != sha256):
        found.add(path, f"is not the picture of its unit; {AGAIN}", file=name)


def same(out: Path, name: str, data: bytes, found: Findings) -> None:
    """A small file of an export holds exactly `data`."""
    try:
        there = (out / name).read_bytes()
    except FileNotFoundError:
        found.add(out / name, "missing; --repair lets the next run of the same command write it again", file=name)
        return
    if there != data:
        found.add(out / name, f"was edited or torn since it was written; {AGAIN}", file=name)


def file_digest(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends; none if the file is missing."""
    try:
        with open(path, "rb") as f:
            for line in f:
                yield line.rstrip(b"\n")
    except FileNotFoundError:
        return
