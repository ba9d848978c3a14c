"""Whether an annotation file can be worked with: ids, names, sizes, segmentations. All is found before anything is drawn.

What breaks the file as a whole (ids or names that are there twice, images that cannot be named) is an InputError. Single bad
annotations go to a `LeftOut`, which is an error too unless they are to be left out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from synth.errors import InputError
from synth.store.spec import canonical
from synth.tracking.coco import UNREADABLE, Annotation, Category, CocoFile, Image, Raw, decoded, decoder, named, why, with_values
from synth.tracking.geometry import Wrong, wrong_box, wrong_mask
from synth.tracking.objects import base_name, stem, usable
from synth.tracking.segmentation import wrong

_VARIANT = re.compile(r"(?P<stem>.+)_v(?P<variant>0|[1-9]\d*)\.jpg", re.DOTALL)


class LeftOut:
    """Bad annotations and images. `drop`: they are left out and listed; else the first one is told, with the number of all.

    first: what is said of the first one, "" of none.
    """

    def __init__(self, drop: bool):
        self.drop, self._lines, self.first, self._fix, self.n = drop, [], "", "", 0
        self.kinds: Counter[str] = Counter()

    def add(self, text: str, fix: str, kind: str = "", **item: object) -> None:
        """text: where, which and why; kind: of mistake, in the plural; item: what its line says beside the reason."""
        self.n += 1
        self.kinds[kind] += bool(kind)
        text = text.encode("utf-8", "replace").decode()
        if self.n == 1:
            self.first, self._fix = text, fix
        if self.drop:
            self._lines.append(canonical({**item, "reason": text}) + b"\n")

    def judge(self, what: str) -> None:
        """InputError if there was anything and it may not be left out. what: in the plural."""
        if self.n and not self.drop:
            more = f" ({self.n - 1:,} more of the {what} cannot be used{by_kind(self.kinds, '; in all: ')})" if self.n > 1 else ""
            raise InputError(f"{self.first}; {self._fix}{more}; or leave out what is bad: tracking.on_bad=drop")

    @property
    def lines(self) -> bytes:
        """A line of JSON each."""
        return b"".join(self._lines)


def by_kind(kinds: Mapping[str, int], before: str) -> str:
    """Kinds of mistakes with their numbers, the commonest first; "" of none."""
    ranked = sorted((kind for kind in kinds if kinds[kind]), key=lambda kind: (-kinds[kind], kind))
    return before + ", ".join(f"{kinds[kind]:,} {kind}" for kind in ranked) if ranked else ""


@dataclass
class ImageRow:
    """An image of the file with its annotations in the file's order."""

    image: Image
    raw: Raw
    place: int  # in the file
    path: str  # as the file calls it: where it lies
    annotations: list[Raw] = field(default_factory=list)
    usable: int = 0  # of them, how many are kept as objects
    tracks: int = 0  # how many are no crowds
    last_id: int = 0  # their largest id


def checked_categories(file: CocoFile) -> list[Category]:
    """The categories in the file's order; none, ids that are there twice or numbers below 0 are InputErrors."""
    categories = list(decoded(file.path, "categories", file.categories, Category))
    if not categories:
        raise InputError(f"{file.path}: categories is empty; every annotation needs one")
    _once(file.path, ((c.id, repr(c.name)) for c in categories), "category id {key} is there twice: {first} and {second}")
    for i, c in enumerate(categories):
        if c.id < 0 or not c.name.strip():
            raise InputError(
                f"{file.path}: categories[{i}] (id {c.id}, name {c.name!r}): an id is 0 or more, and a name is not empty; mend it"
            )
    return categories


def checked_images(file: CocoFile, variants: int, by_path: bool = False) -> dict[int, ImageRow]:
    """Image id -> row, in the file's order. Names become keys of one HDF5 file, so originals and variants must all differ.

    by_path: images are called by their folders, too, with __ for each /.
    """
    images = list(decoded(file.path, "images", file.images, Image))
    if not images:
        raise InputError(f"{file.path}: images is empty; there is nothing to make pairs of")
    _once(file.path, ((i.id, repr(i.name)) for i in images), "image id {key} is there twice: {first} and {second}")
    for number, image in enumerate(images):
        if wrong_here := _wrong_image(image):
            raise InputError(f"{file.path}: images[{number}] (id {image.id}, {image.name!r}): {wrong_here}")
    paths, raws = [image.name for image in images], list(file.images)
    if by_path:
        images = [replace(image, file_name=image.name.replace("/", "__")) for image in images]
        raws = [with_values(raw, file_name=image.name) for raw, image in zip(raws, images, strict=True)]
    same = "{first} and {second} have one name without folders, {key!r}, by which HDF5 files and readers find images"
    fix = "" if by_path else "; call them by their folders, too (tracking.names=path)"
    _once(file.path, ((base_name(i.name), _words(i)) for i in images), same + fix)
    _check_variants(file.path, images, variants)
    rows = enumerate(zip(images, raws, paths, strict=True))
    return {image.id: ImageRow(image, raw, place, path) for place, (image, raw, path) in rows}


def group_annotations(
    file: CocoFile, rows: Mapping[int, ImageRow], categories: Mapping[int, int | None], areas: tuple[float, float], bad: LeftOut
) -> Counter[str]:
    """Give every image its annotations; why those that are no objects to keep are none, counted. Bad ones go to `bad`; an id that is
    there twice is an InputError.

    categories: ids -> the number they become, None for those that are left out with all that is of them.
    areas: between which objects are kept.
    """
    decode, seen, twice, others = decoder(Annotation), set(), [], Counter[str]()
    for number, raw in enumerate(file.annotations):
        try:
            a = decode(raw)
        except UNREADABLE as e:
            _bad(bad, file, number, raw, ("", why(e, f"$.annotations[{number}]")), None)
            continue
        if a.id in seen:
            twice.append(a.id)
        seen.add(a.id)
        row = rows.get(a.image_id)
        if (wrong := _wrong_annotation(a, row, categories, areas))[1]:
            _bad(bad, file, number, raw, wrong, row)
        elif categories[a.category_id] is not None:
            row.annotations.append(raw)
            row.usable += usable(a.area, a.iscrowd, *areas)
            others[_no_object(a, *areas)] += 1
            row.tracks += not a.iscrowd
            row.last_id = max(row.last_id, a.id)
    if twice:
        more = f" (so are {len(set(twice)) - 1:,} more)" if len(set(twice)) > 1 else ""
        raise InputError(f"{file.path}: annotation id {twice[0]} is there twice{more}; number the annotations anew")
    del others[""]
    return others


def _no_object(a: Annotation, least: float, most: float) -> str:
    """Why an annotation is no object to keep, for many of them; "" if it is one."""
    if a.iscrowd:
        return "crowds (iscrowd)"
    if not a.area:
        return "with an area of 0 (area is that of the mask, in pixels)"
    if a.area <= least:
        return f"not above tracking.min_area={least:g}"
    return f"not below tracking.max_area={most:g}" if a.area >= most else ""


def _wrong_annotation(a: Annotation, row: ImageRow | None, categories: Mapping, areas: tuple[float, float]) -> Wrong:
    if row is None:
        return "", f"image_id {a.image_id} is no image of the file"
    if a.category_id not in categories:
        return "", f"category_id {a.category_id} is no category of the file"
    if a.area < 0:
        return "", f"its area is {a.area:g}"
    if a.bbox[2] < 0 or a.bbox[3] < 0:
        return "", f"its bbox is {a.bbox[2]:g} wide and {a.bbox[3]:g} high"
    width, height, kept = row.image.width, row.image.height, usable(a.area, a.iscrowd, *areas)
    if not a.iscrowd and (outside := wrong_box(a.bbox, width, height))[1]:
        return outside
    if not a.segmentation and not kept:
        return "", ""  # a box is all that is asked of it
    if a.segmentation is None:
        return "", "it has no segmentation, and is large enough to be kept as an object"
    if reason := wrong(a.segmentation, width, height):
        return "", reason
    return wrong_mask(a.bbox, a.segmentation, width, height) if kept else ("", "")


def _bad(bad: LeftOut, file: CocoFile, number: int, raw: Raw, why_bad: Wrong, row: ImageRow | None) -> None:
    of, (kind, reason) = f", {row.image.name!r}" if row else "", why_bad
    bad.add(
        f"{file.path}: {named('annotations', number, raw)}{of}: {reason}",
        "mend it",
        kind,
        place=number,
        image=row.image.name if row else None,
    )


def _wrong_image(image: Image) -> str:
    """What is wrong with an image's size or name, with the fix; "" if nothing is."""
    name = image.name
    if image.width < 1 or image.height < 1:
        return f"is {image.width} x {image.height} pixels; mend width and height"
    if not name:
        return "has neither file_name nor coco_url; give it one of them"
    if "\0" in name:
        return "its file_name holds a NUL, which no file name can; mend it"
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        return "its file_name leads out of the folder of the images; write it relative to that folder"
    if parts[-1] in ("", "."):
        return "its file_name names a folder; mend it"
    return ""


def _check_variants(path: Path, images: Sequence[Image], variants: int) -> None:
    """a.jpg and a.png would both become a_v0.jpg; so would a.jpg and an image that is called a_v0.jpg already."""
    _once(
        path,
        ((stem(i.name), _words(i)) for i in images),
        "{first} and {second} would have variants of one name, that of {key!r}",
    )
    stems = {stem(i.name): i for i in images}
    for image in images:
        hit = _VARIANT.fullmatch(base_name(image.name))
        if hit and int(hit["variant"]) < variants and hit["stem"] in stems:
            other = stems[hit["stem"]]
            raise InputError(
                f"{path}: {image.name!r} (image {image.id}) is what a variant of {other.name!r} (image {other.id}) will be called; "
                "rename one"
            )


def _words(image: Image) -> str:
    return f"{image.name!r} (image {image.id})"


def _once(path: Path, items: Iterable[tuple[object, str]], say: str) -> None:
    """InputError unless the keys of all (key, words) differ. say: with {key}, {first} and {second}."""
    seen: dict[object, str] = {}
    twice = []
    for key, words in items:
        if key in seen:
            twice.append((key, seen[key], words))
        seen.setdefault(key, words)
    if twice:
        key, first, second = twice[0]
        more = f" ({len(twice) - 1:,} more such)" if len(twice) > 1 else ""
        raise InputError(f"{path}: {say.format(key=key, first=first, second=second)}{more}; mend the file")
