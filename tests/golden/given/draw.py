"""A command in the place of a model (docs/external.md) in plain Python: the same bytes on every machine.

A prompt with "drawing" gives one picture for all seeds, so that there are duplicates; one with "refuse" gives none.
"""

import hashlib
import json
import sys
from pathlib import Path

CELLS = 4  # cells a side, each of one colour


def say(**answer) -> None:
    print(json.dumps(answer), flush=True)


def draw(prompt: str, seed: int, width: int, height: int) -> bytes:
    """A binary PPM: CELLS x CELLS flat colours drawn from the prompt and the seed."""
    seed = 0 if "drawing" in prompt else seed
    colours = [hashlib.sha256(f"{prompt}/{seed}/{cell}".encode()).digest()[:3] for cell in range(CELLS * CELLS)]
    pixels = (colours[y * CELLS // height * CELLS + x * CELLS // width] for y in range(height) for x in range(width))
    return b"P6 %d %d 255\n" % (width, height) + b"".join(pixels)


say(hello="synthset-external", version=1)
for line in sys.stdin:
    request = json.loads(line)
    if "refuse" in request["prompt"]:
        say(id=request["id"], error="not this one")
        continue
    name = f"{request['id']}.ppm"
    Path(request["out"]).with_name(name).write_bytes(draw(*(request[k] for k in ("prompt", "seed", "width", "height"))))
    say(id=request["id"], image=name)
