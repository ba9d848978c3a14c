"""Pipelines that no family knows: what is asked of them is what they draw, or it is refused by name before the first picture."""

import json
import shutil

import pytest

from synth.errors import InputError
from synth.images.families.generic import Generic
from synth.images.models import MODEL, judge
from synth.images.painter import Painter
from synth.images.pipeline import open_family
from synth.keys import WrongKey
from synth.numerics import EXACT
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import judged
from tests.images.test_models import folders, seeded  # noqa: F401 (a fixture)

KINDS = ("chroma", "klein", "qwen", "sana", "hunyuan")


def config_of(size: int = 32, **changes):
    settings = {"seed": 3, "model": ModelConfig("tiny"), "steps": 2, "guidance_scale": 4.0, "height": size, "width": size} | changes
    return ImagesConfig(**settings)


def opened(folder, **changes):
    config = config_of(**changes)
    return open_family(judged({MODEL: folder}, config), config, EXACT, 2)


def drawn(family, captions=("a cat", "a dog"), seeds=(1, 2)):
    import torch

    with torch.inference_mode():
        return family.draw(family.embed(list(captions)), seeded(*seeds))


@pytest.mark.parametrize("name", KINDS)
def test_guidance_caption_and_seed_all_show_in_the_picture(name, folders):  # noqa: F811
    import torch

    weak, strong = opened(folders(name), guidance_scale=2.0), opened(folders(name))
    assert isinstance(strong, Generic)
    pictures = drawn(strong)
    assert tuple(pictures.shape) == (2, 3, 32, 32) and torch.equal(pictures, drawn(strong))
    for other in (drawn(weak), drawn(strong, ("a cow", "a hen")), drawn(strong, seeds=(3, 4))):
        assert not torch.equal(pictures, other)


def test_guidance_that_a_model_ignores_is_refused(folders):  # noqa: F811
    """A distilled model: any scale draws the same picture."""
    with pytest.raises(InputError, match=r"Flux2KleinPipeline.*4\.0 is ignored.*guidance_scale=1"):
        drawn(opened(folders("klein_distilled")))
    assert len(drawn(opened(folders("klein_distilled"), guidance_scale=1.0))) == 2


def test_a_setting_that_a_pipeline_does_not_take_is_refused(folders):  # noqa: F811
    with pytest.raises(InputError, match="Flux2KleinPipeline takes no negative_prompt=mud; leave negative_prompt empty"):
        opened(folders("klein"), negative_prompt="mud")


@pytest.mark.parametrize(("name", "step"), [("chroma", 4), ("klein", 4), ("qwen", 4), ("hunyuan", 16)])
def test_a_size_that_would_be_rounded_is_refused_when_it_is_planned(name, step, folders):  # noqa: F811
    for size in (32 if step > 8 else 40, 48):
        judge(judged({MODEL: folders(name)}, config_of()), config_of(size))
        assert drawn(opened(folders(name), size=size)).shape[2:] == (size, size)
    model = judged({MODEL: folders(name)}, config_of())
    assert Generic.latent_step(model) == step
    for size in (42, 41):
        with pytest.raises(WrongKey, match=rf"height={size}"):
            judge(model, config_of(size))


def test_sizes_come_from_the_vaes_own_factor(folders, tmp_path):  # noqa: F811
    """Sana's shrinks by 32 in truth, and its transformer says how many latents it was trained on."""
    shutil.copytree(folders("sana"), tmp_path / "sana")
    file = tmp_path / "sana" / "vae" / "config.json"
    raw = json.loads(file.read_bytes())
    file.write_text(json.dumps(raw | {"encoder_block_out_channels": [8] * 6}))
    model = judged({MODEL: tmp_path / "sana"}, config_of())
    assert model.vae_factor == 32 and model.native_size == (4 * 32, 4 * 32)
    with pytest.raises(WrongKey, match="multiples of 32"):
        judge(model, config_of(48))


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({"block_out_channels": [1, 2, 3, 4]}, 8),
        ({"temperal_downsample": [False, True, True]}, 8),
        ({"scale_factor_spatial": 16, "temperal_downsample": [False, True, True]}, 16),
        ({"spatial_compression_ratio": 32, "block_out_channels": [1, 2, 3]}, 32),
        ({}, 8),
    ],
)
def test_every_kind_of_vae_says_how_much_it_shrinks(folders, tmp_path, config, factor):  # noqa: F811
    shutil.copytree(folders("chroma"), tmp_path / "m")
    (tmp_path / "m" / "vae" / "config.json").write_text(json.dumps(config))
    assert judged({MODEL: tmp_path / "m"}, config_of(64)).vae_factor == factor


def test_what_a_pipeline_refuses_is_bad_input_and_no_error_of_a_unit(folders):  # noqa: F811
    with pytest.raises(InputError, match=r"SanaPipeline refuses it: .*divisible by 32"):
        drawn(opened(folders("sana"), size=40))


def test_a_picture_of_another_size_than_was_asked_for_is_never_stored(folders, monkeypatch):  # noqa: F811
    family = opened(folders("chroma"))
    draw = family.draw
    monkeypatch.setattr(family, "draw", lambda *args, **kwargs: draw(*args, **kwargs)[:, :, :24, :])
    with pytest.raises(InputError, match=r"draws 32x24 pixels where 32x32 were asked for; .*images\.height=24"):
        Painter(family, 2).draw(family.embed(["a cat", "a dog"]), [1, 2])
