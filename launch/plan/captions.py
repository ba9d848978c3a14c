"""Plans captions: what some makers ask a model first, the captions stages, one a seed, and the one list that all of them feed.

hirpg has metaprompts and trees asked for, synclr_chat places: one stage each, whatever captions.seeds says, as captions of all
seeds share them. Only keys that a stage reads are in its config, so that another number of captions asks nothing again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from launch.config.root import Config
from launch.plan.batches import windows_of
from launch.plan.datasets import dataset_of, remarks
from launch.plan.engines import NO_ENGINE, Engine, check_length, most_rows, plan_engine
from launch.plan.gpu_memory import GpuMemory, gpu_memory
from launch.plan.inputs import input_file, read_json
from launch.plan.makers import Maker, check_backgrounds, maker_of, table_input
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth.captions.config import AskConfig, CaptionsConfig, CaptionsJsonConfig, DatasetConfig, PromptsConfig
from synth.captions.prompts import UPSTREAM, WITHOUT_MODEL
from synth.errors import InputError
from synth.keys import WrongKey, dump
from synth.run.empty import AFTER
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec

PER_CLASS = 8  # captions a class where nothing is said
MUCH_MORE = 1.3  # times as many as were asked for are explained


def plan(node: Node) -> Sequence[StageSpec | PlannedStage]:
    """One spec a seed; `captions.seeds` feeds them all into one captions.json, so each makes its share of the total.

    `captions.stages` names stages that were planned before, perhaps with other captioners: then nothing new is planned.
    """
    config, captions = node.config, node.config.captions
    _check_words(captions)
    if captions.stages is not None:
        return _stages_at(captions.stages)
    seeds = _seeds(captions)
    dataset = dataset_of(config.dataset)
    maker = maker_of(config, dataset)
    if len(seeds) > 1 and not maker.asks:
        raise WrongKey(
            "seeds", seeds, f"prompts.maker={maker.config.maker} asks no model: every seed makes the same captions", group="captions"
        )
    if maker.total is not None and (captions.total or 0) > maker.total and not captions.allow_short:
        why = f"prompts.maker={maker.config.maker} has {maker.total:,} different captions here"
        raise WrongKey("total", captions.total, why, f"captions.total={maker.total}, or captions.allow_short=true", group="captions")
    role = UPSTREAM.get(maker.config.maker)
    if role and not node.upstream.get(role):
        raise InputError(f"recipe stage {node.name}: prompts.maker={maker.config.maker} reads stages in role {role!r}; see conf/prompts/")
    engine, captions = _engine(node) if maker.asks else (NO_ENGINE, settled(captions, None, 1))
    slots = _slots(replace(config, captions=captions), dataset, maker, len(seeds))
    notes = [*remarks(config.dataset), *maker.remarks]
    if dataset.suffix != config.dataset.suffix:
        notes.append(f"dataset.suffix: prompts say {dataset.phrase(dataset.classes[0])!r}")
    if maker.slots is None:
        notes += _many_or_few(config, slots, len(dataset.classes), len(seeds), spare=maker.capacity is None)
    check_length(dataset, maker, engine, seeds[0])
    specs = [
        node.spec(
            dump(replace(captions, seed=seed, dataset=dataset, prompts=maker.config, captioner=engine.config)),
            slots=slots,
            unit_size=captions.unit_size,
            batch=captions.window,
            inputs=dict(maker.inputs) | engine.inputs,
            settings={**engine.settings, AFTER: captions.stop_when_empty, **({"notes": notes} if notes else {})},
        )
        for seed in seeds
    ]
    _check_undone(node, specs, engine)
    return specs


def _check_words(captions: CaptionsConfig) -> None:
    if captions.min_words > captions.max_words:
        why = f"more than captions.max_words={captions.max_words}; no caption could pass"
        raise WrongKey("min_words", captions.min_words, why, group="captions")


def _seeds(captions: CaptionsConfig) -> tuple[int, ...]:
    """The seeds of the captions stages."""
    seeds = captions.seeds if captions.seeds is not None else (captions.seed,)
    if not seeds or len(set(seeds)) != len(seeds):
        raise WrongKey("seeds", seeds, "needs seeds that differ, one at least", group="captions")
    return seeds


def _engine(node: Node) -> tuple[Engine, CaptionsConfig]:
    """The engine of a stage that asks a model, and the keys of captions with its window and unit."""
    config = node.config
    gpu = gpu_memory(config.cluster, node.kind, {"captioner": vars(config.captioner)})
    captions = settled(config.captions, gpu, 1 if gpu is None else most_rows(config, gpu))
    engine = plan_engine(replace(config, captions=captions), gpu)
    if engine.config.engine == "none":
        known = ", ".join(sorted(WITHOUT_MODEL - set(UPSTREAM)))
        fix = f"choose a captioner, or a maker without one: {known}"
        raise InputError(f"captioner=none: prompts.maker={config.prompts.maker} asks a model; {fix}")
    return engine, captions


def settled(captions: CaptionsConfig, gpu: GpuMemory | None, rows: int) -> CaptionsConfig:
    """The keys of captions with numbers for a window and a unit of auto. gpu: None where a stage is made on cores."""
    window, unit = windows_of(captions, gpu, rows)
    return replace(captions, window=window, unit_size=unit)


def _check_undone(node: Node, specs: list[StageSpec], engine: Engine) -> None:
    """What only a stage that is still to be done needs: keys, packages."""
    if not all((node.dataset_root / spec.folder_name / "done.json").exists() for spec in specs):
        engine.check()


def _stages_at(paths: Sequence[str]) -> list[PlannedStage]:
    """The captions stages in these folders, planned before."""
    stages = []
    for path in paths:
        folder = StageFolder.open(Path(path).expanduser())
        if folder.spec.kind != "captions" or folder.path.name != folder.spec.folder_name:
            own = f"its own name {folder.spec.folder_name}; it is of kind {folder.spec.kind}"
            raise InputError(f"captions.stages: {folder.path} must be a captions stage under {own}")
        stages.append(PlannedStage(folder.spec, folder.path.parent))
    if not stages or len({s.folder for s in stages}) != len(stages):
        raise WrongKey("stages", paths, "needs stages that differ, one at least", group="captions")
    return stages


def _slots(config: Config, dataset: DatasetConfig, maker: Maker, n_seeds: int) -> int:
    """Slots of one captions stage; whole blocks of the classes, but for captions in the order of a file."""
    captions, total = config.captions, wanted(config)
    n_classes = len(dataset.classes)
    if maker.slots is not None:
        return maker.slots
    if maker.capacity is None:
        window = captions.window if captions.total is not None else None
        return slots_for(total.captions, captions.oversample, n_seeds, n_classes, window)
    each = -(-total.captions // n_classes)
    if each > maker.capacity:
        all_ = f"captions.total={captions.total}, {each} a class"
        asked = f"captions.per_class={captions.per_class}" if captions.per_class else all_
        fix = f"captions.per_class={maker.capacity} and more pictures of each: images.per_caption"
        raise InputError(f"{asked}: prompts.maker={maker.config.maker} makes {maker.capacity} different captions of a class here; {fix}")
    return each * n_classes


def slots_for(total: int, oversample: float, n_seeds: int, n_classes: int, window: int | None = None) -> int:
    """Slots of one captions stage: its share of total x oversample, rounded up to whole blocks of the chosen classes. Where no number a
    class is wanted it is rounded only if that asks for no more than another window.

    >>> slots_for(160, 1.15, 1, 20, 32)  # 184 captions -> 10 blocks of 20
    200
    >>> slots_for(1001, 1.15, 1, 1000, 256)  # and no second block of 1,000 for the last 152
    1152
    """
    share = math.ceil(total * Fraction(str(oversample)) / n_seeds)  # a float's 1.1 * 100 is more than 110
    blocks = -(-share // n_classes) * n_classes
    return blocks if window is None or blocks - share <= window else share


def _many_or_few(config: Config, slots: int, n_classes: int, n_seeds: int, spare: bool) -> list[str]:
    """What is said of a number of slots that is far from what was asked for. spare: some are made for those that fail."""
    asked, captions = wanted(config).captions, config.captions
    if slots < n_classes:
        made = f"captions.total={captions.total} asks for {slots:,} captions with captions.oversample={captions.oversample:g}"
        return [f"{made}: {slots:,} of {n_classes:,} classes get one, which captions.seed draws; ask for more, or choose dataset.classes"]
    if slots * n_seeds <= MUCH_MORE * asked:
        return []
    more = f"{captions.oversample:g} times as many for those that fail their checks (captions.oversample)" if spare else ""
    rounds = "" if slots % n_classes else f"whole rounds of the {n_classes:,} classes"
    why = " and ".join(filter(None, (rounds, more)))
    return [f"{slots * n_seeds:,} captions are made for the {asked:,} that were asked for: {why}"] if why else []


# -- captions.json ---------------------------------------------------------------------------------------------------


def captions_json(node: Node) -> list[StageSpec]:
    """One unit that holds captions.json, from one or several captions stages."""
    rows = wanted(node.config, node.upstream.get("captions", ()))
    # no `out`: a place in the config of this stage would give other images for another place of the list
    config = CaptionsJsonConfig(total=rows.captions, allow_short=node.config.captions.allow_short, per_class=rows.per_class, out="")
    return [node.spec(dump(config), slots=1, unit_size=1, batch=1)]


@dataclass(frozen=True)
class Wanted:
    captions: int
    per_class: int = 0  # 0: whatever classes they are of


def wanted(config: Config, given: Sequence[PlannedStage] = ()) -> Wanted:
    """The number of rows of captions.json: captions.total, or captions.per_class, or the maker's own number. Never two of them.

    `given`: the captions stages, whose classes count where they were made before.
    """
    captions = config.captions
    if captions.total is not None and captions.per_class is not None:
        raise InputError(f"captions.total={captions.total} and captions.per_class={captions.per_class} are both set; give one of them")
    if captions.total is not None:
        return Wanted(captions.total)
    if captions.stages is not None:
        classes = {c["index"] for stage in given for c in stage.spec.config["dataset"]["classes"]}
        return _of_classes(captions.per_class, PER_CLASS, len(classes))
    dataset = dataset_of(config.dataset)
    maker = maker_of(config, dataset)
    if maker.total is not None and captions.per_class is None:
        return Wanted(maker.total)
    return _of_classes(captions.per_class, min(PER_CLASS, maker.capacity or PER_CLASS), len(dataset.classes))


def _of_classes(per_class: int | None, default: int, n_classes: int) -> Wanted:
    return Wanted((per_class or default) * n_classes, per_class or 0)


# -- what is asked first ---------------------------------------------------------------------------------------------


def metaprompts(node: Node) -> list[StageSpec]:
    """A unit holds whole subjects: all metaprompts (static form) or those of some classes."""
    from synth.captions.prompts.gencl import metaprompt_texts
    from synth.captions.prompts.hirpg import subjects  # needs numpy, which is slow to import

    if _asks_nothing(node, "hirpg"):
        return []
    prompts, dataset = node.config.prompts, _subjects_of(node.config)
    read = prompts.only("form", "num_metaprompts")
    n, inputs = len(subjects(dataset, read)), {}
    if prompts.metaprompts_file is not None:
        what = "a JSON list of texts with [concept]"
        file = inputs["metaprompts"] = input_file(prompts.metaprompts_file, "prompts.metaprompts_file", what)
        metaprompt_texts(read_json(file.path, "prompts.metaprompts_file", what), f"prompts.metaprompts_file: {file.path}")
    slots = n * prompts.num_metaprompts
    engine, captions = _engine(node)
    side_by_side = prompts.num_metaprompts * min(n, captions.window)
    return _asking(node, engine, read, dataset, slots, side_by_side, side_by_side, inputs)


def prompt_trees(node: Node) -> list[StageSpec]:
    """A unit holds whole trees; as many as captions.unit_size has room for, one at least."""
    from synth.captions.prompts.hirpg import subject_trees  # needs numpy

    if _asks_nothing(node, "hirpg"):
        return []
    node.one("metaprompts")
    dataset = _subjects_of(node.config)
    read = node.config.prompts.only("form", "num_metaprompts", "num_prompts_per_metaprompt", "max_words")
    size = 1 + read.num_prompts_per_metaprompt
    slots = len(subject_trees(dataset, read)) * size
    engine, captions = _engine(node)
    unit, batch = (max(1, n // size) * size for n in (captions.unit_size, captions.window))
    unit = -(-unit // batch) * batch if unit > batch else unit
    return _asking(node, engine, read, dataset, slots, unit, min(batch, unit), {})


def backgrounds(node: Node) -> list[StageSpec]:
    """A slot a class."""
    if _asks_nothing(node, "synclr_chat"):
        return []
    config = node.config
    dataset, read = dataset_of(config.dataset), config.prompts.only("num_backgrounds")
    inputs = table_input(config, "backgrounds")
    if config.prompts.backgrounds_file is not None:
        places = check_backgrounds(inputs["backgrounds"].path, "prompts.backgrounds_file", dataset, fallback=False)
        given = sum(c.name in places for c in dataset.classes)
        read = replace(read, own_places=given > 0)
        if given == len(dataset.classes):  # nobody is asked
            captions = settled(config.captions, None, 1)
            return _asking(node, NO_ENGINE, read, dataset, given, captions.unit_size, captions.window, inputs)
    engine, captions = _engine(node)
    return _asking(node, engine, read, dataset, len(dataset.classes), captions.unit_size, captions.window, inputs)


def _asks_nothing(node: Node, maker: str) -> bool:
    """Whether the captions were made before. Another maker than the stage's own is a mistake in the recipe."""
    config = node.config
    if config.prompts.maker != maker:
        raise InputError(f"recipe stage {node.name}: is for prompts={maker}, not for prompts.maker={config.prompts.maker}")
    maker_of(config, dataset_of(config.dataset))  # its keys are judged before anything is asked
    return config.captions.stages is not None


def _subjects_of(config: Config) -> DatasetConfig:
    """The classes that are asked about. The static form asks the same whatever they are."""
    dataset = dataset_of(config.dataset)
    return replace(dataset, classes=(), n_classes=0, suffix="") if config.prompts.form == "static" else dataset


def _asking(
    node: Node,
    engine: Engine,
    prompts: PromptsConfig,
    dataset: DatasetConfig,
    slots: int,
    unit: int,
    batch: int,
    inputs: dict[str, InputFile],
) -> list[StageSpec]:
    captions = node.config.captions
    config = AskConfig(
        seed=_seeds(captions)[0], dataset=dataset, prompts=prompts, captioner=engine.config, max_attempts=captions.max_attempts
    )
    settings = {**engine.settings, AFTER: captions.stop_when_empty}
    specs = [node.spec(dump(config), slots, unit, batch, inputs | engine.inputs, settings)]
    _check_undone(node, specs, engine)
    return specs
