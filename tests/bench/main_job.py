"""The image stage against the bare loop that people write: one run, the same pipeline, prompts, steps and threads.

    python -m tests.bench.main_job [--model FOLDER] [--images 128] [--batch 32] [--rounds 3]

bare loop: `pipe(prompt).images[0].save(png)`, one prompt at a time. stage: the real worker, units written, hashed and
committed. Rounds alternate, medians are compared, loading the model is left out of both (and shown). Goals: at least
1.5 times faster an image, the model idle less than 3 % of the time. Nothing is asserted: it is a benchmark.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

EMBEDDED = Path("synth", "embedded", "models", "tiny_sd")
CLASSES = ("dog", "cat", "tree", "house", "car", "fish", "bird", "apple", "boat", "star")
PLACES = ("in a park", "on a red background", "at night", "by the sea", "in the snow", "on a table")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tests.bench.main_job", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--model", type=Path, help=f"diffusers folder (default: {EMBEDDED} if it is there, else a tiny random one)")
    p.add_argument("--images", type=int, default=128, help="pictures a round (default 128)")
    p.add_argument("--batch", type=int, default=32, help="images.batch_size (default 32)")
    p.add_argument("--unit", type=int, default=64, help="images.unit_size (default 64)")
    p.add_argument("--steps", type=int, default=20, help="denoising steps (default 20)")
    p.add_argument("--guidance", type=float, default=4.0, help="guidance scale (default 4)")
    p.add_argument("--size", type=int, default=32, help="height and width in pixels (default 32)")
    p.add_argument("--rounds", type=int, default=3, help="rounds, medians of which are compared (default 3)")
    p.add_argument("--numerics", choices=("exact", "fast"), default="exact")
    return p


def bare_loop(pipe, prompts: list[str], args, folder: Path) -> tuple[float, float]:
    """(seconds, CPU seconds) an image of the loop over prompts, with PNG saving."""
    import torch

    begun, used = time.perf_counter(), time.process_time()
    for k, prompt in enumerate(prompts):
        image = pipe(
            prompt, num_inference_steps=args.steps, guidance_scale=args.guidance, height=args.size, width=args.size,
            generator=torch.Generator("cpu").manual_seed(k),
        ).images[0]  # fmt: skip
        image.save(folder / f"{k:05d}.png")
    return (time.perf_counter() - begun) / len(prompts), (time.process_time() - used) / len(prompts)


def whole_stage(root: Path, prompts: list[str], args, model: Path, seed: int) -> tuple[float, float, float]:
    """(seconds, CPU seconds) an image of a fresh images stage, loading left out, and the share of time the model was idle."""
    from synth.images.stage import Images
    from synth.numerics import PRESETS
    from tests.fixtures_images import captions_json_stage, captions_stage, images_stage, work

    with contextlib.redirect_stderr(io.StringIO()) as log:
        table = captions_json_stage(root, [captions_stage(root, prompts, classes=CLASSES)], len(prompts))
        assert work(table) == 0, log.getvalue()
        folder = images_stage(
            root, table, model, len(prompts), args.unit, args.batch, PRESETS[args.numerics], seed=seed, steps=args.steps,
            guidance_scale=args.guidance, height=args.size, width=args.size,
        )  # fmt: skip
        loading, open_stage = [], Images.open

        def timed(self):
            begun = time.process_time()
            open_stage(self)
            loading.append(time.process_time() - begun)

        used, Images.open = time.process_time(), timed
        try:
            assert work(folder) == 0, log.getvalue()
        finally:
            Images.open = open_stage
        used = time.process_time() - used - sum(loading)
    events = [json.loads(line) for p in (folder.path / "events").glob("*.jsonl") for line in p.read_text().splitlines()]
    stop = next(e for e in events if e["event"] == "stop")
    n = stop["samples"]
    return (stop["seconds"] - stop["load_s"]) / n, used / n, stop["idle_s"] / (stop["idle_s"] + stop["busy_s"])


def main() -> int:
    args = parser().parse_args()
    from synth.images.model_folder import inspect
    from synth.images.pipeline import device, load
    from synth.numerics import PRESETS, environment
    from tests.fixtures_images import build_tiny_sd

    os.environ.update(environment(PRESETS[args.numerics]))
    with tempfile.TemporaryDirectory() as temp:
        model = args.model or (EMBEDDED if (EMBEDDED / "model_index.json").exists() else build_tiny_sd(Path(temp, "model"), args.size))
        prompts = [f"a {CLASSES[k % len(CLASSES)]} {PLACES[k // len(CLASSES) % len(PLACES)]}, number {k}" for k in range(args.images)]
        begun = time.perf_counter()
        pipe = load(inspect(model), "default", PRESETS[args.numerics])
        loading = time.perf_counter() - begun
        bare_loop(pipe, prompts[:2], args, Path(temp))
        loops, stages = [], []
        for n in range(args.rounds):
            loops.append(bare_loop(pipe, prompts, args, Path(temp)))
            stages.append(whole_stage(Path(temp, f"round{n}"), prompts, args, model, n))
            print(
                f"round {n + 1} of {args.rounds}: loop {loops[-1][0] * 1e3:.1f} ms, stage {stages[-1][0] * 1e3:.1f} ms an image",
                file=sys.stderr,
            )
        report(args, model, device(), loading, loops, stages)
    return 0


def report(args, model: Path, on, loading: float, loops: list[tuple], stages: list[tuple]) -> None:
    import diffusers
    import torch

    print(
        f"{model.name} on {on} ({platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}), torch {torch.__version__}, "
        f"diffusers {diffusers.__version__}, {torch.get_num_threads()} thread(s), numerics {args.numerics}\n"
        f"{args.images} images of {args.size} px, {args.steps} steps, guidance {args.guidance}, batch {args.batch}, unit {args.unit}; "
        f"medians of {args.rounds} rounds; first load {loading:.2f} s\n\n"
        f"| ms an image | bare loop, PNG (min .. max) | stage, committed (min .. max) | loop / stage |\n|---|---|---|---|"
    )
    for k, what in enumerate(("wall", "CPU")):
        a, b = [t[k] * 1e3 for t in loops], [t[k] * 1e3 for t in stages]
        x, y = statistics.median(a), statistics.median(b)
        goal = " (goal 1.5)" if k == 0 else ""
        print(f"| {what} | {x:.2f} ({min(a):.2f} .. {max(a):.2f}) | {y:.2f} ({min(b):.2f} .. {max(b):.2f}) | {x / y:.2f}{goal} |")
    print(f"\nmodel idle {100 * statistics.median(t[2] for t in stages):.2f} % of the time between first and last batch (goal under 3 %)")


if __name__ == "__main__":
    sys.exit(main())
