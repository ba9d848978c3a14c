"""Peak GPU memory at real shapes, for each numerics and some batches: python -m tests.gpu.peaks [sd15] [sdxl] [tiny]

Random weights, two steps, through the real worker. Beside each figure what a plan says (synth.images.memory): tensors that are alive at
the widest moment, and what a GPU must have for them. What does not fit says so. tiny is for a dry run.
"""

import contextlib
import gc
import io
import sys
import tempfile
import time
from pathlib import Path

import torch

from synth.errors import EXIT_OK
from synth.images.memory import need
from synth.images.model_folder import inspect
from synth.images.stage import Images
from synth.numerics import PRESETS
from tests.bench.images import EMBEDDED
from tests.bench.shapes import build
from tests.fixtures_images import captions_json_stage, captions_stage, images_stage, work

SIZES = {"sd15": 512, "sdxl": 1024, "tiny": 32}
BATCHES = {"exact": (1, 4, 16), "fast": (4, 16), "reference": (1, 4, 16)}


def peak(root: Path, model: Path, numerics: str, batch: int, size: int) -> str:
    """What one batch took, or why it was not drawn."""
    gc.collect()
    if cuda := torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.redirect_stderr(io.StringIO()) as log:
        table = captions_json_stage(root, [captions_stage(root, [f"thing {k}" for k in range(batch)])], batch)
        assert work(table) == EXIT_OK, log.getvalue()
        folder = images_stage(root, table, model, batch, batch, batch, PRESETS[numerics], steps=2, height=size, width=size)
        begun = time.perf_counter()
        code = work(folder)
    if code != EXIT_OK:
        return log.getvalue().splitlines()[-1][:200]
    took = time.perf_counter() - begun
    if not cuda:
        return f"{took:.1f} s"
    allocated, reserved = torch.cuda.max_memory_allocated() / 1e9, torch.cuda.max_memory_reserved() / 1e9
    planned = need(inspect(model), Images(folder).config, PRESETS[numerics], batch, 0)
    said = f"planned {planned.tensors / 1e9:.1f} and {planned.device / 1e9:.1f}"
    return f"{allocated:.1f} GB allocated, {reserved:.1f} reserved ({said}); loaded and drawn in {took:.1f} s"


def main() -> None:
    on = "cuda" if torch.cuda.is_available() else "cpu"
    for name in sys.argv[1:] or ("sd15", "sdxl"):
        with tempfile.TemporaryDirectory() as temp:
            model = EMBEDDED if name == "tiny" else build(name, Path(temp, name), on, "bfloat16" if on == "cuda" else "float32")
            for numerics, batches in BATCHES.items():
                for batch in batches:
                    print(f"{name}, {numerics}, batch {batch}: ", end="", flush=True)
                    print(peak(Path(temp, numerics, str(batch)), model, numerics, batch, SIZES[name]), flush=True)


if __name__ == "__main__":
    main()
