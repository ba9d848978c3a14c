"""What keeping freed memory brings on a CPU: one evaluation of the embedded U-Net, in two processes that take turns.

    python -m tests.bench.heap [--rows 32] [--latents 16 24] [--rounds 30]

Each process evaluates the same latents in turn with the other, so that a machine whose speed drifts slows both. Faults: pages that the
kernel had to hand out anew, an evaluation.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

UNET = Path("synth", "embedded", "models", "tiny_sd", "unet")
CHILD = """
import resource, sys, time
import torch
from diffusers import UNet2DConditionModel
from synth.numerics import keep_freed_memory
kept, folder, rows, height, width = sys.argv[1] == "kept", sys.argv[2], *map(int, sys.argv[3:])
if kept and not keep_freed_memory():
    sys.exit("this C library has no mallopt")
torch.set_num_threads(1)
unet, noise = UNet2DConditionModel.from_pretrained(folder).eval(), torch.Generator().manual_seed(0)
latents = torch.randn(rows, unet.config.in_channels, height, width, generator=noise)
text = torch.randn(rows, 77, unet.config.cross_attention_dim, generator=noise)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with torch.inference_mode():
    for _ in range(4):
        unet(latents, torch.tensor(5), encoder_hidden_states=text)
    print(flush=True)
    for _ in sys.stdin:
        begun, before = time.perf_counter(), faults()
        unet(latents, torch.tensor(5), encoder_hidden_states=text)
        print(time.perf_counter() - begun, faults() - before, flush=True)
"""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--rows", type=int, default=32, help="twice the images of a batch: with and without the caption")
    p.add_argument("--latents", type=int, nargs=2, default=(16, 24), help="height and width")
    p.add_argument("--rounds", type=int, default=30)
    args = p.parse_args()
    numbers = [str(n) for n in (args.rows, *args.latents)]
    children = {
        kind: subprocess.Popen(
            [sys.executable, "-c", CHILD, kind, UNET, *numbers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in ("left to glibc", "kept")
    }
    found = {kind: [] for kind in children}
    for child in children.values():
        child.stdout.readline()
    for _ in range(args.rounds):
        for kind, child in children.items():
            print(file=child.stdin, flush=True)
            found[kind].append(tuple(map(float, child.stdout.readline().split())))
    for child in children.values():
        child.communicate()
    print(
        f"{args.rows} rows of {args.latents[0]} x {args.latents[1]} latents, 1 thread, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}"
    )
    first = next(iter(found.values()))
    for kind, rows in found.items():
        ratio = statistics.median(a[0] / b[0] for a, b in zip(first, rows, strict=True))
        seconds, faults = (statistics.median(r[k] for r in rows) for k in range(2))
        print(f"  {kind:14} {1000 * seconds:8.1f} ms  {faults:8.0f} faults  {ratio:.2f} times faster")


if __name__ == "__main__":
    main()
