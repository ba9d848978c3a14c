"""Between an image and the canvas it is drawn on: scaled to fit, padded right and below to a bucket, and back. Exact in integers.

Images of one bucket are drawn together. Sizes are pure and known at plan time; numpy, OpenCV and Pillow are imported by what
touches pixels.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def fitted(width: int, height: int, long: int, short: int) -> tuple[int, int]:
    """(w, h) of an image that was scaled, proportions kept, so that its long side is at most `long`, its short one `short`.

    Small images grow, large ones shrink: one of the two sides becomes exact (mmcv's rule, which OVTrack draws by).

    >>> fitted(640, 480, 768, 512), fitted(480, 640, 768, 512), fitted(1000, 200, 768, 512), fitted(1, 3000, 768, 512)
    ((683, 512), (512, 683), (768, 154), (1, 768))
    """
    larger, smaller = max(width, height), min(width, height)
    top, bottom = (long, larger) if long * smaller <= short * larger else (short, smaller)
    return tuple(max(1, (2 * side * top + bottom) // (2 * bottom)) for side in (width, height))


def bucket_of(width: int, height: int, long: int, short: int, step: int) -> tuple[int, int]:
    """(w, h) of the canvas on which an image of this size is drawn: what it is scaled to, padded to multiples of `step`.

    >>> bucket_of(640, 480, 768, 512, 64), bucket_of(480, 640, 768, 512, 64), bucket_of(1000, 200, 768, 512, 64)
    ((704, 512), (512, 704), (768, 192))
    """
    return tuple(-(-side // step) * step for side in fitted(width, height, long, short))


def onto(image: "np.ndarray", size: tuple[int, int], bucket: tuple[int, int]) -> "np.ndarray":
    """[H, W, 3] uint8 -> [bucket h, bucket w, 3]: scaled to `size` (bicubic with antialiasing), its edge pixels repeated."""
    import numpy as np

    return np.pad(_scaled(image, size), ((0, bucket[1] - size[1]), (0, bucket[0] - size[0]), (0, 0)), mode="edge")


def mask_onto(mask: "np.ndarray", size: tuple[int, int], bucket: tuple[int, int]) -> "np.ndarray":
    """[H, W] uint8 0/1 -> [bucket h, bucket w] uint8: 1 wherever a pixel of the canvas has any part of the mask; padding is 0."""
    import numpy as np

    from synth.tracking.opencv import cv2

    scaled = cv2().resize(mask * np.uint8(255), size, interpolation=cv2().INTER_AREA) > 0
    return np.pad(scaled.astype(np.uint8), ((0, bucket[1] - size[1]), (0, bucket[0] - size[0])))


def back(canvas: "np.ndarray", size: tuple[int, int], width: int, height: int) -> "np.ndarray":
    """[bucket h, bucket w, 3] uint8 -> [height, width, 3]: padding cut off, scaled to the size of the original."""
    return _scaled(canvas[: size[1], : size[0]], (width, height))


def _scaled(image: "np.ndarray", size: tuple[int, int]) -> "np.ndarray":
    import numpy as np
    from PIL import Image

    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
