"""Datasets, prompts, captioners and captions."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Dataset:
    name: str = MISSING
    classes: Any = MISSING  # all | a range "0..49" | a list of names, indices and ranges
    classes_file: str | None = None  # twin of `classes` for names with commas
    classes_json: str | None = None
    source: str | None = None  # a class list of the user's own: text, CSV, JSON or an ImageFolder
    examples: str | None = None
    backgrounds: str | None = None
    kind: str = "object"
    suffix: str = ""


@dataclass
class Annotated(Dataset):
    """Images with objects in COCO's or LVIS's form, and what tracking.* that is null becomes."""

    annotations: str | None = None
    captions: str | None = None
    images: str | None = None
    base_classes: bool = MISSING
    native_min_area: float = MISSING
    native_min_variant_area: float = MISSING
    native_dilate: int = MISSING


@dataclass
class Prompts:
    """What every prompt maker has; a maker's own keys are in a subclass."""

    maker: str = MISSING  # a key of synth.captions.prompts.MAKERS
    class_balance: str = MISSING
    examples_file: str | None = None
    backgrounds_file: str | None = None


@dataclass
class Synclr(Prompts):
    modes: dict[str, float] = MISSING
    shots: int = MISSING
    examples_per: str = MISSING
    group_size: int = MISSING


@dataclass
class SynclrChat(Synclr):
    num_backgrounds: int = MISSING


@dataclass
class Synthclip(Prompts):
    shots: int = MISSING
    max_words: int = MISSING


@dataclass
class Hirpg(Prompts):
    form: str = MISSING
    num_metaprompts: int = MISSING
    num_prompts_per_metaprompt: int = MISSING
    max_prompts: int = MISSING
    max_words: int = MISSING
    metaprompts_file: str | None = None


@dataclass
class ClassName(Prompts):
    templates: list[str] = MISSING
    templates_file: str | None = None


@dataclass
class FakeIt(Prompts):
    source: str = MISSING
    hypernyms_file: str | None = None
    places_file: str | None = None


@dataclass
class FakeDefinition(Prompts):
    definitions_file: str | None = None


@dataclass
class FromFile(Prompts):
    file: str | None = None
    check: bool = MISSING


@dataclass
class Captioner:
    """What every engine has; an engine's own keys are in a subclass. Alone it is engine `none`."""

    engine: str = MISSING  # a key of synth.captions.engines.ENGINES
    id: str | None = None
    temperature: float = MISSING
    top_p: float = MISSING
    max_seq_len: int = MISSING
    max_gen_len: int = MISSING
    max_batch_size: Any = MISSING  # a number; of engine llama also auto: from the checkpoint and cluster.gpu_mem_gb
    model_parallel: int | None = None
    stop: list[str] = MISSING
    dtype: str = MISSING


@dataclass
class Llama(Captioner):
    root: str | None = None
    ckpt_dir: str | None = None
    tokenizer_path: str | None = None


@dataclass
class Hf(Captioner):
    path: str | None = None
    repo: str | None = None
    revision: str | None = None


@dataclass
class OpenAI(Captioner):
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    api: str = MISSING
    body: Any = None  # a mapping; Any and null, because Hydra adds no keys to a mapping that is there
    timeout: float = MISSING
    retries: int = MISSING
    longest_wait: float = MISSING
    price_in: float = MISSING
    price_out: float = MISSING


@dataclass
class Served(Captioner):
    path: str | None = None
    model: str | None = None
    command: list[str] = MISSING
    flags: list[str] = field(default_factory=list)
    health: str = MISSING
    start_timeout: float = MISSING
    restarts: int = MISSING
    api: str = MISSING
    body: Any = None  # a mapping; Any and null, because Hydra adds no keys to a mapping that is there
    timeout: float = MISSING
    retries: int = MISSING


@dataclass
class Captions:
    seed: int = MISSING
    seeds: list[int] | None = None
    stages: list[str] | None = None
    total: int | None = None
    per_class: int | None = None
    oversample: float = MISSING
    allow_short: bool = MISSING
    unit_size: int = MISSING
    window: int = MISSING
    max_attempts: int = MISSING
    must_name_class: bool = MISSING
    min_words: int = MISSING
    max_words: int = MISSING
