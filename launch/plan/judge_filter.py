"""Plans filter `judge`: the features of given sets, the scores of pictures beside them, and the filter."""

from typing import Any

from launch.config.root import Config, RecipeStage
from launch.plan import judge
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.plan.sources import Given
from synth.errors import InputError
from synth.judge.config import NONE, SCORES, JudgeFilterConfig, JudgeScoresConfig
from synth.judge.matching import matched, named
from synth.judge.parts import MADE, REAL, ROLES, TEST
from synth.keys import WrongKey, dump
from synth.reading.stage import ROLE as IMAGES
from synth.store.names import classes_in
from synth.store.spec import StageSpec

GROUP = "filter.judge"


def add(
    config: Config, filter_: JudgeFilterConfig, images: str, stages: dict[str, RecipeStage], settings: dict[str, Any]
) -> dict[str, str]:
    """role -> stage that the filter reads beside its images; adds those that are not there yet. WrongKey where it has nothing to go by."""
    upstream = {ROLES[MADE]: judge.FEATURES}
    stages.setdefault(judge.FEATURES, RecipeStage(judge.FEATURES, {IMAGES: images}))
    for name in _needed(filter_):
        path, judged = getattr(filter_, name), getattr(config.judge, name)
        stage = f"{name}_{judge.FEATURES}"  # the judge's, which makes the same of the same pictures
        stage = upstream[ROLES[name]] = stage if judged in (path, None) else f"filter_{stage}"
        key = f"{GROUP if judged != path else judge.JUDGE}.{name}"
        stages[stage], settings[stage] = RecipeStage(judge.FEATURES), Given(path, key, whole=True)
    stages[SCORES], settings[SCORES] = RecipeStage(SCORES, upstream), filter_
    return {"scores": SCORES}


def _needed(keys: JudgeFilterConfig) -> list[str]:
    """The given sets that it reads."""
    by_real = {"keep": keys.keep != NONE, "min_margin": keys.min_margin > -1, "max_distance": keys.max_distance < 1}
    asked = [name for name, is_asked in by_real.items() if is_asked]
    if asked and keys.real is None:
        why = "a picture is held against real ones for that, and none are given"
        raise WrongKey(asked[0], getattr(keys, asked[0]), why, f"set judge.real=FOLDER or {GROUP}.real=FOLDER", GROUP)
    if not asked and keys.test is None:
        why = "with these keys nothing is taken out"
        fix = f"set {GROUP}.keep=margin, {GROUP}.min_margin or {GROUP}.max_distance, or a test set whose pictures go: {GROUP}.test=FOLDER"
        raise WrongKey("keep", keys.keep, why, fix, GROUP)
    return [*([REAL] if asked else []), *([TEST] if keys.test is not None else [])]


def scores(node: Node) -> list[StageSpec]:
    """A slot a picture. InputError where the pictures have no class of the real ones'."""
    (features,) = node.upstream[ROLES[MADE]]
    notes = []
    if ROLES[REAL] in node.upstream:
        (real,) = node.upstream[ROLES[REAL]]
        if lacking := matched({MADE: _names(node, features), REAL: _names(node, real)}).others[MADE]:
            what = f"{len(lacking):,} class{'' if len(lacking) == 1 else 'es'} of the pictures ({named(lacking)})"
            notes = [f"{GROUP}.{REAL}: has no pictures of {what}: no rule of real ones takes these out"]
    stored, unit = JudgeScoresConfig(per_class=node.settings.per_class), features.spec.unit_size
    slots = features.spec.slots - features.spec.config["texts"]
    return [node.spec(dump(stored), slots, unit, unit, settings={"notes": notes} if notes else None)]


def _names(node: Node, stage: PlannedStage) -> list[str]:
    return [name for _, name in sorted(classes_in(stage, node.above).items())]


def plan(node: Node) -> list[StageSpec]:
    """The filter."""
    images, scored = node.one(IMAGES), node.one("scores")
    if images.slots != scored.slots:
        raise InputError("filter=[ensemble,judge]: behind an ensemble are pictures of other runs, which have no scores here; leave one out")
    return [node.spec(dump(node.settings), images.slots, images.unit_size, images.unit_size)]
