"""Plans the captions stages: one a seed, all over the same slots of class blocks."""

import math
from fractions import Fraction
from functools import cache
from pathlib import Path

from launch.classes import choose, list_path, names_in, official
from launch.inputs import input_file
from launch.kinds import Node
from launch.planned import PlannedStage
from launch.schema import Captioner, Config, Dataset
from synth.config import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig, dump
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
    inputs = _inputs(config)
    captioner = _captioner(config.captioner, inputs)
    return [
        node.spec(
            dump(
                CaptionsConfig(
                    seed=seed,
                    dataset=dataset,
                    prompts=PromptsConfig(config.prompts.maker, dict(config.prompts.modes), config.prompts.shots),
                    captioner=captioner,
                    max_attempts=captions.max_attempts,
                    must_name_class=captions.must_name_class,
                    min_words=captions.min_words,
                    max_words=captions.max_words,
                )
            ),
            slots=slots,
            unit_size=captions.unit_size,
            batch=captions.window,
            inputs=inputs,
        )
        for seed in seeds
    ]


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
    return inputs | ENGINE_INPUTS.get(config.captioner.engine, _no_inputs)(config.captioner)


def _llama_inputs(captioner: Captioner) -> dict[str, InputFile]:
    root = captioner.root
    for key in ("ckpt_dir", "tokenizer_path"):
        path = getattr(captioner, key)
        if path and not root and not Path(path).expanduser().is_absolute() and not Path(path).exists():
            msg = f"captioner.{key}: {path} is not here; set LLAMA_FOLDER to the folder that holds it, or captioner.{key}=/path"
            raise InputError(msg)
    below = Path(root).expanduser() if root else Path()
    weights, tokenizer = (path and str(below / path) for path in (captioner.ckpt_dir, captioner.tokenizer_path))
    return {
        "weights": input_file(weights, "captioner.ckpt_dir", "a folder in Meta's layout (params.json, consolidated.00.pth)"),
        "tokenizer": input_file(tokenizer, "captioner.tokenizer_path", "the sentencepiece model"),
    }


def _no_inputs(captioner: Captioner) -> dict[str, InputFile]:
    return {}


ENGINE_INPUTS = {"llama": _llama_inputs}  # engines that read files; others have none


def _captioner(captioner: Captioner, inputs: dict[str, InputFile]) -> CaptionerConfig:
    return CaptionerConfig(
        engine=captioner.engine,
        id=captioner.id,
        temperature=captioner.temperature,
        top_p=captioner.top_p,
        max_seq_len=captioner.max_seq_len,
        max_gen_len=captioner.max_gen_len,
        max_batch_size=captioner.max_batch_size,
        model_parallel=_degree(inputs, captioner.model_parallel) if "weights" in inputs else captioner.model_parallel or 1,
        stop=tuple(captioner.stop),
        dtype=captioner.dtype,
    )


def _degree(inputs: dict[str, InputFile], asked: int | None) -> int:
    """Shards of the checkpoint, whose headers are checked here: a torn one must not wait in a queue to be found."""
    return _checked(inputs["weights"].path, inputs["tokenizer"].path, asked)


@cache
def _checked(weights: str, tokenizer: str, asked: int | None) -> int:
    from synth.captions.llama.checkpoint import check_checkpoint  # reads headers; neither of them imports torch
    from synth.captions.llama.tokenizer import Tokenizer

    return check_checkpoint(weights, Tokenizer(tokenizer).n_words, asked, tokenizer).degree
