"""Plans what is done with the objects of layout labels: filters of them, and what CLIP says of them."""

from dataclasses import replace
from typing import Any

from launch.plan.inputs import existing, identity_of
from launch.plan.layout import chained
from launch.plan.node import Node
from synth.keys import dump
from synth.layout.objects.clip import INPUT
from synth.layout.objects.config import BoxEmbeddingsConfig, CropScoresConfig
from synth.layout.source import ROLE
from synth.layout.vocabulary import check_model
from synth.store.spec import InputFile, StageSpec


def objects(node: Node) -> list[StageSpec]:
    """Filter `objects`."""
    return _filter(node, replace(node.settings, max_boxes=node.settings.max_boxes or 0))


def crop_clip(node: Node) -> list[StageSpec]:
    """Filter `crop_clip`, behind a stage of crop_scores."""
    return _filter(node, node.settings)


def crop_scores(node: Node) -> list[StageSpec]:
    """node.settings: the filter that they are for."""
    features, asked = node.config.features, node.settings
    stored = CropScoresConfig(against=asked.against, margin=asked.margin, rows=features.batch_size)
    return [chained(node, dump(stored), features.batch_size, {INPUT: _model(node)})]


def box_embeddings(node: Node) -> list[StageSpec]:
    """Of an export. It reads no picture, so the source is none of its inputs."""
    before, features = node.one(ROLE), node.config.features
    stored = dump(BoxEmbeddingsConfig(rows=features.batch_size))
    return [node.spec(stored, before.slots, before.unit_size, features.batch_size, {INPUT: _model(node)})]


def _filter(node: Node, config: Any) -> list[StageSpec]:
    return [chained(node, dump(config), node.one(ROLE).unit_size)]


def _model(node: Node) -> InputFile:
    """The model in features.model, judged, then hashed."""
    path = existing(node.config.features.model, "features.model", "a folder of a CLIP or SigLIP model of transformers")
    check_model(path)
    return InputFile(str(path), identity_of(path))
