"""The annotation file of tracking pairs, as OVTrack trains on it: short videos in which an object keeps its track id.

    {"images": [..], "annotations": [..], "videos": [..], "categories": [..]}

Part A: every image is a video of one frame, with all its annotations that are no crowds. Part B: every image is a video again: frame 0
is the image under a new id, with its annotations above an area; the frames behind it are its variants, with the warped boxes.
The rules, and the arithmetic of the ids, are those of OVTrack's generate_json_anno.py. What differs: `ori_ann_id` is on warped annotations
too; a variant that could not be made is left out, its ids stay unused, and frames are still counted without gaps, as readers need it.

Written in one pass with bounded memory: every list grows in a file of its own, and they are joined at the end.
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from synth.errors import InputError
from synth.store import faults
from synth.store.files import replace, storing
from synth.tracking.listing import Head

Fields = Mapping[str, object]  # of an image or annotation: values as decoded, or msgspec.Raw as the file has them
LISTS = ("images", "annotations", "videos")
# of an original: LVIS's readers take the file's name from one, and would take the original for its variant
URLS = ("coco_url", "flickr_url")
COPY = 1 << 20  # bytes joined at once

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Warped:
    """An object in a variant. bbox: x, y, w, h and area in pixels of its warped mask; segmentation: RLE, where it is known."""

    bbox: Sequence[int]
    area: int
    segmentation: Fields | None = None


@dataclass(frozen=True)
class Variant:
    """A new image. objects: by the id of their original annotation; None: an unchanged copy of the original."""

    file_name: str
    objects: Mapping[int, Warped] | None


@dataclass(frozen=True)
class Rules:
    """Which annotations the frames of a pair get."""

    min_area: float  # of an object in the original frame; larger ones stay
    min_variant_area: float  # of a warped object; smaller ones are left out
    min_side: float  # of its box
    segmentations: bool  # of warped objects; originals and their copies keep theirs


class VideosWriter:
    """Takes the images in the order of the annotation file, once each, then `finish` gives the file its name.

    part: gives a new path for a file on its way to a name, all on one file system.
    """

    def __init__(self, part: Callable[[str], Path], head: Head, n_images: int, rules: Rules):
        self._part, self._head, self._rules, self._n = part, head, rules, n_images
        self.counts: Counter = Counter()
        self._single, self._pairs, self._folder = _Lists(part), _Lists(part), part("lists").parent
        self._seen = self._track_single = 0
        self._image_id, self._annotation_id, self._track = head.max_image_id, head.max_annotation_id, head.tracks

    def __enter__(self) -> "VideosWriter":
        return self

    def __exit__(self, *exc) -> None:
        self._single.drop()
        self._pairs.drop()

    def add(self, image: Fields, annotations: Sequence[Fields], variants: Sequence[Variant | None]) -> None:
        """One image. None in place of a variant: it could not be made."""
        plain = [a for a in annotations if not value(a.get("iscrowd", 0))]
        whole = any(v is not None for v in variants)
        with storing(self._folder):
            self._add_single(image, plain, whole)
            self._add_pair(image, plain, variants, whole)
        self._seen += 1

    def _add_single(self, image: Fields, plain: Sequence[Fields], whole: bool) -> None:
        video, track = self._seen, self._track_single
        self._track_single += len(plain)
        if not whole:  # nothing vouches for an image of which nothing could be made, and no HDF5 file holds it
            self.counts["images_left_out"] += 1
            return
        self.counts["images"] += 1
        self._single.add("videos", {"id": video, "width": image["width"], "height": image["height"]})
        self._single.add("images", {**image, "video_id": video, "frame_id": 0})
        for n, annotation in enumerate(plain):
            self._single.add("annotations", {**annotation, "instance_id": track + n, "track_id": track + n, "video_id": video})
        self.counts["single_annotations"] += len(plain)

    def _add_pair(self, image: Fields, plain: Sequence[Fields], variants: Sequence[Variant | None], whole: bool) -> None:
        kept = [a for a in plain if value(a["area"]) > self._rules.min_area]
        video, frame = self._n + self._seen, 0
        self._image_id += 1
        tracked = []  # annotations of frame 0
        for annotation in kept:
            self._annotation_id += 1
            its = {"id": self._annotation_id, "ori_ann_id": annotation["id"], "image_id": self._image_id}
            tracked.append({**annotation, **its, "instance_id": self._track, "track_id": self._track, "video_id": video})
            self._track += 1
        if whole:
            self._pairs.add("videos", {"id": video, "width": image["width"], "height": image["height"]})
            self._pairs.add("images", {**image, "id": self._image_id, "video_id": video, "frame_id": 0})
            for annotation in tracked:
                self._pairs.add("annotations", annotation)
            self.counts["original_annotations"] += len(tracked)
        for variant in variants:
            self._image_id += 1
            first = self._annotation_id + 1
            self._annotation_id += len(tracked)
            if variant is None:
                self.counts["variants_missing"] += 1
                continue
            frame += 1
            named = {"id": self._image_id, "file_name": variant.file_name, "video_id": video, "frame_id": frame}
            self._pairs.add("images", {k: v for k, v in image.items() if k not in URLS} | named)
            self._add_frame(tracked, variant, first)

    def _add_frame(self, tracked: Sequence[Fields], variant: Variant, first: int) -> None:
        """The annotations of a variant; `first`: id of the first of as many as its original frame has."""
        self.counts["variants" if variant.objects is not None else "variants_unchanged"] += 1
        for number, annotation in enumerate(tracked, first):
            new = {**annotation, "id": number, "image_id": self._image_id}
            if variant.objects is not None:
                warped = variant.objects.get(value(annotation["ori_ann_id"]))
                if why := self._dropped(warped):
                    self.counts[why] += 1
                    continue
                new |= {"bbox": warped.bbox, "area": warped.area}
                new.pop("segmentation", None)
                if self._rules.segmentations and warped.segmentation is not None:
                    new["segmentation"] = warped.segmentation
            self._pairs.add("annotations", new)
            self.counts["variant_annotations"] += 1

    def _dropped(self, warped: Warped | None) -> str:
        if warped is None:
            return "dropped_not_kept"  # larger than tracking.max_area: no object of the pairs stage
        if not warped.area:
            return "dropped_left_the_frame"
        _, _, w, h = warped.bbox
        small = w < self._rules.min_side or h < self._rules.min_side or warped.area < self._rules.min_variant_area
        return "dropped_too_small" if small else ""

    def finish(self, final: Path) -> dict:
        """Join the lists at `final`; {"bytes", "sha256"}."""
        if (self._seen, self._track_single) != (self._n, self._head.tracks):
            raise InputError(
                f"{self._seen} images with {self._track_single} objects were listed, the head of the listing says {self._n} with "
                f"{self._head.tracks}; remove the stage's folder and run the command again"
            )
        temp, sha, size = self._part(final.name), hashlib.sha256(), 0
        with storing(final), contextlib.ExitStack() as stack:
            stack.callback(temp.unlink, missing_ok=True)
            out = stack.enter_context(open(temp, "wb"))

            def put(data: bytes) -> None:
                nonlocal size
                out.write(data)
                sha.update(data)
                size += len(data)

            for name in LISTS:
                put(b'%s"%s": [' % (b"{" if name == LISTS[0] else b"", name.encode()))
                between = b"\n"
                for lists in (self._single, self._pairs):
                    for data in lists.read(name):
                        put(between + data)
                        between = b""
                    between = between or b",\n"
                put(b"\n],\n")
            put(b'"categories": ' + _encode(self._head.categories) + b"}\n")
            out.flush()
            os.fsync(out.fileno())
            faults.point("before_json")
            replace(temp, final)
        return {"bytes": size, "sha256": sha.hexdigest()}


class _Lists:
    """The lists of one part, each in a file without a name, which is gone when it is closed."""

    def __init__(self, part: Callable[[str], Path]):
        self._files = {name: _nameless(part(f"{name}.json")) for name in LISTS}

    def add(self, name: str, item: Fields) -> None:
        file = self._files[name]
        file.write((b",\n" if file.tell() else b"") + _encode(item))

    def read(self, name: str) -> Iterator[bytes]:
        self._files[name].seek(0)
        while data := self._files[name].read(COPY):
            yield data

    def drop(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()


def _nameless(path: Path) -> BinaryIO:
    with storing(path):
        file = open(path, "w+b", buffering=COPY)  # noqa: SIM115 (closed by drop)
        path.unlink()
    return file


def value(raw: object) -> object:
    """A value that may be as the file has it."""
    return msgspec.json.decode(raw) if isinstance(raw, msgspec.Raw) else raw
