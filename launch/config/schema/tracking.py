"""Tracking pairs."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Warp:
    """As synth.config.WarpConfig."""

    affine: float = MISSING
    scale: list[float] = MISSING
    rotate: list[float] = MISSING
    translate: list[float] = MISSING
    shear: list[float] = MISSING
    perspective: float = MISSING
    distortion: list[float] = MISSING
    flip: float = MISSING
    colour: float = MISSING
    brightness: list[float] = MISSING
    contrast: list[float] = MISSING


@dataclass
class Tracking:
    seed: int = MISSING
    variants: int = MISSING
    noise_strength: float = MISSING
    harmonize: int | None = None
    min_area: float | None = None
    max_area: float = MISSING
    dilate: int | None = None
    size: Any = None  # null | [long side, short side]
    bucket: int | None = None
    warp: Warp = field(default_factory=Warp)
    quality: int = MISSING
    on_bad: str = MISSING
    guidance_scale: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    batch_size: int = MISSING
    unit_size: int = MISSING
    negative_prompt: str = MISSING
    negative_prompt_file: str | None = None
    eta: float = MISSING
    preset: str | None = None
    guidance_interval: list[float] = MISSING
    vae_batch: int = MISSING
