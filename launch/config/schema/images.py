"""Models and what is made with them: images, images of images, stories."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ModelPart:
    """A further model of a chain: a refiner, an upscaler."""

    path: str | None = None  # null: the chain goes without it
    repo: str | None = None
    revision: str | None = None
    steps: int = 0  # 0: as images.steps
    guidance_scale: float = 0.0  # 0: as images.guidance_scale
    noise_level: int = 0
    start: float = 0.0


@dataclass
class Model:
    """A model and its own native values: what images.* that are null become."""

    id: str | None = None  # null: the name of the folder or file
    path: str | None = None
    pipeline: str = "auto"
    config: str | None = None  # of a single-file checkpoint: a folder in diffusers' layout, weights not needed
    variant: str | None = None  # of the weight files, e.g. fp16; null: the plain ones, or the only ones that are there
    dtype: str = "auto"  # of the weights under numerics=fast
    vae: str | None = None  # folder of another VAE
    lora: Any = None  # a file, a list of files, or a list of {path: FILE, weight: 0.8}
    safety_checker: str = "off"
    parts: dict[str, ModelPart] = field(default_factory=dict)
    native_height: int | None = None  # pixels; null: what the folder says
    native_width: int | None = None
    native_steps: int = MISSING
    native_scheduler: str = MISSING
    native_guidance_scale: float = MISSING
    native_pair_size: list[int] | None = None  # pixels, long and short side of tracking pairs; null: 1.5 and 1 times the native size
    native_pair_harmonize: int = 2  # last steps of tracking pairs in which objects are drawn along with the background; OVTrack's
    native_pair_guidance_scale: float | None = None  # of tracking pairs; null: native_guidance_scale
    paper: dict[str, Any] = field(
        default_factory=dict
    )  # images.preset=paper: steps, scheduler, guidance_scale, height, width of its original use
    text_offload: bool = False  # text encoders rest in host memory while pictures are drawn
    repo: str | None = None
    revision: str | None = None
    licence: str | None = None
    memory_gb: float | None = None  # of the weights on the device, in `dtype`


@dataclass
class External(Model):
    """A command in the place of a pipeline."""

    command: list[str] | None = None
    deterministic: bool = MISSING
    timeout: float = MISSING
    start_timeout: float = MISSING
    restarts: int = MISSING


@dataclass
class Images:
    seed: int = MISSING
    per_caption: int = MISSING
    count: Any = None  # null | ma | a number
    count_file: str | None = None
    increase_ratio: float = MISSING
    subset: Any = None  # null | a range "0..99" | a list of rows and ranges
    subset_file: str | None = None
    guidance_scale: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    height: int | None = None
    width: int | None = None
    save_size: int = MISSING
    format: str = MISSING
    batch_size: int = MISSING
    unit_size: int = MISSING
    negative_prompt: str = MISSING
    negative_prompt_file: str | None = None
    eta: float = MISSING
    preset: str | None = None
    guidance_interval: list[float] = MISSING
    vae_batch: int = MISSING
    on_oom: str = MISSING
    preview_every: float = MISSING


@dataclass
class Img2Img:
    source: str | None = None
    layout: str = MISSING
    classes: str = MISSING
    class_names_file: str | None = None
    subset: Any = None  # of a stage of pictures: as images.subset
    subset_file: str | None = None  # of a folder: names; of a stage: numbers
    random_count: int | None = None
    per_image: int = MISSING
    noise_strength: float = MISSING
    prompt: str = MISSING
    prompt_template: str = MISSING
    resize: str = MISSING
    seed: int = MISSING
    guidance_scale: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    height: int | None = None
    width: int | None = None
    save_size: int = MISSING
    format: str = MISSING
    batch_size: int = MISSING
    unit_size: int = MISSING
    negative_prompt: str = MISSING
    negative_prompt_file: str | None = None
    eta: float = MISSING
    preset: str | None = None
    guidance_interval: list[float] = MISSING
    vae_batch: int = MISSING


@dataclass
class StoryPrompts:
    source: str | None = None
    key: str = MISSING
    prompt_override: str | None = None
    chapter_split_regex: str | None = None
    prompt_split_regex: str = MISSING
    max_chapters: int | None = None
    max_entries_per_chapter: int | None = None


@dataclass
class StoryGeneration:
    preview: bool = MISSING
    preview_max_windows: int = MISSING
    save_individual: bool = MISSING
    progressive: bool | None = None  # null: as progresive says, else true
    interleave: bool = MISSING
    cycle_styles: bool = MISSING
    guidance_scale: float | None = None
    eta: float = MISSING
    num_inference_steps: int | None = None
    progresive: bool | None = None  # spelling of the original script
    preview_stop: Any = None  # of the original script: ignored


@dataclass
class StoryStyle:
    style: str = MISSING
    file_tag: str = MISSING
    weight: float = MISSING
    last_image: Any = None  # of the original script: ignored, as images is
    images: Any = None


@dataclass
class Story:
    seed: int = MISSING
    carry: str = MISSING
    prompt_config: StoryPrompts = field(default_factory=StoryPrompts)
    generation_config: StoryGeneration = field(default_factory=StoryGeneration)
    style_configs: list[StoryStyle] = MISSING
    style_configs_file: str | None = None  # twin of style_configs for texts with commas, and for sweeps
