"""Schedulers by name. Imports diffusers only when one is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.errors import InputError

DEFAULT = "default"  # the model's own


@dataclass(frozen=True)
class Choice:
    """A diffusers scheduler class, settings that the name stands for, and settings used only where the model names none."""

    cls: str
    fixed: Mapping = field(default_factory=dict)
    fallback: Mapping = field(default_factory=dict)


# DDIM clips its estimate of the clean sample to [-1, 1] unless told otherwise: right for pixels, wrong for latents.
SCHEDULERS: Mapping[str, Choice] = {
    "ddim": Choice("DDIMScheduler", fallback={"clip_sample": False, "set_alpha_to_one": False}),
    "pndm": Choice("PNDMScheduler", {"skip_prk_steps": True}),
    "plms": Choice("PNDMScheduler", {"skip_prk_steps": True}),
    "dpm++2m": Choice("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": Choice("EulerDiscreteScheduler"),
    "unipc": Choice("UniPCMultistepScheduler"),
    "lcm": Choice("LCMScheduler", fallback={"clip_sample": False}),
}


# diffusers' schedulers that cannot put noise on a given picture (they have neither add_noise nor scale_noise)
NO_START = frozenset({"IPNDMScheduler", "VQDiffusionScheduler", "SCMScheduler", "DDIMInverseScheduler"})
LCM_STEPS = 50  # what LCM was distilled on; more cannot be asked of it
READ_ETA = frozenset({"DDIMScheduler", "DDIMParallelScheduler", "TCDScheduler"})  # pipelines hand eta to those that take it


def check_scheduler(name: str, own: str, steps: int = 1, img2img: bool = False, eta: float = 0.0, trained: int = 0) -> None:
    """InputError if `name` is unknown, or cannot drive a model whose own scheduler class is `own` in so many steps.

    trained: noise levels that the model was trained on, of which a schedule is a choice; 0: not known.
    """
    if name != DEFAULT and name not in SCHEDULERS:
        raise InputError(f"images.scheduler={name!r}: use one of {', '.join((DEFAULT, *SCHEDULERS))}")
    if name != DEFAULT and own.startswith("FlowMatch"):
        raise InputError(f"images.scheduler={name!r} predicts noise, but this model was trained by flow matching ({own}): use {DEFAULT}")
    cls = class_of(name, own)
    if cls == "LCMScheduler" and steps > LCM_STEPS:
        raise InputError(f"images.steps={steps}: scheduler lcm takes at most {LCM_STEPS} steps; it is made for 4 to 8")
    if img2img and cls in NO_START:
        others = "images.scheduler=ddim" if not own.startswith("FlowMatch") else "another model"
        raise InputError(f"images.scheduler={name!r} ({cls}) cannot start from a picture; use {others}")
    if eta and cls not in READ_ETA:
        raise InputError(
            f"images.eta={eta:g}: images.scheduler={name} ({cls or 'none'}) does not read it; use images.scheduler=ddim, or images.eta=0"
        )
    if 0 < trained < steps:
        raise InputError(f"images.steps={steps}: the model was trained on {trained} noise levels; use {trained} steps at most")


def class_of(name: str, own: str) -> str:
    """Class name of the scheduler that is used: what the metadata says."""
    return own if name == DEFAULT else SCHEDULERS[name].cls


def make_scheduler(name: str, own):
    """The scheduler called `name`, set up for the model whose own scheduler object is `own`."""
    if name == DEFAULT:
        return own
    import diffusers

    choice = SCHEDULERS[name]
    named = dict(own.config)
    fallback = {k: v for k, v in choice.fallback.items() if k not in named}
    return getattr(diffusers, choice.cls).from_config(own.config, **fallback, **choice.fixed)
