"""What pictures of a known model cost where none was ever drawn: a guess by counted operations, said as one, held against no limit.

operations.json has them for each preset that is one model: TFLOP of a picture at its native size, of a `step` of the denoiser (of one half,
where guidance has `halves`) and of all else, `once` (`python -m tests.images.count_operations`).
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from synth.store.spec import StageSpec

TABLE = Path(__file__).with_name("operations.json")
SHEETS = {"an H100": 989.0, "an A100": 312.0}  # TFLOP/s of dense products in 16 bits, by their data sheets
SHARE = 0.19  # of the data sheet that Stable Diffusion 1.5 came to on an H100 in exact numerics, batch 16: docs/performance.md
HALF = ("exact", "fast")  # numerics that compute in 16 bits on a GPU
FACTOR = 3  # that a guess may be off by


@functools.cache
def _table() -> Mapping[str, Mapping[str, float]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def operations(config: Mapping) -> float | None:
    """TFLOP of one picture of an images stage; None where its model was not counted."""
    if (counted := _table().get(config["model"]["id"])) is None:
        return None
    step = counted["step"] * (2 if counted["halves"] and config["guidance_scale"] > 1 else 1)
    size = config["height"] * config["width"] / counted["side"] ** 2
    return (step * config["steps"] + counted["once"]) * size


def guess(spec: StageSpec) -> dict[str, float] | None:
    """Card -> seconds for all pictures of an images stage; None where nothing can be guessed."""
    if spec.kind != "images" or spec.numerics.get("name") not in HALF or (each := operations(spec.config)) is None:
        return None
    return {card: spec.slots * each / (rate * SHARE) for card, rate in SHEETS.items()}
