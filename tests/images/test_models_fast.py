"""What makes drawing fast or small, over every kind of model of test_models: it can be done, or is left out or refused by name."""

import pytest

from synth.errors import InputError
from synth.images.attention import set_backend
from synth.images.compiling import denoisers, has_blocks
from synth.images.painter import Painter
from synth.images.pipeline import open_family
from synth.images.speed import fuse_projections, prepare
from synth.keys import WrongKey
from synth.numerics import EXACT, FAST, apply, changed
from tests.fixtures_images import judged
from tests.images.test_models import CAPTIONS, MODELS, Row, config_of, folders, paths_of, rows, seeded  # noqa: F401 (a fixture)

ADDED = ("floyd stage I", "kandinsky22", "karlo")  # their layers have key and value projections of their own for texts
WITHOUT_VAE = ("floyd stage I", "karlo")
SCHEDULED = ("sd15 ddim with fresh noise", "sd15 lcm", "sd3 with fresh noise")  # the modules of other rows under other schedulers
named = pytest.mark.parametrize("name", [name for name in MODELS if name not in SCHEDULED])


@pytest.fixture
def opened(folders):  # noqa: F811 (the fixture)
    """(name of a row, rows a call, config changes) -> its family, loaded anew: what is done to it stays."""

    def family(name: str, batch: int = 2, **changes):
        row: Row = MODELS[name]
        config = config_of(row, **changes)
        return open_family(judged(paths_of(row, folders), config), config, EXACT, batch)

    return family


def drawn(family, n: int = 2):
    import torch

    with torch.inference_mode():
        return family.draw(family.embed(CAPTIONS[:n]), seeded(*range(1, n + 1)))


def weights(family) -> int:
    """Numbers in the denoisers of a family."""
    return sum(p.numel() for m in denoisers([family.pipe, *family.parts.values()]) for p in m.parameters())


def ready(family, numerics=EXACT, **more):
    return prepare(family, numerics, slots=1, model_digest="", versions={}, **more)


@named
def test_projections_are_fused_where_the_model_can_and_no_weight_is_there_twice(name, opened, monkeypatch):
    """Through all that numerics=fast does on a GPU, whose device this pipeline says that it is on while it is prepared."""
    import diffusers
    import torch

    family, plain = opened(name), opened(name)
    expected, before = drawn(plain), weights(family)
    try:
        with monkeypatch.context() as m:
            m.setattr(diffusers.DiffusionPipeline, "device", property(lambda self: torch.device("cuda")))
            ready(family, FAST)
    finally:
        apply(EXACT)
    fused = [m for d in denoisers([family.pipe, *family.parts.values()]) for m in d.modules() if getattr(m, "fused_projections", False)]
    assert bool(fused) == (name not in (*ADDED, "cogview4"))
    assert weights(family) == before
    assert (drawn(family) - expected).abs().max() < 1 / 255


def test_a_model_that_cannot_be_fused_stays_as_it_is(opened):
    family = opened("floyd")
    stages = [family.pipe.unet, *(p.unet for p in family.parts.values())]
    assert [fuse_projections(unet) for unet in stages] == [False, False, True]  # the last is Stable Diffusion's upscaler


@named
def test_compiling_breaks_no_graph_and_changes_no_picture(name, opened, tmp_path, monkeypatch):
    import tempfile

    import torch

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "")
    family, plain = opened(name), opened(name)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    prepared = ready(family, changed(EXACT, compile="eager"))
    assert prepared.compiled == "eager"
    made = drawn(family)
    counters = torch._dynamo.utils.counters
    assert bool(counters["stats"]["unique_graphs"]) == (name != "karlo")  # whose denoisers go by other names
    assert not counters["graph_break"] and not counters["unimplemented"]
    assert (made - drawn(plain)).abs().max() < 1 / 255
    torch._dynamo.reset()


def test_which_models_say_what_they_repeat(opened):
    said = {
        name: [has_blocks(m) for m in denoisers([f.pipe])] for name in ("sd15", "flux_dev", "sd3", "floyd stage I") if (f := opened(name))
    }
    assert said == {"sd15": [True], "flux_dev": [True], "sd3": [False], "floyd stage I": [False]}


@named
def test_pictures_are_decoded_in_batches_of_their_own_or_the_refusal_says_why(name, opened, monkeypatch):
    import diffusers

    if name in WITHOUT_VAE:
        with pytest.raises(InputError, match=r"images\.vae_batch=2: .* has no VAE; use 0"):
            opened(name, vae_batch=2)
        return
    seen = []
    for cls in (diffusers.AutoencoderKL, diffusers.VQModel):

        def spy(self, z, *args, _decode=cls.decode, **kwargs):
            seen.append(len(z))
            return _decode(self, z, *args, **kwargs)

        monkeypatch.setattr(cls, "decode", spy)
    expected = drawn(opened(name, 3), 3)
    assert set(seen) == {3}
    seen.clear()
    family = opened(name, 3, vae_batch=2)
    ready(family)
    made = drawn(family, 3)
    assert seen == [2, 2]
    assert (made - expected).abs().max() < 1 / 255


def test_a_half_vae_that_is_decoded_in_float32_leaves_no_float32_copy_of_all_pictures(opened):
    """SDXL's VAE is made float32 to decode: at 1024 pixels one picture is 12 MB of it, a layer inside half a gigabyte."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    n, side = 4, MODELS["sdxl"].size

    class Largest(TorchDispatchMode):
        """Numbers in the largest float32 tensor that was made."""

        found, upcast = 0, False

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **kwargs or {})
            for t in made if isinstance(made, (tuple, list)) else [made]:
                if torch.is_tensor(t) and t.dtype == torch.float32 and t.ndim == 4 and t.shape[-1] == t.shape[-2] == side:
                    self.found, self.upcast = max(self.found, len(t)), True
            return made

    family = opened("sdxl", n, vae_batch=1)
    for part in ("vae", "unet", "text_encoder", "text_encoder_2"):
        getattr(family.pipe, part).half()
    assert family.pipe.vae.config.force_upcast
    prepared = ready(family)
    painter = Painter(family, n, "fail", prepared.intervals, prepared.text_encoders)
    with torch.inference_mode():
        texts = list(painter.encode(CAPTIONS[:n]).values())
    with Largest() as largest:
        pictures = painter.draw(texts, [1, 2, 3, 4])
    assert largest.upcast and largest.found == 1
    assert all(p.pixels().std() > 3 for p in pictures)


# -- attention kernels -----------------------------------------------------------------------------------------------


def test_a_backend_is_taken_by_models_that_ask_for_one_and_a_later_model_does_not_inherit_it(opened):
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    plain, chosen = opened("flux_dev"), opened("flux_dev", model=config_of(MODELS["flux_dev"]).model.__class__(**model("_native_math")))
    ready(chosen)
    processors = [m.processor for m in chosen.pipe.transformer.modules() if hasattr(m, "processor")]
    assert processors and all(p._attention_backend == "_native_math" for p in processors)
    assert (drawn(chosen) - drawn(plain)).abs().max() < 1 / 255
    ready(plain)
    assert _AttentionBackendRegistry._active_backend == AttentionBackendName.NATIVE


def model(backend: str) -> dict:
    return vars(config_of(MODELS["flux_dev"]).model) | {"attention_backend": backend}


def test_a_backend_that_a_denoiser_would_not_ask_for_or_that_is_not_here_is_refused(opened):
    with pytest.raises(WrongKey, match=r"model.attention_backend=_native_flash: no layer of UNet2DConditionModel asks for it; use null"):
        set_backend([opened("sd15").pipe.unet], "_native_flash")
    with pytest.raises(WrongKey, match=r"model.attention_backend=xformers: .*[Xx]formers.*; use null"):
        set_backend([opened("flux_dev").pipe.transformer], "xformers")
