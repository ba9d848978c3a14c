"""What makes drawing fast or lets it fit changes no picture, or only as it says."""

import io
import shutil
import weakref
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError
from synth.images.compiling import PAYS_FROM, resolve
from synth.images.families import family_class
from synth.images.guidance import check_interval
from synth.images.painter import Painter
from synth.images.pipeline import open_family
from synth.images.speed import TUNES_FROM, prepare
from synth.images.stage import Images
from synth.images.text_encoders import TextEncoders
from synth.keys import check, of_group
from synth.numerics import EXACT, FAST, apply, changed
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import digests, full, images_stage, judged, work
from tests.stages import events


def pixels(folder) -> dict[int, np.ndarray]:
    return {s.slot: np.asarray(Image.open(io.BytesIO(s.read("png")))).astype(int) for s in folder.samples()}


def furthest(a, b) -> int:
    """The largest difference of any pixel, in grey levels, between two stages with the same slots."""
    a, b = pixels(a), pixels(b)
    assert a.keys() == b.keys() and a
    return max(abs(a[k] - b[k]).max() for k in a)


@pytest.fixture
def drawn(table, tiny_sd, tmp_path, monkeypatch):
    """Draws six pictures in units of four; keywords as images_stage's. No unit and no picture is taken from another stage."""
    monkeypatch.setattr("synth.store.folder.StageFolder.relatives", lambda self: [])
    monkeypatch.setattr("synth.images.earlier.kin_of", lambda *of: [])

    def draw(code=EXIT_OK, slots=6, **more):
        folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, slots, **more)
        assert work(folder) == code
        return folder

    return draw


@pytest.fixture
def rows(monkeypatch):
    """Rows of every call of the U-Net."""
    from diffusers import UNet2DConditionModel

    seen, forward = [], UNet2DConditionModel.forward
    monkeypatch.setattr(UNet2DConditionModel, "forward", lambda self, x, *a, **k: (seen.append(x.shape[0]), forward(self, x, *a, **k))[1])
    return seen


# -- memory ----------------------------------------------------------------------------------------------------------


def only(rows: int, monkeypatch, said: str = full(24, ours=23.5)) -> list[int]:
    """Let the device hold `rows` pictures and no more; the sizes of all calls that were tried. said: torch's message."""
    import torch

    from synth.images.families.sd import StableDiffusion

    tried, draw = [], StableDiffusion.draw

    def limited(self, items, *args, **kwargs):
        tried.append(len(items))
        if len(items) > rows:
            raise torch.OutOfMemoryError(said)
        return draw(self, items, *args, **kwargs)

    monkeypatch.setattr(StableDiffusion, "draw", limited)
    return tried


def test_a_batch_that_does_not_fit_is_split_and_its_pictures_say_so(drawn, monkeypatch):
    whole = drawn()
    tried = only(2, monkeypatch)
    split = drawn(seed=3, unit_size=5, batch=4, slots=6, run={"on_oom": "split"})
    assert tried == [4, 2, 2, 2, 4, 2]  # four, then the fifth alone, padded; a new unit tries a whole batch again
    assert {s.json()["computed_batch"] for s in split.samples()} == {2}
    assert {s.json()["computed_batch"] for s in whole.samples()} == {4}
    assert furthest(whole, split) <= 1


def reason(folder) -> str:
    """Why the last worker stopped."""
    return max(events(folder, "stop"), key=lambda e: e["time"])["why"]


def test_without_split_the_stage_fails_once_and_says_what_fits(drawn, monkeypatch):
    tried = only(2, monkeypatch)
    folder = drawn(code=EXIT_BAD_INPUT)
    assert tried == [4, 2]  # the planned batch, and the half of it that fits
    assert folder.failures() == {} and "lower images.batch_size" in reason(folder)
    assert "images.batch_size=2 fits here" in reason(folder) and "is free and has 24.0 GiB" in reason(folder)


def test_a_device_that_others_fill_or_that_is_smaller_than_planned_is_to_be_avoided(drawn, monkeypatch):
    only(2, monkeypatch, full(24, ours=8))
    folder = drawn(code=EXIT_AGAIN)
    assert "others hold 15.9 of the device's 24.0 GiB" in reason(folder) and "Device to avoid" in reason(folder)
    only(2, monkeypatch, full(24, ours=23.5))
    folder = drawn(code=EXIT_AGAIN, run={"on_oom": "fail", "memory": {"gpu": 80}})
    assert "has 25.8 GB, and the stage was planned for 80 GB" in reason(folder)
    assert folder.failures() == {} and folder.missing() == [0, 1]


def test_a_single_picture_that_does_not_fit_fails_the_stage_after_all(drawn, monkeypatch):
    tried = only(0, monkeypatch)
    folder = drawn(code=EXIT_BAD_INPUT, slots=2, run={"on_oom": "split"})
    assert tried == [4, 2, 1] and folder.failures() == {} and "a picture alone does not fit" in reason(folder)


def test_a_batch_that_fitted_before_is_tried_again_by_a_stage_that_is_opened_anew(drawn, monkeypatch):
    import torch

    from synth.images.families.sd import StableDiffusion

    calls, draw = [], StableDiffusion.draw

    def once(self, items, *args, **kwargs):
        calls.append(len(items))
        if len(calls) in (2, 3):
            raise torch.OutOfMemoryError(full(24, ours=23.5))
        return draw(self, items, *args, **kwargs)

    monkeypatch.setattr(StableDiffusion, "draw", once)
    folder = drawn(unit_size=4, slots=12)
    assert len(events(folder, "open")) == 2 and sum(map(len, folder.failures().values())) == 1


def test_memory_of_the_host_that_runs_out_is_the_unit_s_as_ever(drawn, monkeypatch):
    from synth.images.families.sd import StableDiffusion

    def no_room(self, *args, **kwargs):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(StableDiffusion, "draw", no_room)
    folder = drawn(code=EXIT_BUG, slots=4)
    assert folder.set_aside() == [0] and len(folder.failures()[0]) == 3


def test_how_a_stage_is_worked_on_is_no_part_of_its_fingerprint_and_may_be_changed(drawn, monkeypatch):
    before = drawn(run={"on_oom": "fail"})
    after = drawn(run={"on_oom": "split", "preview_every": 5})
    assert (after.path, dict(after.spec.settings)) == (before.path, {"on_oom": "split", "preview_every": 5})


def test_the_decoder_may_have_batches_of_its_own(drawn, monkeypatch):
    from diffusers import AutoencoderKL

    seen, decode = [], AutoencoderKL.decode
    monkeypatch.setattr(AutoencoderKL, "decode", lambda self, z, *a, **k: (seen.append(len(z)), decode(self, z, *a, **k))[1])
    small, whole = drawn(vae_batch=3), drawn()
    assert seen == [3] * 4 + [4] * 2  # a short batch is filled up: one shape
    assert furthest(small, whole) <= 1


def test_text_encoders_at_rest_give_the_same_bytes(drawn):
    usual = drawn(negative_prompt="blurry")
    before = digests(usual)
    shutil.rmtree(usual.path)
    assert digests(drawn(negative_prompt="blurry", run={"text_offload": True})) == before


def test_text_encoders_are_on_the_device_only_while_they_are_needed():
    import torch

    class Pipe:
        components: ClassVar[dict] = {"text_encoder_2": torch.nn.Linear(2, 2), "unet": torch.nn.Linear(2, 2), "tokenizer": object()}

    encoder, unet = Pipe.components["text_encoder_2"], Pipe.components["unet"]
    before = encoder.weight.detach().clone()
    resting = TextEncoders([Pipe, Pipe], torch.device("meta"), offload=True)
    with pytest.raises(RuntimeError), resting.on_device():  # noqa: PT012 (the error is the block's)
        assert encoder.weight.device.type == encoder.bias.device.type == "meta" and unet.weight.device.type == "cpu"
        raise RuntimeError
    assert torch.equal(encoder.weight, before) and resting.rest
    usual = TextEncoders([Pipe], torch.device("meta"), offload=False)
    with usual.on_device():
        assert encoder.weight.device.type == "cpu" and not usual.rest


# -- less work -------------------------------------------------------------------------------------------------------


def test_outside_the_guidance_interval_half_of_the_rows_are_not_computed(drawn, rows):
    drawn(slots=4, steps=10, guidance_interval=(0.25, 0.75))  # DDIM's timesteps 901, 801, .. 1 of 1000
    assert rows == [4] * 2 + [8] * 5 + [4] * 3


def test_an_interval_without_steps_is_no_guidance_and_a_whole_one_is_guidance(drawn, rows):
    never, unguided = drawn(steps=4, guidance_interval=(0.5, 0.501)), drawn(steps=4, guidance_scale=1.0)
    always, guided = drawn(steps=4, guidance_interval=(0.0, 0.999999)), drawn(steps=4)
    assert rows == [4] * 16 + [8] * 16
    assert furthest(never, unguided) <= 1 and furthest(always, guided) == 0 and furthest(guided, unguided) > 1
    assert {tuple(s.json()["guidance_interval"]) for s in never.samples()} == {(0.5, 0.501)}


def test_image_to_image_begins_inside_the_schedule(tiny_sd, rows):
    import torch

    config = ImagesConfig(0, ModelConfig("tiny"), steps=10, height=16, width=16, guidance_interval=(0.25, 0.75))
    family = open_family(judged({"model": tiny_sd}, config), config, EXACT, 2)
    prepared = prepare(family, EXACT, slots=2, model_digest="", versions={})
    with torch.inference_mode():
        texts = family.embed(["a", "b"])
    Painter(family, 2, "fail", prepared.intervals).draw(texts, [1, 2], torch.full((2, 3, 16, 16), 0.5), strength=0.5)
    assert rows == [4] * 2 + [2] * 3  # timesteps 401, 301 are inside, 201, 101 and 1 are not


@pytest.mark.parametrize(
    ("interval", "scale", "halves", "said"),
    [
        ([0.2], 4.0, True, "use [lo, hi]"),
        ([0.8, 0.2], 4.0, True, "use [lo, hi]"),
        ([0, 1.5], 4.0, True, "use [lo, hi]"),
        ([float("nan"), 1], 4.0, True, "use [lo, hi]"),
        ([0.2, 0.8], 1.0, True, "guidance_scale=1 never"),
        ([0.2, 0.8], 4.0, False, "no unconditional half"),
    ],
)
def test_intervals_that_cannot_be_are_refused(interval, scale, halves, said):
    with pytest.raises(InputError) as e, of_group("images"):
        check_interval(interval, scale, halves)
    assert "images.guidance_interval" in str(e.value) and said in str(e.value)


@pytest.mark.parametrize("run", [{"on_oom": "ignore"}, {"preview_every": -1}, {"preview_every": float("nan")}])
def test_settings_of_work_that_cannot_be_are_refused(run):
    with pytest.raises(InputError, match=next(iter(run))):
        check(ImagesConfig(0, ModelConfig("m"), **run), "images")


# -- compilation -----------------------------------------------------------------------------------------------------


def test_shapes_never_change_so_that_nothing_is_compiled_twice(drawn, node_cache, monkeypatch):
    import torch

    call, counted = Painter._call, []

    def counting(self, *args):
        made = call(self, *args)
        counted.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        return made

    monkeypatch.setattr(Painter, "_call", counting)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    usual = drawn(slots=7)  # two units, the last one short
    assert counted == [0] * 2
    compiled = drawn(slots=7, numerics=changed(EXACT, compile="eager"))
    assert 0 < counted[2] == counted[3]
    assert furthest(compiled, usual) == 0


def test_a_compilation_is_for_gpus_and_for_workers_with_pictures_enough_to_win_it_back():
    few, some, many = PAYS_FROM["regional"] - 1, PAYS_FROM["regional"], PAYS_FROM["default"]
    asked = [("cpu", many, True), ("cuda", few, True), ("cuda", some, True), ("cuda", some, False), ("cuda", many, False)]
    assert [resolve("auto", *on) for on in asked] == ["none", "none", "regional", "none", "default"]
    assert resolve("none", "cuda", many, True) == "none" and resolve("aot_eager", "cpu", 1, False) == "aot_eager"
    assert resolve("max-autotune", "cuda", 1, True) == "max-autotune"
    with pytest.raises(InputError, match="max-autotune"):
        resolve("fastest", "cuda", 1, True)


def test_whether_compiling_pays_is_asked_of_the_share_of_one_worker(table, tiny_sd, tmp_path, monkeypatch):
    """Sixteen jobs of a large stage have a small stage each, and a job that comes late has what is left."""
    import synth.images.speed as speed

    asked, prepare = [], speed.prepare
    monkeypatch.setattr(speed, "prepare", lambda *a, **k: (asked.append(k["slots"]), prepare(*a, **k))[1])
    root = tmp_path / "runs" / "toys"
    assert work(images_stage(root, table, tiny_sd, 10, unit_size=2, batch=2), n_jobs=3) == EXIT_OK
    assert work(images_stage(root, table, tiny_sd, 10, unit_size=2, batch=2, seed=5), n_jobs=64) == EXIT_OK  # two pictures are the least
    folder = images_stage(root, table, tiny_sd, 10, unit_size=2, batch=2, seed=6)
    folder.unit_path(1).parent.mkdir(parents=True)
    folder.unit_path(1).touch()
    stage = Images(folder)
    stage.workers = 2
    assert (asked, stage.share()) == ([3, 2], 4)


def test_what_a_model_repeats_is_compiled_and_the_rest_of_it_is_not(tiny_sd, node_cache):
    import torch

    config = ImagesConfig(0, ModelConfig("tiny"), steps=2, height=16, width=16)
    for mode, blocks in (("eager", 4), ("aot_eager", 0)):
        family = open_family(judged({"model": tiny_sd}, config), config, EXACT, 2)
        prepare(family, changed(EXACT, compile=mode), slots=2, model_digest="", versions={})
        unet, vae = family.pipe.unet, family.pipe.vae
        compiled = [m for m in unet.modules() if m._compiled_call_impl is not None]
        assert [type(m).__name__ for m in compiled] == ["BasicTransformerBlock"] * blocks
        whole = ["forward" in vars(m) for m in (unet, vae.decoder)]
        assert whole == [not blocks] * 2
    torch._dynamo.reset()


def test_shapes_that_follow_the_captions_are_never_compiled_for(tiny_sd, monkeypatch):
    import torch

    import synth.images.speed as speed

    config = ImagesConfig(0, ModelConfig("tiny"), steps=1, height=16, width=16)
    family, cuda = open_family(judged({"model": tiny_sd}, config), config, EXACT, 1), torch.device("cuda")
    found = [speed._mode(family, "auto", [family.pipe.unet], cuda, 10**6)]
    monkeypatch.setattr(type(family), "one_shape", False)
    found.append(speed._mode(family, "auto", [family.pipe.unet], cuda, 10**6))
    assert found == ["regional", "none"]
    assert [family_class(p).one_shape for p in ("FluxPipeline", "CogView4Pipeline", "AnyOtherPipeline")] == [True, False, False]


def test_blocks_of_every_size_stay_compiled(tiny_sd, node_cache):
    """Past its limit on forms of one function torch goes on without compiling, and says so in a log alone."""
    import torch

    config = ImagesConfig(0, ModelConfig("tiny"), steps=1, height=16, width=16)
    family = open_family(judged({"model": tiny_sd}, config), config, EXACT, 1)
    torch._dynamo.reset()
    prepare(family, changed(EXACT, compile="eager"), slots=2, model_digest="", versions={}, sizes=12)
    torch._dynamo.utils.counters.clear()
    text = torch.zeros(1, 77, 32)
    with torch.inference_mode():
        for n in range(1, 13):
            family.pipe.unet(torch.zeros(1, 4, 4, 4 * n), 1, text)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 12
    torch._dynamo.reset()


def test_kernels_are_not_chosen_for_sizes_of_few_pictures(tiny_sd, monkeypatch):
    """cuDNN times its convolutions, and builds a plan of its attention, for each new shape: seconds that few pictures do not win back."""
    import torch

    config = ImagesConfig(0, ModelConfig("tiny"), steps=1, height=16, width=16)
    family = open_family(judged({"model": tiny_sd}, config), config, EXACT, 1)
    try:
        for few, sizes, chosen in ((TUNES_FROM, 20, True), (TUNES_FROM - 1, 20, False), (1, 1, True)):
            apply(FAST)
            ready = prepare(family, FAST, slots=few, model_digest="", versions={}, sizes=sizes)
            assert (torch.backends.cudnn.benchmark, torch.backends.cuda.cudnn_sdp_enabled()) == (chosen, chosen)
            ready.shapes.met((1, None))
            assert ready.shapes.pop_new() == chosen  # then a first batch is not slower than others
        monkeypatch.setattr(type(family), "one_shape", False)  # texts of any length
        apply(FAST)
        prepare(family, FAST, slots=10**6, model_digest="", versions={})
        assert (torch.backends.cudnn.benchmark, torch.backends.cuda.cudnn_sdp_enabled()) == (False, False)
    finally:
        apply(EXACT)
    assert not torch.backends.cudnn.benchmark


# -- what was compiled is kept ---------------------------------------------------------------------------------------


def test_weights_go_straight_to_a_gpu_where_the_pipeline_can(tiny_sd):
    import diffusers
    import torch

    from synth.images.pipeline import _straight_to

    sd = diffusers.StableDiffusionPipeline
    assert _straight_to(torch.device("cuda"), sd) == {"device_map": "cuda"} and _straight_to(torch.device("cpu"), sd) == {}
    assert _straight_to(torch.device("cuda"), diffusers.KandinskyV22CombinedPipeline) == {}
    pipe = sd.from_pretrained(
        tiny_sd, safety_checker=None, requires_safety_checker=False, device_map="cpu"
    )  # the same way, on the only device here
    assert pipe.to("cpu").device.type == "cpu" and not any(hasattr(m, "_hf_hook") for m in pipe.unet.modules())


# -- closing ---------------------------------------------------------------------------------------------------------

WAYS = {
    "plain": {},
    "an interval": {"guidance_interval": (0.25, 0.75)},
    "compiled": {"numerics": changed(EXACT, compile="eager")},
    "compiled whole": {"numerics": changed(EXACT, compile="aot_eager")},
    "decoded in batches": {"vae_batch": 3},
    "all": {"guidance_interval": (0.25, 0.75), "numerics": changed(EXACT, compile="eager"), "vae_batch": 3},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_closed_stage_holds_no_model(way, table, tiny_sd, tmp_path, node_cache):
    """Reopened with the old one alive, a model would need the device twice."""
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 6, **way)
    stage = Images(folder)
    stage.check()
    stage.open()
    state = stage.begin(folder.unit(0))
    items = stage.compute(state, range(4))
    pipe = stage.painter.family.pipe
    alive = {name: weakref.ref(getattr(pipe, name)) for name in ("unet", "vae", "text_encoder")}
    del pipe
    stage.close()
    assert {name: ref() for name, ref in alive.items()} == dict.fromkeys(alive)
    assert items[0].picture.pixels().shape == (16, 16, 3)  # what was drawn is not the model's
