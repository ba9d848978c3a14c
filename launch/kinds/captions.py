"""Plans the captions stages: one a seed, all over the same slots of class blocks."""

import math
from fractions import Fraction
from pathlib import Path

from launch.classes import choose, list_path, names_in, official
from launch.inputs import input_file
from launch.kinds import Node
from launch.kinds.engines import plan_engine
from launch.kinds.llama_batch import settled
from launch.planned import PlannedStage
from launch.schema import Config, Dataset
from synth.config import CaptionsConfig, DatasetConfig, PromptsConfig, dump
from synth.errors import InputError
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec


def plan(node: Node) -> list[StageSpec | PlannedStage]:
    """One spec a seed; `captions.seeds` feeds them all into one captions.json, so each makes its share of the total.

    `captions.stages` names stages that were planned before, perhaps with other captioners: then nothing new is planned.
    """
    config, captions = node.config, node.config.captions
    if captions.stages is not None:
        return _given(captions.stages)
    seeds = captions.seeds if captions.seeds is not None else [captions.seed]
    if not seeds or len(set(seeds)) != len(seeds):
        msg = f"captions.seeds={seeds}: needs seeds that differ, one at least"
        raise InputError(msg)
    dataset = dataset_of(config.dataset)
    slots = slots_for(captions.total, captions.oversample, len(seeds), len(dataset.classes))
    engine = plan_engine(settled(config))
    specs = [
        node.spec(
            dump(
                CaptionsConfig(
                    seed=seed,
                    dataset=dataset,
                    prompts=PromptsConfig(config.prompts.maker, dict(config.prompts.modes), config.prompts.shots),
                    captioner=engine.config,
                    max_attempts=captions.max_attempts,
                    must_name_class=captions.must_name_class,
                    min_words=captions.min_words,
                    max_words=captions.max_words,
                )
            ),
            slots=slots,
            unit_size=captions.unit_size,
            batch=captions.window,
            inputs=_inputs(config) | engine.inputs,
            settings=engine.settings,
        )
        for seed in seeds
    ]
    if not all((node.dataset_root / spec.folder_name / "done.json").exists() for spec in specs):
        engine.check()
    return specs


def _given(paths: list[str]) -> list[PlannedStage]:
    stages = []
    for path in paths:
        folder = StageFolder.open(Path(path).expanduser())
        if folder.spec.kind != "captions" or folder.path.name != folder.spec.folder_name:
            own = f"its own name {folder.spec.folder_name}; it is of kind {folder.spec.kind}"
            msg = f"captions.stages: {folder.path} must be a captions stage under {own}"
            raise InputError(msg)
        stages.append(PlannedStage(folder.spec, folder.path.parent))
    if not stages or len({s.folder for s in stages}) != len(stages):
        msg = f"captions.stages={paths}: needs stages that differ, one at least"
        raise InputError(msg)
    return stages


def slots_for(total: int, oversample: float, n_seeds: int, n_classes: int) -> int:
    """Slots of one captions stage: its share of total x oversample, rounded up to whole blocks of the chosen classes.

    >>> slots_for(160, 1.15, 1, 20)  # 184 captions -> 10 blocks of 20
    200
    """
    wanted = math.ceil(total * Fraction(str(oversample)) / n_seeds)  # a float's 1.1 * 100 is more than 110
    return -(-wanted // n_classes) * n_classes


def dataset_of(dataset: Dataset) -> DatasetConfig:
    """The chosen classes of a dataset, with their official indices."""
    classes = official(list_path(dataset))
    wanted = dataset.classes
    if dataset.classes_file is not None:
        if wanted != "all":
            msg = "dataset.classes and dataset.classes_file are both set; give one of them"
            raise InputError(msg)
        wanted = names_in(dataset.classes_file)
    chosen = choose(classes, wanted)
    return DatasetConfig(dataset.name, chosen, len(classes), dataset.kind, dataset.suffix)


def _inputs(config: Config) -> dict[str, InputFile]:
    inputs = {}
    for role in ("examples", "backgrounds"):
        path = getattr(config.dataset, role)
        if path is not None:
            inputs[role] = input_file(path, f"dataset.{role}", f"the JSON file of {role}")
    return inputs
