"""Which operation gives other bits the second time: python -m tests.gpu.differs kolors [stories] [--times 6]

A stage in exact numerics is worked on again and again at places of its own, in this process. First plainly: how many digests there are.
Then with a look at every operation: one that for the same bits in gave different bits out is named with its shapes. Where digests
differ and no operation is named, something read memory that nobody wrote, or the host changed memory that a copy was still reading.
"""

import argparse
import collections
import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from synth.numerics import EXACT, environment

os.environ.update(environment(EXACT))  # before torch is imported, as in a worker

import numpy as np
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from synth.errors import EXIT_OK
from synth.store.folder import StageFolder
from tests.fixtures_images import build_tiny_sd, work
from tests.gpu.rows import Planner
from tests.stages import digests
from tests.story.stories import planned as story_stages

DRAWS = ("rand", "normal", "uniform", "bernoulli", "empty", "new_empty", "exponential")  # what gives new bits each time by its nature


class Watched(TorchDispatchMode):
    """Every operation that is seen: (name, arguments, bits of its tensors) -> bits that came out."""

    def __init__(self):
        super().__init__()
        self.seen: dict[tuple, dict[str, str]] = collections.defaultdict(dict)  # -> bits out -> how the tensors lay
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = str(func)
        flat, _ = tree_flatten((args, kwargs))
        key = (name, *(_bits(x) if torch.is_tensor(x) else repr(x) for x in flat)) if not any(d in name for d in DRAWS) else None
        lay = ", ".join(_lies(x) if torch.is_tensor(x) else repr(x) for x in flat)[:600] if key else ""
        out = func(*args, **kwargs)
        if key:
            self.calls += 1
            found = " ".join(_bits(x) for x in tree_flatten(out)[0] if torch.is_tensor(x))
            self.seen[key].setdefault(found, lay)
        return out

    def differing(self) -> list[str]:
        return [f"{key[0]}\n    " + "\n    ".join(bits.values()) for key, bits in self.seen.items() if len(bits) > 1]


def _bits(tensor: torch.Tensor) -> str:
    if tensor.is_meta:
        return f"{tuple(tensor.shape)} meta"
    host = tensor.detach().cpu().contiguous()
    raw = host.reshape(-1).view(torch.uint8)
    return f"{tuple(tensor.shape)} {tensor.dtype} {tensor.stride()} " + hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:16]


def _lies(tensor: torch.Tensor) -> str:
    kind = f"{tuple(tensor.shape)} {str(tensor.dtype)[6:]} on {tensor.device.type}"
    return f"{kind}, strides {tensor.stride()} at %512={tensor.data_ptr() % 512}"


def stage_of(name: str, root: Path) -> Callable[[str], StageFolder]:
    """Place -> a stage there."""
    if name == "stories":
        model = build_tiny_sd(root / "sd")
        return lambda place: story_stages(root / place, model)[0]
    planner = Planner(root)
    return lambda place: planner(name, EXACT, place)


def _compare(first: StageFolder, others: list[StageFolder]) -> None:
    """Print which files of which samples differ, and by how many grey levels."""
    files = {s.slot: {k: s.read(k) for k in ("json", "png")} for s in first.samples()}
    for other in others:
        for sample in other.samples():
            for kind, data in files[sample.slot].items():
                if (found := sample.read(kind)) != data:
                    far = "" if kind == "json" else f", {_furthest(found, data)} grey levels"
                    text = f": {data.decode()} | {found.decode()}" if kind == "json" else ""
                    print(f"  {other.path.parent.parent.name} slot {sample.slot}: {kind} differs{far}{text[:600]}", flush=True)


def _furthest(a: bytes, b: bytes) -> int:
    one, two = (np.asarray(Image.open(io.BytesIO(x))).astype(int) for x in (a, b))
    return int(abs(one - two).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="rows of tests/images/test_models.py, or stories")
    parser.add_argument("--times", type=int, default=6, help="plain runs (6)")
    parser.add_argument("--watched", type=int, default=2, help="runs with a look at every operation (2)")
    args = parser.parse_args()
    for name in args.names:
        with tempfile.TemporaryDirectory() as temp:
            planned = stage_of(name, Path(temp))

            def run(place: str, *others: int, planned=planned) -> tuple[str, ...]:
                folder = planned(place)
                with contextlib.redirect_stderr(io.StringIO()) as log:
                    code = work(folder, *others)
                assert code == EXIT_OK, log.getvalue()[-2000:]
                found = digests(folder)
                return tuple(found.values() if isinstance(found, dict) else found)

            plain = [run(f"plain{k}", *((1, 2) if k % 2 else ())) for k in range(args.times)]  # each other time as job 1 of 2
            _compare(planned("plain0"), [planned(f"plain{k}") for k in range(1, args.times)])
            told = [len(set(unit)) for unit in zip(*plain, strict=True)]
            print(f"{name}: {args.times} plain runs, {len(set(plain))} outcomes; digests of each unit: {told}", flush=True)
            with Watched() as watched:
                looked = {run(f"watched{k}", *((1, 2) if k % 2 else ())) for k in range(args.watched)}
            print(f"{name}: {watched.calls} operations in {args.watched} watched runs, {len(looked)} outcomes", flush=True)
            for line in watched.differing()[:5]:
                print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
