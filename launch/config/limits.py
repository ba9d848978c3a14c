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
LIMITS = {
    "captions.total": AT_LEAST_1,
    "captions.per_class": AT_LEAST_1,
    "captions.oversample": AT_LEAST_1,
    "captions.unit_size": AT_LEAST_1,
    "captions.window": AT_LEAST_1,
    "captions.max_attempts": AT_LEAST_1,
    "captions.min_words": AT_LEAST_0,
    "captions.max_words": AT_LEAST_1,
    "captioner.temperature": AT_LEAST_0,
    "captioner.top_p": SHARE,
    "captioner.max_seq_len": Range(8),
    "captioner.max_gen_len": AT_LEAST_1,
    "captioner.model_parallel": AT_LEAST_1,
    "prompts.shots": AT_LEAST_0,
    "prompts.group_size": AT_LEAST_1,
    "prompts.num_backgrounds": AT_LEAST_1,
    "prompts.num_metaprompts": AT_LEAST_1,
    "prompts.num_prompts_per_metaprompt": AT_LEAST_0,
    "prompts.max_prompts": AT_LEAST_1,
    "prompts.max_words": AT_LEAST_1,
}


def check_limits(config: Config) -> None:
    """A number out of its range, an unknown numerics or shares that do not sum to 1: an InputError that names the key."""
    for key, allowed in LIMITS.items():
        group, _, name = key.partition(".")
        value = getattr(getattr(config, group), name, None)  # a key that this option does not have
        if value is not None and value not in allowed:
            raise InputError(f"{key}={value}: must be {allowed}")
    for group, value in vars(config).items():
        for prefix, one in {f"{group}.{k}": v for k, v in value.items()}.items() if isinstance(value, dict) else [(group, value)]:
            if is_dataclass(one):
                check(one, prefix)
    captions = config.captions
    if captions.min_words > captions.max_words:
        raise InputError(
            f"captions.min_words={captions.min_words}: more than captions.max_words={captions.max_words}; no caption could pass"
        )
    if config.numerics not in PRESETS:
        raise InputError(f"numerics={config.numerics}: no such numerics; there are {', '.join(PRESETS)}")
    shares = getattr(config.prompts, "modes", {"all": 1.0})
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 0.01:
        raise InputError(f"prompts.modes={dict(shares)}: shares must be 0 or more and sum to 1")
