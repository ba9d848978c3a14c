"""The sample configs: one frozen dataclass a stage kind, holding all that its bytes depend on and nothing else.

The launcher builds them from the composed Hydra config; stage.json stores them; the worker reads them back with
`load`. Paths are not here but in a stage's inputs (content identity in stage.json, path in inputs.json).
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.errors import InputError


@dataclass(frozen=True)
class ClassEntry:
    """One class of the dataset. `index` is its official index, whatever range of classes is chosen."""

    index: int
    name: str  # official; the label and the key of tables
    superclass: str = ""
    spoken: str = ""  # as captions say it, where that is not the name: "kite (bird of prey)" -> "kite bird"

    @property
    def said(self) -> str:
        """The words that prompts use and that a caption must hold, on one line."""
        return " ".join((self.spoken or self.name.replace("_", " ")).split())


@dataclass(frozen=True)
class DatasetConfig:
    name: str
    classes: tuple[ClassEntry, ...]  # the chosen ones, in official order
    n_classes: int  # length of the official list: keys of slots are made of it
    kind: str = "object"  # object | texture
    suffix: str = ""  # joined to a class name in prompts where the name alone is ambiguous: "707-320" + " aircraft"

    def phrase(self, entry: ClassEntry) -> str:
        """How prompts name a class, on one line: a newline in a name would end a query."""
        return " ".join((entry.said + self.suffix).split())


@dataclass(frozen=True)
class PromptsConfig:
    """What a prompt maker is told. A key that a maker does not read keeps its default, so that it changes no fingerprint.

    inputs, where the maker needs them: "examples" (in-context examples by mode), "backgrounds" (places by class), "places"
    (a list of places), "metaprompts" (a list of texts), "captions" (the user's own).
    """

    maker: str = "synclr"
    class_balance: str = "exact"  # exact: blocks of one slot a class | random: a draw a slot | file: rows of a file in their order
    modes: Mapping[str, float] = field(default_factory=lambda: {"class": 0.44, "class_background": 0.45, "class_relation": 0.11})
    shots: int = 3
    group: int = 1  # captions that share their drawn examples
    num_backgrounds: int = 0  # synclr_chat: places asked for each class
    form: str = "static"  # hirpg: static: texts that hold [concept], made once | dynamic: made for each class
    num_metaprompts: int = 0  # hirpg: all, with the given ones
    num_prompts_per_metaprompt: int = 0
    max_prompts: int = 0  # hirpg: texts that are kept; captions a class
    max_words: int = 15  # synthclip, hirpg: asked for in the request
    templates: tuple[str, ...] = ()  # class_name: texts with {} for the class
    senses: Mapping[str, str] = field(default_factory=dict)  # fake_it, fake_definition: class index -> hypernym or definition
    content: str = ""  # from_file: sha256 of the file
    official: tuple[str, ...] = ()  # from_file: all class names, in order, where only some classes are chosen
    check: bool = True  # from_file: whether the checks of captions.* apply


@dataclass(frozen=True)
class CaptionerConfig:
    """inputs of engine llama: "weights" (folder in Meta's layout) and "tokenizer" (file); of hf, and of served where it is
    given a folder: "model" (folder in transformers' layout). What an engine does not read stands here as its default."""

    engine: str = "llama"
    id: str = "tiny_llama"
    temperature: float = 0.8
    top_p: float = 0.9
    max_seq_len: int = 512  # tokens, prompt and caption together
    max_gen_len: int = 100  # tokens
    max_batch_size: int = 32  # rows decoded at once inside a window
    model_parallel: int = 1  # processes = shards of the checkpoint
    stop: tuple[str, ...] = ("\n",)
    dtype: str = "float32"  # of weights, activations and KV cache
    model: str = ""  # name that a server knows the model by
    api: str = ""  # what a server is asked: chat | completions
    body: Mapping[str, typing.Any] = field(default_factory=dict)  # more fields of each request to a server; null: without it
    command: tuple[str, ...] = ()  # engine served: what starts the server


@dataclass(frozen=True)
class CaptionsConfig:
    """kind "captions": one caption a slot. Unit framing jsonl; batch = window."""

    seed: int
    dataset: DatasetConfig
    prompts: PromptsConfig
    captioner: CaptionerConfig
    max_attempts: int = 4  # tries of a slot until its caption passes the checks on itself alone
    must_name_class: bool = True
    min_words: int = 2
    max_words: int = 60


@dataclass(frozen=True)
class AskConfig:
    """kinds "metaprompts", "prompt_trees", "backgrounds": what a maker asks a model before it can make captions. Framing jsonl.

    upstream role "metaprompts": of prompt_trees. A prompt_trees stage is the upstream "prompts" of captions, a backgrounds stage
    their upstream "backgrounds".
    """

    seed: int
    dataset: DatasetConfig
    prompts: PromptsConfig
    captioner: CaptionerConfig
    max_attempts: int = 4  # tries of an answer until it can be used


@dataclass(frozen=True)
class CaptionsJsonConfig:
    """kind "captions_json": one unit that holds captions.json, captions.parquet and rejected.jsonl.

    upstream role "captions": one or several captions stages, in the order in which their slots are read.
    """

    total: int
    allow_short: bool = False
    per_class: int = 0  # rows of each class; 0: whatever classes the first `total` are of
    out: str = ""  # "" = the stage's own place below exports/


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

    dataset: DatasetConfig = DatasetConfig("", (), 0)  # classes of a listed source; a stage upstream has its own
    source_classes: tuple[int, ...] = ()  # official index of each class number in the listing; () with a stage upstream
    subset: str = ""  # slots of the upstream stage; "" = all
    per_image: int = 1
    noise_strength: float = 0.5  # share of the steps that are run
    prompt: str = "template"  # template | caption (the source's own)
    prompt_template: str = "a photo of {class}"
    resize: str = "stretch"  # stretch | crop


@dataclass(frozen=True)
class StoryStyle:
    """A lane of a story's chains. Its tag is the name of its class in the stage's dataset."""

    text: str
    weight: float  # 0..1, share of the steps that is run from the lane's last picture


@dataclass(frozen=True)
class StoryConfig(DrawingConfig):
    """kind "story": a picture for each prompt and style. input "source": the text, whose prompts lie in the stage's folder.

    A unit is a chapter (all of the book, where anything passes from chapter to chapter), a batch one prompt in all styles. Stored without loss: chains go
    on from what is stored.
    """

    dataset: DatasetConfig = DatasetConfig("", (), 0)  # a class a style
    styles: tuple[StoryStyle, ...] = ()
    prompts: tuple[int, ...] = ()  # of each chapter
    progressive: bool = True
    interleave: bool = True
    cycle_styles: bool = False
    carry: str = "chapter"  # chapter | book: how far last pictures and turned styles go
    rows: int = 16  # pictures a call of the model, at most


@dataclass(frozen=True)
class StoryPagesConfig:
    """kind "story_pages": upstream role "images": a story stage. A slot and a unit is a chapter."""

    out: str = ""
    title: str = ""
    individual: bool = True  # a file a picture
    grid: str = "chapter"  # chapter | cumulative | none
    animation: str = "webp"  # webp | gif | none
    frame_ms: int = 700


@dataclass(frozen=True)
class ImageFolderConfig:
    """kind "image_folder": upstream role "images". A slot is a slot of the images stage."""

    out: str = ""
    names: str = "key"  # key | number | nested; see synth.export.image_folder.file_name
    val_share: float = 0.0  # share of the pictures in val/, the rest in train/; 0 = neither
    split_seed: int = 0


@dataclass(frozen=True)
class WebDatasetConfig:
    """kind "webdataset": upstream role "images". A slot is a position in the shuffled order, a unit a shard."""

    out: str = ""
    shuffle_seed: int = 0  # -1 = in the order of the slots


@dataclass(frozen=True)
class ParquetConfig:
    """kind "parquet": upstream role "images". A unit is a file."""

    out: str = ""
    shuffle_seed: int = -1


@dataclass(frozen=True)
class CaptionsTxtConfig:
    """kind "captions_txt": one unit that holds captions.txt. upstream role "captions": captions_json."""

    out: str = ""


@dataclass(frozen=True)
class Hdf5PartsConfig:
    """kind "hdf5_parts": a partition file a unit. upstream role "images". A slot is a slot of the images; batch = unit."""

    layout: str = "keyed"  # keyed | packed
    content: str = "bytes"  # bytes | pixels (packed only)
    gzip: int = 0  # level of the pixels' chunks; 0 = none


@dataclass(frozen=True)
class Hdf5Config:
    """kind "hdf5": one unit of one slot, the merged file. upstream roles "parts": hdf5_parts, "images": what they were made of."""

    out: str = ""


@dataclass(frozen=True)
class ContactSheetConfig:
    """kind "contact_sheet": one PNG, a row a class, captions below. upstream role "images"."""

    out: str = ""
    columns: int = 8  # pictures a class
    tile: int = 96  # pixels of a picture on the sheet
    max_classes: int = 40


@dataclass(frozen=True)
class ClipFeaturesConfig:
    """kind "clip_features": a sample a picture of role "images", or of the folder in input "folder". input "clip": a CLIP model."""

    id: str
    templates: tuple[str, ...] = ("a photo of a {}",)  # class texts; their features are averaged


@dataclass(frozen=True)
class PerceptualHashConfig:
    """kind "perceptual_hash": the same with a hash of 64 bits."""

    method: str = "phash"  # phash | dhash | ahash | whash, of the imagehash library


@dataclass(frozen=True)
class ClipScoreConfig:
    """kind "clip_score": upstream roles "images" and "scores" (clip_features). All filters have the slots of their images."""

    score: str = "class"  # class | caption
    min_score: float = -1.0  # cosine similarity
    top_share: float = 1.0  # of each class
    counts: Mapping[str, int] = field(default_factory=dict)  # official index -> at most so many; {} = no limit


@dataclass(frozen=True)
class LabelAgreementConfig:
    """kind "label_agreement": upstream roles "images" and "scores" (clip_features)."""

    margin: float = 0.0  # cosine similarity by which the own class may miss the best


@dataclass(frozen=True)
class NearDuplicatesConfig:
    """kind "near_duplicates": upstream roles "images", "scores" and, of a given test set, "against"."""

    method: str = "phash"  # or embedding
    distance: int = 4  # bits of 64
    similarity: float = 0.97  # cosine, for embedding
    within: str = "class"  # class | all, for embedding


@dataclass(frozen=True)
class BalanceConfig:
    """kind "balance": upstream role "images"."""

    seed: int
    counts: Mapping[str, int]  # official index -> pictures
    allow_short: bool = False


@dataclass(frozen=True)
class EnsembleConfig:
    """kind "ensemble": upstream roles "images" (several stages) and "scores" (clip_features of each, in the same order)."""

    seed: int
    counts: Mapping[str, int]
    allow_short: bool = False
    mode: str = "conan"  # conan | top | bottom | inverse | equal
    temperature: float = 0.5


@dataclass(frozen=True)
class ProbeConfig:
    """kind "probe": numpy only; makes samples of any size and misbehaves on request, by slot ("17": {...}).

    behaviour keys: sleep (s), allocate (bytes), size (bytes of the sample), raise ("input"|"bug"|"broken"), times (raise or
    hang only the first N tries, counted in a folder), hang (true), tombstone (reason).
    """

    seed: int = 0
    size: int = 64  # bytes a sample
    sleep: float = 0.0  # seconds a batch
    behaviour: Mapping[str, Mapping[str, typing.Any]] = field(default_factory=dict)
    framing: str = "tar"


CONFIGS: dict[str, type] = {
    "captions": CaptionsConfig,
    "metaprompts": AskConfig,
    "prompt_trees": AskConfig,
    "backgrounds": AskConfig,
    "captions_json": CaptionsJsonConfig,
    "images": ImagesConfig,
    "img2img": Img2ImgConfig,
    "story": StoryConfig,
    "image_folder": ImageFolderConfig,
    "webdataset": WebDatasetConfig,
    "parquet": ParquetConfig,
    "captions_txt": CaptionsTxtConfig,
    "hdf5_parts": Hdf5PartsConfig,
    "hdf5": Hdf5Config,
    "contact_sheet": ContactSheetConfig,
    "story_pages": StoryPagesConfig,
    "clip_features": ClipFeaturesConfig,
    "perceptual_hash": PerceptualHashConfig,
    "clip_score": ClipScoreConfig,
    "label_agreement": LabelAgreementConfig,
    "near_duplicates": NearDuplicatesConfig,
    "balance": BalanceConfig,
    "ensemble": EnsembleConfig,
    "probe": ProbeConfig,
}


def dump(config) -> dict:
    """A config as plain JSON data (tuples become lists)."""
    return _plain(dataclasses.asdict(config))


def load(kind: str, data: Mapping):
    """The typed config of a stage kind from stage.json; an unknown or missing key or a wrong type is an InputError."""
    if kind not in CONFIGS:
        msg = f"unknown stage kind {kind!r}; known: {', '.join(sorted(CONFIGS))}"
        raise InputError(msg)
    return _build(CONFIGS[kind], data, kind)


def _plain(value):
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _build(tp, value, where: str):
    origin = typing.get_origin(tp)
    if dataclasses.is_dataclass(tp):
        if not isinstance(value, Mapping):
            msg = f"{where}: expected a mapping, got {type(value).__name__}"
            raise InputError(msg)
        hints = typing.get_type_hints(tp)
        unknown = sorted(set(value) - set(hints))
        missing = [f.name for f in dataclasses.fields(tp) if f.name not in value and _required(f)]
        if unknown or missing:
            msg = f"{where}: unknown keys {unknown}, missing keys {missing}; was it written by another version?"
            raise InputError(msg)
        return tp(**{name: _build(hints[name], value[name], f"{where}.{name}") for name in hints if name in value})
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            msg = f"{where}: expected a list, got {value!r}"
            raise InputError(msg)
        return tuple(_build(typing.get_args(tp)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        args = typing.get_args(tp)
        if not isinstance(value, Mapping):
            msg = f"{where}: expected a mapping, got {value!r}"
            raise InputError(msg)
        return {k: _build(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if tp is typing.Any or isinstance(tp, types.GenericAlias):
        return value
    if tp is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, tp) or (tp is int and isinstance(value, bool)):
        msg = f"{where}: expected {tp.__name__}, got {value!r}"
        raise InputError(msg)
    return value


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
