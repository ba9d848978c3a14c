"""README.md of the exports of tracking pairs: dataset cards in Hugging Face's form, made of what the stages say of themselves."""

from collections.abc import Mapping

from synth.export.card import laid_out
from synth.store.folder import StageFolder

COUNTED = {  # key of the counts of synth.tracking.videos -> what it is
    "images": "original images, each a video of one frame and the first frame of a video of its variants",
    "images_left_out": "original images that are left out: none of their variants could be made",
    "variants": "variants, whose background is painted anew",
    "variants_unchanged": "unchanged variants: copies of originals without an object that could be kept",
    "variants_missing": "variants that could not be made; their frames are left out, and their ids stay unused",
    "single_annotations": "annotations of the videos of one frame",
    "original_annotations": "annotations of originals as first frames",
    "variant_annotations": "annotations of variants, each with the track_id of its object in the original",
    "dropped_too_small": "objects left out of a variant: warped, they are too small",
    "dropped_left_the_frame": "objects left out of a variant: warped, they lie outside",
    "dropped_not_kept": "objects left out of a variant: they were too large to be kept",
}
LIMITS = """- Backgrounds are painted by a model, and hold what it learnt, its errors and biases too. \
They may hold further objects, which no annotation tells of.
- Objects are the originals', warped, coded and decoded again; their edges are blended with what was painted around them.
- Originals keep their own licences; whether the new images may be used for a purpose is \
for those and for the licences of the models to say."""
READ = """- `annotations.json`: COCO's form with `videos`: every image has a `video_id` and a `frame_id`, \
every annotation a `track_id` (also called
  `instance_id`, and the same in all frames of a video), and in videos of several frames `ori_ann_id`, \
the annotation that it comes from. pycocotools
  reads it. Videos of one frame come first. `file_name` of a variant is `<name of the original>_v<number>.jpg`.
- The images are those of the HDF5 export of the same pairs: the key of an image is its `file_name` without folders."""


def annotations_card(folder: StageFolder, facts: Mapping) -> bytes:
    """facts: of the stage's unit."""
    counts = facts["counts"]
    rows = "\n".join(f"| {text} | {counts.get(key, 0):,} |" for key, text in COUNTED.items())
    n = counts.get("images", 0) + sum(counts.get(k, 0) for k in ("variants", "variants_unchanged"))
    head = (
        f"Annotations ({facts['bytes']:,} bytes) of {n:,} images: originals, and new images in which their objects are kept "
        "and the background is painted anew."
    )
    return _card(folder, n, head, READ, f"## What is in it\n| what | number |\n| --- | --- |\n{rows}\n")


def pictures_card(folder: StageFolder, originals: int, variants: int, size: int, how_to_read: str) -> bytes:
    """Of a file that holds the images themselves; size: bytes of all of them."""
    head = (
        f"{originals:,} original images and {variants:,} new ones ({size:,} bytes) in which their objects are kept "
        "and the background is painted anew."
    )
    files = f"""{how_to_read}
- `classes.json`: the id and name of each category of the annotation file.
- `manifest.parquet`: a row an image: key, file, caption, seed, width, height, size in bytes, sha256, unit. \
class and label are empty: an image has
  several objects, which the `annotations` export tells."""
    return _card(folder, originals + variants, head, files, "")


def _card(folder: StageFolder, total: int, head: str, files: str, table: str) -> bytes:
    front = {"task_categories": ["object-detection"], "tags": ["synthetic", "synthset", "tracking"]}
    return laid_out(folder, total, "tracking pairs", front, f"{head} Made by synthset.", files, table, LIMITS)
