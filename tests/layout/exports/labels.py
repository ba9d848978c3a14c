"""A whole stage of layout labels made without a model: pictures in folders, hostile names and texts, masks, an empty one, one torn."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from synth.images.sources.base import Input
from synth.images.sources.listing import NAME, ListingWriter
from synth.keys import dump
from synth.layout.config import MasksConfig, SegmenterConfig, TagsConfig
from synth.layout.records import Anno, Mask, Record
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec
from tests.fixtures_images import commit_units

EVIL = '"><script>document.title="owned"</script>'
CAPTION = f"a fox's \u00e4 \U0001f98a\nsecond line {EVIL}"
TORN = "00001/000010001.jpg: cannot be decoded (OSError: image file is truncated)"


def picture(width: int, height: int, ext: str = "jpg", orientation: int = 1, seed: int = 0) -> bytes:
    """File bytes of noise in large pixels, stored so that EXIF turns it to width x height."""
    turned = orientation >= 5
    shape = (width, height) if turned else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 255, (-(-shape[0] // 8), -(-shape[1] // 8), 3), np.uint8)
    image = Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))[: shape[0], : shape[1]])
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    out = io.BytesIO()
    image.save(out, {"jpg": "JPEG", "png": "PNG", "bmp": "BMP"}[ext], **({"exif": exif} if orientation != 1 else {}))
    return out.getvalue()


def rle(box: Sequence[int], width: int, height: int) -> Mask:
    """An ellipse that fills a box."""
    x, y, w, h = box
    rows, columns = np.mgrid[0:height, 0:width]
    inside = ((columns - x - (w - 1) / 2) / (w / 2)) ** 2 + ((rows - y - (h - 1) / 2) / (h / 2)) ** 2 <= 1
    code = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    return Mask((height, width), code["counts"].decode())


def anno(box: tuple[int, int, int, int], label: str, size: tuple[int, int], caption: str | None = None, masks: bool = True) -> Anno:
    """size: width, height of the picture."""
    mask = {"mask": rle(box, *size), "iou": 0.9421} if masks else {}
    return Anno(box, 0.8712, label, caption=caption, **mask)


# name -> (bytes, what is said of it); None: a tombstone
Pictures = dict[str, tuple[bytes, Record | None]]


def pictures(masks: bool = True, boxes: int = 3) -> Pictures:
    """Equal stems in two folders, a picture that EXIF turns, a PNG, a BMP, a torn one, one without an object, one of many boxes."""

    def of(name: str, data: bytes, width: int, height: int, caption: str, annos: Sequence[Anno]) -> tuple[bytes, Record]:
        tags = tuple(dict.fromkeys(a.label for a in annos))
        return data, Record(name, width, height, caption, tags, tuple(annos), {}, hashlib.sha256(data).hexdigest())

    two = [anno((4, 6, 20, 18), "red fox", (64, 48), CAPTION, masks), anno((30, 10, 34, 38), EVIL, (64, 48), None, masks)]
    many = [anno((k % 8 * 8, k // 8 * 8, 8, 8), "cup", (64, 64), f"cup {k}", masks) for k in range(boxes)]
    turned = [anno((1, 2, 30, 60), "tower", (40, 72), "a tower", masks)]
    found: Pictures = {
        "00000/000000012.jpg": of("00000/000000012.jpg", picture(64, 48), 64, 48, "two things", two),
        "00001/000000012.jpg": of("00001/000000012.jpg", picture(64, 64, seed=1), 64, 64, "many cups", many),
        "00001/000010001.jpg": (picture(16, 16)[:200], None),
        "a 'b' &c/turned.jpg": of("a 'b' &c/turned.jpg", picture(40, 72, orientation=6, seed=2), 40, 72, EVIL, turned),
        "deep/er/x.png": of("deep/er/x.png", picture(64, 48, "png", seed=3), 64, 48, "", two[:1]),
        "deep/x.bmp": of("deep/x.bmp", picture(33, 17, "bmp", seed=4), 33, 17, "nothing here", []),
    }
    return found


def labels_stage(root: Path, given: Pictures, segmenter: bool = True) -> StageFolder:
    """A whole stage of labels of pictures in a folder of files below root. segmenter: it is one of masks."""
    source, listing = root / "source", ListingWriter()
    for name, (data, _) in given.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
        listing.add(Input(name, name, len(data)))
    lines, identity = listing.finish()
    inputs = {"source": InputFile(str(source), identity)}
    return committed(root / "runs" / "foxes", [r for _, r in given.values()], segmenter, inputs=inputs, files={NAME: lines})


def committed(runs: Path, records: Sequence[Record | None], segmenter: bool = True, **more) -> StageFolder:
    """A whole stage of labels; more: of its spec, where its pictures are. None: a tombstone."""
    sam = SegmenterConfig(kind="sam", path="", repo="", revision="", rows=1, boxes=1, batch_size=1)
    kind, config = ("masks", MasksConfig(segmenter=sam)) if segmenter else ("tags", TagsConfig())
    folder = StageFolder.create(runs, StageSpec(kind, kind, dump(config), len(records), 4, 2, EXACT, framing="jsonl", **more))
    samples = {slot: Sample(slot, f"{slot:09d}", {"json": r.to_bytes()}) for slot, r in enumerate(records) if r is not None}
    commit_units(folder, [samples.get(slot) or Tombstone(slot, TORN) for slot in range(len(records))])
    return folder
