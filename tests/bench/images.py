"""Pictures a second: what people write, the same in batches, and the images stage. One run, same weights, prompts, size, steps.

    python -m tests.bench.images [--shapes tiny|sd15|sdxl] [--images N] [--batch B] [--steps S] [--rounds R]

(a) a loop over prompts, `pipe(prompt).images[0].save(png)`; (b) the same in batches, saved in the loop; (c) the images
stage through the real worker, committed, in exact and in fast numerics. (a) and (b) compute in float32 on a CPU and in
bfloat16 on a GPU. Loading and, for (c), the first batch (which compiles) are left out. Rounds alternate; ratios are taken
within a round, then their median. idle: share of the time in which no module of the model was computing.
Goals: CPU, tiny: at least 1.5 times (a), never below (b). H200, sd15: fast at least 1.6 times (b) and 3 times (a), idle
under 2 %, at least 45 % of the measured peak of matrix products.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = Path("synth", "embedded", "models", "tiny_sd")
DEFAULTS = {  # images a round, batch, steps, pixels, scheduler
    "tiny": (96, 16, 20, 32, "default"),
    "sd15": (64, 32, 50, 512, "ddim"),
    "sdxl": (16, 8, 50, 1024, "ddim"),
}
COMMANDS = "python -m tests.bench.images --shapes sd15; python -m tests.bench.images --shapes sdxl"


@dataclass(frozen=True)
class Round:
    seconds: float  # a picture
    idle: float  # share
    cpu: float  # CPU seconds a picture, of all threads: what a busy machine does not disturb


class Busy:
    """How long the modules of a pipeline computed: text encoders, denoiser, VAE decoder."""

    def __init__(self, pipe):
        import torch

        self._cuda = torch.cuda.is_available()
        self._begun, self._spans, self._handles = [], [], []
        modules = [m for n, m in pipe.components.items() if isinstance(m, torch.nn.Module) and n != "vae"] + [pipe.vae.decoder]
        for module in modules:
            self._handles += [module.register_forward_pre_hook(self._begin), module.register_forward_hook(self._end)]

    def _now(self):
        import torch

        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _begin(self, *_):
        self._begun.append(self._now())

    def _end(self, *_):
        self._spans.append((self._begun.pop(), self._now()))

    def seconds(self) -> float:
        import torch

        for handle in self._handles:
            handle.remove()
        if not self._cuda:
            return sum(b - a for a, b in self._spans)
        torch.cuda.synchronize()
        return sum(a.elapsed_time(b) for a, b in self._spans) / 1e3


def loop(pipe, prompts: list[str], args, batch: int, folder: Path) -> Round:
    """(a) with batch 1, else (b)."""
    import torch

    busy, begun, used = Busy(pipe), time.perf_counter(), time.process_time()
    for at in range(0, len(prompts), batch):
        texts = prompts[at : at + batch]
        made = pipe(
            texts, num_inference_steps=args.steps, guidance_scale=args.guidance, height=args.size, width=args.size,
            generator=[torch.Generator("cpu").manual_seed(at + i) for i in range(len(texts))],
        ).images  # fmt: skip
        for i, image in enumerate(made):
            image.save(folder / f"{at + i:05d}.png")
    seconds = time.perf_counter() - begun
    return Round(seconds / len(prompts), max(0.0, 1 - busy.seconds() / seconds), (time.process_time() - used) / len(prompts))


def stage(root: Path, prompts: list[str], args, model: Path, numerics: str) -> Round:
    """(c), in a folder of its own."""
    from synth.images.stage import Images
    from synth.numerics import PRESETS, changed
    from tests.fixtures_images import captions_json_stage, captions_stage, images_stage, work

    with contextlib.redirect_stderr(io.StringIO()) as log:
        table = captions_json_stage(root, [captions_stage(root, prompts)], len(prompts))
        assert work(table) == 0, log.getvalue()
        folder = images_stage(
            root, table, model, len(prompts), args.unit, args.batch,
            changed(PRESETS[numerics], compile=args.compile) if numerics == "fast" else PRESETS[numerics],
            steps=args.steps, guidance_scale=args.guidance, height=args.size, width=args.size, scheduler=args.scheduler,
        )  # fmt: skip
        watched, used = [], time.process_time()
        with _opened(Images, watched):
            assert work(folder) == 0, log.getvalue()
        busy, loading = watched
        used = time.process_time() - used - loading
    events = [json.loads(line) for p in (folder.path / "events").glob("*.jsonl") for line in p.read_text().splitlines()]
    stop = next(e for e in events if e["event"] == "stop")
    seconds = stop["seconds"] - stop["load_s"]
    return Round(seconds / stop["samples"], max(0.0, 1 - busy.seconds() / seconds), used / stop["samples"])


@contextlib.contextmanager
def _opened(cls, watched: list) -> Iterator[None]:
    """Opening a stage also draws one batch, so that compiling counts as loading, and watches the pipeline from there."""
    import torch

    plain = cls.open

    def warm(self):
        used = time.process_time()
        plain(self)
        with torch.inference_mode(), self.prepared.text_encoders.on_device():
            text = self.painter.family.embed(["a picture"])
        self.painter.draw(text, [0])[0].pixels()
        watched[:] = Busy(self.painter.family.pipe), time.process_time() - used

    cls.open = warm
    try:
        yield
    finally:
        cls.open = plain


def operations(pipe, args) -> float:
    """Floating-point operations of one picture, counted by torch on a picture of one step and one of two."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(steps: int) -> int:
        with FlopCounterMode(display=False) as counter:
            pipe(
                "a",
                num_inference_steps=steps,
                guidance_scale=args.guidance,
                height=args.size,
                width=args.size,
                output_type="pt",
            )
        return counter.get_total_flops()

    one, two = count(1), count(2)
    return one + (args.steps - 1) * (two - one)


def peak(n: int = 8192, tries: int = 30) -> float:
    """Operations a second of a large bfloat16 matrix product on the GPU: the best of some tries."""
    import torch

    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(tries):
        begun, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        a @ b
        end.record()
        torch.cuda.synchronize()
        best = min(best, begun.elapsed_time(end) / 1e3)
    return 2 * n**3 / best


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tests.bench.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--shapes",
        choices=tuple(DEFAULTS),
        default="tiny",
        help="tiny: the embedded model; others: random weights (default tiny)",
    )
    for name, at, text in (
        ("images", 0, "pictures a round"),
        ("batch", 1, "batch size"),
        ("steps", 2, "denoising steps"),
        ("size", 3, "pixels a side"),
    ):
        p.add_argument(f"--{name}", type=int, help=f"{text} (default {', '.join(f'{k} {v[at]}' for k, v in DEFAULTS.items())})")
    p.add_argument("--guidance", type=float, default=4.0, help="guidance scale (default 4)")
    p.add_argument("--compile", default="max-autotune", help="numerics.compile of fast on a GPU (default max-autotune)")
    p.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    return p


def main() -> int:
    args = parser().parse_args()
    args.images, args.batch, args.steps, args.size = (
        given or default for given, default in zip((args.images, args.batch, args.steps, args.size), DEFAULTS[args.shapes], strict=False)
    )
    args.scheduler, args.unit = DEFAULTS[args.shapes][4], 2 * args.batch
    from synth.images.model_folder import inspect
    from synth.images.pipeline import device, load
    from synth.numerics import EXACT, changed, environment
    from tests.bench.shapes import build

    os.environ.update(environment(EXACT))
    on = device().type
    args.compile = args.compile if on == "cuda" else "auto"
    with tempfile.TemporaryDirectory() as temp:
        model = (
            EMBEDDED if args.shapes == "tiny" else build(args.shapes, Path(temp, "model"), on, "bfloat16" if on == "cuda" else "float32")
        )
        plain = changed(EXACT | {"deterministic": False}, dtype="bfloat16", attention="auto", tf32=True) if on == "cuda" else EXACT
        pipe = load(inspect(model), args.scheduler, plain)
        prompts = [f"a picture of thing number {k} in a park" for k in range(args.images)]
        flops = operations(pipe, args) if on == "cuda" else 0.0
        for batch in (1, args.batch):
            loop(pipe, prompts[:batch], args, batch, Path(temp))
        found: dict[str, list[Round]] = {name: [] for name in ("(a) loop", "(b) batches", "(c) stage, exact", "(c) stage, fast")}
        for n in range(args.rounds):
            from synth import numerics

            for name, batch in (("(a) loop", 1), ("(b) batches", args.batch)):
                numerics.apply(plain)
                found[name].append(loop(pipe, prompts, args, batch, Path(temp)))
            for kind in ("exact", "fast"):
                found[f"(c) stage, {kind}"].append(stage(Path(temp, f"{kind}{n}"), prompts, args, model, kind))
            print(f"round {n + 1}: " + ", ".join(f"{k} {1 / v[-1].seconds:.2f}/s" for k, v in found.items()), file=sys.stderr)
        report(args, on, found, flops, peak() if on == "cuda" else 0.0)
    return 0


def report(args, on: str, found: dict[str, list[Round]], flops: float, best: float) -> None:
    import diffusers
    import torch

    where = (
        torch.cuda.get_device_name()
        if on == "cuda"
        else f"CPU ({platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})"
    )
    print(
        f"{args.shapes} on {where}, torch {torch.__version__}, diffusers {diffusers.__version__}, {torch.get_num_threads()} thread(s)\n"
        f"{args.images} pictures of {args.size} px, {args.steps} steps, scheduler {args.scheduler}, guidance {args.guidance}, "
        f"batch {args.batch}; "
        f"medians of {args.rounds} rounds\n\n| | pictures/s (min .. max) | times (a) | times (b) | CPU ms a picture | idle % |"
        + (" % of peak |" if best else "")
    )
    print("|---|---|---|---|---|---|" + ("---|" if best else ""))
    a, b = found["(a) loop"], found["(b) batches"]
    for name, rounds in found.items():
        rates = [1 / r.seconds for r in rounds]
        over = [statistics.median(x.seconds / r.seconds for x, r in zip(base, rounds, strict=True)) for base in (a, b)]
        share = f" {100 * statistics.median(rates) * flops / best:.0f} |" if best else ""
        print(
            f"| {name} | {statistics.median(rates):.2f} ({min(rates):.2f} .. {max(rates):.2f}) | {over[0]:.2f} | {over[1]:.2f} | "
            f"{1e3 * statistics.median(r.cpu for r in rounds):.0f} | {100 * statistics.median(r.idle for r in rounds):.1f} |{share}"
        )
    if best:
        print(f"\npeak {best / 1e12:.0f} TFLOP/s (bfloat16, 8192 x 8192, this run); {flops / 1e12:.1f} TFLOP a picture")
    else:
        print(f"\nno GPU here: the goals for one (see --help) are not measured; {COMMANDS}")


if __name__ == "__main__":
    sys.exit(main())
