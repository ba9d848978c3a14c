"""The types of the composed config: structured configs, one dataclass a group, registered in Hydra's ConfigStore.

`Config` is the root; `conf/config.yaml` starts from it, so every key of every YAML file and of the command line is
checked against it. Values live in conf/, types live here: a leaf without a value in YAML is MISSING.
A group whose options differ in their keys (cluster, export, ...) has a base dataclass here and a subclass an option;
the YAML file of the option names its own with `defaults: [schema_<name>, _self_]`.
OmegaConf has no typed union of str, list and dict: such leaves are `Any` and launch.classes / launch.plan judge them.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

SCHEMA_PREFIX = "schema_"  # options with this prefix are types, not choices: --help and messages leave them out


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
    paper: dict[str, Any] = field(default_factory=dict)  # images.preset=paper: steps, scheduler, guidance_scale, height, width of its original use
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
class Probe:
    seed: int = MISSING
    slots: int = MISSING
    unit_size: int = MISSING
    batch_size: int = MISSING
    size: int = MISSING
    sleep: float = MISSING
    framing: str = MISSING
    # slot -> how; Any and null, because Hydra reads a slot as a number and adds no keys to a mapping that is there
    behaviour: Any = None


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


@dataclass
class Cluster:
    """What every cluster has. cluster=slurm adds its own keys in a subclass."""

    kind: str = MISSING  # a key of launch.clusters.CLUSTERS
    n_jobs: int | None = None
    gpu_mem_gb: float | None = None


@dataclass
class SlurmStage:
    """Keys of cluster=slurm that a kind of stage may have for itself; null: as in the cluster."""

    n_jobs: int | None = None
    gpu_mem_gb: float | None = None
    max_parallel: int | None = None
    workers_per_job: Any = None  # auto or a number
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    time: Any = None  # Any: a number that YAML made of an unquoted time is refused by launch.times, not made a text of
    time_min: Any = None
    gpus_per_job: int | None = None
    gres: str | None = None
    cpus_per_job: int | None = None
    mem: str | None = None
    requeue: bool | None = None
    drain_before_s: int | None = None
    modules: list[str] | None = None
    setup: list[str] | None = None
    env: dict[str, Any] = field(default_factory=dict)  # added to the cluster's
    python: str | None = None
    container: str | None = None
    container_exec: list[str] | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # added to the cluster's
    heal: int | None = None
    max_requeues: int | None = None
    on_missing: str | None = None
    max_array_size: int | None = None


def _slurm_stages() -> dict[str, SlurmStage]:
    from launch.kinds import PLANNERS  # which imports this module

    return {name: SlurmStage() for name in ("gate", *PLANNERS)}


@dataclass
class Slurm(Cluster):
    """cluster=slurm: the keys of SlurmStage with their defaults in conf/cluster/slurm.yaml, and by kind of stage."""

    max_parallel: int | None = None
    workers_per_job: Any = MISSING
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    time: Any = None
    time_min: Any = None
    gpus_per_job: int | None = None
    gres: str | None = None
    cpus_per_job: int = MISSING
    mem: str | None = None
    requeue: bool = MISSING
    drain_before_s: int = MISSING
    modules: list[str] = MISSING
    setup: list[str] = MISSING
    env: dict[str, Any] = MISSING
    python: str | None = None
    container: str | None = None
    container_exec: list[str] = MISSING
    extra: dict[str, Any] = MISSING
    heal: int = MISSING
    max_requeues: int = MISSING
    on_missing: str = MISSING
    max_array_size: int | None = None
    max_submit: int | None = None
    stages: dict[str, SlurmStage] = field(default_factory=_slurm_stages)


@dataclass
class Export:
    """What every export has; the key in `export` is the name of its stage."""

    kind: str = MISSING
    out: str | None = None


@dataclass
class ImageFolder(Export):
    names: str = MISSING
    val_share: float = MISSING
    split_seed: int = MISSING
    link_from: str | None = None


@dataclass
class WebDataset(Export):
    shard: int = MISSING
    shuffle: bool = MISSING
    seed: int = MISSING


@dataclass
class Parquet(WebDataset): ...


@dataclass
class CaptionsTxt(Export): ...


@dataclass
class Hdf5(Export):
    layout: str = MISSING
    content: str = MISSING
    gzip: int = MISSING
    partition: int = MISSING


@dataclass
class ContactSheet(Export):
    columns: int = MISSING
    tile: int = MISSING
    max_classes: int = MISSING


@dataclass
class StoryPages(Export):
    grid: str = MISSING
    animation: str = MISSING
    frame_ms: int = MISSING


@dataclass
class Filter:
    """What every filter has; the key in `filter` is the name of its stage."""

    kind: str = MISSING


@dataclass
class ClipScore(Filter):
    score: str = MISSING
    min_score: float = MISSING
    top_share: float = MISSING
    count: Any = None  # null | ma | a number
    count_file: str | None = None
    ratio: float = MISSING


@dataclass
class LabelAgreement(Filter):
    margin: float = MISSING


@dataclass
class NearDuplicates(Filter):
    method: str = MISSING
    distance: int = MISSING
    similarity: float = MISSING
    within: str = MISSING
    against: str | None = None


@dataclass
class Balance(Filter):
    count: Any = None  # ma | a number
    count_file: str | None = None
    ratio: float = MISSING
    allow_short: bool = MISSING
    seed: int = MISSING


@dataclass
class Ensemble(Balance):
    stages: list[str] = MISSING
    mode: str = MISSING
    temperature: float = MISSING


@dataclass
class Scores:
    """The scoring stages that filters read."""

    clip: str | None = None
    templates: list[str] = MISSING
    batch_size: int = MISSING
    unit_size: int = MISSING


@dataclass
class RecipeStage:
    """One node of the graph: a stage kind and, by role, the names of the stages that it reads."""

    kind: str = MISSING
    upstream: dict[str, str] = field(default_factory=dict)


@dataclass
class Recipe:
    name: str = MISSING
    stages: dict[str, RecipeStage] = MISSING
    exports_of: str | None = None  # the stage that filters and exports read; null: the recipe has none


@dataclass
class Config:
    seed: int = MISSING
    runs_dir: str = MISSING
    numerics: str = MISSING
    until: str | None = None
    only: Any = None  # a stage name or a list of them
    dry_run: bool = False
    retry_failed: bool = False
    dataset: Dataset = field(default_factory=Dataset)
    prompts: Prompts = field(default_factory=Prompts)
    captioner: Captioner = field(default_factory=Captioner)
    model: Model = field(default_factory=Model)
    captions: Captions = field(default_factory=Captions)
    images: Images = field(default_factory=Images)
    img2img: Img2Img = field(default_factory=Img2Img)
    scores: Scores = field(default_factory=Scores)
    story: Story = field(default_factory=Story)
    probe: Probe = field(default_factory=Probe)
    cluster: Cluster = field(default_factory=Cluster)
    export: dict[str, Export] = field(default_factory=dict)
    filter: dict[str, Filter] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)


# group -> {name of its dataclass in the store: dataclass}; an option's YAML takes one of them as its first default
GROUPS: dict[str, dict[str, type]] = {
    "cluster": {"cluster": Cluster, "slurm": Slurm},
    "captioner": {"captioner": Captioner, "llama": Llama, "hf": Hf, "openai": OpenAI, "served": Served},
    "model": {"model": Model, "external": External},
    "dataset": {"dataset": Dataset},
    "prompts": {
        "synclr": Synclr,
        "synclr_chat": SynclrChat,
        "synthclip": Synthclip,
        "hirpg": Hirpg,
        "class_name": ClassName,
        "fake_it": FakeIt,
        "fake_definition": FakeDefinition,
        "from_file": FromFile,
    },
    "filter": {
        "filter": Filter,
        "clip_score": ClipScore,
        "label_agreement": LabelAgreement,
        "near_duplicates": NearDuplicates,
        "balance": Balance,
        "ensemble": Ensemble,
    },
    "export": {
        "image_folder": ImageFolder,
        "webdataset": WebDataset,
        "parquet": Parquet,
        "captions_txt": CaptionsTxt,
        "hdf5": Hdf5,
        "contact_sheet": ContactSheet,
        "story_pages": StoryPages,
    },
}


def register() -> None:
    """Make the types known to Hydra; call it before composing. Safe to call twice."""
    store = ConfigStore.instance()
    if f"{SCHEMA_PREFIX}config.yaml" in store.repo:
        return  # building the types takes a third of a second
    store.store(name=SCHEMA_PREFIX + "config", node=Config)
    for group, nodes in GROUPS.items():
        for name, node in nodes.items():
            store.store(group=group, name=SCHEMA_PREFIX + name, node=node)
