"""The root of the config, recipes, and Hydra's types of all keys.

`conf/config.yaml` starts from `Config`, so every key of every YAML file and of the command line is checked against it. Keys are declared by
the families' config classes; Hydra gets a type made of each (synth.keys.schema). A group whose options differ in their keys (captioner,
export, ...) has a base type and one an option; the YAML file of the option names its own with `defaults: [schema_<name>, _self_]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.config.clusters import ClusterConfig, slurm_schema
from launch.config.notify import NotifyConfig
from synth.captions.config import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig
from synth.captions.engines import ENGINES
from synth.captions.prompts import MAKERS
from synth.export.config import ExportConfig
from synth.features.config import FeaturesKeys
from synth.filters.config import FilterConfig
from synth.images.config import ImagesConfig, Img2ImgConfig, ModelConfig
from synth.judge.config import FeedbackConfig, FinetuneConfig, JudgeConfig
from synth.keys import dict_of, key, schema
from synth.kinds import chosen_by, named
from synth.layout.config import (
    BOX_CAPTIONERS,
    DETECTORS,
    NONE,
    SEGMENTERS,
    TAGGERS,
    BoxCaptionerConfig,
    DetectorConfig,
    LayoutConfig,
    SegmenterConfig,
    TaggerConfig,
)
from synth.lora.config import LoraConfig
from synth.numerics import PRESETS
from synth.run.config import ProbeConfig
from synth.story.config import StoryKeys
from synth.tracking.config import PairsConfig

LISTS = ("export", "filter", "tagger")  # groups of which several options may be chosen; each option's keys stand below its name
SCHEMA_PREFIX = "schema_"  # options with this prefix are types, not choices: --help and messages leave them out


@dataclass(frozen=True)
class RecipeStage:
    """One node of the graph."""

    kind: str = key("kind of stage")
    upstream: Mapping[str, str] = key("by role, the names of the stages that it reads", given=dict[str, str], unread=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str = key("name of the graph")
    stages: Mapping[str, RecipeStage] = key("name -> stage", given=dict_of(schema(RecipeStage)))
    exports_of: str = key("the stage that filters and exports read", null="the recipe has none")


@dataclass(frozen=True, kw_only=True)
class Config:
    seed: int = key("any integer; every random number of the run comes from it")
    runs_dir: str = key("folder; stages go to <runs_dir>/<dataset>/<stage>-<fingerprint>")
    numerics: str = key(
        "exact: same bytes on the same kind of device | fast: compiled, bytes not promised | reference: float32, plain kernels",
        choices=tuple(PRESETS),
    )
    until: str = key("name of the last stage to compute, with all that it needs", null="all")
    only: Any = key("list of stages to compute; their upstreams must be whole already", given=Any, null="all")
    dry_run: bool = key("print the plan; compute and write nothing")
    plan_only: bool = key("make the folders of the stages and stop: for workers that are started by hand")
    retry_failed: bool = key("give units that were set aside after three errors another three tries")
    trial: int = key(
        "try=2 on the command line: of all that the run makes two samples of each class (or pictures, pairs, prompts), in <runs_dir>/try",
        low=1,
        null="all of it",
    )
    max_device_hours: float = key(
        "refuse a plan that takes more hours of GPUs (of cores, where there are none), by what earlier stages of the same work took",
        low=0,
        null="no limit",
    )
    max_gb: float = key("refuse a plan whose units take more GB, by the same", low=0, null="no limit")
    dataset: DatasetConfig = key("the classes", given=schema(DatasetConfig))
    prompts: PromptsConfig = key("what captions are asked for", given=schema(PromptsConfig))
    captioner: CaptionerConfig = key("the language model", given=schema(CaptionerConfig))
    model: ModelConfig = key("the diffusion model", given=schema(ModelConfig))
    captions: CaptionsConfig = key("how many captions, and which are taken", given=schema(CaptionsConfig))
    images: ImagesConfig = key("pictures of captions", given=schema(ImagesConfig, "images"))
    img2img: Img2ImgConfig = key("pictures of pictures: recipe=noise_denoise", given=schema(Img2ImgConfig, "img2img"))
    lora: LoraConfig = key("LoRAs that are trained on a few real pictures, and draw", given=schema(LoraConfig))
    features: FeaturesKeys = key("of pictures: computed once, thresholds are those of who reads them", given=schema(FeaturesKeys))
    story: StoryKeys = key("recipe=story; what is not here follows images.*", given=schema(StoryKeys))
    tracking: PairsConfig = key("recipe=tracking; what is not here follows images.*", given=schema(PairsConfig))
    layout: LayoutConfig = key("recipe=layout: pictures with alt texts to layout labels", given=schema(LayoutConfig))
    tagger: Mapping[str, TaggerConfig] = key("name -> how tags are found; those of several are united", given=dict_of(schema(TaggerConfig)))
    detector: DetectorConfig = key("the model that finds tags in pictures", given=schema(DetectorConfig))
    segmenter: SegmenterConfig = key("the model that gives boxes masks", given=schema(SegmenterConfig))
    box_captioner: BoxCaptionerConfig = key("the model that says what is in a box", given=schema(BoxCaptionerConfig))
    judge: JudgeConfig = key("how good the pictures are, and whether a classifier learns from them", given=schema(JudgeConfig))
    finetune: FinetuneConfig = key("judge.train=finetune: a classifier that is trained on the pictures", given=schema(FinetuneConfig))
    feedback: FeedbackConfig = key("rounds of pictures, each by what the ones before lack: recipe=feedback", given=schema(FeedbackConfig))
    probe: ProbeConfig = key("recipe=probe: numpy only, for tests of clusters and of the store", given=schema(ProbeConfig))
    notify: NotifyConfig = key("what is run at the end of a run", given=schema(NotifyConfig))
    cluster: ClusterConfig = key("where stages run", given=schema(ClusterConfig))
    export: Mapping[str, ExportConfig] = key("name of a stage -> export", given=dict_of(schema(ExportConfig)))
    filter: Mapping[str, FilterConfig] = key("name of a stage -> filter", given=dict_of(schema(FilterConfig)))
    recipe: Recipe = key("the graph of stages", given=schema(Recipe))


# group -> {name of a type: type}; an option's YAML takes one of them as its first default
GROUPS: dict[str, dict[str, type]] = {
    "cluster": {"cluster": schema(ClusterConfig), "slurm": slurm_schema()},
    "captioner": {"captioner": schema(CaptionerConfig)} | {engine: schema(CaptionerConfig, engine) for engine in ENGINES},
    "model": {"model": schema(ModelConfig), "external": schema(ModelConfig, "external")},
    "dataset": {"dataset": schema(DatasetConfig), "annotated": schema(DatasetConfig, "annotated")},
    "tagger": {"tagger": schema(TaggerConfig)} | {kind: schema(TaggerConfig, kind) for kind in TAGGERS},
    "detector": {"detector": schema(DetectorConfig)} | {kind: schema(DetectorConfig, kind) for kind in DETECTORS},
    "segmenter": {"segmenter": schema(SegmenterConfig)} | {kind: schema(SegmenterConfig, kind) for kind in (*SEGMENTERS, NONE)},
    "box_captioner": {"box_captioner": schema(BoxCaptionerConfig)}
    | {kind: schema(BoxCaptionerConfig, kind) for kind in (*BOX_CAPTIONERS, NONE)},
    "prompts": {maker: schema(PromptsConfig, maker) for maker in MAKERS},
    **{
        group: {group: schema(base)} | {name: schema(named(kind.config)) for name, kind in chosen_by(group).items()}
        for group, base in (("filter", FilterConfig), ("export", ExportConfig))
    },
}
