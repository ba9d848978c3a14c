"""The range of every number in the config: what no type can say."""

from dataclasses import dataclass, is_dataclass

from launch.config.schema import Config
from synth.errors import InputError
from synth.keys import check
from synth.numerics import PRESETS


@dataclass(frozen=True)
class Range:
    low: float
    high: float = float("inf")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} or more" if self.high == float("inf") else f"from {self.low:g} to {self.high:g}"


AT_LEAST_0, AT_LEAST_1, SHARE = Range(0), Range(1), Range(0, 1)
AREA = Range(0, 1e12)  # pixels
STORED = Range(0, 16383)  # pixels; WebP holds no more a side
LIMITS = {
    "images.per_caption": AT_LEAST_1,
    "images.increase_ratio": AT_LEAST_0,
    "images.guidance_scale": AT_LEAST_0,
    "images.steps": AT_LEAST_1,
    "images.height": AT_LEAST_1,
    "images.width": AT_LEAST_1,
    "images.save_size": STORED,
    "images.batch_size": AT_LEAST_1,
    "images.unit_size": AT_LEAST_1,
    "images.eta": SHARE,
    "images.vae_batch": AT_LEAST_0,
    "images.preview_every": AT_LEAST_0,
    "img2img.per_image": AT_LEAST_1,
    "img2img.random_count": AT_LEAST_1,
    "img2img.noise_strength": SHARE,
    "img2img.guidance_scale": AT_LEAST_0,
    "img2img.steps": AT_LEAST_1,
    "img2img.height": AT_LEAST_1,
    "img2img.width": AT_LEAST_1,
    "img2img.save_size": STORED,
    "img2img.batch_size": AT_LEAST_1,
    "img2img.unit_size": AT_LEAST_1,
    "img2img.eta": SHARE,
    "img2img.vae_batch": AT_LEAST_0,
    "tracking.variants": AT_LEAST_1,
    "tracking.noise_strength": SHARE,
    "tracking.harmonize": AT_LEAST_0,
    "tracking.min_area": AREA,
    "tracking.max_area": AREA,
    "tracking.dilate": Range(0, 1000),
    "tracking.bucket": AT_LEAST_1,
    "tracking.quality": Range(1, 100),
    "tracking.guidance_scale": AT_LEAST_0,
    "tracking.steps": AT_LEAST_1,
    "tracking.batch_size": AT_LEAST_1,
    "tracking.unit_size": AT_LEAST_1,
    "tracking.eta": SHARE,
    "tracking.vae_batch": AT_LEAST_0,
    "model.native_height": AT_LEAST_1,
    "model.native_width": AT_LEAST_1,
    "model.native_steps": AT_LEAST_1,
    "model.native_guidance_scale": AT_LEAST_0,
    "model.native_pair_guidance_scale": AT_LEAST_0,
}


def check_limits(config: Config) -> None:
    """A number out of its range or an unknown numerics: an InputError that names the key."""
    for key, allowed in LIMITS.items():
        group, _, name = key.partition(".")
        value = getattr(getattr(config, group), name, None)  # a key that this option does not have
        if value is not None and value not in allowed:
            raise InputError(f"{key}={value}: must be {allowed}")
    for group, value in vars(config).items():
        for prefix, one in {f"{group}.{k}": v for k, v in value.items()}.items() if isinstance(value, dict) else [(group, value)]:
            if is_dataclass(one):
                check(one, prefix)
    if config.numerics not in PRESETS:
        raise InputError(f"numerics={config.numerics}: no such numerics; there are {', '.join(PRESETS)}")
