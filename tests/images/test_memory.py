"""The memory that a plan says against live tensors, counted on the meta device for every preset in its true shapes."""

import json
from functools import cache
from pathlib import Path

import pytest

from synth import weights
from synth.images.memory import known, need
from synth.numerics import EXACT, REFERENCE
from tests.images.count_memory import PRESETS, TABLE, cases, config_of, counted, folder_of, key, native, preset

COUNTED = json.loads(TABLE.read_text())
REPO = Path(__file__).resolve().parents[2]


@cache
def all_cases() -> dict[str, tuple]:
    """key -> (preset, pixels a side, batch, whether attention is the plain kernel's). Composes every preset."""
    return {key(name, *case): (name, *case) for name in PRESETS for case in cases(name, native(name, preset(name)))}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """preset -> its model, of true configs and headers; written when first asked for."""
    root, made = tmp_path_factory.mktemp("true"), {}

    def model(name: str):
        if name not in made:
            made[name] = folder_of(name, root, config_of(name, preset(name), 64))
        return made[name]

    return model


def planned(folders, name: str, side: int, batch: int, plain: bool = False, vae_batch: int = 0, **more):
    config = config_of(name, preset(name), side)
    return need(folders(name), config, REFERENCE if plain else EXACT, batch, vae_batch, **more)


def close(estimate: float, truth: float) -> bool:
    return 0.8 * truth <= estimate <= 1.2 * truth


def test_every_preset_that_loads_a_model_is_in_the_table():
    presets = {p.stem for p in (REPO / "conf" / "model").glob("*.yaml")} - {"diffusers", "external", "tiny", "cogview2"}
    assert presets == set(PRESETS) and set(COUNTED) == set(all_cases())


@pytest.mark.parametrize("case", COUNTED)
def test_the_plan_is_within_a_fifth_of_what_is_alive(folders, case):
    """Of all of it, and of the widest phase alone: weights hide much."""
    cost, truth = planned(folders, *all_cases()[case]), dict(COUNTED[case])
    if case.endswith("plain"):  # the columns of one picture's widest convolution, 256 channels wide, lie inside the kernel
        truth["decode"] += 9 * 256 * all_cases()[case][1] ** 2 * 4
    weights, widest = truth.pop("weights"), max(truth.values())
    assert close(sum(cost.weights.values()), weights)
    assert close(cost.tensors, weights + widest)
    assert close(max(cost.encode, cost.denoise, cost.decode), widest)
    assert close(cost.denoise, truth["denoise"]) or cost.denoise < 0.3 * widest  # vae_batch shrinks the decoder to about this


@pytest.mark.parametrize("case", ["sd15 512 1", "pixart_sigma 512 1", "sd15 512 1 plain"])
def test_the_table_is_what_is_counted_now(case, tmp_path):
    assert counted(*all_cases()[case], tmp_path) == pytest.approx(COUNTED[case], rel=0.02)


def test_decoding_a_few_at_a_time_takes_the_memory_of_a_few(folders):
    whole, parts = (planned(folders, "sdxl", 1024, 16, vae_batch=n) for n in (0, 2))
    assert parts.decode < 0.2 * whole.decode and parts.denoise == whole.denoise and parts.weights == whole.weights


def test_a_decoder_that_must_be_float32_is_only_where_the_rest_is_float16(folders):
    config = config_of("sdxl", preset("sdxl"), 1024)
    from dataclasses import replace

    half = need(folders("sdxl"), replace(config, model=replace(config.model, dtype="bfloat16")), EXACT, 1, 0)
    assert half.decode == pytest.approx(planned(folders, "sdxl", 1024, 1).decode / 2, rel=0.1)


def test_guidance_doubles_the_rows_of_a_denoiser_that_has_both_halves_in_a_call(folders):
    from dataclasses import replace

    def without(name, side):
        return need(folders(name), replace(config_of(name, preset(name), side), guidance_scale=1.0), EXACT, 4, 0).denoise

    assert planned(folders, "sd15", 512, 4).denoise == 2 * without("sd15", 512)
    assert planned(folders, "flux_dev", 1024, 4).denoise == without("flux_dev", 1024)


def test_text_encoders_at_rest_give_activations_room_and_take_it_on_the_host(folders):
    there, away = (planned(folders, "flux_dev", 1024, 4, offload=o) for o in (False, True))
    assert away.device < there.device and away.device > sum(there.weights.values())  # they pass through the GPU all the same
    assert away.host - there.host == there.weights["text_encoder"] + there.weights["text_encoder_2"]


def test_nothing_is_said_of_a_denoiser_that_is_not_known(folders, tmp_path):
    from tests.images.true_shapes import write

    folder = write("sd15", tmp_path / "sd15")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "UNet3DConditionModel"]}))
    from synth.images.models import inspect_model

    config = config_of("sd15", preset("sd15"), 512)
    assert not known(inspect_model({"model": folder}, config.model))


def test_the_header_of_a_file_is_read_once_and_anew_when_the_file_changes(tmp_path, monkeypatch):
    read, header, file = [], weights._header, tmp_path / "model.safetensors"
    monkeypatch.setattr(weights, "_header", lambda path: (read.append(path), header(path))[1])

    def write(n: int) -> None:
        told = json.dumps({"w": {"dtype": "F16", "shape": [n, 2], "data_offsets": [0, 4 * n]}}).encode()
        file.write_bytes(len(told).to_bytes(8, "little") + told + bytes(4 * n))

    for n in (3, 5):
        write(n)
        assert [dict(weights.elements(place)) for place in (file, tmp_path)] == [{"w": 2 * n}] * 2
    assert read == [file] * 2
