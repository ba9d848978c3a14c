"""What the numbers of a pairs config may be. Pure; planning and workers share it."""

import math
from collections.abc import Sequence

from synth.errors import InputError
from synth.images.strength import steps_run
from synth.tracking.config import PairsConfig

LARGEST = 8192  # pixels of a canvas' side
SHARES = ("affine", "perspective", "flip", "colour")  # tracking.warp.* that are probabilities
RANGES = {  # tracking.warp.* -> the bounds of both ends
    "scale": (0.05, 20.0),
    "rotate": (-180.0, 180.0),
    "translate": (-1.0, 1.0),
    "shear": (-80.0, 80.0),
    "distortion": (0.0, 1.0),
    "brightness": (-1.0, 1.0),
    "contrast": (-1.0, 1.0),
}


def check_settings(config: PairsConfig) -> None:
    """InputError that names the key, its value and what it may be."""
    whole = {
        "variants": (1, 10_000),
        "steps": (1, 10_000),
        "dilate": (0, 1000),
        "bucket": (1, LARGEST),
        "quality": (1, 100),
        "harmonize": (0, 10_000),
    }
    whole |= {"long_side": (1, LARGEST), "short_side": (1, LARGEST)}
    for key, (lo, hi) in whole.items():
        if not lo <= getattr(config, key) <= hi:
            name = "size" if key.endswith("_side") else key
            _refuse(name, getattr(config, key), f"use a whole number from {lo} to {hi}")
    if config.short_side > config.long_side:
        _refuse("size", [config.long_side, config.short_side], "the long side comes first")
    if not 0 <= config.min_area < config.max_area:
        _refuse("min_area", config.min_area, f"must be from 0 to below tracking.max_area={config.max_area:g}")
    _check_steps(config)
    for key in SHARES:
        if not 0 <= (value := getattr(config.warp, key)) <= 1:
            _refuse(f"warp.{key}", value, "a probability, 0 to 1")
    for key, (lo, hi) in RANGES.items():
        _check_range(key, getattr(config.warp, key), lo, hi)


def _check_steps(config: PairsConfig) -> None:
    if not 0 < config.noise_strength <= 1:
        _refuse("noise_strength", config.noise_strength, "must be above 0 and at most 1")
    run = steps_run(config.steps, config.noise_strength)
    if run < 1:
        why = f"no step of tracking.steps={config.steps} would be run; use {math.ceil(100 / config.steps) / 100:g} or more, or more steps"
        _refuse("noise_strength", config.noise_strength, why)
    if config.harmonize >= run:
        _refuse(
            "harmonize",
            config.harmonize,
            f"only {run} steps are run, and objects that are never put back are not kept; use less than {run}",
        )


def _check_range(key: str, value: Sequence[float], lo: float, hi: float) -> None:
    if len(value) != 2 or not lo <= value[0] <= value[1] <= hi:
        _refuse(f"warp.{key}", list(value), f"use [from, to] between {lo:g} and {hi:g}")


def _refuse(key: str, value: object, why: str) -> None:
    raise InputError(f"tracking.{key}={value}: {why}")
