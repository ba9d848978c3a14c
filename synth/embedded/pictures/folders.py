"""Write renders of the toy pictures as a folder of pictures by class: a real set for the judge, where the embedded models make the other.

    python -m synth.embedded.pictures.folders real --count 600                # new renders of the drawings that the models know
    python -m synth.embedded.pictures.folders test --count 600 --held-out     # of other artists' drawings

The same seed gives the same bytes. A folder that is there stays as it is.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from synth.embedded.pictures import grammar
from synth.embedded.pictures.render import classes, render

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="drawings of other artists")
    args = parser.parse_args()
    if not args.folder.exists():
        write(args.folder, args.count, args.seed, args.held_out)


if __name__ == "__main__":
    main()
