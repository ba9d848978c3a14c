"""One picture as such: is it blank, burnt out, blurred? Functions of its pixels; numpy alone."""

from dataclasses import dataclass

import numpy as np

from synth.errors import InputError

BLANK = 2.0  # grey levels: a picture whose levels deviate less than that from their mean shows nothing
LUMA = np.float64([299, 587, 114]) / 1000  # ITU-R BT.601, as Pillow's convert("L")


@dataclass(frozen=True)
class ImageStatistics:
    """blank: hardly any contrast. clipped: share of pixels with a channel at 0 or 255. sharpness: variance of the Laplacian of the grey
    levels (Pech-Pacheco et al. 2000), in squared levels of 0..255: low for a blurred or empty picture. It depends on the size of a picture
    and on what is drawn: compare within a set."""

    blank: bool
    clipped: float
    sharpness: float


def image_statistics(pixels: np.ndarray) -> ImageStatistics:
    """pixels [H, W, 3] uint8."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(f"a picture is [H, W, 3] uint8, not {list(pixels.shape)} {pixels.dtype}")
    grey = pixels @ LUMA
    clipped = ((pixels == 0) | (pixels == 255)).any(axis=2).mean()
    return ImageStatistics(bool(grey.std() < BLANK), float(clipped), float(_laplacian(grey).var()))


def _laplacian(grey: np.ndarray) -> np.ndarray:
    """[H, W] -> [H, W]: the four neighbours less four times the pixel; a border is its own neighbour."""
    around = np.pad(grey, 1, mode="edge")
    return around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * grey
