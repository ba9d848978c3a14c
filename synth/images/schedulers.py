"""Schedulers by name. Imports diffusers only when one is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.errors import InputError
from synth.keys import WrongKey, one_of

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


# beginnings of diffusers' schedulers whose models were not trained on the noise levels of the others
OF_ITS_OWN = ("EDM", "CMStochastic", "SCM", "KarrasVe", "ScoreSde", "VQDiffusion", "Amused", "DDPMWuerstchen", "CogVideoX")
# what a model's scheduler says that the model predicts -> the names of those that can take it; any other: all
TAKE = {"flow_prediction": ("dpm++2m", "unipc"), "sample": ("ddim", "dpm++2m", "unipc", "lcm", "euler")}


def check_scheduler(
    name: str, own: str, steps: int = 1, img2img: bool = False, eta: float = 0.0, trained: int = 0, prediction: str = "epsilon"
) -> None:
    """WrongKey if `name` is unknown, or cannot drive a model whose own scheduler class is `own` in so many steps.

    trained: noise levels that the model was trained on, of which a schedule is a choice; 0: not known. prediction: its prediction_type.
    """
    one_of("scheduler", name, (DEFAULT, *SCHEDULERS))
    if name != DEFAULT and own.startswith("FlowMatch"):
        raise WrongKey("scheduler", name, f"predicts noise, but this model was trained by flow matching ({own})", f"use {DEFAULT}")
    if name != DEFAULT and own.startswith(OF_ITS_OWN):
        raise WrongKey("scheduler", name, f"knows other noise levels than this model was trained on ({own})", f"use {DEFAULT}")
    if name != DEFAULT and name not in TAKE.get(prediction, SCHEDULERS):
        fix = f"use one of {', '.join((DEFAULT, *TAKE[prediction]))}"
        raise WrongKey("scheduler", name, f"does not take what this model predicts ({prediction})", fix)
    cls = class_of(name, own)
    if cls == "LCMScheduler" and steps > LCM_STEPS:
        raise WrongKey("steps", steps, f"scheduler lcm takes at most {LCM_STEPS} steps", "it is made for 4 to 8")
    if img2img and cls in NO_START:
        fix = "use another model" if own.startswith("FlowMatch") else "use ddim"
        raise WrongKey("scheduler", name, f"{cls} cannot start from a picture", fix)
    if eta and cls not in READ_ETA:
        raise WrongKey("eta", eta, f"scheduler={name} ({cls or 'none'}) does not read it", "use scheduler=ddim, or 0")
    if 0 < trained < steps:
        raise WrongKey("steps", steps, f"the model was trained on {trained} noise levels", f"use {trained} steps at most")


def check_own(own: str, config: Mapping, pipeline: str, asks: str, where: str) -> None:
    """InputError if a model's own scheduler is not of the kind that its pipeline denoises by: the folder was put together of two models.

    config: the scheduler's. asks: the class, or the classes, that the pipeline is made with; "": not known.
    """
    flow = own.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction" or bool(config.get("use_flow_sigmas"))
    by_flow = "FlowMatch" in asks
    if own and by_flow and "Karras" not in asks and not flow:
        raise InputError(f"{where}: is a {own}, but {pipeline} denoises by flow matching ({asks}); take the one of its makers")
    if own.startswith("FlowMatch") and "KarrasDiffusionSchedulers" in asks and not by_flow:
        raise InputError(f"{where}: is a {own}, of flow matching, which {pipeline} does not do; take the one of its makers")


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
