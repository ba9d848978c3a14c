"""The root of the config, recipes, and the registration of all types with Hydra."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from launch.config.clusters import ClusterConfig, slurm_schema
from launch.config.schema.images import External, Images, Img2Img, Model, Story
from launch.config.schema.tracking import Tracking
from synth.captions.config import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig
from synth.captions.engines import ENGINES
from synth.captions.prompts import MAKERS
from synth.export.config import ExportConfig
from synth.filters.config import FilterConfig, ScoresConfig
from synth.keys import schema
from synth.kinds import chosen_by, named
from synth.run.config import ProbeConfig

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
    dataset: schema(DatasetConfig) = field(default_factory=schema(DatasetConfig))
    prompts: schema(PromptsConfig) = field(default_factory=schema(PromptsConfig))
    captioner: schema(CaptionerConfig) = field(default_factory=schema(CaptionerConfig))
    model: Model = field(default_factory=Model)
    captions: schema(CaptionsConfig) = field(default_factory=schema(CaptionsConfig))
    images: Images = field(default_factory=Images)
    img2img: Img2Img = field(default_factory=Img2Img)
    scores: schema(ScoresConfig) = field(default_factory=schema(ScoresConfig))
    story: Story = field(default_factory=Story)
    tracking: Tracking = field(default_factory=Tracking)
    probe: schema(ProbeConfig) = field(default_factory=schema(ProbeConfig))
    cluster: schema(ClusterConfig) = field(default_factory=schema(ClusterConfig))
    export: dict[str, schema(ExportConfig)] = field(default_factory=dict)
    filter: dict[str, schema(FilterConfig)] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)


# group -> {name of its dataclass in the store: dataclass}; an option's YAML takes one of them as its first default
GROUPS: dict[str, dict[str, type]] = {
    "cluster": {"cluster": schema(ClusterConfig), "slurm": slurm_schema()},
    "captioner": {"captioner": schema(CaptionerConfig)} | {engine: schema(CaptionerConfig, engine) for engine in ENGINES},
    "model": {"model": Model, "external": External},
    "dataset": {"dataset": schema(DatasetConfig), "annotated": schema(DatasetConfig, "annotated")},
    "prompts": {maker: schema(PromptsConfig, maker) for maker in MAKERS},
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
