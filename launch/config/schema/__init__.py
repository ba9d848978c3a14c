"""The types of the composed config: structured configs, one dataclass a group, registered in Hydra's ConfigStore.

`Config` is the root; `conf/config.yaml` starts from it, so every key of every YAML file and of the command line is
checked against it. Values live in conf/, types live here: a leaf without a value in YAML is MISSING.
A group whose options differ in their keys (cluster, export, ...) has a base dataclass here and a subclass an option;
the YAML file of the option names its own with `defaults: [schema_<name>, _self_]`.
OmegaConf has no typed union of str, list and dict: such leaves are `Any` and launch.plan.classes / launch.plan.graph judge them.
"""

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
from launch.config.schema.root import GROUPS, SCHEMA_PREFIX, Config, Recipe, RecipeStage, register

__all__ = [
    "GROUPS",
    "SCHEMA_PREFIX",
    "Annotated",
    "Captioner",
    "Captions",
    "ClassName",
    "Config",
    "Dataset",
    "FakeDefinition",
    "FakeIt",
    "FromFile",
    "Hf",
    "Hirpg",
    "Llama",
    "OpenAI",
    "Prompts",
    "Recipe",
    "RecipeStage",
    "Served",
    "Synclr",
    "SynclrChat",
    "Synthclip",
    "register",
]
