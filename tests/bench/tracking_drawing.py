"""The pairs stage, by the real worker, against a literal loop of batch 1; and what is left of kept objects and of backgrounds.

Goal: at least 1.5 times faster an image on one CPU thread with the tiny model. The literal loop writes out masks and pixels one
by one in Python, so the goal is held against its denoiser and VAE calls alone, as if all else cost nothing. Loading is left out of both.
"""

import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

SIZES = ((96, 64), (64, 96), (80, 64), (64, 80))
KEYS = {"steps": 20, "guidance_scale": 4, "harmonize": 2, "size": "[96,64]", "bucket": 32, "dilate": 3, "min_area": 144}


def bench_drawing(images: int, rounds: int) -> None:
    from synth.numerics import EXACT, environment

    os.environ.update(environment(EXACT))
    import diffusers
    import torch

    torch.set_num_threads(1)
    from tests.tracking import scenes

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU, 1 thread of {len(os.sched_getaffinity(0))} cores"
    print(f"{where}; torch {torch.__version__}, diffusers {diffusers.__version__}; load {os.getloadavg()[0]:.1f}")
    says = ", ".join(f"{k} {v}" for k, v in KEYS.items())
    print(f"tiny model, {images} scenes of {len(SIZES)} sizes; {says}; {rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="synthset-bench-") as name:
        root = Path(name)
        annotated = scenes.make(root / "set", images, SIZES)
        few = max(images // 4, 1)
        ratios, alone = {}, []
        for n in range(rounds):
            seconds, drawing = _literal(annotated, few, root / f"literal{n}")
            alone.append((seconds, drawing))
            for batch in (1, 4, 16):
                ratios.setdefault(batch, []).append(_stage(annotated, batch, root / f"runs{n}"))
        whole, drawing = (statistics.median(a[k] for a in alone) for k in (0, 1))
        print(f"  literal loop                 {1000 * whole:7.1f} ms an image, {1000 * drawing:.1f} of it denoiser, scheduler and VAE ({few} images)")
        for batch, found in ratios.items():
            median = statistics.median(f for f, _ in found)
            of = statistics.median(a[1] / f for a, (f, _) in zip(alone, found, strict=True))
            spread = sorted(a[1] / f for a, (f, _) in zip(alone, found, strict=True))
            print(f"  stage, batches of {batch:2}         {1000 * median:7.1f} ms an image, {of:.2f} times faster than the loop's drawing alone "
                  f"({spread[0]:.2f}-{spread[-1]:.2f}); {found[0][1]}")  # fmt: skip
        _kept(annotated, root)


def _folder(annotated, root: Path, batch: int, **keys):
    from tests.tracking.staged import pairs_stage

    return pairs_stage(root, annotated, **(KEYS | {"batch_size": batch, "unit_size": 16} | keys))


def _stage(annotated, batch: int, root: Path) -> tuple[float, str]:
    """(seconds an image that changes, how full its batches are), by the worker that a run starts."""
    from synth.loop import Worker
    from tests.stages import events

    folder = _folder(annotated, root, batch)
    silenced = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            assert Worker(folder, 0, 1).run() == 0
        finally:
            os.dup2(silenced, 2)
            os.close(silenced)
    records = [s.json() for s in folder.samples()]
    changed = [r for r in records if not r["unchanged"]]
    batches = [b for u in range(folder.spec.n_units) for b in folder.spec.batches(folder.spec.unit(u)) if not records[b.start]["unchanged"]]
    short = sum(len(b) < batch for b in batches)
    buckets = Counter(tuple(r["bucket"]) for r in changed)
    seconds = sum(e["seconds"] for e in events(folder, "unit"))
    return seconds / len(changed), f"{short} of {len(batches)} batches are filled up, {len(buckets)} buckets"


def _literal(annotated, images: int, root: Path) -> tuple[float, float]:
    """(seconds an image, seconds of that in `painted`) of the literal loop over some images."""
    from PIL import Image

    from synth.tracking.objects import objects_of
    from synth.tracking.preparing import jpeg
    from tests.tracking import reference

    folder = _folder(annotated, root, 1)
    stage = _opened(folder)
    pipe, config, spent, painted = stage.drawing.family.family.pipe, stage.config, [], reference.painted

    def timed(*args):
        begun = time.perf_counter()
        found = painted(*args)
        spent.append(time.perf_counter() - begun)
        return found

    tasks = [t for u in range(folder.spec.n_units) for t in stage.gather(folder.unit(u))[0].values() if t.image.bucket]
    tasks = tasks[:: max(len(tasks) // images, 1)][:images]
    reference.painted = timed
    try:
        begun = time.perf_counter()
        for task in tasks:
            with Image.open(annotated.images / task.image.path) as f:
                image = np.asarray(f.convert("RGB"))
            objects = objects_of(task.image.annotations, config.min_area, config.max_area)
            found = reference.variant(pipe, image, task.image.image["file_name"], 0, objects, task.row.caption, config)
            jpeg(found.pixels, config.quality)
        return (time.perf_counter() - begun) / len(tasks), sum(spent) / len(tasks)
    finally:
        reference.painted = painted
        stage.close()


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
    for steps, harmonize, strength in ((20, 0, 0.75), (20, 2, 0.75), (50, 0, 0.75), (50, 2, 0.75), (50, 2, 0.5)):
        folder = _folder(annotated, root / "kept", 16, steps=steps, harmonize=harmonize, noise_strength=strength)
        stage, rows = _opened(folder), []
        for number in range(0, folder.spec.n_units, 2):
            unit = folder.unit(number)
            if stage.gather(unit)[0][unit.start].image.bucket:
                rows += differences(stage, unit)
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
    from tests.tracking.staged import pixels

    config, rows, state = stage.config, [], stage.begin(unit)
    vae, root = stage.drawing.family.family.pipe.vae, stage.folder.input_path("images")
    for slots in stage.folder.spec.batches(unit):
        for item in stage.compute(state, slots):
            task, facts = state.tasks[item.slot], state.facts[item.slot]
            name, bucket = task.image.image["file_name"], task.image.bucket
            image = pixels((root / task.image.path).read_bytes())
            height, width = image.shape[:2]
            masks = np.stack([mask_of(a["segmentation"], height, width) for a in objects_of(task.image.annotations, config.min_area, config.max_area)])
            warp = draw(config.warp, generator(derive(config.seed, "pairs", name, task.replica, "warp")))
            original, masks = warped(image, masks, warp)
            with torch.inference_mode():
                start = torch.from_numpy(canvas.onto(original, facts.drawn, bucket)).to(vae.device).permute(2, 0, 1)[None].float() / 127.5 - 1
                again = vae.decode(vae.encode(start).latent_dist.mode()).sample[0].permute(1, 2, 0)
            again = ((again + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
            made, floor = (abs(canvas.back(p, facts.drawn, width, height).astype(int) - original).mean(2) for p in (item.picture.pixels(), again))
            kept, free = masks.any(0), union(masks, 2 * config.dilate + 2) == 0
            if kept.any():
                rows.append((made[kept].mean(), floor[kept].mean(), made[free].mean() if free.mean() > 0.1 else None))
    return rows
