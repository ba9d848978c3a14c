"""Plans what is done with the objects of layout labels: filters of them, and what CLIP says of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.plan.features import model_of
from launch.plan.layout import chained, toys
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
    model, settings = _model(node)
    return [chained(node, dump(stored), features.batch_size, {INPUT: model}, settings)]


def box_embeddings(node: Node) -> list[StageSpec]:
    """Of an export. It reads no picture, so the source is none of its inputs."""
    before, features = node.one(ROLE), node.config.features
    stored = dump(BoxEmbeddingsConfig(rows=features.batch_size))
    model, settings = _model(node)
    return [node.spec(stored, before.slots, before.unit_size, features.batch_size, {INPUT: model}, settings)]


def _filter(node: Node, config: Any) -> list[StageSpec]:
    return [chained(node, dump(config), node.one(ROLE).unit_size)]


def _model(node: Node) -> tuple[InputFile, dict[str, list[str]]]:
    """(the model in features.model, judged; settings that tell of a toy)"""
    model = model_of(node)
    check_model(Path(model.path))
    notes = toys(node, "features.model", Path(model.path))
    return model, {"notes": notes} if notes else {}
