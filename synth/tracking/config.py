"""Keys of tracking pairs, and of what is made of them."""

from dataclasses import dataclass
from typing import Any

from synth.captions.config import DatasetConfig
from synth.export.config import ExportConfig
from synth.images.config import DrawingConfig
from synth.keys import key, later, plan_key

LARGEST = 8192  # pixels of a canvas' side
AREA = 1e12  # pixels


@dataclass(frozen=True, kw_only=True)
class WarpConfig:
    """The joint random warp of an image and its masks. Ranges are drawn from evenly; OVTrack's values are the defaults."""

    affine: float = key("probability of the next four, all at once", low=0, high=1)
    scale: tuple[float, ...] = key("factor, an axis each", low=0.05, high=20, span=True)
    rotate: tuple[float, ...] = key("degrees", low=-180, high=180, span=True)
    translate: tuple[float, ...] = key("share of width and height", low=-1, high=1, span=True)
    shear: tuple[float, ...] = key("degrees, an axis each", low=-80, high=80, span=True)
    perspective: float = key("probability", low=0, high=1)
    distortion: tuple[float, ...] = key("how far corners move inwards (standard deviation, share of the side)", low=0, high=1, span=True)
    flip: float = key("probability of left for right", low=0, high=1)
    colour: float = key("probability of the next two; the image only", low=0, high=1)
    brightness: tuple[float, ...] = key("added, share of white", low=-1, high=1, span=True)
    contrast: tuple[float, ...] = key("factor less one", low=-1, high=1, span=True)


@dataclass(frozen=True, kw_only=True)
class PairsConfig(DrawingConfig):
    """kind "pairs": new images of annotated ones; slot = image * variants + variant. Always JPEG, at the size of the original.

    input "annotations": the file, whose images lie in the stage's listing in the order of their buckets (a unit has one bucket);
    input "images": a folder, or an HDF5 file keyed by file name. classes of the dataset: the file's categories.
    """

    dataset: DatasetConfig = later()
    variants: int = key("new images of each image", low=1, high=10_000)
    noise_strength: float = key("0..1, share of the steps that are run: 1 keeps nothing of the old background", low=0, high=1)
    harmonize: int = key(
        "last steps in which the objects are drawn along with the background; 0: they stay as the VAE gives them",
        low=0, high=10_000, null="model.native_pair_harmonize",
    )  # fmt: skip
    min_area: float = key(
        "pixels of the original: smaller objects are not kept, latents cannot hold them", low=0, high=AREA, null="dataset.native_min_area"
    )
    max_area: float = key("pixels (32^5): larger ones are not kept", low=0, high=AREA)
    dilate: int = key("pixels of the original around an object that are kept with it", low=0, high=1000, null="dataset.native_dilate")
    size: Any = plan_key(
        "[long, short] pixels that an image is scaled to fit into",
        given=Any,
        null="model.native_pair_size, else 1.5 and 1 times its native size",
    )
    long_side: int = later()
    short_side: int = later()
    bucket: int = key(
        "pixels; drawn sizes are multiples of it, images of one size are one batch",
        low=1, high=LARGEST, null="64, or what the model needs",
    )  # fmt: skip
    warp: WarpConfig = key("one random warp of image and masks together; ranges are drawn from evenly")
    quality: int = key("1..100 of the JPEG files", low=1, high=100)
    names: str = plan_key(
        "name: images are called by their names without folders, which must differ | path: by their folders, too, with __ for each /",
        choices=("name", "path"),
    )
    on_bad: str = plan_key(
        "error: name bad annotations and missing images and stop | drop: leave them out, listed in left_out.jsonl",
        choices=("error", "drop"),
    )


@dataclass(frozen=True, kw_only=True)
class AnnotationsConfig(ExportConfig):
    """kind "annotations": one JSON in OVTrack's form."""

    min_variant_area: float = key("pixels: smaller warped objects are left out", low=0, null="dataset.native_min_variant_area")
    min_side: float = key("pixels of a warped object's box", low=0)
    segmentations: bool = key("true: keep them, the warped ones as RLE")
    min_area: float = later(0.0)  # of an object in the original frame of a pair; larger ones stay

    has_card = True


@dataclass(frozen=True, kw_only=True)
class PairsPageConfig(ExportConfig):
    max_images: int = key("originals on the page, spread evenly over all", low=1)
    sheet: int = key("originals on the contact sheet", low=1)
