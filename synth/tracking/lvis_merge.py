"""COCO's objects added to LVIS's, which annotates only some classes of each image: fewer objects are missed, masks stay LVIS's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synth.errors import InputError
from synth.tracking.coco import Category, CocoFile, Image, Raw, Struct, decoded, with_name, with_values
from synth.tracking.synsets import COCO

SAME = 0.7  # IoU from which two boxes of one class are one object


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


class Merge:
    """LVIS's images and categories with the annotations of both files."""

    def __init__(self, lvis: CocoFile, coco: CocoFile):
        self.lvis, self.counted = lvis, Counted()
        self._images = list(decoded(lvis.path, "images", lvis.images, NegativeImage))
        self._classes = _classes(lvis, coco)
        known = {i.id for i in self._images}
        self._of_lvis = _by_image(lvis, known, strict=True)
        self._of_coco = _by_image(coco, known, strict=False)
        if not self._of_coco:
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
        candidates = [
            (self._classes[box.category_id], box, raw) for box, raw in self._of_coco.get(image.id, []) if box.category_id in self._classes
        ]
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


def _classes(lvis: CocoFile, coco: CocoFile) -> dict[int, int]:
    """COCO's category id -> LVIS's of the same synset, where LVIS has one."""
    by_synset = {c.synset: c.id for c in decoded(lvis.path, "categories", lvis.categories, Category)}
    there = {c.id for c in decoded(coco.path, "categories", coco.categories, Category)}
    if strange := sorted(there - set(COCO)):
        raise InputError(
            f"{coco.path}: category {strange[0]} is none of COCO's 80; the second file must be instances_train2017.json or the like"
        )
    classes = {number: by_synset[synset] for number, synset in COCO.items() if synset in by_synset and number in there}
    if not classes:
        raise InputError(f"{lvis.path}: no category has the synset of one of COCO's; the first file must be LVIS's (lvis_v1_train.json)")
    return classes


def _by_image(file: CocoFile, known: set[int], strict: bool) -> dict[int, list[tuple[Box, Raw]]]:
    """Image id -> its annotations, of the known images; another image is an InputError if `strict`."""
    by_image: dict[int, list[tuple[Box, Raw]]] = {}
    for number, (box, raw) in enumerate(zip(decoded(file.path, "annotations", file.annotations, Box), file.annotations, strict=True)):
        if box.image_id in known:
            by_image.setdefault(box.image_id, []).append((box, raw))
        elif strict:
            raise InputError(f"{file.path}: annotations[{number}]: image_id {box.image_id} is no image of the file; mend it")
    return by_image
