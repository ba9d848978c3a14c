"""Plans what is done with the objects of layout labels: filters of them, and what CLIP says of them."""

from dataclasses import replace
from pathlib import Path
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
    scores, asked = node.config.scores, node.settings
    stored = CropScoresConfig(against=asked.against, margin=asked.margin, rows=scores.batch_size)
    return [chained(node, dump(stored), scores.batch_size, {INPUT: _clip(node)})]


def box_embeddings(node: Node) -> list[StageSpec]:
    """Of an export. It reads no picture, so the source is none of its inputs."""
    before, scores = node.one(ROLE), node.config.scores
    stored = dump(BoxEmbeddingsConfig(rows=scores.batch_size))
    return [node.spec(stored, before.slots, before.unit_size, scores.batch_size, {INPUT: _clip(node)})]


def _filter(node: Node, config: Any) -> list[StageSpec]:
    return [chained(node, dump(config), node.one(ROLE).unit_size)]


def _clip(node: Node) -> InputFile:
    """The model in scores.clip, judged, then hashed."""
    path: Path = existing(node.config.scores.clip, "scores.clip", "a folder of a CLIP or SigLIP model of transformers")
    check_model(path)
    return InputFile(str(path), identity_of(path))
