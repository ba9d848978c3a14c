"""Painting a background anew with diffusers' image-to-image pipelines: after each step the kept objects are put back.

Their latents are those of the original under as much noise as the step leaves, always the same noise (RePaint's idea without its
resampling, arXiv 2201.09865, as OVTrack uses it). Latents of the original and the noise are what the pipeline itself hands to its
scheduler, so that whatever it does to a picture before (packing, shifting, a fresh draw of the VAE) is done once.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from synth.images.families import Embedded, Family
from synth.images.models import judge
from synth.images.schedulers import class_of
from synth.images.strength import steps_run
from synth.keys import WrongKey
from synth.tracking.config import PairsConfig

if TYPE_CHECKING:
    from synth.images.model_folder import ModelFolder

FROM_THE_FRONT = "counts its own steps from the beginning of a schedule, and pairs begin in the middle"
CORRECTS = "corrects each sample from the one before, in which the objects had not been put back"  # UniPC's corrector can be switched off
UNSUITED = {
    "PNDMScheduler": FROM_THE_FRONT,
    "LMSDiscreteScheduler": FROM_THE_FRONT,
    "SASolverScheduler": CORRECTS,
}  # class -> why
INSTEAD = "ddim"  # where such a one is the model's own


# -- at plan time, without torch -----------------------------------------------------------------------------------------


def check_repaint(model: "ModelFolder", config: PairsConfig) -> None:
    """WrongKey if the model cannot draw what the config asks for."""
    if config.model.safety_checker == "blank":
        why = "a black picture would keep the boxes of objects that are not in it"
        raise WrongKey("safety_checker", "blank", why, "use drop, or off", "model")
    try:  # every drawn size is a multiple of the bucket
        judge(model, replace(config, height=config.bucket, width=config.bucket), img2img=True)
    except WrongKey as e:
        raise (e.called("bucket") if e.key in ("height", "width") else e) from e.__cause__
    if why := UNSUITED.get(cls := class_of(config.scheduler, model.scheduler)):
        raise WrongKey("scheduler", config.scheduler, f"{cls} {why}", f"use {INSTEAD}")


# -- drawing -------------------------------------------------------------------------------------------------------------


class Repaint:
    """Stands in a family's place where batches are drawn: `start` holds the pictures and, as a fourth channel, what is kept."""

    def __init__(self, family: Family, config: PairsConfig):
        self.family = family
        self.pasted = steps_run(config.steps, config.noise_strength) - config.harmonize  # steps after which the objects are put back

    def flagged(self, images) -> list[bool]:
        return self.family.flagged(images)

    def draw(self, items: Sequence[Embedded], generators: list, start, strength: float):
        """[B, 3, H, W] floats in [0, 1]. start: [B, 4, H, W] uint8, red, green, blue and 0/1; row i draws all noise from generators[i]."""
        import inspect

        family, pipe = self.family, self.family.img2img()
        start = start.to(pipe.device, non_blocking=True)
        image, keep = start[:, :3].float() / 255, start[:, 3:]
        height, width = image.shape[2:]
        accepts = inspect.signature(pipe.__call__).parameters
        size = {k: v for k, v in (("height", height), ("width", width)) if k in accepts}
        if hasattr(pipe.scheduler, "disable_corrector"):  # UniPC's: it would go back to the sample before the objects were put in
            pipe.scheduler.disable_corrector = list(range(family.config.steps))
        with _noising(pipe.scheduler) as seen:
            paste = Paste(seen, keep, self.pasted)
            more = {"image": image, "strength": strength, "callback_on_step_end": paste, **size}
            return family.pixels(family.call(pipe, family.text(items), generators, **more))


class Paste:
    """What a pipeline calls after each step. seen: what its scheduler was asked to put noise on. keep: [B, 1, H, W] uint8 0/1."""

    def __init__(self, seen: "Seen", keep, steps: int):
        self._seen, self._keep, self._steps = seen, keep, steps
        self._mask = None

    def __call__(self, pipe, i: int, t, tensors: dict) -> dict:
        import torch

        order, last = pipe.scheduler.order, pipe.num_timesteps - 1
        if i // order >= self._steps or ((i + 1) % order and i < last):  # the inner part of a step of second order is not a state
            return {}
        known = self._seen.original
        if i < last:
            rest = pipe.scheduler.timesteps[-pipe.num_timesteps :]
            known = self._seen.noised(rest[i + 1 : i + 2].expand(len(known)))
        if self._mask is None:
            self._mask = self._packed(pipe, self._in_latents(known).expand_as(known))
        return {"latents": torch.where(self._mask, self._packed(pipe, known).to(tensors["latents"].dtype), tensors["latents"])}

    def _in_latents(self, latents):
        """[B, 1, h, w] bool: every latent with any kept pixel."""
        import torch

        by = tuple(a // b for a, b in zip(self._keep.shape[2:], latents.shape[2:], strict=True))
        return torch.nn.functional.max_pool2d(self._keep.float(), by) > 0

    def _packed(self, pipe, latents):
        """As the pipeline carries them through its steps: FLUX puts two by two into one."""
        return pipe._pack_latents(latents, *latents.shape) if hasattr(pipe, "_pack_latents") else latents


class Seen:
    """The original's latents [B, C, h, w] and the noise that a pipeline began from, and how its scheduler joins them."""

    original = noise = None

    def __init__(self, scheduler):
        self._flow = hasattr(scheduler, "scale_noise")  # flow matching; its arguments come in another order
        self.name = "scale_noise" if self._flow else "add_noise"
        self._join = getattr(scheduler, self.name)

    def noised(self, timesteps):
        if self._flow:
            return self._join(self.original, timesteps, self.noise)
        return self._join(self.original, self.noise, timesteps)

    def recorded(self, original, a, b):
        self.original, self.noise = (original, b) if self._flow else (original, a)
        return self._join(original, a, b)


@contextlib.contextmanager
def _noising(scheduler) -> Iterator[Seen]:
    """Inside, what the scheduler is asked to put noise on is kept."""
    seen = Seen(scheduler)
    setattr(scheduler, seen.name, seen.recorded)
    try:
        yield seen
    finally:
        delattr(scheduler, seen.name)  # the instance's; the class's own shows again
