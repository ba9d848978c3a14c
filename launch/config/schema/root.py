"""The root of the config, recipes, and the registration of all types with Hydra."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from launch.config.clusters import ClusterConfig, slurm_schema
from launch.config.schema.captions import (
    Annotated,
    Captioner,
    Captions,
    ClassName,
    Dataset,
    FakeDefinition,
    FakeIt,
    FromFile,
    Hf,
    Hirpg,
    Llama,
    OpenAI,
    Prompts,
    Served,
    Synclr,
    SynclrChat,
    Synthclip,
)
from synth.export.config import ExportConfig
from synth.filters.config import FilterConfig, ScoresConfig
from synth.images.config import ImagesConfig, Img2ImgConfig, ModelConfig
from synth.keys import schema
from synth.kinds import chosen_by, named
from synth.run.config import ProbeConfig
from synth.story.config import StoryKeys
from synth.tracking.config import PairsConfig

SCHEMA_PREFIX = "schema_"  # options with this prefix are types, not choices: --help and messages leave them out


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
    model: schema(ModelConfig) = field(default_factory=schema(ModelConfig))
    captions: Captions = field(default_factory=Captions)
    images: schema(ImagesConfig, "images") = field(default_factory=schema(ImagesConfig, "images"))
    img2img: schema(Img2ImgConfig, "img2img") = field(default_factory=schema(Img2ImgConfig, "img2img"))
    scores: schema(ScoresConfig) = field(default_factory=schema(ScoresConfig))
    story: schema(StoryKeys) = field(default_factory=schema(StoryKeys))
    tracking: schema(PairsConfig) = field(default_factory=schema(PairsConfig))
    probe: schema(ProbeConfig) = field(default_factory=schema(ProbeConfig))
    cluster: schema(ClusterConfig) = field(default_factory=schema(ClusterConfig))
    export: dict[str, schema(ExportConfig)] = field(default_factory=dict)
    filter: dict[str, schema(FilterConfig)] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)


# group -> {name of its dataclass in the store: dataclass}; an option's YAML takes one of them as its first default
GROUPS: dict[str, dict[str, type]] = {
    "cluster": {"cluster": schema(ClusterConfig), "slurm": slurm_schema()},
    "captioner": {"captioner": Captioner, "llama": Llama, "hf": Hf, "openai": OpenAI, "served": Served},
    "model": {"model": schema(ModelConfig), "external": schema(ModelConfig, "external")},
    "dataset": {"dataset": Dataset, "annotated": Annotated},
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
    **{
        group: {group: schema(base)} | {name: schema(named(kind.config)) for name, kind in chosen_by(group).items()}
        for group, base in (("filter", FilterConfig), ("export", ExportConfig))
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
    # Hydra copies its repository, and with it this store, for every composition, and again each node that it takes out of it.
    store.__deepcopy__ = lambda memo: store
