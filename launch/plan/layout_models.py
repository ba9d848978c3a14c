"""Plans the stages of layout labels that have a model each: boxes, masks, captions of boxes. A model's folder is judged, then hashed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.plan import servers
from launch.plan.absent import stand_in, unless_absent
from launch.plan.fetching import fetched
from launch.plan.inputs import existing, identity_of
from launch.plan.layout import chained, left_out, toys
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.plan.sources import PACKAGE
from synth.errors import InputError
from synth.features.model_folder import OtherType
from synth.keys import WrongKey, dump, of_group
from synth.layout.caption import captioner_class
from synth.layout.caption.base import Settings as CaptionerSettings
from synth.layout.config import NONE, SERVED, BoxCaptionsConfig, BoxesConfig, MasksConfig
from synth.layout.detect import detector_class
from synth.layout.detect.base import Settings as DetectorSettings
from synth.layout.segment import segmenter_class
from synth.layout.segment.base import Settings as SegmenterSettings
from synth.run.empty import AFTER
from synth.store.spec import InputFile, StageSpec


def boxes(node: Node) -> list[StageSpec]:
    """The group detector chooses the model."""
    config = node.config.detector
    with of_group("detector"):
        if "{}" not in config.template:
            raise WrongKey("template", config.template, "has no {} for the tag", 'use "{}", or "a photo of a {}"')
    stored = BoxesConfig(detector=replace(config, max_boxes=config.max_boxes or 0))
    return _with_model(node, "detector", detector_class(config.kind), DetectorSettings(), stored)


def masks(node: Node) -> list[StageSpec] | list[PlannedStage]:
    """The group segmenter chooses the model, or none."""
    config = node.config.segmenter
    if config.kind == NONE:
        return left_out(node)
    return _with_model(node, "segmenter", segmenter_class(config.kind), SegmenterSettings(), MasksConfig(segmenter=config))


def box_captions(node: Node) -> list[StageSpec] | list[PlannedStage]:
    """The group box_captioner chooses the model, or none."""
    config = node.config.box_captioner
    if config.kind == NONE:
        return left_out(node)
    if config.kind == SERVED:
        return _served(node)
    more = {} if config.stop_when_empty is None else {AFTER: config.stop_when_empty}
    cls, stored = captioner_class(config.kind), BoxCaptionsConfig(box_captioner=config)
    return _with_model(node, "box_captioner", cls, CaptionerSettings(), stored, more)


def _served(node: Node) -> list[StageSpec]:
    """Captions of boxes by a server. How many requests are in flight changes none of them."""
    group, config = "box_captioner", node.config.box_captioner
    server = servers.planned(group, config)
    stored = BoxCaptionsConfig(box_captioner=replace(config, rows=1, server=server.server))
    files = {group: server.file} if server.file else {}
    specs = [chained(node, dump(stored), config.batch_size, files, server.settings)]
    servers.check_undone(node, specs, server, group)
    return specs


def _with_model(node: Node, group: str, cls: Any, settings: Any, stored: Any, more: Mapping | None = None) -> list[StageSpec]:
    """A stage of one model, which a group of the config chooses. cls: what loads it, which judges the folder with any settings; more:
    settings of the stage."""
    config = getattr(node.config, group)
    folder = model_input(group, config, lambda path: cls(cls.check(path), settings))
    notes = toys(node, group, Path(folder.path))
    return [chained(node, dump(stored), config.batch_size, {group: folder}, {**(more or {}), **({"notes": notes} if notes else {})})]


def model_input(group: str, config: Any, judge: Callable[[Path], object]) -> InputFile:
    """The folder of a group's model: its path, or where prefetch put its repository. judge: raises InputError for one that cannot be."""
    what = "a folder of a model in transformers' layout"
    path = unless_absent(lambda: existing(config.path or fetched(group, None, config.repo), f"{group}.path", what))
    if path is None:
        return stand_in(f"{group}.path")
    try:
        judge(path)
    except OtherType as e:
        toy = f"tiny_{config.kind}"  # of which a path alone leaves the kind as it is
        if not config.path or not (PACKAGE / "models" / toy).is_dir():
            raise
        raise InputError(f"{e}; or choose {group}=..., which is {toy} now unless you chose another") from e
    return InputFile(str(path), identity_of(path))
