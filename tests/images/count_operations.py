"""Counts the floating-point operations of every preset in its true shapes, on the meta device, into launch/show/operations.json:
python -m tests.images.count_operations. Some minutes. Of presets that are chains of models nothing is counted: each has steps of its own.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from launch.show.guesses import TABLE
from synth.images.families import family_class
from tests.images.count_memory import PRESETS, config_of, native, parts_of, preset
from tests.images.counting import Kernels
from tests.images.meta_pipelines import between, pipeline
from tests.images.true_shapes import FOLDERS


class Attention(Kernels):
    """Counts what attention computes: two products for each pair of tokens, also where keys and values are shared by heads."""

    def __init__(self):
        super().__init__(math=False)
        self.operations = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, key = args[:2] if len(args) > 1 else (kwargs["query"], kwargs["key"])
            self.operations += 4 * query.numel() * key.shape[-2]
        return super().__torch_function__(func, types, args, kwargs)


def counted(name: str, scratch: Path) -> dict[str, float]:
    """TFLOP of one picture at its native size: `step` of the denoiser, of each half where guidance has `halves`; `once` of all else."""
    said = preset(name)
    side = native(name, said)
    pipe = pipeline(name, scratch, getattr(torch, said["dtype"]))
    config = config_of(name, said, side)
    family = family_class(FOLDERS[name][0])(pipe, config, 1)
    marks: list[int] = []
    with torch.inference_mode(), Attention() as attention, FlopCounterMode(display=False) as counter:

        def so_far() -> int:
            return counter.get_total_flops() + attention.operations

        pipe.vae.decode = between(pipe.vae.decode, lambda: marks.append(so_far()), lambda: None)
        items = family.embed(["a cat"])
        encoded = so_far()
        family.draw(items, [torch.Generator().manual_seed(0)])
        total = so_far()
    (drawn,) = marks
    step = (drawn - encoded) / (1 + family.guided)
    halves = type(family)(pipe, replace(config, guidance_scale=4.0), 1).guided  # FLUX.1 takes its scale as an input, in one call
    return {"side": side, "halves": halves, "step": round(step / 1e12, 3), "once": round((encoded + total - drawn) / 1e12, 3)}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        table = {}
        for name in PRESETS:
            if not parts_of(name) and "vae" in FOLDERS[name][1]:
                table[name] = counted(name, Path(scratch))
                print(name, table[name], flush=True)
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
