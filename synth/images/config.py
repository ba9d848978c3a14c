"""Keys of models and of what a diffusion model draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth.captions.config import DatasetConfig
from synth.images.attention import BACKENDS
from synth.keys import key, later, plan_key

EXTERNAL = ("external",)  # the option whose model is a command
PICTURES = ("images", "img2img")  # the groups that say how large pictures are and how they are stored
INF = float("inf")
ALL_CLASSES = -1  # in the place of a class's index


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """A further model of a chain (refiner, upscaler): where it is, and what it is called with."""

    path: str = plan_key("folder of this model", null="the chain goes without it")
    repo: str = plan_key("where it comes from", null="not known")
    revision: str = plan_key("commit of it", null="main")
    steps: int = key("denoising steps of this stage; 0: as images.steps", low=0, null="0")
    guidance_scale: float = key("of this stage; 0: as images.guidance_scale", low=0, null="0")
    noise_level: int = key("noise on the picture it starts from, in its own timesteps", low=0, null="0")
    start: float = key("share of the steps after which it takes over", low=0, high=1, null="0")


@dataclass(frozen=True, kw_only=True)
class ClassLora:
    """The LoRA of a class, input "model_adapter_<index>". file: false where it has none: the model alone draws its pictures."""

    index: int  # official; ALL_CLASSES: the one LoRA of all classes, which a run trained
    name: str
    weight: float
    file: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """inputs "model" (folder in diffusers' layout, or a single-file checkpoint), and where given "model_config" (folder, of a
    checkpoint), "model_vae" (folder), "model_lora_0".., "model_adapter_<class>" (files) and "model_part_<name>" (folders). With a
    command: "model" where it wants one, and "model_command_1".. (files that its words name).

    native_*: what images.*, img2img.* and tracking.* that are null become.
    """

    id: str = key("goes into every image's metadata", null="the name of the folder or file")
    path: str = plan_key("folder of the model, or a checkpoint file with model.config; must be given", null="where prefetch.py put it")
    pipeline: str = key("class name expected in model_index.json, or auto")
    config: str = plan_key("of a checkpoint file: a folder in diffusers' layout, weights not needed", null="none")
    variant: str = key("of the weight files, e.g. fp16", null="the plain ones, or the only ones that are there")
    dtype: str = key("of the weights on a GPU; numerics=reference computes in float32", choices=("auto", "float16", "bfloat16", "float32"))
    vae: str = plan_key("folder of another VAE", null="the model's own")
    lora: Any = plan_key("a file, a list of files, or a list of {path: FILE, weight: 0.8}", given=Any, null="none")
    loras: tuple[float, ...] = later(())  # weights of the LoRA files, in order
    lora_by_class: Any = plan_key(
        "folder with a LoRA file of each class, called by its name, or {path: FOLDER, weight: 0.8, missing: error|plain}",
        given=Any,
        null="none",
    )
    adapters: tuple[ClassLora, ...] = later(factory=tuple, sparse=True)  # of all classes that are drawn, where lora_by_class is set
    trained: tuple[ClassLora, ...] = later(factory=tuple, sparse=True)  # the same of LoRAs that the stage in role "lora" trained
    safety_checker: str = key("off | blank: black, and said so | drop: a tombstone", choices=("off", "blank", "drop"))
    parts: Mapping[str, PartConfig] = key("further models of a chain, by name")
    attention_backend: str | None = key(
        "diffusers' name of the attention kernels of a model that lets them be chosen, as FLUX.1 does",
        choices=tuple(BACKENDS),
        null="torch's own",
        unread=None,
        sparse=True,
    )
    text_offload: bool = plan_key("text encoders rest in host memory while pictures are drawn")
    native_height: int = plan_key("pixels it was trained on", low=1, null="what the folder says")
    native_width: int = plan_key("pixels", low=1, null="what the folder says")
    native_steps: int = plan_key("denoising steps", low=1)
    native_scheduler: str = plan_key("a name of the scheduler registry, or default: the one in its folder")
    native_guidance_scale: float = plan_key("its makers' choice; 1.5-3 trains classifiers best", low=0)
    native_pair_size: tuple[int, ...] = plan_key("pixels, long and short side of tracking pairs", null="1.5 and 1 times the native size")
    native_pair_harmonize: int = plan_key("last steps of tracking pairs in which objects are drawn along with the background", low=0)
    native_pair_guidance_scale: float = plan_key("of tracking pairs", low=0, null="native_guidance_scale")
    paper: Mapping[str, Any] = plan_key("images.preset=paper: steps, scheduler, guidance_scale, height, width of its original use")
    repo: str = plan_key("where it comes from", null="not known")
    revision: str = plan_key("commit of it", null="main")
    licence: str = plan_key("read it before you publish images", null="not known")
    memory_gb: float = plan_key("weights in dtype, from their number", null="not known")

    command: tuple[str, ...] = key(
        "list of words; must be given. Words that name files are known by what is in them", null="none", of=EXTERNAL, unread=()
    )  # stored with {role} for the paths of inputs
    setup: str = plan_key(
        "what to type for the environment of the command; told where the command is missing", null="not known", of=EXTERNAL
    )
    files: tuple[str, ...] = plan_key("names below path that must be there, none of them empty", null="none", of=EXTERNAL)
    fetch: str = plan_key("what to type for these files, DIR is path; told where they are missing", null="not known", of=EXTERNAL)
    unused: tuple[str, ...] = plan_key(
        "what the command has no use for; set, it is refused",
        choices=("steps", "guidance_scale", "negative_prompt"),
        null="none",
        of=EXTERNAL,
    )
    deterministic: bool = key(
        "true: the command promises the same bytes for the same request; else units may differ between workers", of=EXTERNAL, unread=False
    )
    pass_env: tuple[str, ...] = plan_key(
        "names of variables with secrets that it is given; all others with a secret name are kept from it", null="none", of=EXTERNAL
    )
    timeout: float = plan_key("seconds between two answers; a command that takes longer is killed", low=0.001, below=INF, of=EXTERNAL)
    start_timeout: float = plan_key("seconds until it says hello, weights loaded", low=0.001, below=INF, of=EXTERNAL)
    restarts: int = plan_key("times in a row that it may die or hang without drawing a picture", low=0, of=EXTERNAL)

    @property
    def of_classes(self) -> tuple[ClassLora, ...]:
        """The LoRAs that classes have of their own, given or trained; () where they have none."""
        return self.adapters or tuple(c for c in self.trained if c.index != ALL_CLASSES)

    @property
    def lora_weights(self) -> tuple[float, ...]:
        """Of the LoRAs of all classes, in order: the given ones, then a trained one."""
        return (*self.loras, *(c.weight for c in self.trained if c.index == ALL_CLASSES))


@dataclass(frozen=True, kw_only=True)
class DrawingConfig:
    """What all that is drawn has in common: the model, and how it draws and stores."""

    seed: int = key("integer; with what a picture is made of it fixes all of its noise")
    model: ModelConfig = later()
    guidance_scale: float = key(
        "weight of the caption; 1.5-3 trains classifiers best", low=0, null="the model's own (model.native_guidance_scale)"
    )
    steps: int = key("denoising steps", low=1, null="the model's own (model.native_steps)")
    scheduler: str = key(
        "a name of the scheduler registry, or default: the one in the model's folder", null="the model's own (model.native_scheduler)"
    )
    height: int = key("pixels", low=1, null="what the model was trained on (model.native_height)", of=PICTURES, unread=None)
    width: int = key("pixels", low=1, null="model.native_width", of=PICTURES, unread=None)
    save_size: int = key(
        "pixels of the stored image's shorter side; 0: as computed", low=0, high=16383, of=PICTURES, unread=0
    )  # WebP holds no more a side
    format: str = key("png | jpg | webp (lossless)", choices=("png", "jpg", "webp"), of=PICTURES, unread="jpg")
    batch_size: int = plan_key(
        "images denoised together; auto: what fits into one GPU's memory (cluster.gpu_mem_gb), 16 at most; 16 on cores", given=Any
    )
    unit_size: int = plan_key("images a unit (one tar)", low=1)
    negative_prompt: str = key("text that guidance moves away from")
    negative_prompt_file: str = plan_key("the same from a text file: for texts with commas, which a sweep (-m) would split", null="none")
    eta: float = key("0..1, fresh noise a step; for scheduler=ddim, an error with those that do not read it", low=0, high=1)
    preset: str = plan_key(
        "paper: the settings of the model's original (model.paper) | fast: dpm++2m, 20 steps; for keys that are null above", null="neither"
    )
    guidance_interval: tuple[float, ...] = key(
        "share of the schedule (0 = pure noise) with guidance; outside it half of the work is saved: [0.2, 0.8]"
    )
    vae_batch: int = key(
        "pictures decoded together, where the decoder needs more memory than denoising; auto: what fits; 0: as many as are denoised",
        given=Any,
    )


@dataclass(frozen=True)
class ClassCount:
    """How many pictures a class gets."""

    index: int  # official
    count: int


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(DrawingConfig):
    """kind "images": captions x per_caption, or `counts`; see synth.images.slots. upstream role "captions": captions_json."""

    per_caption: int = key("images a caption", low=1)
    count: Any = plan_key(
        "images a class instead: a number | ma: as many as the dataset's real training set has", given=Any, null="per_caption"
    )
    count_file: str = plan_key("JSON {class: images}, or CSV class,count; classes that are not in it take `count`", null="none")
    increase_ratio: float = plan_key("ratio on top of ma and count_file, rounded down; 1.15 leaves room for filters", low=0)
    counts: tuple[ClassCount, ...] = later(())  # pictures of each class; () = per_caption
    subset: str = key(
        "rows of captions.json to draw: 0..99 (both ends included) or [3,10..19]", given=Any, null="all"
    )  # stored as "0..99,150"; "" = all
    subset_file: str = plan_key("the same from a text file", null="none")
    on_oom: str = plan_key(
        "fail: say what to lower | split: halve the batch, within 1 grey level of the whole one, said in the metadata"
        " | auto: split where numerics promise no bytes (fast), else fail",
        choices=("auto", "fail", "split"),
    )
    preview_every: float = plan_key(
        "seconds between two looks at the newest pictures (preview.png in the stage folder); 0: none", low=0, below=INF
    )
    stop_when_empty: int = plan_key(
        "a worker stops (exit code 65) when so many pictures could not be drawn and the stage has none; 0: never", low=0
    )


@dataclass(frozen=True, kw_only=True)
class Img2ImgConfig(DrawingConfig):
    """kind "img2img": a picture from each picture of a source x per_image; slot = input * per_image + replica.

    The source is input "source" (a folder; what is in it stands in the stage's listing, whose digest is the input's identity),
    or upstream role "images": a stage of pictures.
    """

    source: str = plan_key(
        "pictures: class folders, WebDataset tars, Parquet or HDF5 files, img2dataset's output, or a stage folder of pictures", null="none"
    )
    layout: str = plan_key(
        "auto | image_folder | img2dataset | webdataset | parquet | hdf5 | stage: how the pictures lie in it",
        choices=("auto", "stage", "image_folder", "img2dataset", "webdataset", "parquet", "hdf5"),
    )
    classes: str = plan_key(
        "source: classes as the source has them | dataset: by name, with the official indices of dataset=", choices=("source", "dataset")
    )
    class_names_file: str = plan_key("JSON {class of the source: name}: for folders called n01440764", null="none")
    dataset: DatasetConfig = later()  # classes of a listed source; a stage upstream has its own
    source_classes: tuple[int, ...] = later(())  # official index of each class number in the listing; () with a stage upstream
    subset: str = key("slots of a stage of pictures: 0..99 or [3,10..19]", given=Any, null="all")  # stored as in images
    subset_file: str = plan_key(
        "text file, a line each: paths, file names or stems of a folder's pictures; numbers for a stage", null="none"
    )
    random_count: int = plan_key("inputs drawn by seed from what is left", low=1, null="all")
    per_image: int = key("images made of each input", low=1)
    noise_strength: float = key("0..1, share of the steps that are run: 0 gives the input itself, 1 keeps nothing of it", low=0, high=1)
    prompt: str = key("template: prompt_template | caption: the source's own captions", choices=("template", "caption"))
    prompt_template: str = key("{class}: name of the input's class")
    resize: str = key("stretch: to width x height | crop: proportions kept, the middle cut out", choices=("stretch", "crop"))
