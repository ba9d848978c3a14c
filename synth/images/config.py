"""Sample configs of everything that a diffusion model draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.captions.config import DatasetConfig


@dataclass(frozen=True)
class PartConfig:
    """A further model of a chain (refiner, upscaler): what it is called with. 0 = as the stage's own config says."""

    steps: int = 0
    guidance_scale: float = 0.0
    noise_level: int = 0  # noise on the picture that an upscaler starts from, in its own timesteps
    start: float = 0.0  # share of the steps at which it takes over (refiner)


@dataclass(frozen=True)
class ModelConfig:
    """inputs "model" (folder in diffusers' layout, or a single-file checkpoint), and where given "model_config" (folder, of a
    checkpoint), "model_vae" (folder), "model_lora_0".. (files) and "model_part_<name>" (folders). With a command: "model" where it
    wants one, and "model_command_1".. (files that its words name).
    """

    id: str
    pipeline: str = "auto"  # class name expected in model_index.json, or auto
    variant: str = ""  # of the weight files, e.g. fp16; "" = the plain ones, or the only ones that are there
    dtype: str = "auto"  # of the weights where the numerics leave it open: float16 | bfloat16 | float32 | auto
    safety_checker: str = "off"  # off | blank | drop
    loras: tuple[float, ...] = ()  # weights of the LoRA files, in order
    parts: Mapping[str, PartConfig] = field(default_factory=dict)
    command: tuple[str, ...] = ()  # of pipeline "external": its words, {role} for the paths of inputs
    deterministic: bool = False  # whether the command promises the same bytes for the same request


@dataclass(frozen=True)
class DrawingConfig:
    """What text to image and image to image have in common: the model and how it draws and stores."""

    seed: int
    model: ModelConfig
    guidance_scale: float = 4.0
    steps: int = 20
    scheduler: str = "default"  # default = the model's own
    height: int = 32  # pixels computed
    width: int = 32
    save_size: int = 0  # shorter side of the stored image in pixels; 0 = as computed
    format: str = "png"  # png | jpg | webp (lossless)
    negative_prompt: str = ""
    eta: float = 0.0
    guidance_interval: tuple[float, ...] = (0.0, 1.0)  # share of the schedule in which there is guidance
    vae_batch: int = 0  # pictures decoded together; 0 = as many as are denoised together


@dataclass(frozen=True)
class ClassCount:
    """How many pictures a class gets."""

    index: int  # official
    count: int


@dataclass(frozen=True)
class ImagesConfig(DrawingConfig):
    """kind "images": captions x per_caption, or `counts`; see synth.images.slots. upstream role "captions": captions_json."""

    per_caption: int = 1
    subset: str = ""  # rows of the captions table, "0..99,150"; "" = all
    counts: tuple[ClassCount, ...] = ()  # pictures of each class; () = per_caption


@dataclass(frozen=True)
class Img2ImgConfig(DrawingConfig):
    """kind "img2img": a picture from each picture of a source x per_image; slot = input * per_image + replica.

    The source is input "source" (a folder; what is in it stands in the stage's listing, whose digest is the input's identity),
    or upstream role "images": a stage of pictures.
    """

    dataset: DatasetConfig = DatasetConfig(name="", classes=(), n_classes=0)  # classes of a listed source; a stage upstream has its own
    source_classes: tuple[int, ...] = ()  # official index of each class number in the listing; () with a stage upstream
    subset: str = ""  # slots of the upstream stage; "" = all
    per_image: int = 1
    noise_strength: float = 0.5  # share of the steps that are run
    prompt: str = "template"  # template | caption (the source's own)
    prompt_template: str = "a photo of {class}"
    resize: str = "stretch"  # stretch | crop
