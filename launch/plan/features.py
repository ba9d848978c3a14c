"""Plans features of pictures: of a stage, of what a filter left, or of what a key of the config names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from launch.plan.absent import ABSENT, stand_in, unless_absent
from launch.plan.fetching import fetched
from launch.plan.filters import against
from launch.plan.inputs import existing, identity_of
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.plan.sources import IMAGES, PACKAGE, Given, Planned, of_given, of_stage
from synth.errors import InputError
from synth.features.config import KIND, FeaturesConfig
from synth.features.encoders import encoder_of
from synth.features.stage import MODEL
from synth.keys import dump
from synth.store.names import classes_in
from synth.store.spec import InputFile, StageSpec

MODEL_KEY = "features.model"
EMBEDDED = PACKAGE / "models" / "tiny_clip"


def plan(node: Node) -> list[StageSpec]:
    """Of each stage upstream, else of the pictures that the node's settings name: a Given, or a filter's `against`."""
    if stages := node.upstream.get(IMAGES, ()):
        return [features_of(node, stage) for stage in stages]
    given = node.settings
    return [features_of(node, given if isinstance(given, Given) else against(node))]


def features_of(node: Node, what: PlannedStage | Given) -> StageSpec:
    """The features of a stage of pictures, of what a filter left of one, or of what a key names. node: gives the stage its name."""
    keys, node = node.config.features, replace(node, kind=KIND)
    model = model_of(node)  # first: to list a source may take minutes
    # of a model that is not here its name alone tells whether it reads class names, too
    reads_texts = "dino" not in model.path.lower() if model.identity == ABSENT else encoder_of(Path(model.path)).reads_texts
    source = of_given(node, what) if isinstance(what, Given) else of_stage(node, what)
    texts = len(_classes_of(source)) if reads_texts else 0
    config = FeaturesConfig(
        id=Path(model.path).name,
        templates=_templates(keys.templates) if reads_texts else (),
        texts=texts,
        dataset=source.classes,
        source_classes=source.source_classes,
    )
    return source.spec(dump(config), texts, keys.unit_size, keys.batch_size, {MODEL: model}, _notes(model, source))


def model_of(node: Node) -> InputFile:
    """The folder that features.model names, or what stands for it, judged before it is hashed."""
    keys = node.config.features
    what = "a folder of a CLIP, SigLIP or DINOv2 model of transformers (openai/clip-vit-base-patch32)"
    path = unless_absent(lambda: existing(keys.model or fetched("features", None, keys.repo, MODEL_KEY) or str(EMBEDDED), MODEL_KEY, what))
    if path is None:
        return stand_in(f"{MODEL_KEY}/{(keys.model or keys.repo or '').rpartition('/')[2]}")
    encoder_of(path)
    return InputFile(str(path), identity_of(path))


def _notes(model: InputFile, source: Planned) -> list[str]:
    """What to say where the small CLIP that ships here looks at pictures that it was not made for."""
    if Path(model.path).resolve() != EMBEDDED or source.embedded:
        return []
    why = "the small CLIP that ships here knows drawings of 20 things on painted scenes; of other pictures its numbers say nothing"
    return [f"{MODEL_KEY}: {why}; give {MODEL_KEY}=/folder of a CLIP, SigLIP or DINOv2 model"]


def _templates(templates: tuple[str, ...]) -> tuple[str, ...]:
    for template in templates:
        if "{}" not in template:
            raise InputError(f"features.templates: {template!r} has no {{}} for the class name")
    if not templates:
        raise InputError("features.templates=[]: needs one text with {} at least")
    return tuple(templates)


def _classes_of(source: Planned) -> Mapping[int, str]:
    """official index -> name of the classes that the stage will find, by what is planned and by what is there."""
    if IMAGES not in source.node.upstream:
        return {c.index: c.name for c in source.classes.classes}
    (stage,) = source.node.upstream[IMAGES]
    return classes_in(stage, source.node.above)
