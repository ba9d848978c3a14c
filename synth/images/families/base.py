"""What a family is: text embeddings of a unit in fixed padded batches, and pictures whose noise is their own generators'."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from synth.errors import InputError
from synth.images.config import DrawingConfig, ModelConfig
from synth.images.guidance import check_interval
from synth.images.noise import own_noise
from synth.images.vae_batches import DECODERS
from synth.keys import WrongKey

if TYPE_CHECKING:
    from synth.images.loras import Adapters
    from synth.images.model_folder import ModelFolder
    from synth.images.stage import Images
    from synth.store.folder import StageFolder

IMG2IMG = "a Stable Diffusion 1, 2, XL or 3 or a FLUX.1 model"


@dataclass(frozen=True)
class Embedded:
    """One caption as its family keeps it: tensors by argument name (without the batch dimension), and whether it was cut."""

    caption: str
    tensors: Mapping[str, object]
    truncated: bool = False


@dataclass(frozen=True)
class Part:
    """A further pipeline of a chain: the class that its folder must hold, and the components that are not loaded from there."""

    pipeline: str
    without: tuple[str, ...] = ()  # passed as None; the folder need not have them
    shared: tuple[str, ...] = ()  # taken from the first pipeline where both folders describe the same
    uses: tuple[str, ...] = ()  # as of a Family


class Family:
    """One kind of pipeline. Subclasses say how text is encoded (`encode`), and what else the pipeline must be called with."""

    img2img_class: ClassVar[str] = ""  # diffusers class that starts from a picture with the same components; "": there is none
    floors_steps: ClassVar[bool] = True  # it runs int(steps * strength) steps; False: steps - int(steps - steps * strength)
    chain: ClassVar[Mapping[str, Part]] = {}  # names that model.parts may have
    uses: ClassVar[tuple[str, ...]] = ()  # of what most pipelines can do without (model_folder.UNUSED), what this one needs
    schedulers: ClassVar[frozenset[str] | None] = None  # names that fit beside "default"; None: all that fit the model's own
    size_step: ClassVar[int] = 0  # pixels that height and width are multiples of; 0: what the VAE asks for
    negative_prompts: ClassVar[bool] = True  # whether it takes one
    chooses_attention: ClassVar[bool] = False  # its denoiser asks model.attention_backend
    halves_in_one_call: ClassVar[bool] = True  # the denoiser gets [unconditional, conditional] rows, so one half can be left out
    one_shape: ClassVar[bool] = True  # calls of the denoiser are of one shape for pictures of one size, whatever the captions
    embeds: ClassVar[bool] = True  # texts are encoded by `embed`, never by the pipeline while it draws
    safety_class: ClassVar[str] = ""  # of the safety checker that `flagged` can ask; "": none
    output: ClassVar[str] = "pt"  # output_type: "pt" gives [B, 3, H, W] on the device, "np" [B, H, W, 3]

    def __init__(
        self,
        pipe,
        config: DrawingConfig,
        batch: int,
        parts: Mapping[str, object] | None = None,
        safety=None,
        adapters: "Adapters | None" = None,
    ):
        """batch: rows of every call of the text encoders and of draw. parts: further pipelines of a chain, by name.

        safety: a SafetyChecker, or None. adapters: LoRAs of classes.
        """
        self.pipe, self.config, self.batch, self.parts, self.safety = pipe, config, batch, dict(parts or {}), safety
        self._adapters = adapters
        self._negative: Mapping[str, object] | None = None  # encoded once a worker
        self._img2img = None

    @classmethod
    def before_loading(cls) -> None:
        """What diffusers must be told before it reads a folder of this kind."""

    # -- at plan time, without torch ---------------------------------------------------------------------------------

    @classmethod
    def latent_step(cls, model: "ModelFolder") -> int:
        """Pixels of a patch of latents, as a transformer takes them."""
        return model.vae_factor * int(model.component_config("transformer").get("patch_size", 2))

    @classmethod
    def decodes(cls, model: "ModelFolder") -> bool:
        """Whether pictures, or those of a part, are decoded from latents: vae_batch is for these."""
        return any(name in folder.components for folder in (model, *model.parts.values()) for name in DECODERS)

    @classmethod
    def native_size(cls, model: "ModelFolder") -> tuple[int, int] | None:
        """(height, width) in pixels that the model was trained on, where its folders say so."""
        return model.native_size

    @classmethod
    def check(cls, model: "ModelFolder", config: DrawingConfig) -> None:
        """InputError if the model cannot draw what the config asks for."""
        model.check_size(config.height, config.width, cls.size_step)
        what = f"{model.pipeline} ({model.name})"
        if cls.schedulers is not None and config.scheduler not in (fit := ("default", *sorted(cls.schedulers))):
            raise WrongKey("scheduler", config.scheduler, f"does not fit {what}", f"use one of {', '.join(fit)}")
        if config.negative_prompt and not cls.negative_prompts:
            raise WrongKey("negative_prompt", config.negative_prompt, f"{what} takes no negative prompt", "leave it empty")
        if config.model.safety_checker != "off" and not cls.safety_class:
            raise WrongKey("safety_checker", config.model.safety_checker, f"{model.pipeline} has none", "use off", "model")
        distilled = model.component_config("unet").get("time_cond_proj_dim") is not None  # the guidance scale is an input of its U-Net
        check_interval(config.guidance_interval, config.guidance_scale, cls.halves_in_one_call and not distilled)
        if config.vae_batch and not cls.decodes(model):
            raise WrongKey("vae_batch", config.vae_batch, f"{what} has no VAE", "use 0")

    @classmethod
    def check_img2img(cls, model: "ModelFolder", config: DrawingConfig) -> None:
        """InputError if the model cannot start from a picture."""
        if not cls.img2img_class:
            raise InputError(f"{model.path}: {model.pipeline} has no image-to-image form here; use {IMG2IMG}")
        cls.check(model, config)

    # -- on a worker -------------------------------------------------------------------------------------------------

    @classmethod
    def check_here(cls, folder: "StageFolder") -> None:
        """InputError where what draws is not on this machine."""

    @classmethod
    def open(cls, stage: "Images", run: Mapping[str, object]) -> None:
        """Give a stage its painter, ready to draw."""
        stage.load(run)

    @classmethod
    def promises(cls, model: ModelConfig) -> bool:
        """Whether the same request has the same bytes again."""
        return True

    def use(self, label: int | None) -> None:
        """Encode and draw with the LoRA of a class from here on; None: with the model alone."""
        if self._adapters is not None and self._adapters.use(label):
            self._negative = None  # a LoRA may change text encoders, too

    # -- text --------------------------------------------------------------------------------------------------------

    @property
    def guided(self) -> bool:
        """Whether an unconditional half is computed beside the conditional one."""
        return self.config.guidance_scale > 1.0

    def embed(self, captions: Sequence[str]) -> list[Embedded]:
        """Each caption, encoded in batches of one fixed shape; asked for once a unit."""
        embedded, cut = [], self.truncated(captions)
        for start in range(0, len(captions), self.batch):
            texts = list(captions[start : start + self.batch])
            rows = self.encode(texts + texts[-1:] * (self.batch - len(texts)))
            embedded += [Embedded(t, {n: v[i] for n, v in rows.items()}, cut[start + i]) for i, t in enumerate(texts)]
        return embedded

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        """Pipeline argument -> tensor [B, ...] for B = self.batch texts, on the device; the batch of a call never varies."""
        raise NotImplementedError

    def encode_negative(self, texts: list[str]) -> Mapping[str, object]:
        """The same of the negative prompt, under the same names."""
        return self.encode(texts)

    def reader(self) -> tuple[object, int | None]:
        """The tokenizer whose encoder reads the most of a caption, and how many tokens that is, its marks included."""
        tokenizer = getattr(self.pipe, "tokenizer", None)
        return tokenizer, getattr(tokenizer, "model_max_length", None)

    def truncated(self, captions: Sequence[str]) -> list[bool]:
        """Which captions have more tokens than the model reads."""
        tokenizer, limit = self.reader()
        if tokenizer is None or limit is None or not captions:
            return [False] * len(captions)
        return [len(ids) > limit for ids in tokenizer(list(captions), truncation=False, padding=False).input_ids]

    def text(self, items: Sequence[Embedded]) -> dict:
        """The text arguments of a batch: embeddings, and those of the negative prompt where there is guidance."""
        import torch

        text = {name: torch.stack([i.tensors[name] for i in items]) for name in items[0].tensors}
        if self.guided:
            text |= {f"negative_{n}": v.expand(len(items), *v.shape) for n, v in self.negative().items()}
        return text

    def negative(self) -> Mapping[str, object]:
        """Pipeline argument (without "negative_") -> tensor of the negative prompt, without the batch dimension."""
        if self._negative is None:
            rows = self.encode_negative([self.config.negative_prompt] * self.batch)
            self._negative = {n: v[0] for n, v in rows.items()}
        return self._negative

    # -- pictures ----------------------------------------------------------------------------------------------------

    def draw(self, items: Sequence[Embedded], generators: list, start=None, strength: float = 1.0):
        """[B, 3, H, W] floats in [0, 1] on the device; row i draws all of its noise from generators[i] (CPU).

        start: [B, 3, H, W] floats in [0, 1] to begin from, with noise of `strength` (a share of the steps) on it.
        """
        if start is None:
            return self.pixels(self.call(self.pipe, self.text(items), generators))
        return self.pixels(self.call(self.img2img(), self.text(items), generators, image=start, strength=strength))

    def flagged(self, images) -> list[bool]:
        """Which of [B, 3, H, W] in [0, 1] the safety checker refuses; none without one."""
        return self.safety.flagged(images) if self.safety else [False] * len(images)

    def call(self, pipe, text: Mapping, generators: list, **more):
        """What `pipe` makes of one batch, by the config's settings (those that its class takes) and `more`, which wins."""
        config = self.config
        settings = {
            "num_inference_steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "height": config.height,
            "width": config.width,
            "eta": config.eta,
        }
        accepts = inspect.signature(pipe.__call__).parameters
        settings = {k: v for k, v in settings.items() if k in accepts}
        with own_noise(pipe, generators):
            return pipe(**({"output_type": self.output} | settings | text | more), generator=generators).images

    def pixels(self, output):
        """Whatever the pipeline gave, as [B, 3, H, W] in [0, 1]."""
        import torch

        return output if torch.is_tensor(output) else torch.from_numpy(output).permute(0, 3, 1, 2)

    def img2img(self):
        """The image-to-image pipeline over the very same modules; made once."""
        if self._img2img is None:
            import diffusers

            cls = getattr(diffusers, self.img2img_class)
            takes = inspect.signature(cls.__init__).parameters
            arguments = dict(self.pipe.components) | {"requires_safety_checker": False, "add_watermarker": False}
            self._img2img = cls(**{k: v for k, v in arguments.items() if k in takes})
            self._img2img.set_progress_bar_config(disable=True)
        self._img2img.scheduler = self.pipe.scheduler  # whoever changed it since
        return self._img2img
