"""The pasting of kept objects: equal to a literal loop, and at work in every kind of model that can start from a picture."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import synth
from synth.errors import InputError
from synth.images.models import MODEL, inspect_model
from synth.images.strength import strength_for
from synth.numerics import EXACT, changed
from synth.seeds import torch_generator
from synth.tracking.canvas import back
from synth.tracking.objects import objects_of
from synth.tracking.repaint import Repaint, check_repaint
from synth.tracking.stage import Pairs
from tests.configs import ModelConfig, PairsConfig
from tests.images import tiny
from tests.tracking import reference, scenes
from tests.tracking.pairs_stages import pairs_stage

EMBEDDED = Path(__file__).parents[2] / "synth" / "embedded" / "models" / "tiny_sd"
PAIRS = PairsConfig(seed=3, model=ModelConfig("tiny"), guidance_scale=3.0, steps=4, harmonize=1, bucket=16)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    return scenes.make(tmp_path_factory.mktemp("sets") / "one", 3, size=((80, 48),), seed=5)


@pytest.fixture(scope="module")
def opened(annotated, tmp_path_factory):
    """Stages over two images of one bucket, opened."""

    def stage(**tracking) -> Pairs:
        folder = pairs_stage(tmp_path_factory.mktemp("runs"), annotated, steps=8, size="[56,32]", **tracking)
        found = Pairs(folder)
        found.check()
        found.open()
        return found

    return stage


def drawn(stage: Pairs) -> tuple[dict, dict]:
    """(slot -> what was drawn, padding cut off, slot -> (task, facts)) of the first unit."""
    unit = stage.folder.unit(0)
    state = stage.begin(unit)
    found = {d.slot: d.picture.pixels() for d in stage.compute(state, range(unit.start, unit.stop))}
    stage.close()
    facts = state.facts
    return {s: p[: facts[s].drawn[1], : facts[s].drawn[0]] for s, p in found.items()}, {s: (state.tasks[s], facts[s]) for s in found}


@pytest.mark.parametrize(
    ("scheduler", "guidance", "harmonize"),
    [("null", 3.0, 2), ("null", 0.0, 0), ("ddim", 3.0, 0), ("ddim", 0.0, 2), ("euler", 3.0, 2), ("euler", 0.0, 0)],
)
def test_batches_equal_a_literal_loop(scheduler, guidance, harmonize, opened, annotated):
    stage = opened(scheduler=scheduler, guidance_scale=guidance, harmonize=harmonize)
    pipe, config = stage.painter.family.family.pipe, stage.config
    pictures, tasks = drawn(stage)
    assert len(pictures) == 2
    for slot, pixels in pictures.items():
        task, facts = tasks[slot]
        image = np.asarray(Image.open(annotated.images / task.image.path))
        objects = objects_of(task.image.annotations, config.min_area, config.max_area)
        expected = reference.variant(pipe, image, task.image.image["file_name"], task.replica, objects, task.row.caption, config)
        assert abs(pixels.astype(int) - expected.canvas).max() <= 1
        assert abs(back(pixels, facts.drawn, 80, 48).astype(int) - expected.pixels).max() <= 2  # one grey level, enlarged
        assert [o["bbox"] for o in facts.objects] == expected.boxes
        assert [o["area"] for o in facts.objects] == expected.areas
        for found, mask in zip(facts.objects, expected.masks, strict=True):
            assert (reference.mask_of(found["segmentation"], 48, 80) == mask).all()


# -- every kind of model -------------------------------------------------------------------------------------------------

KINDS = {
    "sd": {}, "sd_v": {}, "sdxl": {}, "sd3": {}, "sd3_stochastic": {}, "flux": {}, "flux_dev": {}, "kolors": {},
    "sd lcm": {"scheduler": "lcm"}, "sd unipc": {"scheduler": "unipc"}, "sd ddim with fresh noise": {"scheduler": "ddim", "eta": 1.0},
    "sd in an interval": {"guidance_interval": (0.3, 0.8)}, "sd decoded one by one": {"vae_batch": 1}, "sd compiled": {"compile": "eager"},
    "sd heun": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def repaints(tmp_path_factory):
    """(kind, harmonize, batch) -> a Repaint over a tiny random pipeline of the true classes, loaded once a kind."""
    from diffusers import HeunDiscreteScheduler

    from synth.images.pipeline import open_family
    from synth.images.speed import prepare

    root, loaded = tmp_path_factory.mktemp("tiny"), {}

    def built(kind: str, harmonize: int = 0, batch: int = 2):
        settings = dict(KINDS[kind])
        compiled = settings.pop("compile", "none")
        config = replace(PAIRS, model=ModelConfig("tiny"), steps=6, guidance_scale=3.0, harmonize=harmonize, bucket=32, **settings)
        name = kind.partition(" ")[0]
        if not (root / name).exists():
            tiny.build(name, root / name)
        if kind not in loaded:
            model = inspect_model({MODEL: root / name}, config.model)
            check_repaint(model, config)
            family = open_family(model, config, EXACT, batch)
            if kind == "sd heun":
                family.pipe.scheduler = HeunDiscreteScheduler.from_config(family.pipe.scheduler.config)
            ready = prepare(family, changed(EXACT, compile=compiled), slots=1, model_digest="", versions={})
            loaded[kind] = family, ready.intervals
        family, intervals = loaded[kind]
        for interval in intervals:
            interval.begin(batch)
        found = type(family)(family.pipe, config, batch, family.parts)
        return Repaint(found, config)

    return built


def start_of(rows: int, seed: int = 0):
    """[rows, 4, 32, 64] uint8 noise in colour; an object in the middle of the left half is kept."""
    import torch

    start = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (rows, 4, 32, 64), dtype=np.uint8))
    start[:, 3] = 0
    start[:, 3, 9:20, 10:30] = 1
    return start


def painted(repaint: Repaint, start, seeds):
    import torch

    strength = strength_for(6, 4, repaint.family.floors_steps)
    with torch.inference_mode():
        texts = repaint.family.embed([f"thing number {k}" for k in range(len(start))])
        return repaint.draw(texts, [torch_generator(s) for s in seeds], start, strength)


@pytest.mark.parametrize("kind", KINDS)
def test_kept_latents_are_those_of_the_original_and_all_others_are_new(kind, repaints, monkeypatch):
    import torch

    from synth.tracking import repaint as module

    begun, ended, recorded = [], [], module.Seen.recorded

    def spy(self, *args):
        made = recorded(self, *args)
        begun.append(self.original)
        return made

    monkeypatch.setattr(module.Seen, "recorded", spy)
    found = repaints(kind)
    vae = found.family.pipe.vae
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z, *a, **k: (ended.append(z), decode(z, *a, **k))[1])
    pixels = painted(found, start_of(2), (5, 6))
    assert pixels.shape == (2, 3, 32, 64) and pixels.isfinite().all()
    original, config = begun[0], vae.config
    final = (ended[0] - (getattr(config, "shift_factor", None) or 0)) * config.scaling_factor
    by = 32 // original.shape[2]
    mask = start_of(2)[:, 3].reshape(2, 32 // by, by, 64 // by, by).amax((2, 4)).bool()[:, None].expand_as(original)
    assert 0 < mask.float().mean() < 0.6
    assert torch.allclose(final[mask], original[mask], atol=1e-5)
    assert (final[~mask] - original[~mask]).abs().mean() > 0.05
    assert not any(n in vars(found.family.pipe.scheduler) for n in ("add_noise", "scale_noise", "step")), "the scheduler is left as it was"


@pytest.mark.parametrize("kind", ["sd in an interval", "sdxl", "sd3", "flux"])
def test_nothing_of_ours_reads_the_device_in_every_step(kind, repaints, monkeypatch):
    """A read waits for all that was asked of the device. What remains (DDIM's and Euler's own checks) is in diffusers' step()."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    ours = str(Path(synth.__file__).parent)

    def by_us() -> bool:
        """Whether the code that runs was called by ours, from within a pipeline."""
        frame = sys._getframe(2)
        while frame is not None and "/pipelines/" not in frame.f_code.co_filename:
            if frame.f_code.co_filename.startswith(ours) and frame.f_code.co_name != "wrapped":  # a step of the scheduler's own
                return True
            frame = frame.f_back
        return False

    class Reads(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func._opname in ("item", "_local_scalar_dense", "is_nonzero", "nonzero", "equal"):
                self.number += by_us()
            return func(*args, **(kwargs or {}))

    reads = Reads()
    for name in ("tolist", "cpu", "numpy"):
        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda t, *a, _method=method: (setattr(reads, "number", reads.number + by_us()), _method(t, *a))[1]
        )

    numbers = []
    for steps in (4, 12):
        found = repaints(kind)
        found.family.config, found.pasted = replace(found.family.config, steps=steps), steps // 2
        with torch.inference_mode():
            texts = found.family.embed(["a", "b"])
            reads.number = 0
            with reads:
                found.draw(
                    texts, [torch_generator(s) for s in (1, 2)], start_of(2), strength_for(steps, steps // 2, found.family.floors_steps)
                )
        numbers.append(reads.number)
    assert numbers[0] == numbers[1] <= 4  # a call: the generator's state, which is the host's, and where an interval begins and ends


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux"])
def test_a_picture_is_the_same_alone_and_among_others(kind, repaints):
    many, one = start_of(3, 1), repaints(kind, 1, 1)
    alone = painted(one, many[1:2], [8])
    texts = one.family.embed([f"thing number {k}" for k in (0, 0, 0)])
    import torch

    with torch.inference_mode():
        among = one.draw(texts, [torch_generator(s) for s in (7, 8, 9)], many, strength_for(6, 4, one.family.floors_steps))
    assert (among[1] - alone[0]).abs().max() < 1 / 255
    assert (among[0] - alone[0]).abs().max() > 2 / 255


@pytest.mark.parametrize("kind", ["sd", "sd lcm", "sd unipc", "sd heun", "sdxl", "sd3", "flux", "kolors"])
def test_what_is_put_back_has_as_much_noise_as_the_step_leaves(kind, repaints, monkeypatch):
    import torch

    from synth.tracking import repaint as module

    seen, steps, noised = [], [], module.Seen.noised
    found = repaints(kind)
    scheduler = found.family.pipe.scheduler

    def watched(self, t):
        steps[:] = scheduler.timesteps.tolist()  # of this call: afterwards the scheduler is as it was before
        seen.append((self, t, noised(self, t)))
        return seen[-1][2]

    monkeypatch.setattr(module.Seen, "noised", watched)
    painted(found, start_of(2), (5, 6))
    times = [float(t[0]) for _, t, _ in seen]
    assert (
        len(times) == 3
        and times == sorted(times, reverse=True)
        and times == [float(t) for t in steps[-3 * scheduler.order :: scheduler.order]]
    )
    for record, t, made in seen:
        if record.name == "scale_noise":  # flow matching: a timestep is a thousandth of the noise
            share = t[0] / 1000
            expected = (1 - share) * record.original + share * record.noise
        else:
            clean = scheduler.alphas_cumprod[int(t[0])]
            expected = clean**0.5 * record.original + (1 - clean) ** 0.5 * record.noise
            if type(scheduler).__name__.startswith(("Euler", "Heun")):
                expected = expected / clean**0.5
        assert torch.allclose(made, expected, atol=0.02 * float(expected.std()))


def test_unipc_goes_on_from_what_was_put_back(repaints, monkeypatch):
    """Its corrector would take the step before anew, from the sample that had no objects in it yet."""
    found = repaints("sd unipc")
    monkeypatch.setattr(type(found.family.pipe.scheduler), "multistep_uni_c_bh_update", lambda *a, **k: pytest.fail("corrected"))
    painted(found, start_of(2), (5, 6))


def test_the_last_steps_are_the_models_own(repaints):
    kept, free = (painted(repaints("sd", h), start_of(2), (5, 6)) for h in (0, 2))
    inside = start_of(2)[:, 3:].bool().expand(2, 3, 32, 64)
    assert (kept - free)[inside].abs().mean() > 0.01


# -- what is refused -----------------------------------------------------------------------------------------------------


def model_of(folder, name: str):
    return inspect_model({MODEL: tiny.build(name, folder / name)}, ModelConfig("tiny"))


def test_what_cannot_be_repainted_is_refused_by_name_with_a_fix(tmp_path):
    sd = inspect_model({MODEL: EMBEDDED}, ModelConfig("tiny"))
    check_repaint(sd, PAIRS)
    with pytest.raises(InputError, match=r"^scheduler=plms: PNDMScheduler .* begin in the middle; use ddim"):
        check_repaint(sd, replace(PAIRS, scheduler="plms"))
    for own, why in (
        ("PNDMScheduler", "begin in the middle"),
        ("LMSDiscreteScheduler", "begin in the middle"),
        ("SASolverScheduler", "had not been put back"),
    ):
        with pytest.raises(InputError, match=f"^scheduler=default: {own} .*{why}"):
            check_repaint(replace(sd, scheduler=own), PAIRS)
    with pytest.raises(InputError, match=r"^model.safety_checker=blank: a black picture would keep the boxes .*; use drop, or off"):
        check_repaint(sd, replace(PAIRS, model=ModelConfig("tiny", safety_checker="blank")))
    with pytest.raises(InputError, match=r"^bucket=20: tiny_sd computes multiples of 8 pixels; use 16 or 24"):
        check_repaint(sd, replace(PAIRS, bucket=20))
    with pytest.raises(InputError, match=r"^eta=0.5: scheduler=default"):
        check_repaint(sd, replace(PAIRS, eta=0.5))
    with pytest.raises(InputError, match="AuraFlowPipeline has no image-to-image form here; use a Stable Diffusion"):
        check_repaint(model_of(tmp_path, "auraflow"), PAIRS)
    with pytest.raises(InputError, match=r"^scheduler=ddim: predicts noise, but this model was trained by flow matching"):
        check_repaint(model_of(tmp_path, "sd3"), replace(PAIRS, scheduler="ddim"))
