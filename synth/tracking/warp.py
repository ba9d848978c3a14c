"""The random warp of an image and its masks: one homography, drawn from the sample's own generator, resampled once.

Points are (x, y) in pixels whose centres are whole numbers. Affine about the middle, then perspective, then flip: the order
of OVTrack's augmentations. Brightness and contrast are the image's alone.
"""

import math
from dataclasses import dataclass

import numpy as np

from synth.tracking.config import WarpConfig
from synth.tracking.opencv import cv2

FARTHEST = 0.45  # share of the side that a corner moves inwards at most: from 0.5 on the four may cross


@dataclass(frozen=True)
class Warp:
    """What was drawn for one sample. Whatever was not drawn (its probability missed) has the value that changes nothing."""

    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0  # degrees, clockwise on the screen
    translate: tuple[float, float] = (0.0, 0.0)  # shares of width and height
    shear: tuple[float, float] = (0.0, 0.0)  # degrees
    corners: tuple[tuple[float, float], ...] = ()  # shares of the sides, inwards: upper left, upper right, lower right, lower left
    flip: bool = False
    brightness: float = 0.0  # share of white that is added
    contrast: float = 0.0  # factor less one

    def homography(self, width: int, height: int) -> np.ndarray:
        """[3, 3] float64: pixels of the original -> pixels of the variant, both width x height."""
        matrix = self._affine(width, height)
        if self.corners:
            matrix = self._perspective(width, height) @ matrix
        if self.flip:
            matrix = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
        return matrix

    def _affine(self, width: int, height: int) -> np.ndarray:
        x, y = (width - 1) / 2, (height - 1) / 2
        c, s = math.cos(math.radians(self.rotate)), math.sin(math.radians(self.rotate))
        kx, ky = (math.tan(math.radians(a)) for a in self.shear)
        middle = _moved(x + self.translate[0] * width, y + self.translate[1] * height)
        turned = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        sheared = np.array([[1.0, kx, 0.0], [ky, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return middle @ turned @ sheared @ np.diag([*self.scale, 1.0]) @ _moved(-x, -y)

    def _perspective(self, width: int, height: int) -> np.ndarray:
        """The quadrilateral of the inset corners becomes the whole frame. Solved the other way round, where no denominator is 0."""
        frame = [(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)]
        inwards = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
        quad = [(x + a * u * width, y + b * v * height) for (x, y), (a, b), (u, v) in zip(frame, inwards, self.corners, strict=True)]
        rows, values = [], []
        for (x, y), (u, v) in zip(frame, quad, strict=True):
            rows += [[x, y, 1, 0, 0, 0, -x * u, -y * u], [0, 0, 0, x, y, 1, -x * v, -y * v]]
            values += [u, v]
        return np.linalg.inv(np.append(np.linalg.solve(np.array(rows), np.array(values)), 1.0).reshape(3, 3))


def draw(config: WarpConfig, rng: np.random.Generator) -> Warp:
    """A warp. As many numbers are drawn whatever happens, so that a probability changes no other part of it."""

    def happens(probability: float) -> bool:
        return bool(rng.random() < probability)

    def within(bounds: tuple[float, ...]) -> float:
        lo, hi = bounds
        return lo + (hi - lo) * float(rng.random())

    fields = {}
    affine, scale, rotate = happens(config.affine), (within(config.scale), within(config.scale)), within(config.rotate)
    translate, shear = (within(config.translate), within(config.translate)), (within(config.shear), within(config.shear))
    if affine:
        fields |= {"scale": scale, "rotate": rotate, "translate": translate, "shear": shear}
    perspective, deviation, away = happens(config.perspective), within(config.distortion), np.abs(rng.standard_normal((4, 2)))
    if perspective:
        fields["corners"] = tuple((float(u), float(v)) for u, v in np.minimum(away * deviation, FARTHEST))
    fields["flip"] = happens(config.flip)
    colour, brightness, contrast = happens(config.colour), within(config.brightness), within(config.contrast)
    if colour:
        fields |= {"brightness": brightness, "contrast": contrast}
    return Warp(**fields)


def warped(image: np.ndarray, masks: np.ndarray, warp: Warp) -> tuple[np.ndarray, np.ndarray]:
    """[H, W, 3] uint8 and [N, H, W] uint8, both warped. What comes from outside the original is the original's own pixel there.

    Bytes of masks are moved, never mixed (nearest neighbour), so each of their bits may be a mask; outside they are 0.
    """
    height, width = image.shape[:2]
    matrix = warp.homography(width, height)
    if np.array_equal(matrix, np.eye(3)):
        return coloured(image, warp), masks
    how = {"M": matrix, "dsize": (width, height)}
    frame, *moved = (cv2().warpPerspective(m, flags=cv2().INTER_NEAREST, **how) for m in (np.ones((height, width), np.uint8), *masks))
    pixels = coloured(cv2().warpPerspective(image, flags=cv2().INTER_LINEAR, borderMode=cv2().BORDER_REPLICATE, **how), warp)
    return np.where(frame[:, :, None] > 0, pixels, image), np.stack(moved)


def coloured(image: np.ndarray, warp: Warp) -> np.ndarray:
    """[H, W, 3] uint8 with the warp's brightness and contrast."""
    if not (warp.brightness or warp.contrast):
        return image
    levels = np.arange(256) * (1 + warp.contrast) + 255 * warp.brightness
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)[image]


def _moved(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
