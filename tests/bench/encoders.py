"""Image encoders side by side: python -m tests.bench.encoders [--size 512]. What synth/images/encode.py was chosen by.

OpenCV is tried where it is installed; the project does not need it.
"""

import argparse
import importlib.util
import io
import os
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from synth.images.encode import PILLOW, encode_image


def pillow(**settings) -> Callable[[np.ndarray], bytes]:
    def encode(pixels: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, **settings)
        return out.getvalue()

    return encode


def cases() -> dict[str, Callable[[np.ndarray], bytes]]:
    """name -> encoder. "ours": what the images stage does."""
    found = {f"png Pillow level {n}": pillow(format="PNG", compress_level=n) for n in (1, 3, 6)}
    found["png Pillow level 1, run lengths"] = pillow(format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        found["png OpenCV"] = lambda p: cv2.imencode(".png", p[..., ::-1])[1].tobytes()
    found["png ours"] = lambda p: encode_image(p, "png")
    found["jpg 4:4:4 q95 (ours)"] = lambda p: encode_image(p, "jpg")
    found |= {f"webp lossless effort {m}": pillow(**PILLOW["webp"] | {"method": m}) for m in (1, 4)}
    found["webp lossless effort 0 (ours)"] = lambda p: encode_image(p, "webp")
    return found


def photo(size: int) -> np.ndarray:
    """Noise with the spectrum of photographs, and a little sensor noise."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.fft2(rng.normal(size=(size, size, 3)), axes=(0, 1))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    x = np.fft.ifft2(spectrum / f[..., None] ** 1.3, axes=(0, 1)).real
    x = (x - x.min()) / (x.max() - x.min()) * 255 + rng.normal(size=x.shape)
    return x.clip(0, 255).astype(np.uint8)


def drawing(size: int) -> np.ndarray:
    """Flat colours with sharp edges, as icons have."""
    y, x = np.mgrid[:size, :size] / size
    k = (np.hypot(x - 0.4, y - 0.5) < 0.3).astype(int) + 2 * (np.abs(x - 0.6) + np.abs(y - 0.6) < 0.25)
    return np.array([[240, 240, 230], [200, 40, 30], [30, 90, 200], [20, 20, 20]], np.uint8)[k]


def times(encode: Callable[[np.ndarray], bytes], pixels: np.ndarray, threads: int, least: float) -> tuple[float, float]:
    """Seconds of a picture in one thread, and of `threads` pictures in as many."""
    with ThreadPoolExecutor(threads) as pool:
        together = seconds(lambda: list(pool.map(encode, [pixels] * 4 * threads)), least) / 4
    return seconds(lambda: encode(pixels), least), together


def seconds(encode: Callable[[], object], least: float) -> float:
    """The fastest of as many calls as fit into `least` seconds."""
    times: list[float] = []
    while sum(times) < least:
        begun = time.perf_counter()
        encode()
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench.encoders", description=__doc__)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--seconds", type=float, default=0.5, help="time spent on each case")
    args = p.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{args.size} px, {cores} cores, zlib {zlib.ZLIB_RUNTIME_VERSION}, Python {sys.version.split()[0]}\n")
    print(f"| picture | encoder | ms, one thread | pictures/s, {cores} threads | kB |\n|---|---|---|---|---|")
    for kind in (photo, drawing):
        pixels = kind(args.size)
        for name, encode in cases().items():
            alone, together = times(encode, pixels, cores, args.seconds)
            print(f"| {kind.__name__} | {name} | {alone * 1e3:.2f} | {cores / together:.0f} | {len(encode(pixels)) / 1000:.1f} |")


if __name__ == "__main__":
    main()
