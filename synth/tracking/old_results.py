"""Annotations of pairs that OVTrack's own scripts made: their .pkl parts and the annotation file they began with become annotations.json.

    python -m synth.tracking.old_results PART.pkl [PART.pkl ...] --annotations BASE.json --output OUT.json [--variants 1] [--hdf5 MERGED.h5]
        [--min_area 4096] [--min_variant_area 1024] [--min_side 1]

Rules and ids are those of the `annotations` export: one writer makes both files. The pickles are read as plain data, and nothing in
them is called (synth.tracking.plain_pickle). A variant of which no part tells an object is an unchanged copy, as OVTrack's scripts store
it. With --hdf5 every image of the file has to be in it. OUT.json appears when it is whole.
Exit codes: 0; 65 bad input; 75 the disk refuses.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from synth.errors import InputError, tool
from synth.store.files import beside
from synth.tracking import coco
from synth.tracking.listing import Head
from synth.tracking.objects import base_name
from synth.tracking.plain_pickle import load
from synth.tracking.videos import Rules, Variant, VideosWriter, Warped

RULES = Rules(min_area=64.0**2, min_variant_area=32.0**2, min_side=1.0, segmentations=False)
SHOWN = 5  # names told in a message


class Image(msgspec.Struct, gc=False):
    id: coco.Id
    file_name: str
    width: int
    height: int


class Annotation(msgspec.Struct, gc=False):
    id: coco.Id
    image_id: coco.Id
    area: float
    iscrowd: int | bool | None = 0


@dataclass
class Base:
    """The annotation file that the pairs were made of."""

    images: list[tuple[Image, msgspec.Raw]]
    annotations: dict[int, list[msgspec.Raw]]  # image id -> its annotations, in the order of the file
    owner: dict[int, int]  # annotation id -> image id
    head: Head


@dataclass
class Results:
    """Objects by the name of their variant."""

    objects: dict[str, dict[int, Warped]] = field(default_factory=dict)
    entries: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m synth.tracking.old_results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "parts",
        type=Path,
        nargs="+",
        metavar="PART.pkl",
        help="all parts of one generation: NAME_total_p_8_split_0.pkl and so on, or their merge",
    )
    p.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="BASE.json",
        help="the COCO or LVIS file that was given to the generation",
    )
    p.add_argument("--output", type=Path, required=True, metavar="OUT.json", help="the file to write; one that is there is never replaced")
    p.add_argument("--variants", type=int, default=1, metavar="N", help="new images of each image: --repeat_run of the generation (1)")
    for name, default in vars(RULES).items():
        if not isinstance(default, bool):
            text = f"as tracking.{name}" if name == "min_area" else f"as export.annotations.{name}"
            p.add_argument(f"--{name}", type=float, default=default, metavar="PIXELS", help=f"{text} ({default:g}, OVTrack's)")
    p.add_argument("--hdf5", type=Path, metavar="MERGED.h5", help="the merged images, to check that none is missing")
    args = p.parse_args(argv)
    rules = Rules(args.min_area, args.min_variant_area, args.min_side, segmentations=False)
    return tool(lambda: convert(args.parts, args.annotations, args.output, args.variants, args.hdf5, rules))


def convert(
    parts: Sequence[Path], annotations: Path, output: Path, variants: int = 1, hdf5: Path | None = None, rules: Rules = RULES
) -> str:
    """Write `output`; what to say. A file that is there already is left alone. rules: which objects are large enough."""
    if output.exists():
        raise InputError(f"{output}: is there already; remove it or choose another one")
    if variants < 1:
        raise InputError(f"--variants {variants}: as many as --repeat_run was, at least 1")
    if wrong := next((n for n in ("min_area", "min_variant_area", "min_side") if not 0 <= getattr(rules, n) < math.inf), ""):
        raise InputError(f"--{wrong} {getattr(rules, wrong):g}: must be a number of pixels, 0 or more")
    base = read_base(annotations)
    names = {name: image.id for image, _ in base.images for name in variant_names(image.file_name, variants)}
    results = Results()
    for part in parts:
        _add_part(part, base, names, results)
    if hdf5 is not None:
        _check_images(hdf5, [image.file_name for image, _ in base.images] + list(names))
    output.parent.mkdir(parents=True, exist_ok=True)
    with VideosWriter(lambda name: beside(output), base.head, len(base.images), rules) as writer:
        for image, raw in base.images:
            fields = [_fields(a) for a in base.annotations.get(image.id, ())]
            writer.add(_fields(raw), fields, [Variant(n, results.objects.get(n)) for n in variant_names(image.file_name, variants)])
        written = writer.finish(output)
    counts = ", ".join(f"{k.replace('_', ' ')} {n:,}" for k, n in sorted(writer.counts.items()))
    return f"{output}: {written['bytes']:,} bytes of {results.entries:,} entries; {counts}"


def variant_names(file_name: str, variants: int) -> Iterator[str]:
    """As OVTrack's scripts name them: the folder stays, the last four characters go."""
    return (f"{file_name[:-4]}_v{v}.jpg" for v in range(variants))


def read_base(path: Path) -> Base:
    """InputError if the file is no annotation file, or two of its images or annotations have one id."""
    file = coco.read(path, "--annotations")
    images = list(zip(coco.decoded(path, "images", file.images, Image), file.images, strict=True))
    if not images:
        raise InputError(f"{path}: has no images")
    ids = {image.id for image, _ in images}
    if len(ids) != len(images) or len({image.file_name for image, _ in images}) != len(images):
        raise InputError(f"{path}: two of its images have one id, or one file_name; no result tells which is meant")
    of_image: dict[int, list[msgspec.Raw]] = {}
    owner: dict[int, int] = {}
    tracks = 0
    for annotation, raw in zip(coco.decoded(path, "annotations", file.annotations, Annotation), file.annotations, strict=True):
        if annotation.image_id not in ids or annotation.id in owner:
            why = "is there twice" if annotation.id in owner else f"is of image {annotation.image_id}, which is not in the file"
            raise InputError(f"{path}: annotation {annotation.id} {why}")
        of_image.setdefault(annotation.image_id, []).append(raw)
        owner[annotation.id] = annotation.image_id
        tracks += not annotation.iscrowd
    categories = tuple(msgspec.json.decode(c) for c in file.categories)
    return Base(images, of_image, owner, Head(categories, max(ids), max(owner, default=0), tracks))


def _fields(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])


def _add_part(path: Path, base: Base, names: Mapping[str, int], results: Results) -> None:
    """The entries of one .pkl; the first that is not as it should be is an InputError that names it."""
    entries = load(path)
    if type(entries) is not list:
        raise InputError(f"{path}: holds a {type(entries).__name__}, not the list of annotations that OVTrack's generation writes")
    for number, entry in enumerate(entries):
        try:
            name, id_, warped = _entry(entry, base, names)
            objects = results.objects.setdefault(name, {})
            if id_ in objects:
                raise ValueError(f"annotation {id_} of {name!r} was told before; give each part once")
        except ValueError as e:
            raise InputError(f"{path}: entry {number}: {e}") from e
        objects[id_] = warped
    results.entries += len(entries)


def _entry(entry: object, base: Base, names: Mapping[str, int]) -> tuple[str, int, Warped]:
    """(name of the variant, id of the original annotation, its object). ValueError that says what is wrong."""
    if type(entry) is not dict:
        raise ValueError(f"is a {type(entry).__name__}, not a dict")
    if missing := [k for k in ("id", "image_id", "image_name", "bbox", "area") if k not in entry]:
        raise ValueError(f"has no {', '.join(missing)}")
    id_, name = _integer(entry["id"], "id"), entry["image_name"]
    if type(name) is not str or name not in names:
        raise ValueError(f"image_name {_short(name)} is no variant of an image of --annotations; were there more variants (--variants)?")
    if base.owner.get(id_) != names[name] or entry["image_id"] != names[name]:
        whose = f"of image {base.owner[id_]}" if id_ in base.owner else "not in --annotations"
        raise ValueError(
            f"annotation {id_} is {whose}, and the entry is of {name!r} (image {names[name]}); "
            "is this the file that was given to the generation?"
        )
    box = entry["bbox"]
    if type(box) not in (list, tuple) or len(box) != 4:
        raise ValueError(f"bbox {_short(box)} is not x, y, width, height")
    return name, id_, Warped([_integer(v, "bbox") for v in box], _integer(entry["area"], "area"))


def _integer(value: object, what: str) -> int:
    """A number as OVTrack's script takes it: cut to whole pixels."""
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 1 << 53:
        raise ValueError(f"{what} {_short(value)} is not a number of pixels or an id")
    return int(value)


def _short(value: object) -> str:
    return repr(value)[:60] if type(value) in (str, int, float, bool) or value is None else f"of type {type(value).__name__}"


def _check_images(path: Path, names: Sequence[str]) -> None:
    """InputError unless every image is in the HDF5 file, by its name or by that without folders."""
    from synth.store.hdf5 import Hdf5File

    with Hdf5File(path) as f:
        there = {n.decode("utf-8", "surrogateescape") for n in f.root}
        missing = [n for n in names if base_name(n) not in there and f.dataset(n) is None]
    if missing:
        more = f" and {len(missing) - SHOWN:,} more" if missing[SHOWN:] else ""
        raise InputError(
            f"{path}: lacks {', '.join(map(repr, missing[:SHOWN]))}{more}; merge all partitions, and give --variants as --repeat_run was"
        )


if __name__ == "__main__":
    sys.exit(main())
