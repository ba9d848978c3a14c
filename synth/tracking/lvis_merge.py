"""COCO's objects added to LVIS's, which annotates only some classes of each image: fewer objects are missed, masks stay LVIS's."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from synth.errors import InputError
from synth.tracking.coco import Category, CocoFile, Image, Raw, Struct, decoded, with_name, with_values
from synth.tracking.objects import base_name
from synth.tracking.synsets import COCO, spoken

SAME = 0.7  # IoU from which two boxes of one class are one object
_OF_2014 = re.compile(r"COCO_[a-z]+2014_(?=\d+\.)")  # what COCO put before the names of its images then


class Box(Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height


class NegativeImage(Image, gc=False):
    # classes that were looked for and are not there
    neg_category_ids: list[int] = []  # noqa: RUF012 (msgspec gives each its own)


@dataclass
class Counted:
    """What a merge did; complete when its annotations are through."""

    lvis: int = 0
    coco: int = 0  # added
    same: int = 0  # are LVIS's objects
    negative: int = 0  # of classes that LVIS says are not there
    only_coco: int = 0  # images that have none of LVIS's annotations, but some of COCO's
    other_images: int = 0  # of COCO's annotations: of images that LVIS does not have
    other_classes: Counter = field(default_factory=Counter)  # of images of both: class that LVIS does not have -> annotations


class Merge:
    """LVIS's images and categories with the annotations of both files."""

    def __init__(self, lvis: CocoFile, coco: CocoFile):
        self.lvis, self.counted = lvis, Counted()
        self._images = list(decoded(lvis.path, "images", lvis.images, NegativeImage))
        self._classes, self._lacking = _classes(lvis, coco)
        known = {i.id for i in self._images}
        theirs = list(decoded(coco.path, "images", coco.images, Image))
        _same_images(lvis, coco, self._images, theirs)
        self._of_lvis = _by_image(lvis, known)
        self._of_coco = _by_image(coco, {i.id for i in theirs})
        self.counted.other_images = sum(len(rows) for i, rows in self._of_coco.items() if i not in known)
        if known.isdisjoint(self._of_coco):
            raise InputError(f"{coco.path}: none of its annotations is of an image of {lvis.path}; are they of one split?")

    def images(self) -> Iterator[bytes]:
        for image, raw in zip(self._images, self.lvis.images, strict=True):
            yield with_name(raw, image)

    def annotations(self) -> Iterator[bytes]:
        """Image by image, LVIS's first; numbered from 1."""
        number = 0
        for image in self._images:
            own = self._of_lvis.get(image.id, [])
            added = list(self._added(image, [box for box, _ in own]))
            self.counted.lvis += len(own)
            self.counted.coco += len(added)
            self.counted.only_coco += bool(added) and not own
            for raw, values in [(raw, {}) for _, raw in own] + added:
                number += 1
                yield with_values(raw, id=number, **values)

    def _added(self, image: NegativeImage, own: Sequence[Box]) -> Iterator[tuple[Raw, dict]]:
        """COCO's annotations of an image that are objects which LVIS does not have."""
        candidates = []
        for box, raw in self._of_coco.get(image.id, []):
            if box.category_id in self._classes:
                candidates.append((self._classes[box.category_id], box, raw))
            else:
                self.counted.other_classes[self._lacking[box.category_id]] += 1
        kept = [f for f in candidates if f[0] not in image.neg_category_ids]
        self.counted.negative += len(candidates) - len(kept)
        there = _there(own, [(cls, box) for cls, box, _ in kept])
        self.counted.same += sum(there)
        for (cls, _, raw), is_there in zip(kept, there, strict=True):
            if not is_there:
                yield raw, {"category_id": cls}


def _there(own: Sequence[Box], others: Sequence[tuple[int, Box]]) -> list[bool]:
    """Which of the others (class, box) have a box of their class among `own` that overlaps by SAME."""
    import numpy as np

    if not own or not others:
        return [False] * len(others)
    a = np.array([b.bbox for _, b in others])[:, None]  # [M, 1, 4]
    b = np.array([b.bbox for b in own])[None]  # [1, N, 4]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])  # [M, N, 2]
    both = sides.clip(0).prod(-1)
    either = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both
    same_class = np.array([cls for cls, _ in others])[:, None] == np.array([b.category_id for b in own])[None]
    return (same_class & (both > 0) & (both >= SAME * either)).any(1).tolist()


def _classes(lvis: CocoFile, coco: CocoFile) -> tuple[dict[int, int], dict[int, str]]:
    """COCO's category id -> LVIS's; id -> name of those that LVIS does not have.

    By synset: the one that the category itself has, else that of COCO's 80 by its name; else by a name that both have. Ids say nothing.
    """
    theirs = list(decoded(lvis.path, "categories", lvis.categories, Category))
    by_synset = _once(lvis, "synset", [(c.synset, c.id) for c in theirs if c.synset])
    by_name = _once(lvis, "name", [(spoken(c.name), c.id) for c in theirs])
    without_synset = {c.id for c in theirs if not c.synset}
    classes: dict[int, int] = {}
    lacking: dict[int, str] = {}
    for c in decoded(coco.path, "categories", coco.categories, Category):
        if c.id in classes or c.id in lacking:
            raise InputError(f"{coco.path}: category id {c.id} is there twice; mend it")
        synset = c.synset or COCO.get(spoken(c.name), "")
        named = by_name.get(spoken(c.name))
        if synset in by_synset:
            classes[c.id] = by_synset[synset]
        elif named is not None and (not synset or named in without_synset):
            classes[c.id] = named
        elif synset:
            lacking[c.id] = c.name
        else:
            raise InputError(
                f"{coco.path}: category {c.id} ({c.name!r}) is none of COCO's 80 and none of LVIS's, and has no synset; "
                "classes are found by names and synsets: give it the name that COCO or LVIS has, or take it out"
            )
    if not classes:
        raise InputError(
            f"{lvis.path}: no category has the synset or name of one of COCO's; the first file must be LVIS's (lvis_v1_train.json)"
        )
    return classes, lacking


def _once(file: CocoFile, what: str, pairs: Sequence[tuple[str, int]]) -> dict[str, int]:
    """synset or name -> id; InputError if two categories have one."""
    ids: dict[str, int] = {}
    for value, number in pairs:
        if ids.setdefault(value, number) != number:
            raise InputError(f"{file.path}: categories {ids[value]} and {number} have one {what}, {value!r}; mend it")
    return ids


def _same_images(lvis: CocoFile, coco: CocoFile, ours: Sequence[Image], theirs: Sequence[Image]) -> None:
    """InputError unless an id that both files have is of one image in both: of one name and size."""
    by_id = {i.id: i for i in ours}
    for image in theirs:
        there = by_id.get(image.id)
        if there is not None and (_called(there), there.width, there.height) != (_called(image), image.width, image.height):
            said = [f"{i.name!r} ({i.width} x {i.height}) in {p}" for i, p in ((there, lvis.path), (image, coco.path))]
            raise InputError(f"image id {image.id} is {said[0]} and {said[1]}; the files must be of the same images, with COCO's own ids")


def _called(image: Image) -> str:
    return _OF_2014.sub("", base_name(image.name))


def _by_image(file: CocoFile, images: set[int]) -> dict[int, list[tuple[Box, Raw]]]:
    """Image id -> its annotations. One of no image or category of the file is an InputError."""
    categories = {c.id for c in decoded(file.path, "categories", file.categories, Category)}
    by_image: dict[int, list[tuple[Box, Raw]]] = {}
    for number, (box, raw) in enumerate(zip(decoded(file.path, "annotations", file.annotations, Box), file.annotations, strict=True)):
        if box.image_id not in images:
            raise InputError(f"{file.path}: annotations[{number}]: image_id {box.image_id} is no image of the file; mend it")
        if box.category_id not in categories:
            raise InputError(f"{file.path}: annotations[{number}]: category_id {box.category_id} is no category of the file; mend it")
        by_image.setdefault(box.image_id, []).append((box, raw))
    return by_image
