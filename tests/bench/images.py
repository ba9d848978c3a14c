"""Pictures a second: what people write, the same in batches, and the images stage. One run, same weights, prompts, size, steps.

    python -m tests.bench.images [--shapes tiny|sd15|sdxl] [--images N] [--batch B] [--steps S] [--rounds R] [--numerics exact,fast]

(a) a loop over prompts, `pipe(prompt).images[0].save(png)`; (b) the same in batches, saved in the loop; (c) the images
stage through the real worker, committed, in each of --numerics. (a) and (b) compute in float32 on a CPU and in
bfloat16 on a GPU. Loading and, for (c), the first batch (which compiles) are left out. Rounds alternate; ratios are taken
within a round, then their median. One pipeline is in memory at a time; what does not fit is said in its row.
idle: share of the time in which no module of the model was computing, on a GPU by its own events.
of peak: floating-point operations of a picture, counted by torch, against a matrix product in the same dtype, measured here.
Goals on a CPU, tiny: at least 1.5 times (a), never below (b).
"""

import argparse
import contextlib
import gc
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = Path("synth", "embedded", "models", "tiny_sd")
DEFAULTS = {  # images a round, batch, batch of reference, steps, pixels, scheduler; batches fit a card of 24 GB
    "tiny": (96, 16, 16, 20, 32, "default"),
    "sd15": (32, 16, 4, 50, 512, "ddim"),
    "sdxl": (8, 4, 1, 50, 1024, "ddim"),
}
COMMANDS = "python -m tests.bench.images --shapes sd15; python -m tests.bench.images --shapes sdxl"
LOOP, BATCHES = "(a) loop", "(b) batches"


@dataclass(frozen=True)
class Round:
    seconds: float  # a picture
    idle: float  # share
    cpu: float  # CPU seconds a picture, of all threads: what a busy machine does not disturb


class DoesNotFit(Exception):
    """A way needs more memory than the device has."""


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


def loops(model: Path, prompts: list[str], args, folder: Path) -> Iterator[tuple[str, Round | DoesNotFit]]:
    """(a) and (b), each after a batch to warm up, with a pipeline that is let go behind them."""
    from synth import numerics
    from synth.images.model_folder import inspect
    from synth.images.pipeline import load, out_of_memory

    pipe = load(inspect(model), args.scheduler, args.plain)
    numerics.apply(args.plain)
    for name, batch in ((LOOP, 1), (BATCHES, args.batch)):

        def warm_and_measure(batch=batch) -> Round:
            with out_of_memory(f"batch {batch}"):
                loop(pipe, prompts[:batch], args, batch, folder)
                return loop(pipe, prompts, args, batch, folder)

        yield name, fitted(warm_and_measure)


def fitted(measure: Callable[[], Round]) -> Round | DoesNotFit:
    """A round, or the reason why there is none: out here the error's frames, and what they hold, are gone."""
    from synth.errors import OutOfDeviceMemory

    try:
        return measure()
    except (DoesNotFit, OutOfDeviceMemory) as e:
        return DoesNotFit(str(e).splitlines()[0])


def let_go() -> None:
    """What was loaded is gone before anything else is."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def stage(root: Path, prompts: list[str], args, model: Path, numerics: str) -> Round:
    """(c), in a folder of its own. DoesNotFit: a batch does not, by the worker's own words."""
    from synth.errors import EXIT_OK
    from synth.images.stage import Images
    from synth.numerics import PRESETS, changed
    from tests.fixtures_images import captions_json_stage, captions_stage, images_stage, work

    batch = args.reference_batch if numerics == "reference" else args.batch
    prompts = prompts[: 2 * batch] if numerics == "reference" and args.cuda else prompts  # so many times slower there
    with contextlib.redirect_stderr(io.StringIO()) as log:
        table = captions_json_stage(root, [captions_stage(root, prompts)], len(prompts))
        assert work(table) == EXIT_OK, log.getvalue()
        folder = images_stage(
            root, table, model, len(prompts), 2 * batch, batch,
            changed(PRESETS[numerics], compile=args.compile) if numerics == "fast" else PRESETS[numerics],
            steps=args.steps, guidance_scale=args.guidance, height=args.size, width=args.size, scheduler=args.scheduler,
        )  # fmt: skip
        watched, used = [], time.process_time()
        with _opened(Images, watched):
            code = work(folder)
    if code != EXIT_OK:
        said = [line for line in log.getvalue().splitlines() if "memory" in line or "not fit" in line]
        if said:
            raise DoesNotFit(f"batch {batch}: {said[-1]}")
        raise RuntimeError(log.getvalue())
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


def operations(model: Path, args) -> float:
    """Floating-point operations of one picture, counted by torch on a picture of one step and one of two."""
    from torch.utils.flop_counter import FlopCounterMode

    from synth.images.model_folder import inspect
    from synth.images.pipeline import load

    pipe = load(inspect(model), args.scheduler, args.plain)

    def count(steps: int) -> int:
        with FlopCounterMode(display=False) as counter:
            pipe("a", num_inference_steps=steps, guidance_scale=args.guidance, height=args.size, width=args.size, output_type="pt")
        return counter.get_total_flops()

    one, two = count(1), count(2)
    return one + (args.steps - 1) * (two - one)


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
        ("reference-batch", 2, "batch size of numerics=reference"),
        ("steps", 3, "denoising steps"),
        ("size", 4, "pixels a side"),
    ):
        p.add_argument(f"--{name}", type=int, help=f"{text} (default {', '.join(f'{k} {v[at]}' for k, v in DEFAULTS.items())})")
    p.add_argument("--guidance", type=float, default=4.0, help="guidance scale (default 4)")
    p.add_argument("--numerics", default="exact,fast", help="of the stages, in this order (default exact,fast; there is also reference)")
    p.add_argument("--stages-only", action="store_true", help="without (a) and (b)")
    p.add_argument("--compile", default="max-autotune", help="numerics.compile of fast on a GPU (default max-autotune)")
    p.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    return p


def main() -> int:
    args = parser().parse_args()
    for name, default in zip(("images", "batch", "reference_batch", "steps", "size", "scheduler"), DEFAULTS[args.shapes], strict=True):
        setattr(args, name, getattr(args, name, None) or default)
    from synth.images.pipeline import device
    from synth.numerics import EXACT, PRESETS, changed, environment
    from tests.bench.shapes import build

    if unknown := set(args.numerics.split(",")) - set(PRESETS):
        raise SystemExit(f"--numerics: no {', '.join(sorted(unknown))}; there are {', '.join(PRESETS)}")
    os.environ.update(environment(EXACT))
    on = device().type
    args.cuda, args.compile = on == "cuda", args.compile if on == "cuda" else "auto"
    args.plain = changed(EXACT | {"deterministic": False}, dtype="bfloat16", attention="auto", tf32=True) if args.cuda else EXACT
    with tempfile.TemporaryDirectory() as temp:
        model = EMBEDDED if args.shapes == "tiny" else build(args.shapes, Path(temp, "model"), on, "bfloat16" if args.cuda else "float32")
        prompts = [f"a picture of thing number {k} in a park" for k in range(args.images)]
        flops = operations(model, args)
        let_go()
        found: dict[str, list[Round | DoesNotFit]] = {}
        for n in range(args.rounds):
            for name, measured in loops(model, prompts, args, Path(temp)) if not args.stages_only else ():
                found.setdefault(name, []).append(measured)
            let_go()
            for kind in args.numerics.split(","):
                made = fitted(lambda kind=kind, n=n: stage(Path(temp, f"{kind}{n}"), prompts, args, model, kind))
                found.setdefault(f"(c) stage, {kind}", []).append(made)
                let_go()
            print(f"round {n + 1}: " + ", ".join(f"{k} {_rate(v[-1])}" for k, v in found.items()), file=sys.stderr)
        report(args, found, flops)
    return 0


def _rate(measured: Round | DoesNotFit) -> str:
    return "does not fit" if isinstance(measured, DoesNotFit) else f"{1 / measured.seconds:.2f}/s"


def report(args, found: dict[str, list[Round | DoesNotFit]], flops: float) -> None:
    import diffusers
    import torch

    from tests.bench.ceilings import matrix_peak, name_of

    on = torch.device("cuda" if args.cuda else "cpu")
    half, single = (matrix_peak(on, dtype) for dtype in (torch.bfloat16 if args.cuda else torch.float32, torch.float32))
    where = name_of(on) if args.cuda else f"CPU ({platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})"
    print(
        f"{args.shapes} on {where}, torch {torch.__version__}, diffusers {diffusers.__version__}, {torch.get_num_threads()} thread(s)\n"
        f"{args.images} pictures of {args.size} px, {args.steps} steps, scheduler {args.scheduler}, guidance {args.guidance}, "
        f"batch {args.batch} (reference: {args.reference_batch}); medians of {args.rounds} rounds\n\n"
        "| | pictures/s (min .. max) | times (a) | times (b) | CPU ms a picture | idle % | % of peak |\n|---|---|---|---|---|---|---|"
    )
    bases = [found.get(name, []) for name in (LOOP, BATCHES)]
    for name, rounds in found.items():
        if unfit := next((r for r in rounds if isinstance(r, DoesNotFit)), None):
            print(f"| {name} | does not fit: {unfit} | | | | | |")
            continue
        rates = [1 / r.seconds for r in rounds]
        over = [
            f"{statistics.median(x.seconds / r.seconds for x, r in zip(base, rounds, strict=True)):.2f}"
            if base and not any(isinstance(x, DoesNotFit) for x in base)
            else "-"
            for base in bases
        ]
        best = single if name.endswith("reference") else half
        print(
            f"| {name} | {statistics.median(rates):.2f} ({min(rates):.2f} .. {max(rates):.2f}) | {over[0]} | {over[1]} | "
            f"{1e3 * statistics.median(r.cpu for r in rounds):.0f} | {100 * statistics.median(r.idle for r in rounds):.1f} | "
            f"{100 * statistics.median(rates) * flops / best:.0f} |"
        )
    kind = "bfloat16" if args.cuda else "float32"
    print(f"\nmeasured here: {half / 1e12:.3g} TFLOP/s {kind}, {single / 1e12:.3g} float32; {flops / 1e12:.3g} TFLOP a picture")
    if not args.cuda:
        print(f"no GPU here: {COMMANDS}")


if __name__ == "__main__":
    sys.exit(main())
