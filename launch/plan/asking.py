"""Plans what some makers ask a model before there can be captions: hirpg's metaprompts and trees, synclr_chat's places.

One stage each, whatever captions.seeds says: captions of all seeds share them. Only keys that a stage reads are in its config,
so that another number of captions asks nothing again.
"""

from dataclasses import replace

from launch.config.schema import Config
from launch.plan.captions import check_undone, engine_of, seeds_of
from launch.plan.datasets import dataset_of
from launch.plan.engines import Engine
from launch.plan.inputs import input_file, read_json
from launch.plan.makers import maker_of, table_input
from launch.plan.node import Node
from synth.captions.config import AskConfig, DatasetConfig, PromptsConfig
from synth.captions.prompts.gencl import metaprompt_texts
from synth.captions.prompts.hirpg import subject_trees, subjects
from synth.errors import InputError
from synth.keys import dump
from synth.store.spec import InputFile, StageSpec


def metaprompts(node: Node) -> list[StageSpec]:
    """A unit holds whole subjects: all metaprompts (static form) or those of some classes."""
    if _given(node, "hirpg"):
        return []
    p, dataset = node.config.prompts, _dataset(node.config)
    made = PromptsConfig(p.maker, modes={}, shots=0, form=p.form, num_metaprompts=p.num_metaprompts)
    n, inputs = len(subjects(dataset, made)), {}
    if p.metaprompts_file is not None:
        what = "a JSON list of texts with [concept]"
        file = inputs["metaprompts"] = input_file(p.metaprompts_file, "prompts.metaprompts_file", what)
        metaprompt_texts(read_json(file.path, "prompts.metaprompts_file", what), f"prompts.metaprompts_file: {file.path}")
    side_by_side = p.num_metaprompts * min(n, node.config.captions.window)
    return _spec(node, made, dataset, n * p.num_metaprompts, side_by_side, side_by_side, inputs)


def prompt_trees(node: Node) -> list[StageSpec]:
    """A unit holds whole trees; as many as captions.unit_size has room for, one at least."""
    if _given(node, "hirpg"):
        return []
    node.one("metaprompts")
    p, dataset = node.config.prompts, _dataset(node.config)
    below = p.num_prompts_per_metaprompt
    made = PromptsConfig(
        p.maker,
        modes={},
        shots=0,
        form=p.form,
        num_metaprompts=p.num_metaprompts,
        num_prompts_per_metaprompt=below,
        max_words=p.max_words,
    )
    size, captions = 1 + below, node.config.captions
    unit, batch = (max(1, slots // size) * size for slots in (captions.unit_size, captions.window))
    unit = -(-unit // batch) * batch if unit > batch else unit
    return _spec(node, made, dataset, len(subject_trees(dataset, made)) * size, unit, min(batch, unit))


def backgrounds(node: Node) -> list[StageSpec]:
    """A slot a class."""
    if _given(node, "synclr_chat"):
        return []
    config = node.config
    made = PromptsConfig(config.prompts.maker, modes={}, shots=0, num_backgrounds=config.prompts.num_backgrounds)
    dataset = dataset_of(config.dataset)
    inputs = table_input(config, "backgrounds")
    return _spec(node, made, dataset, len(dataset.classes), config.captions.unit_size, config.captions.window, inputs)


def _given(node: Node, maker: str) -> bool:
    """Whether the captions were made before. Another maker than the stage's own is a mistake in the recipe."""
    config = node.config
    if config.prompts.maker != maker:
        raise InputError(f"recipe stage {node.name}: is for prompts={maker}, not for prompts.maker={config.prompts.maker}")
    maker_of(config, dataset_of(config.dataset))  # its keys are judged before anything is asked
    return config.captions.stages is not None


def _dataset(config: Config) -> DatasetConfig:
    """The static form asks the same whatever the classes are."""
    dataset = dataset_of(config.dataset)
    return replace(dataset, classes=(), n_classes=0, suffix="") if config.prompts.form == "static" else dataset


def _spec(
    node: Node,
    made: PromptsConfig,
    dataset: DatasetConfig,
    slots: int,
    unit: int,
    batch: int,
    inputs: dict[str, InputFile] | None = None,
) -> list[StageSpec]:
    seed = seeds_of(node.config)[0]
    engine: Engine = engine_of(node.config)
    config = AskConfig(seed, dataset, made, engine.config, node.config.captions.max_attempts)
    specs = [node.spec(dump(config), slots, unit, batch, (inputs or {}) | engine.inputs, engine.settings)]
    check_undone(node, specs, engine)
    return specs
