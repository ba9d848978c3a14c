"""Plans the captions stages: one a seed, all over the same slots of class blocks."""

import math
from fractions import Fraction
from pathlib import Path

from launch.config.schema import Config
from launch.plan.datasets import dataset_of
from launch.plan.engines import Engine, plan_engine
from launch.plan.llama_batch import settled
from launch.plan.makers import Maker, maker_of
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.plan.prompt_length import check_length
from launch.plan.totals import wanted
from synth.captions.config import CaptionerConfig, CaptionsConfig, DatasetConfig
from synth.captions.prompts import UPSTREAM, WITHOUT_MODEL
from synth.errors import InputError
from synth.keys import dump
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec


def plan(node: Node) -> list[StageSpec | PlannedStage]:
    """One spec a seed; `captions.seeds` feeds them all into one captions.json, so each makes its share of the total.

    `captions.stages` names stages that were planned before, perhaps with other captioners: then nothing new is planned.
    """
    config, captions = node.config, node.config.captions
    if captions.stages is not None:
        return _given(captions.stages)
    seeds = seeds_of(config)
    dataset = dataset_of(config.dataset)
    maker = maker_of(config, dataset)
    if len(seeds) > 1 and not maker.asks:
        raise InputError(f"captions.seeds={seeds}: prompts.maker={config.prompts.maker} asks no model: every seed makes the same captions")
    role = UPSTREAM.get(maker.config.maker)
    if role and not node.upstream.get(role):
        raise InputError(f"recipe stage {node.name}: prompts.maker={maker.config.maker} reads stages in role {role!r}; see conf/prompts/")
    engine = engine_of(config) if maker.asks else Engine(CaptionerConfig(engine="none", id="none"))
    check_length(dataset, maker, engine, seeds[0])
    specs = [
        node.spec(
            dump(
                CaptionsConfig(
                    seed=seed,
                    dataset=dataset,
                    prompts=maker.config,
                    captioner=engine.config,
                    max_attempts=captions.max_attempts,
                    must_name_class=captions.must_name_class,
                    min_words=captions.min_words,
                    max_words=captions.max_words,
                )
            ),
            slots=_slots(config, dataset, maker, len(seeds)),
            unit_size=captions.unit_size,
            batch=captions.window,
            inputs=dict(maker.inputs) | engine.inputs,
            settings=engine.settings,
        )
        for seed in seeds
    ]
    check_undone(node, specs, engine)
    return specs


def seeds_of(config: Config) -> list[int]:
    """The seeds of the captions stages."""
    captions = config.captions
    seeds = captions.seeds if captions.seeds is not None else [captions.seed]
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"captions.seeds={seeds}: needs seeds that differ, one at least")
    return seeds


def engine_of(config: Config) -> Engine:
    """The engine of a stage that asks a model."""
    engine = plan_engine(settled(config))
    if engine.config.engine == "none":
        known = ", ".join(sorted(WITHOUT_MODEL - set(UPSTREAM)))
        fix = f"choose a captioner, or a maker without one: {known}"
        raise InputError(f"captioner=none: prompts.maker={config.prompts.maker} asks a model; {fix}")
    return engine


def check_undone(node: Node, specs: list[StageSpec], engine: Engine) -> None:
    """What only a stage that is still to be done needs: keys, packages."""
    if not all((node.dataset_root / spec.folder_name / "done.json").exists() for spec in specs):
        engine.check()


def _slots(config: Config, dataset: DatasetConfig, maker: Maker, n_seeds: int) -> int:
    """Slots of one captions stage; whole blocks of the classes, but for captions in the order of a file."""
    captions, total = config.captions, wanted(config)
    n_classes = len(dataset.classes)
    if maker.slots is not None:
        return maker.slots
    if maker.capacity is None:
        return slots_for(total.captions, captions.oversample, n_seeds, n_classes)
    each = -(-total.captions // n_classes)
    if each > maker.capacity:
        all_ = f"captions.total={captions.total}, {each} a class"
        asked = f"captions.per_class={captions.per_class}" if captions.per_class else all_
        fix = f"captions.per_class={maker.capacity} and more pictures of each: images.per_caption"
        raise InputError(f"{asked}: prompts.maker={maker.config.maker} makes {maker.capacity} different captions of a class here; {fix}")
    return each * n_classes


def _given(paths: list[str]) -> list[PlannedStage]:
    stages = []
    for path in paths:
        folder = StageFolder.open(Path(path).expanduser())
        if folder.spec.kind != "captions" or folder.path.name != folder.spec.folder_name:
            own = f"its own name {folder.spec.folder_name}; it is of kind {folder.spec.kind}"
            raise InputError(f"captions.stages: {folder.path} must be a captions stage under {own}")
        stages.append(PlannedStage(folder.spec, folder.path.parent))
    if not stages or len({s.folder for s in stages}) != len(stages):
        raise InputError(f"captions.stages={paths}: needs stages that differ, one at least")
    return stages


def slots_for(total: int, oversample: float, n_seeds: int, n_classes: int) -> int:
    """Slots of one captions stage: its share of total x oversample, rounded up to whole blocks of the chosen classes.

    >>> slots_for(160, 1.15, 1, 20)  # 184 captions -> 10 blocks of 20
    200
    """
    wanted = math.ceil(total * Fraction(str(oversample)) / n_seeds)  # a float's 1.1 * 100 is more than 110
    return -(-wanted // n_classes) * n_classes
