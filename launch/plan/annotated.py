"""Annotations, captions and images of a dataset, joined: checked, sorted by bucket, and written as the listing of a stage of pairs."""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

from launch.plan.inputs import existing
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError
from synth.images.sources.base import MAX_PIXELS
from synth.tracking import coco
from synth.tracking.canvas import bucket_of
from synth.tracking.checks import ImageRow, LeftOut, by_kind, checked_categories, checked_images, group_annotations
from synth.tracking.geometry import TURNED, wrong_size
from synth.tracking.listing import ListingWriter, head_file
from synth.tracking.lvis import Numbers, all_numbers, base_numbers
from synth.tracking.sources import Found, open_source

LEFT_OUT = "left_out.jsonl"
FORM = "a COCO or LVIS file"
PLACE = "the folder of the images, or an HDF5 file keyed by their names"


@dataclass(frozen=True)
class Wanted:
    """What a listing depends on beside the files."""

    name: str  # of the dataset
    base_classes: bool
    drop: bool  # what is bad is left out
    by_path: bool  # images are called by their folders, too
    variants: int
    min_area: float
    max_area: float
    size: tuple[int, int]  # long, short
    bucket: int
    most: int | None = None  # images: the first ones that have an object to keep


@dataclass(frozen=True)
class Joined:
    """An annotated dataset, ready to be planned."""

    annotations: Path
    images: Path
    files: dict[str, bytes]  # of the stage's folder
    identity: str
    dataset: DatasetConfig
    buckets: tuple[tuple[tuple[int, int] | None, int], ...]  # (size or None, images) in the order of the listing
    captioned: int  # images that have a caption
    left_out: int  # annotations and images
    strangers: int  # captions of images that are not in the file
    first_left_out: str = ""  # which and why
    kinds: str = ""  # of what is left out, with their numbers
    turned: tuple[int, int] = (0, 0)  # images that EXIF turns: annotated as they are shown, as they are stored
    no_objects: str = ""  # why annotations are no objects to keep, with their numbers
    by_name: int = 0  # images without a digest

    @property
    def images_of(self) -> dict[tuple[int, int] | None, int]:
        return dict(self.buckets)


def joined(dataset: DatasetConfig, wanted: Wanted) -> Joined:
    """Reads the files that `dataset` names. Raises InputError; writes nothing."""
    annotations = existing(dataset.annotations, "dataset.annotations", FORM)
    images = existing(dataset.images, "dataset.images", PLACE)
    captions = existing(dataset.captions, "dataset.captions", "a COCO captions file") if dataset.captions is not None else None
    stamps = tuple(_stamp(p) for p in (annotations, images, captions) if p is not None)
    return _joined(annotations, images, captions, wanted, stamps)


def _stamp(path: Path) -> tuple[int, ...]:
    seen = os.stat(path)
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


@functools.lru_cache(maxsize=2)  # the points of a sweep share it; it is large
def _joined(annotations: Path, images: Path, captions: Path | None, wanted: Wanted, stamps: tuple) -> Joined:
    file = coco.read(annotations)
    categories = checked_categories(file)
    numbers = base_numbers(categories, annotations) if wanted.base_classes else all_numbers(categories)
    rows, bad, gone = checked_images(file, wanted.variants, wanted.by_path), LeftOut(wanted.drop), LeftOut(wanted.drop)
    others = group_annotations(file, rows, numbers.new, (wanted.min_area, wanted.max_area), bad)
    bad.judge("annotations")
    texts, strangers = _captions(captions, rows)
    places = open_source(images).find([row.path for row in rows.values()], wanted.by_path)
    there = [row for row in rows.values() if _is_there(row, places[row.path], annotations, gone)]
    gone.judge("images")
    if not there:
        raise InputError(f"{images}: holds none of the {len(rows):,} images of {annotations}; check dataset.images")
    if wanted.most is not None:
        there = ([row for row in there if row.usable] or there)[: wanted.most]
    groups = _by_bucket(there, wanted)
    writer = _Lines(annotations, numbers, places, texts, {row.image.id: place for place, row in enumerate(there)})
    for bucket, members in groups:
        for row in members:
            writer.add(row, bucket)
    kept = [(n, c.name) for c in categories if (n := numbers.new[c.id]) is not None]
    files, identity = writer.finish(numbers.categories(file.categories) if numbers.change else [bytes(c) for c in file.categories], there)
    if wanted.drop:
        files[LEFT_OUT] = bad.lines + gone.lines
    entries = tuple(ClassEntry(n, name) for n, name in kept)
    classes = DatasetConfig(name=wanted.name, classes=entries, n_classes=max(n for n, _ in kept) + 1)
    sizes = tuple((bucket, len(members)) for bucket, members in groups)
    captioned = sum(row.image.id in texts for row in there)
    kinds = by_kind(bad.kinds + gone.kinds, ": ")
    left_out = (bad.n + gone.n, strangers, bad.first or gone.first, kinds)
    none = by_kind(others, "its annotations are ") or "it has no annotations"
    by_name = sum(not places[row.path].sha256 for row in there)
    return Joined(annotations, images, files, identity, classes, sizes, captioned, *left_out, _turned(there, places), none, by_name)


def _turned(rows: list[ImageRow], places: dict[str, Found]) -> tuple[int, int]:
    """How many images are annotated as EXIF turns them, and how many as they are stored although it does."""
    turned = [(row.image, head) for row in rows if (head := places[row.path].head) is not None and head.orientation != 1]
    shown = sum((image.width, image.height) == head.shown for image, head in turned)
    return shown, len(turned) - shown


def _captions(path: Path | None, rows: dict[int, ImageRow]) -> tuple[dict[int, list[str]], int]:
    """Image id -> its captions, without empty ones; and how many are of no image of the file. InputError where no image has any."""
    texts: dict[int, list[str]] = {}
    strangers = 0
    for image_id, text in coco.captions_of(path) if path is not None else ():
        if image_id not in rows:
            strangers += 1
        elif text:
            texts.setdefault(image_id, []).append(text)
    if path is not None and not texts:
        whose = f"its {strangers:,} captions are of other images" if strangers else "it holds no text"
        raise InputError(
            f"dataset.captions: {path}: none of its captions is of an image of the annotations ({whose}); "
            "are both of one split? null: no text"
        )
    return texts, strangers


def _is_there(row: ImageRow, place: Found, annotations: Path, gone: LeftOut) -> bool:
    image = row.image
    reason, fix = place.reason, "check dataset.images"
    if not reason and image.width * image.height > MAX_PIXELS:
        reason, fix = (
            f"is {image.width} x {image.height} pixels, and {MAX_PIXELS:,} at most are read",
            "mend its width and height, or make it smaller",
        )
    kind = ""
    if not reason and place.head is not None:
        kind, reason = wrong_size(place.head, image.width, image.height)
        fix = "turn the file itself (exiftran -ai)" if kind == TURNED else "mend width and height, or give the images that were annotated"
    if reason:
        gone.add(f"{annotations}: image {image.id}: {row.path!r} {reason}", fix, kind, image=row.path, image_id=image.id)
    return not reason


def _by_bucket(rows: list[ImageRow], wanted: Wanted) -> list[tuple[tuple[int, int] | None, list[ImageRow]]]:
    """The images of each bucket in the file's order, the largest bucket first; last those without an object, which are not drawn."""
    groups: dict[tuple[int, int] | None, list[ImageRow]] = {}
    for row in rows:
        bucket = bucket_of(row.image.width, row.image.height, *wanted.size, wanted.bucket) if row.usable else None
        groups.setdefault(bucket, []).append(row)
    sizes = sorted((b for b in groups if b), key=lambda b: (-b[0] * b[1], b))
    return [(b, groups[b]) for b in [*sizes, *([None] if None in groups else [])]]


class _Lines:
    """Writes the lines of a listing."""

    def __init__(self, path: Path, numbers: Numbers, places: dict[str, Found], texts: dict[int, list[str]], ranks: dict[int, int]):
        self.path, self.numbers, self.places, self.texts, self.ranks = path, numbers, places, texts, ranks  # ranks: in the file's order
        self._writer, self._anew = ListingWriter(), numbers.change

    def add(self, row: ImageRow, bucket: tuple[int, int] | None) -> None:
        image, place = row.image, self.places[row.path]
        ours: dict[str, object] = {"path": place.path, "size": place.size, "bucket": bucket, "captions": self.texts.get(image.id, [])}
        if place.sha256:
            ours["sha256"] = place.sha256
        line = b'%s,"image":%s,"annotations":[%s]}' % (
            coco.msgspec.json.encode(ours)[:-1],
            self._image(row),
            b",".join([self.numbers.annotation(a) for a in row.annotations] if self._anew else row.annotations),
        )
        line = coco.on_one_line(line)
        self._check_values(line, row)
        self._writer.add(line, self.ranks[image.id])

    def _image(self, row: ImageRow) -> bytes:
        raw = coco.with_name(row.raw, row.image)
        return self.numbers.image(raw, f"{self.path}: image {row.image.id} ({row.path!r})") if self._anew else raw

    def _check_values(self, line: bytes, row: ImageRow) -> None:
        """Fields that nothing here reads are read later: they too must be text in UTF-8, and numbers that Python can hold."""
        try:
            coco.msgspec.json.decode(line)
        except coco.UNREADABLE as e:
            what = (
                f"bytes that are no UTF-8 ({e})"
                if isinstance(e, UnicodeDecodeError)
                else f"what no reader takes ({str(e).partition(' - at')[0]})"
            )
            raise InputError(f"{self.path}: image {row.image.id} ({row.path!r}) or one of its annotations holds {what}; mend it") from e

    def finish(self, categories: list[bytes], rows: list[ImageRow]) -> tuple[dict[str, bytes], str]:
        head = head_file(
            [json.loads(c) for c in categories], max(r.image.id for r in rows), max(r.last_id for r in rows), sum(r.tracks for r in rows)
        )
        return self._writer.finish(head)
