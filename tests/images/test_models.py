"""Every kind of model, one row each: tiny random pipelines of the true classes, loaded offline by the real worker.

A row says which folders a model is made of (builders of tests/images/tiny.py) and what it is asked for. All rows are held to
the same promises. To add a model: a builder in tiny.py, a row in MODELS.
"""

import io
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import tqdm.auto
from PIL import Image

from synth.errors import EXIT_OK, InputError
from synth.images.families import family_class
from synth.images.models import MODEL, PART
from synth.numerics import EXACT
from synth.seeds import torch_generator
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.configs import ImagesConfig, ModelConfig, PartConfig
from tests.fixtures_images import captions_json_stage, captions_stage, child, digests, judged, work
from tests.images import tiny
from tests.images.pictures import image_folder
from tests.images.test_img2img import planned

CAPTIONS = [f"a picture of thing number {k}" for k in range(5)]


@dataclass(frozen=True)
class Row:
    """One model: its folders by builder, and how it is asked."""

    main: str
    parts: Mapping[str, tuple[str, PartConfig]] = field(default_factory=dict)  # name -> (builder, settings)
    size: int = 16
    guidance: float = 3.0
    steps: int = 3
    eta: float = 0.0
    scheduler: str = "default"
    halves: int = 2  # rows of a denoiser's calls a picture and step, with guidance
    loops: int = 1  # denoisers that each take `steps`
    img2img: bool = True  # False: a named refusal


MODELS = {
    "sd15": Row("sd"),
    "sd15 ddim with fresh noise": Row("sd", scheduler="ddim", eta=1.0),
    "sd15 lcm": Row("sd", scheduler="lcm"),
    "sd21": Row("sd_v"),
    "sdxl": Row("sdxl"),
    "sdxl with refiner": Row("sdxl", {"refiner": ("sdxl_refiner", PartConfig(start=0.6))}, steps=5, img2img=False),
    "sdxl_turbo": Row("sdxl_turbo", steps=2),
    "sd3": Row("sd3"),
    "sd3 with fresh noise": Row("sd3_stochastic"),
    "flux_schnell": Row("flux", halves=1),
    "flux_dev": Row("flux_dev", halves=1),
    "auraflow": Row("auraflow", img2img=False),
    "another pipeline": Row("lcm", halves=1, img2img=False),
    "floyd stage I": Row("floyd", size=8, img2img=False),
    "floyd": Row(
        "floyd",
        {"stage_2": ("floyd_2", PartConfig(2, 2.0, 250)), "stage_3": ("floyd_3", PartConfig(2, 2.5, 100))},
        size=64,
        steps=2,
        img2img=False,
    ),
    "pixart_sigma": Row("pixart_sigma", img2img=False),
    "kolors": Row("kolors"),
    "kandinsky22": Row("kandinsky22", {"prior": ("kandinsky22_prior", PartConfig(2, 2.0))}, img2img=False),
    "karlo": Row("karlo", loops=2, img2img=False),
    "cogview4": Row("cogview4", img2img=False),
}
rows = pytest.mark.parametrize("row", MODELS.values(), ids=MODELS.keys())
DENOISERS = (
    "UNet2DConditionModel",
    "PriorTransformer",
    *(f"{m}Transformer2DModel" for m in ("SD3", "Flux", "AuraFlow", "PixArt", "CogView4")),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Builder -> folder, each built once."""
    root, built = tmp_path_factory.mktemp("tiny"), {}

    def folder(name: str):
        if name not in built:
            built[name] = tiny.build(name, root / name)
        return built[name]

    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("captions") / "runs" / "toys"
    made = captions_json_stage(root, [captions_stage(root, CAPTIONS)], len(CAPTIONS))
    assert work(made) == EXIT_OK
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("source") / "pictures", {"cat": 3, "dog": 2})


def config_of(row: Row, **changes) -> ImagesConfig:
    model = ModelConfig("tiny", parts={n: settings for n, (_, settings) in row.parts.items()})
    config = ImagesConfig(
        seed=3,
        model=model,
        guidance_scale=row.guidance,
        steps=row.steps,
        scheduler=row.scheduler,
        height=row.size,
        width=row.size,
        eta=row.eta,
    )
    return replace(config, **changes)


def paths_of(row: Row, folders) -> dict:
    return {MODEL: folders(row.main)} | {PART + n: folders(builder) for n, (builder, _) in row.parts.items()}


def stage_of(row: Row, folders, table, batch=2, unit_size=3, **changes):
    """The images stage of a row: five captions in units of three."""
    inputs = {role: InputFile(str(p), identity(p)) for role, p in paths_of(row, folders).items()}
    return child(table.path.parent, "images", config_of(row, **changes), {"captions": [table]}, len(CAPTIONS), unit_size, batch, inputs)


@pytest.fixture(scope="module")
def family_of(folders):
    """The family of a row, its pipelines loaded once for all tests: (row, batch, config changes) -> Family."""
    from synth.images.pipeline import open_family

    loaded = {}

    def family(row: Row, batch=2, **changes):
        config = config_of(row, **changes)
        model = judged(paths_of(row, folders), config)
        key = (row.main, tuple(row.parts), config.scheduler, "guidance_interval" in changes)  # which wraps the denoiser for good
        if key not in loaded:
            loaded[key] = open_family(model, config, EXACT, batch)
        first = loaded[key]
        return type(first)(first.pipe, config, batch, first.parts)

    return family


def pixels(folder) -> dict[int, np.ndarray]:
    return {s.slot: np.asarray(Image.open(io.BytesIO(s.read("png")))).astype(int) for s in folder.samples()}


def seeded(*seeds: int) -> list:
    return [torch_generator(s) for s in seeds]


@pytest.fixture
def calls(monkeypatch):
    """Rows of every call of every denoiser, in order."""
    import diffusers

    seen = []
    for cls in (getattr(diffusers, name) for name in DENOISERS):

        def spy(self, *args, _forward=cls.forward, **kwargs):
            seen.append((args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))).shape[0])
            return _forward(self, *args, **kwargs)

        monkeypatch.setattr(cls, "forward", spy)
    return seen


def killed(folder) -> None:
    """A worker of `folder` that is killed after its second batch: a fork of this process, which has the libraries loaded."""
    pid = os.fork()
    if pid == 0:
        for bar in (tqdm.std.tqdm, tqdm.auto.tqdm):
            bar.set_lock(threading.RLock())  # its own is shared with this fork, whose death would leave it locked for all
        os.environ["SYNTHSET_FAULT"] = "after_batch:kill@2"
        try:
            work(folder, 1, 3)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@rows
def test_units_have_the_same_bytes_for_one_job_and_for_three_after_a_kill(row, folders, table, tmp_path):
    once = stage_of(row, folders, table)
    assert work(once) == EXIT_OK
    inputs = {role: InputFile(str(p), identity(p)) for role, p in paths_of(row, folders).items()}
    root = tmp_path / "runs" / "toys"
    other_table = captions_json_stage(root, [captions_stage(root, CAPTIONS)], len(CAPTIONS))
    assert work(other_table) == EXIT_OK
    shared = child(root, "images", config_of(row), {"captions": [other_table]}, len(CAPTIONS), 3, 2, inputs)
    killed(shared)
    assert not shared.is_whole()
    for job in (2, 0, 1):
        assert work(shared, job, 3) == EXIT_OK
    assert digests(shared) == digests(once)
    made = pixels(once)
    assert len(made) == len(CAPTIONS) and all(p.shape == (row.size, row.size, 3) for p in made.values())
    assert all(p.std() > 3 for p in made.values()), "a flat picture shows nothing"
    assert all((made[0] != made[k]).any() for k in range(1, 5))


@pytest.mark.parametrize("row", [r for r in MODELS.values() if r.img2img], ids=[n for n, r in MODELS.items() if r.img2img])
def test_units_that_begin_from_pictures_have_the_same_bytes_after_a_kill(row, folders, source, tmp_path):
    keys = {
        "batch_size": 2, "unit_size": 3, "height": row.size, "width": row.size, "steps": 4, "scheduler": row.scheduler, "eta": row.eta,
        "guidance_scale": row.guidance,
    }  # fmt: skip
    overrides = [f"img2img.source={source}", "model.pipeline=auto", *(f"img2img.{k}={v}" for k, v in keys.items())]
    once, shared = (planned(tmp_path / name, folders(row.main), *overrides) for name in ("a", "b"))
    assert work(once) == EXIT_OK
    killed(shared)
    assert not shared.is_whole()
    for job in (2, 0, 1):
        assert work(shared, job, 3) == EXIT_OK
    assert digests(shared) == digests(once)
    made, records = pixels(once), [s.json() for s in once.samples()]
    assert len(made) == 5 and all((made[0] != made[k]).any() for k in range(1, 5))
    assert all(r["steps_run"] == 2 and r["source"] for r in records)


@rows
def test_a_picture_is_the_same_alone_and_among_four(row, family_of):
    """Alone, among others, and in another place among others: within one grey level in fp32."""
    alone, four = (family_of(row, batch) for batch in (1, 4))
    texts = four.embed(CAPTIONS[:4])
    among = four.draw(texts, seeded(10, 11, 12, 13))
    moved = four.draw([texts[2], texts[0], texts[3], texts[1]], seeded(12, 20, 21, 22))[0]
    single = alone.draw(alone.embed([CAPTIONS[2]]), seeded(12))[0]
    assert abs(among[2] - single).max() < 1 / 255
    assert abs(moved - single).max() < 1 / 255
    assert abs(among[2] - four.draw(texts, seeded(10, 11, 99, 13))[2]).max() > 2 / 255, "the seed must show"


@rows
def test_every_noise_draw_comes_from_the_samples_own_generator(row, family_of, monkeypatch):
    import torch

    family, used = family_of(row), []
    for name in ("randn", "rand", "randint", "normal", "randperm"):
        real = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, _real=real, **k: (used.append(k.get("generator")), _real(*a, **k))[1])
    for name in ("randn_like", "rand_like"):
        monkeypatch.setattr(torch, name, lambda *a, **k: used.append(None))
    generators = seeded(1, 2)
    before = torch.get_rng_state()
    family.draw(family.embed(CAPTIONS[:2]), generators)
    assert torch.equal(before, torch.get_rng_state())
    assert {id(g) for g in used} == {id(g) for g in generators}
    assert used.count(generators[0]) == used.count(generators[1])


@rows
def test_guidance_of_one_or_less_skips_the_unconditional_half(row, family_of, calls):
    parts = {n: (b, replace(p, guidance_scale=0.0)) for n, (b, p) in row.parts.items()}
    for guidance, halves in ((row.guidance, row.halves), (1.0, 1), (0.0, 1)):
        family = family_of(replace(row, parts=parts), guidance_scale=guidance)
        calls.clear()
        family.draw(family.embed(CAPTIONS[:2]), seeded(1, 2))
        steps = row.loops * row.steps + sum(p.steps for _, p in row.parts.values())
        assert sum(calls) == 2 * halves * steps and max(calls) - min(calls) == 0


@rows
def test_outside_the_guidance_interval_only_the_conditional_half_is_drawn_or_the_key_is_refused(row, folders, family_of, calls):
    from synth.images.speed import prepare

    # a prior makes no picture: it has guidance, and steps, of its own
    parts = {n: (b, p if n == "prior" else replace(p, guidance_scale=0.0)) for n, (b, p) in row.parts.items()}
    prior = [4] * sum(p.steps for n, (_, p) in row.parts.items() if n == "prior")

    never = {"guidance_interval": (0.4001, 0.4002)}  # no step of these schedules lies in it
    if row.halves == 1 or not family_class(judged(paths_of(row, folders), config_of(row)).pipeline).halves_in_one_call:
        with pytest.raises(InputError, match=r"images\.guidance_interval"):
            family_of(row, **never)
        return
    family = family_of(row, **never)
    prepared = prepare(family, EXACT, slots=2, model_digest="", versions={})
    for interval in prepared.intervals:
        interval.begin(2)
    calls.clear()
    made = family.draw(family.embed(CAPTIONS[:2]), seeded(1, 2))
    assert calls == prior + [2] * (row.steps + sum(p.steps for n, (_, p) in row.parts.items() if n != "prior"))
    unguided = family_of(replace(row, parts=parts), guidance_scale=1.0)
    other = unguided.draw(unguided.embed(CAPTIONS[:2]), seeded(1, 2))
    assert (made - other).abs().max() < 1 / 255


@rows
def test_a_picture_can_be_the_start_or_the_refusal_names_the_pipeline(row, folders, family_of, calls):
    import torch

    config, paths = config_of(row), paths_of(row, folders)
    if not row.img2img:
        with pytest.raises(InputError, match=r"image-to-image|model\.parts\.refiner"):
            judged(paths, config, img2img=True)
        return
    judged(paths, config, img2img=True)
    family = family_of(row, steps=4)
    start = torch.rand(2, 3, row.size, row.size, generator=torch.Generator().manual_seed(0))
    texts = family.embed(CAPTIONS[:2])
    calls.clear()
    before = torch.get_rng_state()
    made = family.draw(texts, seeded(1, 2), start=start, strength=0.5)
    assert len(calls) == 2  # half of four steps
    assert torch.equal(before, torch.get_rng_state())
    assert made.shape == start.shape and made.min() >= 0 and made.max() <= 1
    weights = [p for c in family.pipe.components.values() if isinstance(c, torch.nn.Module) for p in c.parameters()]
    again = [p for c in family.img2img().components.values() if isinstance(c, torch.nn.Module) for p in c.parameters()]
    assert {id(p) for p in again} == {id(p) for p in weights}, "the weights are there once"
    single = family_of(row, 1, steps=4)
    one = single.draw(single.embed([CAPTIONS[1]]), seeded(2), start=start[1:], strength=0.5)
    assert abs(one[0] - made[1]).max() < 1 / 255
    other = family.draw(texts, seeded(1, 2), start=start.flip(0), strength=0.5)
    assert abs(other - made).max() > 2 / 255, "the start must show"


@rows
def test_negative_prompt_shows_or_is_refused(row, folders, family_of):
    config = config_of(row, negative_prompt="blurry and grey")
    if not family_class(judged(paths_of(row, folders), config_of(row)).pipeline).negative_prompts:
        with pytest.raises(InputError, match=r"images\.negative_prompt"):
            judged(paths_of(row, folders), config)
        return
    if row.main == "lcm":
        with pytest.raises(InputError, match="LatentConsistencyModelPipeline takes no negative_prompt"):
            family_of(row, negative_prompt="blurry")
        return
    made = []
    for negative in ("", "blurry and grey"):
        family = family_of(row, negative_prompt=negative)
        made.append(family.draw(family.embed(CAPTIONS[:2]), seeded(1, 2)))
    assert abs(made[0] - made[1]).max() > 1 / 255


def test_the_refiner_goes_on_with_the_latents_where_the_model_stopped(folders, family_of, monkeypatch):
    from diffusers import UNet2DConditionModel

    row, seen, forward = MODELS["sdxl with refiner"], [], UNet2DConditionModel.forward
    family = family_of(row)
    names = {id(family.pipe.unet): "model", id(family.parts["refiner"].unet): "refiner"}
    spy = lambda self, x, t, *a, **k: (seen.append((names[id(self)], float(t))), forward(self, x, t, *a, **k))[1]  # noqa: E731
    monkeypatch.setattr(UNet2DConditionModel, "forward", spy)
    made = family.draw(family.embed(CAPTIONS[:2]), seeded(1, 2))
    assert [n for n, _ in seen] == ["model"] * 3 + ["refiner"] * 2
    times = [t for _, t in seen]
    seen.clear()
    alone = family_of(replace(row, parts={}))
    names[id(alone.pipe.unet)] = "alone"
    other = alone.draw(alone.embed(CAPTIONS[:2]), seeded(1, 2))
    assert times == [t for _, t in seen], "together they take the steps that the model would take alone"
    assert abs(made - other).max() > 2 / 255
    refiner = family.parts["refiner"]
    assert refiner.vae is family.pipe.vae and refiner.text_encoder_2 is family.pipe.text_encoder_2, "on the device once"


def test_captions_of_any_length_keep_their_pictures_among_others(family_of):
    """CogView4 reads captions without a mask and to no fixed length: it must not see what its neighbours are padded to."""
    row, texts = MODELS["cogview4"], ["a", "a picture of quite a few things, all in a row", "", "b" * 2000, "c"]
    family = family_of(row, 5)
    embedded = family.embed(texts)
    assert [e.truncated for e in embedded] == [False, False, False, True, False]
    assert [len(e.tensors["prompt_embeds"]) for e in embedded] == [16, 48, 16, 1024, 16]
    among = family.draw(embedded, seeded(1, 2, 3, 4, 5))
    alone = family_of(row, 1)
    for k, text in enumerate(texts):
        assert abs(alone.draw(alone.embed([text]), seeded(k + 1))[0] - among[k]).max() < 1 / 255
    pipe = alone.pipe(texts[1], height=16, width=16, num_inference_steps=3, guidance_scale=3.0, generator=seeded(2)[0], output_type="pt")
    assert abs(pipe.images[0] - among[1]).max() < 1 / 255, "as diffusers draws it from its prompt alone"


@pytest.mark.parametrize("name", ["pixart_sigma", "kolors", "karlo"])
def test_a_family_draws_what_the_bare_pipeline_draws(name, family_of):
    row, family = MODELS[name], family_of(MODELS[name])
    mine = family.draw(family.embed(CAPTIONS[:2]), seeded(1, 2))
    how = {"num_inference_steps": 3, "guidance_scale": 3.0, "height": 16, "width": 16}
    if name == "karlo":
        how = {"prior_num_inference_steps": 3, "decoder_num_inference_steps": 3, "decoder_guidance_scale": 3.0}
    if name == "pixart_sigma":
        how |= {"use_resolution_binning": False, "clean_caption": False}
    bare = family.pipe(CAPTIONS[:2], generator=seeded(1, 2), output_type="np", **how).images
    assert abs(mine.permute(0, 2, 3, 1).numpy() - bare).max() < 1 / 255 and row.guidance == 3.0


def test_a_part_that_does_not_belong_to_the_model_is_refused(folders):
    paths = {MODEL: folders("sdxl"), PART + "refiner": folders("sd")}
    config = config_of(Row("sdxl", {"refiner": ("sd", PartConfig(start=0.6))}, steps=5))
    with pytest.raises(InputError, match="is a StableDiffusionPipeline, but"):
        judged(paths, config)
    with pytest.raises(InputError, match=r"model\.parts\.refiner: StableDiffusionPipeline \(sd\) has no such part"):
        judged({MODEL: folders("sd"), PART + "refiner": folders("sdxl_refiner")}, config)
    with pytest.raises(InputError, match="too few to share"):
        judged({MODEL: folders("sdxl"), PART + "refiner": folders("sdxl_refiner")}, replace(config, steps=1))


@pytest.mark.parametrize(("row", "changes", "said"), [
    ("sd15", {"height": 20}, "images.height=20: sd computes multiples of 8 pixels; use 16 or 24"),
    ("flux_dev", {"width": 20}, "images.width=20: flux_dev computes multiples of 8"),
    ("floyd", {"height": 100}, "images.height=100: floyd computes multiples of 32 pixels; use 96 or 128"),
    ("floyd", {"scheduler": "ddim"}, "images.scheduler=ddim: does not fit IFPipeline .floyd.; use one of default, dpm..2m"),
    ("sd3", {"scheduler": "dpm++2m"}, "flow matching"),
    ("sd15", {"scheduler": "lcm", "steps": 51}, "images.steps=51: scheduler lcm takes at most 50"),
    ("sd15", {"scheduler": "heun"}, "use one of default, ddim"),
    ("kandinsky22", {"model": ModelConfig("k")}, "model.parts.prior.path=null: KandinskyV22Pipeline"),
    ("kandinsky22", {"height": 18}, "images.height=18: kandinsky22 computes multiples of 4 pixels"),
    ("kandinsky22", {"scheduler": "ddim"}, "images.scheduler=ddim: does not fit KandinskyV22Pipeline .kandinsky22.; use one of default$"),
    ("kandinsky22", {"model": ModelConfig("k", parts={"prior": PartConfig(1)})}, "model.parts.prior.steps=1: .* at least 2"),
    ("karlo", {"width": 32}, "images.width=32: karlo draws 16x16 pixels and no other size; save_size"),
    ("karlo", {"steps": 1}, "images.steps=1: the schedulers of karlo need at least 2"),
    ("cogview4", {"height": 24}, "images.height=24: cogview4 computes multiples of 16"),
    ("auraflow", {"model": ModelConfig("a", safety_checker="drop")}, "auraflow: has no safety checker; use model.safety_checker=off"),
    ("sd15", {"model": ModelConfig("a", safety_checker="blank")}, "has no safety checker; use model.safety_checker=off"),
    ("sd15", {"model": ModelConfig("a", "FluxPipeline")}, "is a StableDiffusionPipeline, but model.pipeline=FluxPipeline"),
])  # fmt: skip
def test_what_does_not_fit_is_said_before_anything_is_loaded(row, changes, said, folders):
    with pytest.raises(InputError, match=said):
        judged(paths_of(MODELS[row], folders), config_of(MODELS[row], **changes))
