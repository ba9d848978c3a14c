"""A reader of tracking pairs as trainers of OVTrack read them: images by base name from an HDF5 file, a key frame and a frame of reference
from one video, and which boxes of the two are one object."""

import io
import json
import random
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Frame:
    image: np.ndarray  # uint8 [H, W, 3]
    name: str
    boxes: np.ndarray  # float32 [N, 4]: x1, y1, x2, y2
    labels: np.ndarray  # [N]
    instances: list[int]  # [N]


class PairsReader:
    """`pair(i)`: frame i of all frames, and one of the frames of its video that are at most `scope` away, itself too."""

    def __init__(self, annotations: Path, images: Path, scope: int = 1):
        self.data = json.loads(Path(annotations).read_text())
        self.h5, self.scope = h5py.File(images, "r"), scope
        self.labels = {c["id"]: n for n, c in enumerate(self.data["categories"])}
        self.by_image: dict[int, list[dict]] = {i["id"]: [] for i in self.data["images"]}
        for a in self.data["annotations"]:
            self.by_image[a["image_id"]].append(a)
        self.videos: dict[int, list[dict]] = {v["id"]: [] for v in self.data["videos"]}
        for image in self.data["images"]:
            self.videos[image["video_id"]].append(image)
        self.frames = []
        for images_of in self.videos.values():
            by_frame: list = [None] * len(images_of)
            for image in images_of:
                assert by_frame[image["frame_id"]] is None  # frames are counted without gaps
                by_frame[image["frame_id"]] = image
            images_of[:] = by_frame
            self.frames += by_frame

    def __len__(self) -> int:
        return len(self.frames)

    def pair(self, i: int) -> tuple[Frame, Frame, list[tuple[int, int]]]:
        """(key frame, reference frame, pairs of indices of the boxes of one object)"""
        image = self.frames[i]
        near = self.videos[image["video_id"]][max(0, image["frame_id"] - self.scope) : image["frame_id"] + self.scope + 1]
        key, ref = self.frame(image), self.frame(random.Random(i).choice(near))
        return key, ref, [(n, ref.instances.index(k)) for n, k in enumerate(key.instances) if k in ref.instances]

    def frame(self, image: dict) -> Frame:
        name = image["file_name"].rpartition("/")[2]
        pixels = np.asarray(Image.open(io.BytesIO(np.array(self.h5[name]))).convert("RGB"))
        kept = [
            a
            for a in self.by_image[image["id"]]
            if not a.get("ignore") and a["area"] > 0 and min(a["bbox"][2:]) >= 1 and not a.get("iscrowd")
        ]
        boxes = np.array([a["bbox"] for a in kept], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Frame(pixels, name, boxes, np.array([self.labels[a["category_id"]] for a in kept]), [a["instance_id"] for a in kept])
