"""How long a verification takes: python -m tests.bench.verify [--samples 1000000] [--unit 500] [--bytes 200]

The units are simulated: an images stage of small random "pictures", without a model. Reading deep is also told in bytes a second, so
that it can be scaled to real pictures.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.framing import UnitIndex, frame, seal
from synth.store.samples import Sample
from synth.store.spec import StageSpec, canonical
from synth.verify.stage import verify_stage
from tests.configs import ProbeConfig


def simulate(root: Path, samples: int, unit_size: int, size: int) -> StageFolder:
    """A stage of `samples` samples: a JSON record and `size` random bytes each."""
    folder = StageFolder.create(root, StageSpec("probe", "probe", dump(ProbeConfig(size=size)), samples, unit_size, unit_size, EXACT))
    pool = np.random.default_rng(0).bytes(size + 4096)
    for number in range(folder.spec.n_units):
        unit = folder.unit(number)
        made = [
            Sample(
                s,
                f"{s:09d}",
                {"bin": pool[s % 4096 :][:size], "json": canonical({"caption": f"a picture, number {s}", "label": s % 1000})},
            )
            for s in range(unit.start, unit.stop)
        ]
        batch = frame("tar", made)
        end, _ = seal("tar", UnitIndex(number, unit.start, len(unit), batch.entries, {}, ""), len(batch.data))
        folder.unit_path(number).parent.mkdir(parents=True, exist_ok=True)
        folder.unit_path(number).write_bytes(batch.data + end)
    return folder


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--samples", type=int, default=1_000_000)
    p.add_argument("--unit", type=int, default=500, help="samples a unit")
    p.add_argument("--bytes", type=int, default=200, help="bytes of a picture")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="synthset-bench-") as root:
        folder = simulate(Path(root), args.samples, args.unit, args.bytes)
        total = sum(folder.unit_path(u).stat().st_size for u in range(folder.spec.n_units))
        print(f"{args.samples:,} samples in {folder.spec.n_units:,} units of {args.unit}, {total / 2**20:,.0f} MiB; files warm in memory")
        for deep in (False, True):
            begun = time.perf_counter()
            found = verify_stage(folder, deep)
            seconds = time.perf_counter() - begun
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            name = "deep" if deep else "shallow"
            print(
                f"{name:8} {seconds:7.1f} s  {args.samples / seconds:10,.0f} samples/s  {total / 2**20 / seconds:8,.0f} MiB/s"
                f"  {len(found.problems)} problems  peak {memory:,.0f} MB"
            )


if __name__ == "__main__":
    main()
