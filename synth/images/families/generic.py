"""Any text-to-image pipeline: the captions themselves are passed, and the pipeline encodes them batch by batch.

What a pipeline does not take, or says that it ignores, is refused before its first picture: the metadata would hold what had no effect.
"""

import contextlib
import inspect
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence

from synth.errors import InputError
from synth.images import library
from synth.images.config import DrawingConfig
from synth.images.families.base import Embedded, Family

TRUE = "true_cfg_scale"  # how pipelines call the scale of an unconditional half where `guidance_scale` is an input of the denoiser
NEEDS = (  # arguments of a call that tell what a pipeline is for -> what it does
    (("num_frames", "frames", "video", "video_length", "num_videos_per_prompt"), "makes videos"),
    (("audio", "audio_length_in_s", "audio_end_in_s", "audio_duration", "audio_duration_s"), "makes sounds"),
    (("mask_image",), "paints into a masked picture"),
    (("control_image", "conditioning_frames", "controlnet_conditioning_scale", "reference_image"), "draws from a picture"),
    (("image_embeddings",), "draws from what another pipeline makes of a text"),
)
FROM_PICTURE = ("Img2Img", "Edit", "Pix2Pix", "Refiner", "SuperResolution", "Upscale", "Depth2Img", "I2I", "Redux", "CycleDiffusion")
IGNORED = "ignored"  # in what diffusers' pipelines log of a setting that has no effect


class Generic(Family):
    output = "np"
    chooses_attention = True  # some do; what does not is refused when it is loaded
    halves_in_one_call = False
    one_shape = False  # the pipeline may pad a batch of captions to the longest
    embeds = False

    def __init__(self, pipe, config, *args, **kwargs):
        super().__init__(pipe, config, *args, **kwargs)
        self.accepts = frozenset(inspect.signature(pipe.__call__).parameters)
        # the denoiser takes the scale itself: then there need be no unconditional half
        self._true = TRUE in self.accepts and not getattr(self._denoiser_config(), "guidance_embeds", False)
        self._listened = False
        _check_settings(type(self.pipe).__name__, self.accepts, self._true, config)

    @classmethod
    def check(cls, model, config) -> None:
        if accepts := library.signature(model.pipeline).call:
            _check_nature(model.pipeline, accepts)
            embedded = bool(model.component_config("transformer").get("guidance_embeds", False))
            _check_settings(model.pipeline, accepts, TRUE in accepts and not embedded, config)
        super().check(model, config)
        if "transformer" in model.components:
            model.check_size(config.height, config.width, cls.latent_step(model))

    @classmethod
    def latent_step(cls, model) -> int:
        """Pixels of a patch: of the transformer's own, or of two by two latents where the pipeline packs these into one token."""
        latents, config = model.component_config("vae"), model.component_config("transformer")
        patch = _first(config.get("all_patch_size", config.get("patch_size", 1)))
        channels = latents.get("latent_channels", latents.get("z_dim"))
        packs = patch == 1 and channels is not None and config.get("in_channels") == 4 * channels
        return model.vae_factor * (2 if packs else patch)

    def _denoiser_config(self) -> object:
        return getattr(getattr(self.pipe, "transformer", None), "config", None)

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        return {}

    def text(self, items: Sequence[Embedded]) -> dict:
        text = {"prompt": [i.caption for i in items]}
        if self.guided and (self.config.negative_prompt or self._true):
            # without one there is no unconditional half; a blank is what such models were trained with
            text["negative_prompt"] = [self.config.negative_prompt or " "] * len(items)
        return text

    def call(self, pipe, text: Mapping, generators: list, **more):
        if self._true:
            more = {TRUE: self.config.guidance_scale, **({"guidance_scale": None} if "guidance_scale" in self.accepts else {})} | more
        elif TRUE in self.accepts:
            more = {TRUE: 1.0} | more
        if "use_resolution_binning" in self.accepts:  # it would draw a size of its own list and stretch that to the one asked for
            more = {"use_resolution_binning": False} | more
        with self._told() if not self._listened else contextlib.nullcontext():
            return super().call(pipe, text, generators, **more)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """The first call: what the pipeline refuses, and what it logs of settings that it ignores, is an InputError."""
        import diffusers

        what, heard = f"model.path: {type(self.pipe).__name__}", list[str]()
        handler = logging.Handler()
        handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
        logger = diffusers.utils.logging.get_logger("diffusers")
        before, propagates = logger.level, logger.propagate
        own = list(logger.handlers)
        try:
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.WARNING)
            yield
        except ValueError as e:
            raise InputError(f"{what} refuses it: {e}") from e
        finally:
            logger.handlers, logger.propagate = own, propagates
            logger.setLevel(before)
        if ignored := [text for text in heard if IGNORED in text]:
            raise InputError(f"{what}: {'; '.join(ignored)} Leave that setting out: guidance_scale=1")
        self._listened = True


def _first(size: object) -> int:
    """Of a patch size that may be a list, frames first: the last, which is one of pixels."""
    size = size[-1] if isinstance(size, (list, tuple)) and size else size
    return size if isinstance(size, int) and size > 0 else 1


def _check_nature(pipeline: str, accepts: Collection[str]) -> None:
    """InputError for a pipeline that makes something else than a picture of a text. accepts: the arguments of its call."""
    what = next((what for arguments, what in NEEDS if any(name in accepts for name in arguments)), "")
    if not what and "image" in accepts and any(word in pipeline for word in FROM_PICTURE):
        what = "draws from a picture"
    if what:
        raise InputError(f"model.path: {pipeline} {what}; use a text-to-image pipeline")


def _check_settings(pipeline: str, accepts: Collection[str], true: bool, config: DrawingConfig) -> None:
    """InputError for a setting that a pipeline does not take. accepts: the arguments of its call; true: its scale is TRUE."""
    asked = {
        "prompt": ("", "use a text-to-image pipeline"),
        "height": (config.height, "use another model"),
        "width": (config.width, "use another model"),
        "num_inference_steps": (config.steps, "use another model"),
    }
    if config.negative_prompt:
        asked["negative_prompt"] = config.negative_prompt, "leave negative_prompt empty"
    if true and config.guidance_scale < 1:
        raise InputError(f"guidance_scale={config.guidance_scale:g}: {pipeline} takes 1 (no guidance) or more")
    if config.guidance_scale > 1 and not true:
        asked["guidance_scale"] = config.guidance_scale, "use guidance_scale=1"
    for name, (value, fix) in asked.items():
        if name not in accepts:
            said = f"{name}={value}" if value else name
            raise InputError(f"model.path: {pipeline} takes no {said}; {fix}")
