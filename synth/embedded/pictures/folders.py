"""Write renders of the toy pictures as a folder of pictures by class: a real set for the judge, where the embedded models make the other.

    python -m synth.embedded.pictures.folders real --count 600                # new renders of the drawings that the models know
    python -m synth.embedded.pictures.folders test --count 600 --held-out     # of other artists' drawings

The same seed gives the same bytes. A folder that is there stays as it is; one of other keys is refused, by <folder>.json beside it.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from synth import foreign
from synth.embedded.pictures import grammar
from synth.embedded.pictures.render import classes, render
from synth.errors import EXIT_OK, InputError, tool
from synth.store.files import beside, write_atomic

SIDE = 32  # pixels


def write(folder: Path, count: int, seed: int, held_out: bool, side: int = SIDE) -> None:
    """`count` pictures, each class in turn, as <class>/000012.png."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        name = classes()[number % len(classes())]
        captioned = grammar.sample(rng, cls=name, held_out=held_out)
        place = folder / name / f"{number:06d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(captioned.scene, side, side).image).save(place)


def write_whole(folder: Path, count: int, seed: int, held_out: bool) -> None:
    """The folder, whole or not at all. InputError for one that is there and was made of other keys, or half of it by an older version."""
    told = folder.with_name(f"{folder.name}.json")  # beside it: in it, it would be told as a file that is no picture
    keys = {"count": count, "seed": seed, "held_out": held_out}
    if folder.exists():
        try:
            there = foreign.read_json(told, foreign.RECORD)
        except OSError:
            there = "nobody knows what"
        if there != keys:
            raise InputError(f"{folder}: holds pictures of {there}, not of {keys}; remove it, or name another folder")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = beside(folder)
    try:
        write(place, count, seed, held_out)
        write_atomic(told, json.dumps(keys).encode())  # first: a folder that is there has it
        os.rename(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="drawings of other artists")
    args = parser.parse_args()

    def run() -> int:
        write_whole(args.folder, args.count, args.seed, args.held_out)
        return EXIT_OK

    return tool(run)


if __name__ == "__main__":
    sys.exit(main())
