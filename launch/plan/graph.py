"""Composed config -> planned stages in topological order. Reads input files, writes nothing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.config.aliases import as_typed_key
from launch.config.clusters import SlurmConfig, wanted_time
from launch.config.inherited import inherited
from launch.config.near import did_you_mean
from launch.config.root import Config, Recipe, RecipeStage
from launch.config.secrets import check_config
from launch.plan import feedback, judge, judge_filter, lora, trial
from launch.plan.absent import allowed
from launch.plan.filters import pool
from launch.plan.node import Node, planner
from launch.plan.planned import PlannedStage, Point
from launch.plan.sources import PACKAGE
from synth.errors import InputError
from synth.filters.config import FilterConfig
from synth.judge.config import JudgeFilterConfig
from synth.keys import WrongKey, check
from synth.kinds import KINDS, Kind, chosen_by, kind_of, serving
from synth.layout.config import TOY
from synth.layout.objects.config import EMBEDDINGS

EMBEDDED = ("pictures", "scenes")  # datasets that ship here
SMALL = {"captions": ("weights",), "images": ("model",)}  # kind -> role of the model that may be one of those that ship
KEY_OF = {"weights": "captioner=", "model": "model="}
OWN = ("parts", EMBEDDINGS)  # roles of stages that an export alone reads
BEHIND = "not looked at: it reads"  # how the reason of a stage begins that reads one which could not be planned
POOL = "pool"  # in the place of a kind: stages of other runs beside this one's, under one name
GROUPS = {POOL: pool, feedback.GATHERED: feedback.gathered}


def plan_point(
    config: Config,
    label: str = "",
    given: Mapping[str, PlannedStage] | None = None,
    command: str = "",
    unplanned: dict[str, InputError] | None = None,
) -> Point:
    """One composed config as a point: its stages, and which of them may be computed. Bad input is an InputError.

    given: stages of the recipe that are there already, by name. command: what the user wrote, for the cards of exports.
    unplanned: where given, a stage that cannot be planned is noted there with its reason, and left out with all that read it.
    """
    if isinstance(config.cluster, SlurmConfig):
        config = replace(config, cluster=inherited(config.cluster))
    try:
        check(config)
    except WrongKey as e:
        raise e if e.group else e.called(as_typed_key(e.key)) from None
    wanted_time(config.cluster.n_jobs)
    check_config(config)
    with allowed(config.dry_run and unplanned is None) as missing:
        if config.trial is not None and not given:
            point = _trial(config, label, command, unplanned)
        else:
            point = _planned(config, label, given, command, unplanned)
    return replace(point, missing=tuple(missing), notes=(*toys(config, point.stages), *point.notes))


def toys(config: Config, stages: Sequence[PlannedStage]) -> list[str]:
    """What to say where the small models that ship here meet another dataset than those that do; layout labels and features say so
    themselves."""
    if config.dataset.name in EMBEDDED:
        return []
    files = {(role, Path(s.spec.inputs[role].path)) for s in stages for role in SMALL.get(s.spec.kind, ()) if role in s.spec.inputs}
    names = sorted({(role, path.name) for role, path in files if PACKAGE in path.resolve().parents})
    return [
        f"{TOY}: {KEY_OF[role]}{name} ships here and knows drawings of 20 things; of dataset={config.dataset.name} it makes a "
        f"test and nothing of use: choose {KEY_OF[role]}NAME"
        for role, name in names
    ]


def _trial(config: Config, label: str, command: str, unplanned: dict[str, InputError] | None) -> Point:
    """try=N. The whole run is planned first: what is wrong with it is wrong with a try, and what it has is known then."""
    whole = _planned(replace(config, trial=trial.NULL), label, None, command, unplanned)
    if unplanned:
        return whole
    point = _planned(trial.cut(config, whole.stages), label, None, command, unplanned)
    return replace(point, trial=config.trial, notes=trial.lines(config, point.stages, whole.stages))


def _planned(
    config: Config, label: str, given: Mapping[str, PlannedStage] | None, command: str, unplanned: dict[str, InputError] | None
) -> Point:
    nodes, root = _nodes(config), _dataset_root(config)
    wanted = _wanted(config, {name: stage for name, (stage, _) in nodes.items()})
    planned: dict[str, tuple[PlannedStage, ...]] = {}
    for name, (stage, settings) in nodes.items():
        if config.until is not None and wanted is not None and name not in wanted:
            continue  # what stands behind it may lack its models yet
        if given and name in given:
            planned[name] = (given[name],)
            continue
        if unplanned and (lost := [up for up in stage.upstream.values() if up in unplanned]):
            unplanned[name] = InputError(f"{BEHIND} {', '.join(lost)}")
            continue
        upstream = {role: planned[up] for role, up in stage.upstream.items()}
        plan = GROUPS.get(stage.kind) or planner(stage.kind)
        known = {made.folder: made for of_node in planned.values() for made in of_node}
        try:
            specs = plan(Node(name, stage.kind, config, root, upstream, settings, command, known))
        except InputError as e:
            if unplanned is None:
                raise
            unplanned[name] = e
            continue
        planned[name] = tuple(s if isinstance(s, PlannedStage) else PlannedStage(s, root, planned=True) for s in specs)
    # once each: a planner may give an earlier stage in the place of one that was left out
    stages = tuple({stage.folder: stage for of_node in planned.values() for stage in of_node}.values())
    wanted = _wanted(config, {name: stage for name, (stage, _) in nodes.items()})
    limits: dict[str, Any] = {"max_device_hours": config.max_device_hours, "max_gb": config.max_gb}
    return Point(
        label,
        stages,
        config.cluster,
        wanted,
        config.only is not None,
        config.dry_run,
        config.retry_failed,
        config.plan_only,
        notify=config.notify,
        **limits,
    )


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
    names = {name}
    for up in stages[name].upstream.values():
        names |= ancestors(up, stages)
    return names


def distinct(points: list[Point]) -> list[PlannedStage]:
    """The chosen stages of all points, each once, upstreams first."""
    return list({s.folder: s for point in points for s in point.chosen()}.values())


def _nodes(config: Config) -> dict[str, tuple[RecipeStage, Any]]:
    """The recipe's graph with the filters, the exports and the judge at its end, in topological order: name -> (stage, settings)."""
    stages, settings = dict(config.recipe.stages), dict[str, Any]()
    feedback.add(config, stages, settings)
    lora.add(config, stages)
    last = _scored(config, stages, settings)
    groups: dict[str, Mapping[str, Any]] = {"filter": config.filter, "export": config.export}
    for group, chosen in groups.items():
        for key, node in chosen.items():
            name = node.kind if key == judge.JUDGE else key  # the stage of that name measures
            if last is None:
                raise InputError(f"{group}={key}: recipe {config.recipe.name} has nothing to {group}; choose {group}=[]")
            if name in stages:
                raise InputError(f"{group}={key}: recipe {config.recipe.name} has a stage of this name; rename one")
            chosen_kind = serving(node.kind, kind_of(stages[last].kind).makes if last in stages else ())
            kind = kind_of(chosen_kind)
            upstream = {kind.role: _source(group, key, kind, last, stages, config.recipe)}
            if kind.chooses:
                upstream |= _scores(name, node, last, config, stages, settings)
            if group == "filter":
                last = name
            elif node.reads:
                beside = upstream[node.reads] = f"{name}_{node.reads}"
                stages[beside], settings[beside] = RecipeStage(node.reads, {"layout": last}), node
            if kind.parts:
                parts = upstream["parts"] = f"{name}_parts"
                stages[parts], settings[parts] = RecipeStage(kind.parts, {kind.role: last}), node
            stages[name], settings[name] = RecipeStage(chosen_kind, upstream), node
    judge.add(config, last, stages, settings)
    return {name: (stages[name], settings.get(name)) for name in topological(stages)}


def _scored(config: Config, stages: dict, settings: dict) -> str | None:
    """The stage that the first filter reads: exports_of, or, where filters of objects read scores, the stage that adds them to its records.

    It scores all objects, so that another threshold of any filter scores none again.
    """
    last = config.recipe.exports_of
    for node in config.filter.values():
        adds = kind_of(node.scores).makes if node.scores else ()
        if last in stages and set(adds) & set(kind_of(stages[last].kind).makes):
            stages[node.scores], settings[node.scores] = RecipeStage(node.scores, {"layout": last}), node
            last = node.scores
    return last


def _source(group: str, name: str, kind: Kind, last: str, stages: Mapping[str, RecipeStage], recipe: Recipe) -> str:
    """The stage that a filter or an export is made of: what comes before it in the run, or in the recipe what it is for."""
    if kind.role == "images" or kind.group == "filter":
        there = kind_of(stages[last].kind).makes if last in stages else kind.of
        if set(kind.of) & set(there):
            return last
        others = [n for n, other in chosen_by(group).items() if {*other.of, *other.serves} & set(there)]
        fix = f"its {group}s are {', '.join(others)}" if others else f"use {group}=[]"
        raise InputError(f"{group}={name}: is made of {' or '.join(kind.of)}, and {stages[last].kind} makes {there[0]}; {fix}")
    makers = [n for n, stage in stages.items() if stage.kind in KINDS and set(kind.of) & set(kind_of(stage.kind).makes)]
    if not makers:
        raise InputError(
            f"{group}={name}: is made of {' or '.join(kind.of)}, and no stage of recipe {recipe.name} makes it; leave {name} out"
        )
    return makers[0]


def _scores(name: str, node: FilterConfig, last: str, config: Config, stages: dict, settings: dict) -> dict[str, str]:
    """role -> stage that a filter reads beside its images; adds the scoring stages that are not there yet.

    Scores are of all pictures, so that filters share them and a change of one filter leaves them as they are.
    """
    images = config.recipe.exports_of
    if isinstance(node, JudgeFilterConfig):
        return judge_filter.add(config, node, images, stages, settings)
    reads: dict[str, str] = {}
    needed = {"scores": (node.scores, {"images": images})} if node.scores else {}
    if node.pools:
        reads["images"] = f"{name}_pool"
        stages[reads["images"]], settings[reads["images"]] = RecipeStage(POOL, {"images": last}), node
        needed = {"scores": (f"{name}_{node.scores}", {"images": reads["images"]})}
    elif getattr(node, "against", None):
        needed["against"] = (f"{name}_against", {})
    for role, (stage, upstream) in needed.items():
        reads[role] = stage
        if stage not in stages:
            stages[stage], settings[stage] = RecipeStage(node.scores, upstream), node
    return reads


def _wanted(config: Config, stages: Mapping[str, RecipeStage]) -> frozenset[str] | None:
    if config.until is not None and config.only is not None:
        raise InputError("until and only are both set; until=STAGE computes a stage and all it needs, only=[STAGE] nothing else")
    asked = [config.until] if config.until is not None else config.only
    if asked is None:
        return None
    asked = [asked] if isinstance(asked, str) else list(asked)
    there = [name for name, stage in stages.items() if stage.kind not in GROUPS]  # what stands for several stages is none to compute
    for name in asked:
        if name not in there:
            key = "until" if config.until is not None else "only"
            raise InputError(f"{key}={name}: no such stage in this run; there are {', '.join(there)}{did_you_mean(str(name), there)}")
    if not asked:
        raise InputError(f"only=[]: names no stage; there are {', '.join(there)}")
    asked += [up for name in asked for role, up in stages[name].upstream.items() if role in OWN]
    return frozenset(ancestors(config.until, stages) if config.until is not None else asked)


def _dataset_root(config: Config) -> Path:
    name = config.dataset.name
    if not name or name in (".", "..") or os.sep in name or name != name.strip():
        raise InputError(f"dataset.name={name!r}: becomes a folder; use a plain name without {os.sep}")
    return Path(config.runs_dir).expanduser().absolute() / name
