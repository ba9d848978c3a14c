"""Plans filters, stages with the slots of their images, and the scoring stages that they read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from launch.plan.datasets import dataset_of
from launch.plan.images import class_counts, scaled
from launch.plan.inputs import input_file
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.filters.config import ClipFeaturesConfig, CountedConfig, PerceptualHashConfig
from synth.keys import WrongKey, dump
from synth.kinds import makes_pictures
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec
from synth.store.trees import Unread

IMAGES = "images"
HASHES = 64  # pictures a batch: hashing needs no device


def plan(node: Node) -> list[StageSpec]:
    """A filter of any kind."""
    config, images = node.settings, node.upstream[IMAGES]
    if isinstance(config, CountedConfig):
        config = dataclasses.replace(config, counts=_counts(node))
    unit = images[0].spec.unit_size
    return [node.spec(dump(config), sum(s.spec.slots for s in images), unit, unit)]


def _counts(node: Node) -> Mapping[str, int]:
    """{official index as text: pictures}, the ratio applied to numbers of real pictures and of the file."""
    s, group = node.settings, f"filter.{node.name}"
    if s.count is None and s.count_file is None:
        if not s.must_count:
            return {}
        raise InputError(f"{group}.count: not set; give a number, ma (as many as the real training set has) or {group}.count_file")
    if not s.ratio > 0:
        raise WrongKey("ratio", s.ratio, "must be more than 0", group=group)
    classes = dataset_of(node.config.dataset).classes
    known, plain = class_counts(node.config.dataset, classes, s.count, s.count_file, group)
    return {str(i): n for i, n in sorted(({i: scaled(n, s.ratio) for i, n in known.items()} | plain).items())}


# -- scores ----------------------------------------------------------------------------------------------------------


def clip_features(node: Node) -> list[StageSpec]:
    """CLIP features of the pictures of each upstream stage."""
    from synth.filters.clip import check_folder  # imports neither torch nor transformers

    scores = node.config.scores
    clip = input_file(scores.clip, "scores.clip", "a folder of a CLIP model of transformers (openai/clip-vit-base-patch32)")
    check_folder(Path(clip.path))
    for template in scores.templates:
        if "{}" not in template:
            raise InputError(f"scores.templates: {template!r} has no {{}} for the class name")
    if not scores.templates:
        raise InputError("scores.templates=[]: needs one text with {} at least")
    config = dump(ClipFeaturesConfig(Path(clip.path).name, tuple(scores.templates)))
    return _each(node, config, scores.unit_size, scores.batch_size, {"clip": clip})


def perceptual_hash(node: Node) -> list[StageSpec]:
    """Hashes of the pictures of each upstream stage."""
    from synth.filters.scoring import hasher

    hasher(node.settings.method)
    return _each(node, dump(PerceptualHashConfig(node.settings.method)), node.config.scores.unit_size, HASHES, {})


def _each(node: Node, config: dict, unit_size: int, batch: int, inputs: dict) -> list[StageSpec]:
    """A scoring stage for each images stage, or one for a folder of pictures."""
    if IMAGES not in node.upstream:
        from synth.filters.scoring import files_in

        key = f"filter.{node.settings.kind}.against"
        folder, unread = input_file(node.settings.against, key, "a folder of pictures"), Unread()
        slots = len(files_in(Path(folder.path), unread))
        notes = {"notes": [f"{key}: {folder.path}: {unread.note()}"]} if unread else {}
        return [node.spec(config, slots, unit_size, batch, inputs | {"folder": folder}, notes)]
    specs = []
    for stage in node.upstream[IMAGES]:
        alone = dataclasses.replace(node, upstream={IMAGES: (stage,)})
        specs.append(alone.spec(config, stage.spec.slots, unit_size, batch, inputs))
    return specs


def pool(node: Node) -> list[PlannedStage]:
    """The images stages of an ensemble: this run's, then those that were made before. Plans nothing of its own."""
    stages = list(node.upstream[IMAGES])
    if not node.settings.stages:
        raise InputError("filter.ensemble.stages=[]: names no other run; give the folders of their images stages")
    for path in node.settings.stages:
        folder = StageFolder.open(Path(path).expanduser())
        if not makes_pictures(folder.spec.kind):
            raise InputError(
                f"filter.ensemble.stages: {folder.path} is a stage of kind {folder.spec.kind}; give the folders of images stages"
            )
        stages.append(PlannedStage(folder.spec, folder.path.parent))
    if any(not makes_pictures(s.spec.kind) for s in stages):
        raise InputError("filter=[..., ensemble]: must be the first filter: it reads the images of several runs")
    if len({s.folder for s in stages}) != len(stages):
        raise InputError(f"filter.ensemble.stages={list(node.settings.stages)}: names a stage twice, or this run's own")
    return stages
