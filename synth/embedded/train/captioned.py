"""Make the captioned scenes of ../captioned: pictures with alt texts, as recipe=layout reads them, in a tar as img2dataset writes it.

    python -m synth.embedded.train.captioned [FOLDER]

    00000.tar    key.jpg and key.txt of each picture

The scenes are those of scenes.py behind the annotated ones, so that no picture is in both sets. Everything follows from their numbers.
"""

import argparse
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synth.embedded.train.scene_captions import captions
from synth.embedded.train.scenes import IMAGES, SEED, jpeg, made

FOLDER = Path(__file__).resolve().parent.parent / "captioned"
TAR, PICTURES, FIRST = "00000.tar", 48, IMAGES + 1
NAMING = 2  # of the captions of a scene, those that name its things


def members() -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the files, a picture after the other."""
    for number in range(FIRST, FIRST + PICTURES):
        scene = made(number)
        texts = captions(scene.scene, np.random.default_rng([SEED, number, 2]))
        key = f"{number - FIRST:09d}"
        yield f"{key}.jpg", jpeg(scene.rendered.image)
        yield f"{key}.txt", texts[number % NAMING].encode()


def write(folder: Path) -> Path:
    """The tar, whose bytes tell no time and no user."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / TAR, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder / TAR


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m synth.embedded.train.captioned", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    path = write(parser.parse_args(argv).folder)
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
