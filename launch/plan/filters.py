"""Plans filters, stages with the slots of their images, and the scoring stages that they read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from launch.plan.datasets import dataset_of
from launch.plan.images import class_counts, scaled
from launch.plan.inputs import existing
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.filters.config import CountedConfig, PerceptualHashConfig
from synth.keys import WrongKey, dump
from synth.kinds import makes_pictures
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec
from synth.store.trees import is_picture_file, walk

if TYPE_CHECKING:
    from launch.plan.sources import Given

IMAGES = "images"
HASHES = 64  # pictures a batch: hashing needs no device


def plan(node: Node) -> list[StageSpec]:
    """A filter of any kind."""
    config, images = node.settings, node.upstream[IMAGES]
    if config.reads_texts and not node.one("scores").config["templates"]:
        raise InputError(f"filter={node.name}: the model of features.model reads no texts; give a folder of a CLIP or SigLIP model")
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


def perceptual_hash(node: Node) -> list[StageSpec]:
    """Hashes of the pictures of each upstream stage, or of those that `against` names."""
    from launch.plan.sources import of_given, of_stage
    from synth.filters.scoring import hasher

    hasher(node.settings.method)
    config, unit_size = dump(PerceptualHashConfig(node.settings.method)), node.config.features.unit_size
    stages = node.upstream.get(IMAGES, ())
    sources = [of_stage(node, stage) for stage in stages] or [of_given(node, against(node))]
    return [source.spec(config, 0, unit_size, HASHES, {}) for source in sources]


def against(node: Node) -> "Given":
    """The pictures that near_duplicates is given: their classes do not matter, every byte of them does."""
    from launch.plan.sources import AUTO, FILES, WHAT, Given

    path, key = node.settings.against, f"filter.{node.settings.kind}.against"
    root = existing(path, key, WHAT).resolve()
    # a tar beside pictures does not stand for them
    loose = root.is_dir() and not (root / "stage.json").exists() and any(is_picture_file(entry) for _, entry in walk(root, key=key))
    return Given(path, key, labelled=False, layout=FILES if loose else AUTO, whole=True)


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
