"""The pairs stage against a literal loop of batch 1; and what is left of kept objects and of backgrounds.

Goal: at least 1.5 times faster an image on one CPU thread with the tiny model. The literal loop writes out masks and pixels one by one
in Python, so the stage is held against its denoiser, scheduler and VAE calls alone too, as if all else cost nothing. Loading is left
out of both. CPU seconds are of the whole process: what a busy machine does not disturb.
"""

import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SIZES = ((96, 64), (64, 96), (80, 64), (64, 80))
KEYS = {
    "steps": 20,
    "guidance_scale": 4,
    "harmonize": "null",
    "size": "null",
    "bucket": "null",
}  # the tiny model's own steps and guidance scale
DRAWN = (("null", "null"), ("[64,48]", "16"))  # the model's own size for pairs, and a smaller one
BATCHES = (1, 4, 16)
FAST = "16, numerics=fast"


def bench_drawing(images: int, rounds: int) -> None:
    from synth.numerics import EXACT, environment

    os.environ.update(environment(EXACT))
    import diffusers
    import torch

    from tests.tracking import scenes

    torch.set_num_threads(1)
    where = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, 1 thread of {len(os.sched_getaffinity(0))} cores"
    )
    print(f"{where}; torch {torch.__version__}, diffusers {diffusers.__version__}; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="synthset-bench-") as name:
        root = Path(name)
        annotated = scenes.make(root / "set", images, SIZES)
        print(f"tiny model, {images} scenes of {len(SIZES)} sizes, {KEYS['steps']} steps; {rounds} rounds")
        for size, bucket in DRAWN:
            _compare(annotated, root, rounds, size=size, bucket=bucket)
        _kept(annotated, root)


def _compare(annotated, root: Path, rounds: int, **keys) -> None:
    """The stage with batches of several sizes, and the literal loop over a few of its images."""
    stages = {b: _opened(_folder(annotated, root / "runs", b, **keys)) for b in BATCHES}
    stages[FAST] = _opened(_folder(annotated, root / "runs", 16, "numerics=fast", **keys))
    config, few = stages[1].config, max(stages[1].folder.spec.slots // 8, 1)
    print(f"fitted into {config.long_side} x {config.short_side}, bucket {config.bucket}; the literal loop makes {few} images:")
    for stage in stages.values():
        _batches(stage, 1)
    found = [_round(stages, annotated, few) for _ in range(rounds)]
    loops = [loop for row in found for loop, _ in row.values()]
    wall, cpu, drawing = (statistics.median(loop[k] for loop in loops) for k in range(3))
    print(
        f"  literal loop           {1000 * wall:7.1f} ms an image, {1000 * cpu:.1f} of CPU, {1000 * drawing:.1f} of that denoiser, "
        "scheduler and VAE"
    )
    for batch in stages:
        wall, cpu = (statistics.median(row[batch][1][k] for row in found) for k in range(2))
        ratios = [statistics.median(row[batch][0][i] / row[batch][1][j] for row in found) for i, j in ((0, 0), (1, 1), (2, 1))]
        print(f"  stage, batches of {batch:<17} {1000 * wall:7.1f} ms an image, {1000 * cpu:.1f} of CPU: {ratios[0]:.2f} times faster, "
              f"{ratios[1]:.2f} by CPU, {ratios[2]:.2f} than the loop's drawing alone; {_filling(stages[batch])}")  # fmt: skip
        stages[batch].close()


def _round(stages: dict, annotated, few: int) -> dict:
    """(loop, stage) seconds by batch size. The loop is the mean of one right before and one right after: the machine's speed drifts."""
    loops, found = [_literal(stages[1], annotated, few)], {}
    for batch, stage in stages.items():
        seconds = _batches(stage)
        loops.append(_literal(stages[1], annotated, few))
        found[batch] = tuple(map(statistics.mean, zip(*loops[-2:], strict=True))), seconds
    return found


def _folder(annotated, root: Path, batch: int, *overrides: str, **keys):
    from tests.tracking.pairs_stages import pairs_stage

    return pairs_stage(root, annotated, *overrides, **(KEYS | {"batch_size": batch, "unit_size": 32} | keys))


def _units(stage) -> list:
    """The units whose images change."""
    folder = stage.folder
    units = [folder.unit(n) for n in range(folder.spec.n_units)]
    return [u for u in units if stage.gather(u)[0][u.start].image.bucket]


def _batches(stage, units: int | None = None) -> tuple[float, float]:
    """(seconds, CPU seconds) an image: decoding to encoding, as a worker does it, of all units or the first ones."""
    chosen = _units(stage)[:units]
    begun, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(1) as pool:
        for unit in chosen:
            state = stage.begin(unit)
            waiting = [
                pool.submit(stage.encode, state, i) for slots in stage.folder.spec.batches(unit) for i in stage.compute(state, slots)
            ]
            for future in waiting:
                future.result()
    n = sum(map(len, chosen))
    return (time.perf_counter() - begun) / n, (time.process_time() - cpu) / n


def _filling(stage) -> str:
    """How many batches are short, and so filled up with repeats."""
    sizes = [len(b) for u in _units(stage) for b in stage.folder.spec.batches(u)]
    buckets = Counter(t.image.bucket for u in _units(stage) for t in stage.gather(u)[0].values())
    return f"{sum(n < stage.batch for n in sizes)} of {len(sizes)} batches are filled up, {len(buckets)} buckets"


def _literal(stage, annotated, images: int) -> tuple[float, float, float]:
    """(seconds, CPU seconds, CPU seconds of that in `painted`) an image of the literal loop over some images, with the stage's model."""
    from PIL import Image

    from synth.tracking.objects import objects_of
    from synth.tracking.preparing import jpeg
    from tests.tracking import reference

    pipe, config, spent, painted = stage.painter.family.family.pipe, stage.config, [], reference.painted

    def timed(*args):
        begun = time.process_time()
        found = painted(*args)
        spent.append(time.process_time() - begun)
        return found

    tasks = [t for u in _units(stage) for t in stage.gather(u)[0].values()]
    tasks = tasks[:: max(len(tasks) // images, 1)][:images]
    reference.painted = timed
    try:
        begun, cpu = time.perf_counter(), time.process_time()
        for task in tasks:
            with Image.open(annotated.images / task.image.path) as f:
                image = np.asarray(f.convert("RGB"))
            objects = objects_of(task.image.annotations, config.min_area, config.max_area)
            found = reference.variant(pipe, image, task.image.image["file_name"], 0, objects, task.row.caption, config)
            jpeg(found.pixels, config.quality)
        return (time.perf_counter() - begun) / len(tasks), (time.process_time() - cpu) / len(tasks), sum(spent) / len(tasks)
    finally:
        reference.painted = painted


def _opened(folder):
    from synth.tracking.stage import Pairs

    stage = Pairs(folder)
    stage.check()
    stage.open()
    return stage


def _kept(annotated, root: Path) -> None:
    """Mean absolute errors in grey levels, before JPEG: inside kept masks, of the VAE alone there, and of the background."""
    print("mean absolute difference from the warped original, grey levels (median over images)")
    print("  steps  harmonize  strength   kept objects   VAE alone there   background")
    for steps, harmonize, strength in ((20, 0, 0.75), (20, 2, 0.75), (50, 0, 0.75), (50, 2, 0.75)):
        folder = _folder(annotated, root / "kept", 8, unit_size=8, steps=steps, harmonize=harmonize, noise_strength=strength)
        stage = _opened(folder)
        rows = [row for unit in _units(stage)[:2] for row in differences(stage, unit)]
        stage.close()
        inside, floor, outside = (statistics.median(r[k] for r in rows if r[k] is not None) for k in range(3))
        print(f"  {steps:5}  {harmonize:9}  {strength:8.2f}   {inside:12.2f}   {floor:15.2f}   {outside:10.2f}   ({len(rows)} images)")


def differences(stage, unit) -> list[tuple[float, float, float | None]]:
    """(kept objects, VAE alone there, background or None where there is little) of each picture of a unit."""
    import torch

    from synth.seeds import derive, generator
    from synth.tracking import canvas
    from synth.tracking.masks import mask_of, union
    from synth.tracking.objects import objects_of
    from synth.tracking.warp import draw, warped
    from tests.tracking.pairs_stages import pixels

    config, rows, state = stage.config, [], stage.begin(unit)
    vae, root = stage.painter.family.family.pipe.vae, stage.folder.input_path("images")
    for slots in stage.folder.spec.batches(unit):
        for item in stage.compute(state, slots):
            task, facts = state.tasks[item.slot], state.facts[item.slot]
            name, bucket = task.image.image["file_name"], task.image.bucket
            image = pixels((root / task.image.path).read_bytes())
            height, width = image.shape[:2]
            masks = np.stack(
                [mask_of(a["segmentation"], height, width) for a in objects_of(task.image.annotations, config.min_area, config.max_area)]
            )
            warp = draw(config.warp, generator(derive(config.seed, "pairs", name, task.replica, "warp")))
            original, masks = warped(image, masks, warp)
            with torch.inference_mode():
                start = (
                    torch.from_numpy(canvas.onto(original, facts.drawn, bucket)).to(vae.device).permute(2, 0, 1)[None].float() / 127.5 - 1
                )
                again = vae.decode(vae.encode(start).latent_dist.mode()).sample[0].permute(1, 2, 0)
            again = ((again + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
            made, floor = (
                abs(canvas.back(p, facts.drawn, width, height).astype(int) - original).mean(2) for p in (item.picture.pixels(), again)
            )
            kept, free = masks.any(0), union(masks, 2 * config.dilate + 2) == 0
            if kept.any():
                rows.append((made[kept].mean(), floor[kept].mean(), made[free].mean() if free.mean() > 0.1 else None))
    return rows
