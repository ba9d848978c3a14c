"""Composed config -> planned stages in topological order. Reads input files, writes nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

from launch.config.limits import check_limits
from launch.config.near import did_you_mean
from launch.config.schema import Config, Filter, Recipe, RecipeStage
from launch.plan.node import Node, planner
from launch.plan.planned import PlannedStage, Point
from launch.plan.scores import needs
from synth.errors import InputError

READS = {"captions_txt": ("captions", "captions_json")}  # exports of something else than pictures: role and kind of what they read
PAIRS = (
    "hdf5",
    "annotations",
    "pairs_page",
)  # exports of tracking pairs; the others, and all filters, are for pictures of one class
PARTS = {"hdf5": "hdf5_parts"}  # exports in two stages: kind of the second -> kind of the first, which it alone reads


def plan_point(config: Config, label: str = "", given: Mapping[str, PlannedStage] | None = None, command: str = "") -> Point:
    """One composed config as a point: its stages, and which of them may be computed. Bad input is an InputError.

    given: stages of the recipe that are there already, by name. command: what the user wrote, for the cards of exports.
    """
    check_limits(config)
    nodes, root = _nodes(config), _dataset_root(config)
    planned: dict[str, tuple[PlannedStage, ...]] = {}
    for name, (stage, settings) in nodes.items():
        if given and name in given:
            planned[name] = (given[name],)
            continue
        upstream = {role: planned[up] for role, up in stage.upstream.items()}
        found = planner(stage.kind)(Node(name, stage.kind, config, root, upstream, settings, command))
        planned[name] = tuple(f if isinstance(f, PlannedStage) else PlannedStage(f, root) for f in found)
    stages = tuple(stage for found in planned.values() for stage in found)
    wanted = _wanted(config, {name: stage for name, (stage, _) in nodes.items()})
    return Point(label, stages, config.cluster, wanted, config.only is not None, config.dry_run, config.retry_failed)


def topological(stages: Mapping[str, RecipeStage]) -> list[str]:
    """Stage names, each after those it reads; an unknown name or a circle is an InputError."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise InputError(f"recipe: {' -> '.join((*path, name))} is a circle; a stage reads only earlier ones")
        if name in order:
            return
        if name not in stages:
            raise InputError(f"recipe stage {path[-1]}: reads {name!r}, which is not in the recipe{did_you_mean(name, stages)}")
        for up in stages[name].upstream.values():
            visit(up, (*path, name))
        order.append(name)

    for name in stages:
        visit(name, ())
    return order


def ancestors(name: str, stages: Mapping[str, RecipeStage]) -> set[str]:
    """A stage and all that it reads, directly or not."""
    found = {name}
    for up in stages[name].upstream.values():
        found |= ancestors(up, stages)
    return found


def distinct(points: list[Point]) -> list[PlannedStage]:
    """The chosen stages of all points, each once, upstreams first."""
    return list({s.folder: s for point in points for s in point.chosen()}.values())


def _nodes(config: Config) -> dict[str, tuple[RecipeStage, object]]:
    """The recipe's graph with the filters and exports at its end, in topological order: name -> (stage, settings)."""
    stages, settings = dict(config.recipe.stages), {}
    last = config.recipe.exports_of
    if last in stages and stages[last].kind == "pairs":
        _check_pairs(config)
    chain = [("filter", config.filter), ("export", config.export)]
    for group, chosen in chain:
        for name, node in chosen.items():
            if last is None:
                raise InputError(f"{group}={name}: recipe {config.recipe.name} has nothing to {group}; choose {group}=[]")
            if name in stages:
                raise InputError(f"{group}={name}: recipe {config.recipe.name} has a stage of this name; rename one")
            upstream = {"images": last} if node.kind not in READS else _reads(name, node.kind, config.recipe)
            if group == "filter":
                upstream |= _scores(name, node, last, config.recipe.exports_of, stages, settings)
                last = name
            if node.kind in PARTS:
                parts = upstream["parts"] = f"{name}_parts"
                stages[parts], settings[parts] = RecipeStage(PARTS[node.kind], {"images": last}), node
            stages[name], settings[name] = RecipeStage(node.kind, upstream), node
    return {name: (stages[name], settings.get(name)) for name in topological(stages)}


def _check_pairs(config: Config) -> None:
    """InputError for a filter or an export that cannot be made of tracking pairs."""
    for name in config.filter:
        raise InputError(
            f"filter={name}: chooses pictures of classes, and {config.recipe.name} is of tracking pairs, with many objects; use filter=[]"
        )
    for name, node in config.export.items():
        if node.kind not in PAIRS:
            raise InputError(
                f"export={name}: is of pictures of classes, and {config.recipe.name} is of tracking pairs; "
                f"its exports are {', '.join(PAIRS)}"
            )
        if node.kind == "hdf5" and node.layout != "keyed":
            raise InputError(f"export.{name}.layout={node.layout}: pairs are found by their file names; use keyed")


def _reads(name: str, kind: str, recipe: Recipe) -> dict[str, str]:
    """role -> stage of the recipe that an export reads instead of pictures."""
    role, wanted = READS[kind]
    found = [n for n, stage in recipe.stages.items() if stage.kind == wanted]
    if not found:
        raise InputError(f"export={name}: recipe {recipe.name} has no stage of kind {wanted}; leave {name} out")
    return {role: found[0]}


def _scores(name: str, node: Filter, last: str, images: str, stages: dict, settings: dict) -> dict[str, str]:
    """role -> stage that a filter reads beside its images; adds the scoring stages that are not there yet.

    Scores are of all pictures, so that filters share them and a change of one filter leaves them as they are.
    """
    found: dict[str, str] = {}
    if node.kind == "ensemble":
        found["images"] = images = f"{name}_pool"
        stages[images], settings[images] = RecipeStage("pool", {"images": last}), node
    for role, (stage, kind, alone) in needs(name, node).items():
        found[role] = stage
        if stage not in stages:
            stages[stage], settings[stage] = RecipeStage(kind, {} if alone else {"images": images}), node
    return found


def _wanted(config: Config, stages: Mapping[str, RecipeStage]) -> frozenset[str] | None:
    if config.until is not None and config.only is not None:
        raise InputError("until and only are both set; until=STAGE computes a stage and all it needs, only=[STAGE] nothing else")
    asked = [config.until] if config.until is not None else config.only
    if asked is None:
        return None
    asked = [asked] if isinstance(asked, str) else list(asked)
    for name in asked:
        if name not in stages:
            key = "until" if config.until is not None else "only"
            raise InputError(f"{key}={name}: no such stage in this run; there are {', '.join(stages)}{did_you_mean(str(name), stages)}")
    if not asked:
        raise InputError(f"only=[]: names no stage; there are {', '.join(stages)}")
    asked += [stages[name].upstream["parts"] for name in asked if stages[name].kind in PARTS]
    return frozenset(ancestors(config.until, stages) if config.until is not None else asked)


def _dataset_root(config: Config) -> Path:
    name = config.dataset.name
    if not name or name in (".", "..") or os.sep in name or name != name.strip():
        raise InputError(f"dataset.name={name!r}: becomes a folder; use a plain name without {os.sep}")
    return Path(config.runs_dir).expanduser().absolute() / name
