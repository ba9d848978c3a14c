"""Plans the judge: features of what was made, of a real and of a test set, the judgement of them, and its report."""

from dataclasses import replace
from typing import Any

from launch.config.root import Config, RecipeStage
from launch.plan.absent import stand_in, unless_absent
from launch.plan.inputs import existing, identity_of
from launch.plan.node import Node
from launch.plan.sources import Given
from synth.features.config import FOLDER
from synth.judge.caveats import not_there
from synth.judge.classifiers import check_folder
from synth.judge.config import JudgeReportConfig, NeighboursConfig
from synth.judge.matching import matched
from synth.judge.parts import MADE, REAL, ROLES, TEST, blocks, parts, trained_sets
from synth.keys import WrongKey, dump, of_group
from synth.kinds import KINDS, PICTURES, kind_of
from synth.reading.stage import ROLE as IMAGES
from synth.store.names import classes_in
from synth.store.spec import InputFile, StageSpec

JUDGE, REPORT, FEATURES, FINETUNE, NEIGHBOURS = "judge", "judge_report", "features", "finetune", "neighbours"
ROLE, REAL_ROLE = NEIGHBOURS, f"{REAL}_{NEIGHBOURS}"  # in the judge: of the judged set, of the real one
RECIPE = "judge"  # of pictures that are there already
ROUND_IMAGES, ROUND_FEATURES = "round_images", "round_features"  # of recipe=feedback: those of all rounds, under one name


def add(config: Config, last: str | None, stages: dict[str, RecipeStage], settings: dict[str, Any]) -> None:
    """Add the judge behind the last filter, where a key of it asks for one. last: the stage whose pictures the run ends in."""
    judge = config.judge
    with of_group(JUDGE):
        if config.recipe.name == RECIPE:
            if judge.source is None:
                raise WrongKey("source", None, "not set", f"it must name {FOLDER}: judge.source=/path")
            upstream = {ROLES[MADE]: given(FEATURES, "source", judge.source, stages, settings)}
        elif judge.source is not None:
            why = f"recipe {config.recipe.name} makes the pictures that are judged"
            raise WrongKey("source", judge.source, why, "leave it out, or use recipe=judge")
        elif judge.real is None and judge.test is None:
            _tested(config)
            return
        else:
            upstream = _of_run(config, last, stages, settings)
        for name, path in ((REAL, judge.real), (TEST, judge.test)):
            if path is not None:
                upstream[ROLES[name]] = given(f"{name}_{FEATURES}", name, path, stages, settings)
        near = _neighbours(config, upstream, stages, settings)
        stages[JUDGE], settings[JUDGE] = RecipeStage(JUDGE, {**upstream, **near}), upstream[ROLES[MADE]] == ROUND_FEATURES
        stages[REPORT] = RecipeStage(REPORT, {JUDGE: JUDGE})
        _tested(config)
        if judge.train == FINETUNE:
            stages[FINETUNE] = RecipeStage(FINETUNE, upstream)
            stages[REPORT] = RecipeStage(REPORT, {JUDGE: JUDGE, FINETUNE: FINETUNE})


def _neighbours(config: Config, upstream: dict[str, str], stages: dict[str, RecipeStage], settings: dict[str, Any]) -> dict[str, str]:
    """role -> stage: what is near each other, in the judged set, and in the real one: apart, so that the points of a sweep share it."""
    stages[ROLE] = RecipeStage(NEIGHBOURS, {role: name for role, name in upstream.items() if role != ROLES[REAL]})
    settings[ROLE] = config.judge.duplicate
    if ROLES[REAL] not in upstream:
        return {ROLE: ROLE}
    stages[REAL_ROLE] = RecipeStage(NEIGHBOURS, {ROLES[MADE]: upstream[ROLES[REAL]]})
    return {ROLE: ROLE, REAL_ROLE: REAL_ROLE}


def _tested(config: Config) -> None:
    """WrongKey for classifiers that nothing is asked."""
    if config.judge.train == FINETUNE and config.judge.test is None:
        raise WrongKey("train", FINETUNE, "there is no test set to ask about", "set judge.test=FOLDER, or judge.train=none")


def given(name: str, key: str, path: str, stages: dict[str, RecipeStage], settings: dict[str, Any]) -> str:
    """The stage of the features of pictures that a key names."""
    stages[name], settings[name] = RecipeStage(FEATURES), Given(path, f"{JUDGE}.{key}", captions=key == "source", whole=True)
    return name


def _of_run(config: Config, last: str | None, stages: dict[str, RecipeStage], settings: dict[str, Any]) -> dict[str, str]:
    """role -> stage: features of all pictures, as filters read them, and the filter that chose of them last."""
    if last is None or PICTURES not in kind_of(stages[last].kind).makes:
        key, value = ("real", config.judge.real) if config.judge.real is not None else ("test", config.judge.test)
        why = f"recipe {config.recipe.name} makes no pictures of classes that could be judged"
        raise WrongKey(key, value, why, "leave it out, or use recipe=judge judge.source=FOLDER")
    pictures = last
    while stages[pictures].kind in KINDS and kind_of(stages[pictures].kind).chooses:  # behind an ensemble are several stages as one
        pictures = stages[pictures].upstream[IMAGES]
    features = next((name for name, stage in stages.items() if stage.kind == FEATURES and stage.upstream.get(IMAGES) == pictures), FEATURES)
    if pictures == ROUND_IMAGES:  # each round has its own
        features = ROUND_FEATURES
    stages.setdefault(features, RecipeStage(FEATURES, {IMAGES: pictures}))
    return {ROLES[MADE]: features} | ({IMAGES: last} if last != pictures else {})


# -- the stages ------------------------------------------------------------------------------------------------------


def plan(node: Node) -> list[StageSpec]:
    """A slot a part. InputError where no class is in all of the sets: before pictures are made, not after. settings: whether the judged
    set was drawn in rounds."""
    config = node.config.judge
    if node.settings:
        made = [stage.spec for stage in node.upstream[ROLES[MADE]]]
        config = replace(config, rounds=tuple(spec.slots - spec.config["texts"] for spec in made))
    if not config.seeds:
        raise WrongKey("seeds", [], "names no draw of the training pictures", "use [0,1,2]", JUDGE)
    classes = {name: _classes(node, role) for name, role in ROLES.items() if role in node.upstream}
    matching = matched(classes if classes[MADE] else {})
    notes = [f"{JUDGE}.{TEST}: the judged set: {line}; pictures of these take no part" for line in not_there(matching.others)]
    slots = len(parts(config, ROLES[REAL] in node.upstream, ROLES[TEST] in node.upstream, _pictures(node)))
    return [node.spec(dump(config), slots, 1, 1, settings={"notes": notes} if notes else None)]


def neighbours(node: Node) -> list[StageSpec]:
    """A slot and a unit a block of pictures."""
    config = NeighboursConfig(neighbours=node.config.judge.neighbours, duplicate=node.settings)
    return [node.spec(dump(config), len(blocks(_pictures(node))), 1, 1)]


def _pictures(node: Node) -> int:
    """Slots of pictures of the judged set: those behind them are of classes."""
    return sum(stage.spec.slots - stage.spec.config["texts"] for stage in node.upstream[ROLES[MADE]])


def finetune(node: Node) -> list[StageSpec]:
    """A unit a training, of each set and seed; a slot an epoch."""
    config, judge = node.config.finetune, node.config.judge
    inputs: dict[str, InputFile] = {}
    if config.model is not None:
        what = "a folder of an image classifier of transformers"
        path = unless_absent(lambda: existing(config.model, f"{FINETUNE}.model", what))
        if path is not None:
            check_folder(path)
        inputs["model"] = stand_in(f"{FINETUNE}.model") if path is None else InputFile(str(path), identity_of(path))
    stored = dump(replace(config, seeds=judge.seeds, per_class=judge.per_class))
    trainings = len(trained_sets(ROLES[REAL] in node.upstream)) * len(judge.seeds)
    return [node.spec(stored, trainings * config.epochs, config.epochs, 1, inputs)]


def _classes(node: Node, role: str) -> list[str]:
    return [name for _, name in sorted(classes_in(node.upstream[role][0], node.above).items())]


def report(node: Node) -> list[StageSpec]:
    """The judgement as a page, judge.json and arrays."""
    config = node.config.judge
    return [node.spec(dump(JudgeReportConfig(worst=config.worst, shown=config.shown)), 1, 1, 1)]
