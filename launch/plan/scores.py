"""Plans the scoring stages that filters read: one for each images stage, or one for a folder of pictures."""

import dataclasses
from pathlib import Path

from launch.config.schema import Filter
from launch.plan.inputs import input_file
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.filters.config import ClipFeaturesConfig, PerceptualHashConfig
from synth.keys import dump
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec

IMAGES = "images"
PICTURES = ("images", "img2img", "story")  # kinds that make pictures


def needs(name: str, settings: Filter) -> dict[str, tuple[str, str, bool]]:
    """role -> (name of the scoring stage, its kind, whether it reads the given folder and not the images) that a filter reads."""
    if settings.kind == "balance":
        return {}
    kind = "perceptual_hash" if settings.kind == "near_duplicates" and settings.method != "embedding" else "clip_features"
    if settings.kind == "ensemble":
        return {"scores": (f"{name}_{kind}", kind, False)}
    found = {"scores": (kind, kind, False)}
    if getattr(settings, "against", None):
        found["against"] = (f"{name}_against", kind, True)
    return found


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
    return _each(node, dump(PerceptualHashConfig(node.settings.method)), node.config.scores.unit_size, 64, {})


def _each(node: Node, config: dict, unit_size: int, batch: int, inputs: dict) -> list[StageSpec]:
    if IMAGES not in node.upstream:
        from synth.filters.scoring import files_in

        folder = input_file(node.settings.against, f"filter.{node.settings.kind}.against", "a folder of pictures")
        return [node.spec(config, len(files_in(Path(folder.path))), unit_size, batch, inputs | {"folder": folder})]
    found = []
    for stage in node.upstream[IMAGES]:
        alone = dataclasses.replace(node, upstream={IMAGES: (stage,)})
        found.append(alone.spec(config, stage.spec.slots, unit_size, batch, inputs))
    return found


def pool(node: Node) -> list[PlannedStage]:
    """The images stages of an ensemble: this run's, then those that were made before. Plans nothing of its own."""
    found = list(node.upstream[IMAGES])
    if not node.settings.stages:
        raise InputError("filter.ensemble.stages=[]: names no other run; give the folders of their images stages")
    for path in node.settings.stages:
        folder = StageFolder.open(Path(path).expanduser())
        if folder.spec.kind not in PICTURES:
            raise InputError(
                f"filter.ensemble.stages: {folder.path} is a stage of kind {folder.spec.kind}; give the folders of images stages"
            )
        found.append(PlannedStage(folder.spec, folder.path.parent))
    if any(s.spec.kind not in PICTURES for s in found):
        raise InputError("filter=[..., ensemble]: must be the first filter: it reads the images of several runs")
    if len({s.folder for s in found}) != len(found):
        raise InputError(f"filter.ensemble.stages={list(node.settings.stages)}: names a stage twice, or this run's own")
    return found
