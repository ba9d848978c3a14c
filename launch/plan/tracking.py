"""Plans tracking pairs: annotated images x tracking.variants, a bucket of sizes after the other; and the exports made of them.

Annotations, captions and images are joined here: checked, sorted by bucket, and written as the stage's listing.
"""

import functools
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from launch.plan import exports
from launch.plan.batches import batches_of
from launch.plan.images import drawing, run_settings
from launch.plan.inputs import existing
from launch.plan.models import PlannedModel, plan_model
from launch.plan.node import Node
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError
from synth.images.schedulers import DEFAULT, SCHEDULERS, class_of
from synth.images.sources.base import MAX_PIXELS
from synth.images.strength import steps_run
from synth.keys import WrongKey, dump, of_group
from synth.store.identity import LISTED
from synth.store.spec import InputFile, StageSpec
from synth.tracking import coco
from synth.tracking.canvas import bucket_of
from synth.tracking.checks import ImageRow, LeftOut, checked_categories, checked_images, group_annotations
from synth.tracking.config import LARGEST, PairsConfig
from synth.tracking.listing import ROLE, ListingWriter, head_file
from synth.tracking.lvis import Numbers, all_numbers, base_numbers
from synth.tracking.repaint import INSTEAD, UNSUITED, check_repaint
from synth.tracking.sources import Found, open_source

GROUP = "tracking"
IMAGES = "images"  # role of the place where the images lie
LATENTS = 8  # latents a side that U-Nets halve three times
LEFT_OUT = "left_out.jsonl"
FORM = "a COCO or LVIS file"
PLACE = "the folder of the images, or an HDF5 file keyed by their names"


@dataclass(frozen=True)
class Wanted:
    """What a listing depends on beside the files."""

    name: str  # of the dataset
    base_classes: bool
    drop: bool  # what is bad is left out
    variants: int
    min_area: float
    max_area: float
    size: tuple[int, int]  # long, short
    bucket: int


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

    @property
    def images_of(self) -> dict[tuple[int, int] | None, int]:
        return dict(self.buckets)


def plan(node: Node) -> list[StageSpec]:
    """slot = image * variants + variant; images lie in the order of their buckets, and no unit holds two of them."""
    dataset = annotated(node)
    with of_group(GROUP):
        model = plan_model(node.config.model)
        config = _drawn(_filled(node.config.tracking, dataset, model), model)
        run = _steps_run(config)
        check_repaint(model.folder, config)
    size, drop = (config.long_side, config.short_side), config.on_bad == "drop"
    wanted = Wanted(dataset.name, dataset.base_classes, drop, config.variants, config.min_area, config.max_area, size, config.bucket)
    images = joined(dataset, wanted)
    if not images.captioned:  # as OVTrack does: there is no text to be guided by
        config = replace(config, guidance_scale=0.0, guidance_interval=(0.0, 1.0))
    config = replace(config, dataset=images.dataset)
    batches = batches_of(node, model, config, node.config.tracking, GROUP)
    config = replace(config, vae_batch=batches.vae_batch)
    settings = (
        run_settings(node.config, model.folder)
        | batches.settings
        | {
            "price": price(config, images, run),
            "notes": notes(dataset, images),
        }
    )
    settings["shapes"] = max(1, sum(b is not None for b, _ in images.buckets))
    inputs = {
        **model.inputs,
        ROLE: InputFile(str(images.annotations), images.identity),
        IMAGES: InputFile(str(images.images), LISTED),
    }
    ends, unit_size = units(images, config.variants, config.unit_size)
    slots = sum(n for _, n in images.buckets) * config.variants
    spec = node.spec(dump(config), slots, unit_size, batches.batch, inputs, settings)
    return [replace(spec, ends=ends, files=images.files)]


def annotated(node: Node) -> DatasetConfig:
    """The dataset of the run, which must be an annotated one with its files."""
    dataset, recipe = node.config.dataset, node.config.recipe.name
    if not dataset.annotated:
        fix = "choose dataset=scenes (the embedded one), or dataset=lvis with dataset.annotations, dataset.images and dataset.captions"
        raise InputError(f"dataset={dataset.name}: has no annotated images, and recipe={recipe} makes pairs of such; {fix}")
    if dataset.classes != "all" or dataset.classes_file is not None:
        raise InputError(
            "dataset.classes: pairs keep all categories of the annotation file; "
            "use all, or dataset.base_classes=true for LVIS's base classes"
        )
    return dataset


def _filled(config: PairsConfig, dataset: DatasetConfig, model: PlannedModel) -> PairsConfig:
    """The group with what its dataset and model say where it is null: all but the keys of drawing."""
    long_side, short_side = size_of(config, model)
    config = replace(
        config,
        harmonize=model.config.native_pair_harmonize if config.harmonize is None else config.harmonize,
        min_area=float(dataset.native_min_area if config.min_area is None else config.min_area),
        dilate=dataset.native_dilate if config.dilate is None else config.dilate,
        long_side=long_side,
        short_side=short_side,
        # what all layers of a U-Net divide evenly: 64 pixels for a VAE of 8 pixels a latent
        bucket=LATENTS * max(1, model.folder.vae_factor) if config.bucket is None else config.bucket,
    )
    if config.min_area >= config.max_area:
        raise WrongKey("min_area", config.min_area, f"not below max_area={config.max_area:g}, so no object could be kept")
    return config


def size_of(config: PairsConfig, model: PlannedModel) -> tuple[int, int]:
    """(long, short): tracking.size, else the model's for pairs, else 1.5 and 1 times what it was trained on."""
    given = config.size if config.size is not None else model.config.native_pair_size
    if given is None:
        sides = [model.config.native_height, model.config.native_width]
        if None in sides:
            raise WrongKey(
                "size", None, f"the folder of {model.folder.name} does not say its own", "give [long, short] in pixels, [768,512] say"
            )
        return max(sides) * 3 // 2, min(sides)
    given = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    whole = len(given) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in given)
    if not whole or not 1 <= given[1] <= given[0] <= LARGEST:
        raise WrongKey("size", given, f"must be [long, short] in pixels, with long at least as large as short, {LARGEST} at most")
    return given[0], given[1]


def _drawn(config: PairsConfig, model: PlannedModel) -> PairsConfig:
    """The group with its model and the keys of drawing. height and width are those of the largest canvas."""
    if model.config.command:
        raise InputError("model.command: a command starts from no picture and keeps no objects; choose a model of diffusers for pairs")
    if "vae" not in model.folder.components:
        raise InputError(
            f"{model.folder.path}: {model.folder.pipeline} has no VAE, in whose latents the objects are kept; choose a latent model"
        )
    nobody_chose = config.scheduler in (None, DEFAULT)  # one that somebody chose is refused by check_repaint
    if config.guidance_scale is None:
        config = replace(config, guidance_scale=model.config.native_pair_guidance_scale)
    width, height = (-(-side // config.bucket) * config.bucket for side in (config.long_side, config.short_side))
    config = drawing(model, replace(config, width=width, height=height), GROUP)
    name = config.scheduler
    if nobody_chose and name in (DEFAULT, *SCHEDULERS) and class_of(name, model.folder.scheduler) in UNSUITED:
        config = replace(config, scheduler=INSTEAD)
    return config


def _steps_run(config: PairsConfig) -> int:
    """Steps of a picture. WrongKey where that is none, or none in which objects are kept."""
    run = steps_run(config.steps, config.noise_strength)
    if not run:
        why = f"none of steps={config.steps} is run, so nothing would be drawn"
        raise WrongKey("noise_strength", config.noise_strength, why, "raise it")
    if run <= config.harmonize:
        why = (
            f"steps={config.steps} and noise_strength={config.noise_strength:g} are {run} steps, "
            f"and the objects are kept in all but the last {config.harmonize}"
        )
        raise WrongKey("harmonize", config.harmonize, why, "raise the steps or the strength")
    return run


def units(images: Joined, variants: int, unit_size: int) -> tuple[tuple[int, ...], int]:
    """(the slot behind each unit, slots of the largest one): whole images, and never two buckets in a unit."""
    step = max(1, unit_size // variants) * variants
    ends: list[int] = []
    at = 0
    for _, n in images.buckets:
        stop = at + n * variants
        ends += [*range(at + step, stop, step), stop]
        at = stop
    return tuple(ends), max(b - a for a, b in zip([0, *ends], ends, strict=False))


def price(config: PairsConfig, images: Joined, run: int) -> str:
    """What a stage of pairs costs, in words."""
    drawn = {b: n for b, n in images.buckets if b}
    n, same = sum(drawn.values()), images.images_of.get(None, 0)
    sizes = ", ".join(f"{w}x{h} ({count:,})" for (w, h), count in list(drawn.items())[:4])
    more = f" and {len(drawn) - 4} more" if len(drawn) > 4 else ""
    pairs = n * config.variants
    parts = [
        (
            f"{_many(n, 'image')} x {_many(config.variants, 'variant')} = {_many(pairs, 'pair')} to draw, "
            f"{_many(pairs * run, 'denoising step')}"
        )
    ]
    parts += [f"drawn at {_many(len(drawn), 'size')}: {sizes}{more}"] if drawn else []
    parts += (
        [f"{_many(same, 'image')} without an object to keep {'is stored as it is' if same == 1 else 'are stored as they are'}"]
        if same
        else []
    )
    parts += [f"captions for {_many(images.captioned, 'image')}" if images.captioned else "no captions: no text, no guidance"]
    return "; ".join(parts)


def notes(dataset: DatasetConfig, images: Joined) -> list[str]:
    """Lines for whoever started the run."""
    lines = []
    if images.left_out:
        listed = f"a run lists them in left_out.jsonl of the stage's folder; the first: {images.first_left_out}"
        lines.append(f"tracking: {images.left_out:,} annotations and images cannot be used and are left out; {listed}")
    if images.strangers:
        lines.append(f"tracking: {images.strangers:,} captions of {dataset.captions} are of images that {images.annotations} does not have")
    if not any(b for b, _ in images.buckets):
        lines.append("tracking: no image has an object to keep, so all are stored as they are; see tracking.min_area and tracking.max_area")
    return lines


def annotations(node: Node) -> list[StageSpec]:
    """One JSON of all pairs."""
    settings, dataset = node.settings, node.config.dataset
    if settings.min_variant_area is None:
        if not dataset.annotated:  # exported later, from the stage alone
            raise InputError(
                f"export.{node.name}.min_variant_area: not set, and the stage does not say what fits its images; 1024 (32 x 32 pixels), say"
            )
        settings = replace(settings, min_variant_area=float(dataset.native_min_variant_area))
    return exports.plan(replace(node, settings=replace(settings, min_area=node.one("images").config["min_area"])))


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


# -- annotations, captions and images, joined ------------------------------------------------------------------------


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
    rows, bad, gone = checked_images(file, wanted.variants), LeftOut(wanted.drop), LeftOut(wanted.drop)
    group_annotations(file, rows, numbers.new, (wanted.min_area, wanted.max_area), bad)
    bad.judge("annotations")
    texts, strangers = _captions(captions, rows)
    places = open_source(images).find([row.image.name for row in rows.values()])
    there = [row for row in rows.values() if _is_there(row, places[row.image.name], annotations, gone)]
    gone.judge("images")
    if not there:
        raise InputError(f"{images}: holds none of the {len(rows):,} images of {annotations}; check dataset.images")
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
    return Joined(annotations, images, files, identity, classes, sizes, captioned, bad.n + gone.n, strangers, bad.first or gone.first)


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
    if reason:
        gone.add(f"{annotations}: image {image.id}: {image.name!r} {reason}", fix, image=image.name, image_id=image.id)
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
        image, place = row.image, self.places[row.image.name]
        ours = {"path": place.path, "size": place.size, "bucket": bucket, "captions": self.texts.get(image.id, [])}
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
        return self.numbers.image(raw, f"{self.path}: image {row.image.id} ({row.image.name!r})") if self._anew else raw

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
            raise InputError(
                f"{self.path}: image {row.image.id} ({row.image.name!r}) or one of its annotations holds {what}; mend it"
            ) from e

    def finish(self, categories: list[bytes], rows: list[ImageRow]) -> tuple[dict[str, bytes], str]:
        head = head_file(
            [json.loads(c) for c in categories], max(r.image.id for r in rows), max(r.last_id for r in rows), sum(r.tracks for r in rows)
        )
        return self._writer.finish(head)
