"""Guesses of what pictures cost: by operations that are counted, and said as guesses."""

import json

import pytest

from launch.plan.planned import PlannedStage
from launch.show import guesses
from launch.show.estimate import Costs
from launch.show.guesses import guess, operations
from synth.numerics import PRESETS
from synth.store.spec import StageSpec


def spec(model="sd15", numerics="exact", slots=1000, kind="images", **changes):
    config = {"model": {"id": model}, "height": 512, "width": 512, "steps": 50, "guidance_scale": 4.0} | changes
    return StageSpec(kind, kind, config, slots, 10, 10, PRESETS[numerics])


def test_a_picture_of_stable_diffusion_costs_what_was_counted_on_a_gpu():
    assert operations(spec().config) == pytest.approx(82.9, rel=0.02)  # torch's counter, by tests.bench.images


def test_the_table_is_what_is_counted_now(tmp_path):
    from tests.images.count_operations import counted  # diffusers: of one test alone

    assert counted("sd15", tmp_path) == json.loads(guesses.TABLE.read_text())["sd15"]


def test_half_of_it_without_guidance_a_quarter_at_half_the_side_and_nothing_doubles_where_the_scale_is_an_input():
    whole, once = operations(spec().config), json.loads(guesses.TABLE.read_text())["sd15"]["once"]
    assert operations(spec(guidance_scale=1.0).config) - once == pytest.approx((whole - once) / 2)
    assert operations(spec(height=256, width=256).config) == pytest.approx(whole / 4)
    flux = [operations(spec("flux_dev", guidance_scale=scale).config) for scale in (1.0, 3.5)]
    assert flux[0] == flux[1]


def test_a_guess_is_what_a_card_took_and_says_that_it_is_a_guess(tmp_path):
    assert guess(spec(slots=45_000))["an H100"] == pytest.approx(45_000 / 2.22, rel=0.1)  # as it drew on one
    stages = tuple(PlannedStage(spec(slots=slots), tmp_path) for slots in (4_500, 40_500))
    assert Costs((), stages).lines()[-1].startswith("a guess for its pictures") and "5.6 h of an H100" in Costs((), stages).lines()[-1]


@pytest.mark.parametrize("unknown", [{"model": "another"}, {"numerics": "reference"}, {"kind": "captions"}, {"model": "floyd"}])
def test_of_anything_else_nothing_is_guessed(unknown):
    assert guess(spec(**unknown)) is None
