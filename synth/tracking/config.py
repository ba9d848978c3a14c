"""Sample configs of tracking pairs."""

from dataclasses import dataclass

from synth.captions.config import DatasetConfig
from synth.export.config import ExportConfig
from synth.images.config import DrawingConfig
from synth.keys import key, later


@dataclass(frozen=True)
class WarpConfig:
    """The joint random warp of an image and its masks. Ranges are drawn from evenly; OVTrack's values are the defaults."""

    affine: float = 0.5  # probability of scale, rotation, translation and shear, all at once
    scale: tuple[float, ...] = (0.6, 1.5)  # factor, an axis each
    rotate: tuple[float, ...] = (-30.0, 30.0)  # degrees
    translate: tuple[float, ...] = (0.0, 0.2)  # share of width, of height
    shear: tuple[float, ...] = (-15.0, 15.0)  # degrees, an axis each
    perspective: float = 0.5  # probability
    distortion: tuple[float, ...] = (0.05, 0.2)  # standard deviation of the corners' way inwards, as a share of the side
    flip: float = 0.5  # probability
    colour: float = 0.2  # probability of brightness and contrast, of the image only
    brightness: tuple[float, ...] = (-0.2, 0.2)  # added, as a share of white
    contrast: tuple[float, ...] = (-0.2, 0.2)  # factor less one


@dataclass(frozen=True)
class PairsConfig(DrawingConfig):
    """kind "pairs": new images of annotated ones; slot = image * variants + variant. Always JPEG, at the size of the original.

    input "annotations": the file, whose images lie in the stage's listing in the order of their buckets (a unit has one bucket);
    input "images": a folder, or an HDF5 file keyed by file name. classes of the dataset: the file's categories.
    """

    dataset: DatasetConfig = DatasetConfig(name="", classes=(), n_classes=0)
    variants: int = 1  # new images of each image
    noise_strength: float = 0.75  # share of the steps that are run
    harmonize: int = 2  # last steps in which the objects are not put back
    min_area: float = 64.0**2  # pixels of the original; smaller objects are not kept
    max_area: float = 32.0**5
    dilate: int = 14  # pixels of the original around the objects that are kept with them
    long_side: int = 768  # pixels that an image is scaled to fit into
    short_side: int = 512
    bucket: int = 64  # pixels; drawn sizes are multiples of it
    warp: WarpConfig = WarpConfig()
    quality: int = 95  # of the JPEG files


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
