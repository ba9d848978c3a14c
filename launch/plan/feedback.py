"""Plans recipe=feedback: pictures in rounds, each by what those of the rounds before lack. All rounds are planned at once, and their sizes
with them: what is decided later is which classes the pictures are of.

    captions_json -> shares_1 -> images_1 -> features_1 -> shares_2 -> images_2 -> .. ; images_1, images_2, .. -> rounds
"""

from dataclasses import replace
from typing import Any

from launch.config.root import Config, RecipeStage
from launch.plan import judge
from launch.plan.apart import apart
from launch.plan.judge import FEATURES, JUDGE, ROUND_FEATURES, ROUND_IMAGES
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.judge.allocation import round_sizes
from synth.judge.config import COVERAGE, NONE, SHARES, RoundsConfig, SharesConfig
from synth.judge.matching import matched, named
from synth.judge.parts import MADE, REAL, ROLES
from synth.keys import WrongKey, dump, of_group
from synth.kinds import TABLE, kind_of
from synth.reading.stage import ROLE as IMAGES
from synth.store.names import classes_in
from synth.store.spec import StageSpec

RECIPE = GROUP = "feedback"
GATHERED = "gathered"  # in the place of a kind: stages of several rounds, under one name
ROUNDS, EARLIER = "rounds", "earlier"
NOT_TOGETHER = ("count", "count_file", "subset", "subset_file")  # keys of images that say which pictures are drawn


def add(config: Config, stages: dict[str, RecipeStage], settings: dict[str, Any]) -> None:
    """Add the stages of all rounds to those of the recipe. WrongKey for what cannot be, and for keys that another recipe does not read."""
    keys = config.feedback
    with of_group(GROUP):
        if config.recipe.name != RECIPE:
            given = {name: value for name, value in vars(keys).items() if value is not None}
            for name, value in given.items():
                raise WrongKey(
                    name, value, f"recipe={config.recipe.name} draws its pictures at once", f"use recipe={RECIPE}, or leave it out"
                )
            return
        for name in ("by", "rounds", "floor"):
            if getattr(keys, name) is None:
                raise WrongKey(name, None, "not set", "leave it out for the recipe's own")
        _check(config)
    judged = config.judge.real is not None or config.judge.test is not None
    table = next(name for name, stage in stages.items() if TABLE in kind_of(stage.kind).makes)
    for k in range(1, keys.rounds + 1):
        upstream = {"captions": table}
        if k > 1:
            upstream[EARLIER] = _gather(f"{SHARES}_before_{k}", SHARES, k - 1, stages)
        if k > 1 and keys.by != NONE:
            upstream[ROLES[MADE]] = _gather(f"{FEATURES}_before_{k}", FEATURES, k - 1, stages)
            upstream[ROLES[REAL]] = f"{REAL}_{FEATURES}"
        stages[f"{SHARES}_{k}"], settings[f"{SHARES}_{k}"] = RecipeStage(SHARES, upstream), k
        stages[f"{IMAGES}_{k}"] = RecipeStage("images", {"captions": f"{SHARES}_{k}"})
        if judged:
            stages[f"{FEATURES}_{k}"] = RecipeStage(FEATURES, {IMAGES: f"{IMAGES}_{k}"})
    if keys.by != NONE:
        judge.given(f"{REAL}_{FEATURES}", REAL, config.judge.real, stages, settings)
    if judged:
        _gather(ROUND_FEATURES, FEATURES, keys.rounds, stages)
    stages[ROUNDS] = RecipeStage(ROUNDS, {IMAGES: _gather(ROUND_IMAGES, IMAGES, keys.rounds, stages)})


def _gather(name: str, of: str, rounds: int, stages: dict[str, RecipeStage]) -> str:
    stages[name] = RecipeStage(GATHERED, {str(k): f"{of}_{k}" for k in range(1, rounds + 1)})
    return name


def gathered(node: Node) -> list[PlannedStage]:
    """The stages of the rounds, in order. Plans nothing of its own."""
    return [stage for role in sorted(node.upstream, key=int) for stage in node.upstream[role]]


def _check(config: Config) -> None:
    keys, images = config.feedback, config.images
    if keys.by != NONE and keys.rounds < 2:
        raise WrongKey(
            "rounds", keys.rounds, f"there is no round before to learn from ({GROUP}={keys.by})", f"use 2 or more, or {GROUP}={NONE}"
        )
    if keys.by != NONE and config.judge.real is None:
        why = "what pictures lack is told by real ones, and none are given"
        raise WrongKey("by", keys.by, why, f"set judge.real=FOLDER (training or validation pictures, not the test set), or {GROUP}={NONE}")
    for name in NOT_TOGETHER:
        if (value := getattr(images, name)) is not None:
            why = f"recipe={RECIPE} decides which pictures are drawn"
            raise WrongKey(name, value, why, "leave it out; how many in all: feedback.pictures", IMAGES)
    if "ensemble" in config.filter:
        raise InputError(f"filter=[ensemble]: reads the images of several runs, and recipe={RECIPE} has several of its own; leave it out")


# -- the stages ------------------------------------------------------------------------------------------------------


def shares(node: Node) -> list[StageSpec]:
    """One slot: a table of as many captions as the round draws pictures. The first one is alike, whatever decides later."""
    keys, k, table = node.config.feedback, node.settings, node.upstream["captions"][0]
    total = keys.pictures if keys.pictures is not None else table.spec.config["total"] * node.config.images.per_caption
    sizes = round_sizes(total, keys.rounds)
    classes = classes_in(table, node.above)
    if sizes[-1] < len(classes):
        why = f"{sizes[-1]:,} pictures in a round for {len(classes):,} classes, each of which gets one"
        raise WrongKey("pictures", keys.pictures, why, f"use {keys.rounds * len(classes):,} or more, or fewer rounds", GROUP)
    notes: list[str] = []
    config = SharesConfig(by=NONE, total=sizes[k - 1], floor=1.0, neighbours=0)
    if k > 1 and keys.by != NONE:
        if k == 2:  # once
            apart(node, node.config.judge.real, f"{JUDGE}.{REAL}", "decide what is drawn", f"use {GROUP}={NONE}")
            notes = _classes(node, classes)
        config = replace(config, by=keys.by, floor=keys.floor, neighbours=node.config.judge.neighbours if keys.by == COVERAGE else 0)
    return [node.spec(dump(config), 1, 1, 1, settings={"notes": notes} if notes else None)]


def rounds(node: Node) -> list[StageSpec]:
    """The slots of all rounds, one behind the other."""
    images = node.upstream[IMAGES]
    unit = images[0].spec.unit_size
    return [node.spec(dump(RoundsConfig()), sum(stage.spec.slots for stage in images), unit, unit)]


def _classes(node: Node, classes: dict[int, str]) -> list[str]:
    """What to say of classes that real pictures are not of. InputError where no class is in both."""
    (real,) = node.upstream[ROLES[REAL]]
    theirs = [name for _, name in sorted(classes_in(real, node.above).items())]
    lacking = matched({MADE: [name for _, name in sorted(classes.items())], REAL: theirs}).others[MADE]
    if not theirs:
        raise WrongKey(REAL, node.config.judge.real, "its pictures have no classes", "give a folder by class", JUDGE)
    if not lacking:
        return []
    what = f"{len(lacking):,} class{'' if len(lacking) == 1 else 'es'} of the run ({named(lacking)})"
    return [f"{JUDGE}.{REAL}: has no pictures of {what}: these get a usual share"]
