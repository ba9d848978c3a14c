"""Image encoders at several settings: python -m tests.bench.encoders [--size 512]. What synth/images/encode.py was chosen by."""

import argparse
import io
import time
import zlib

import numpy as np
from PIL import Image

CASES = {
    **{f"png level {n}": {"format": "PNG", "compress_level": n} for n in (0, 1, 3, 6, 9)},
    "png level 1, run lengths": {"format": "PNG", "compress_level": 1, "compress_type": zlib.Z_RLE},
    "png level 1, Huffman": {"format": "PNG", "compress_level": 1, "compress_type": zlib.Z_HUFFMAN_ONLY},
    "jpg 4:4:4 q95": {"format": "JPEG", "quality": 95, "subsampling": 0},
    **{f"webp lossless effort {m}": {"format": "WEBP", "lossless": True, "method": m, "quality": 0} for m in (0, 1, 4)},
}


def photo(size: int) -> Image.Image:
    """Noise with the spectrum of photographs, and a little sensor noise."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.fft2(rng.normal(size=(size, size, 3)), axes=(0, 1))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    x = np.fft.ifft2(spectrum / f[..., None] ** 1.3, axes=(0, 1)).real
    x = (x - x.min()) / (x.max() - x.min()) * 255 + rng.normal(size=x.shape)
    return Image.fromarray(x.clip(0, 255).astype(np.uint8))


def drawing(size: int) -> Image.Image:
    """Flat colours with sharp edges, as icons have."""
    y, x = np.mgrid[:size, :size] / size
    k = (np.hypot(x - 0.4, y - 0.5) < 0.3).astype(int) + 2 * (np.abs(x - 0.6) + np.abs(y - 0.6) < 0.25)
    return Image.fromarray(np.array([[240, 240, 230], [200, 40, 30], [30, 90, 200], [20, 20, 20]], np.uint8)[k])


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench.encoders", description=__doc__)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--seconds", type=float, default=0.5, help="time spent on each case")
    args = p.parse_args()
    print(f"{args.size} px, one thread\n\n| picture | encoder | ms | kB |\n|---|---|---|---|")
    for kind in (photo, drawing):
        image = kind(args.size)
        for name, settings in CASES.items():
            times, size = [], 0
            while sum(times) < args.seconds:
                out, begun = io.BytesIO(), time.perf_counter()
                image.save(out, **settings)
                times.append(time.perf_counter() - begun)
                size = out.tell()
            print(f"| {kind.__name__} | {name} | {min(times) * 1e3:.2f} | {size / 1000:.1f} |")


if __name__ == "__main__":
    main()
