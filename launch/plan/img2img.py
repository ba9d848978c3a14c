"""Plans the img2img stage: the pictures of a source x img2img.per_image."""

from dataclasses import replace
from pathlib import Path

from launch.plan.images import drawing, run_settings
from launch.plan.models import plan_model
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.plan.sources import UNLABELLED, listed, source_layout
from launch.plan.subsets import subset_of
from synth.errors import InputError
from synth.images.config import Img2ImgConfig
from synth.images.decode import RESIZES
from synth.images.prompts import CLASS, PROMPTS
from synth.images.slots import Ranges
from synth.images.sources.listing import NAME
from synth.keys import dump
from synth.kinds import KINDS, makes_pictures
from synth.seeds import derive
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec

ROLE = "images"


def plan(node: Node) -> list[StageSpec]:
    """The spec of a stage whose inputs are an upstream stage of the recipe, or img2img.source: a stage folder or a folder."""
    keys = node.config.img2img
    if ROLE in node.upstream:
        if keys.source is not None:
            raise InputError(f"img2img.source={keys.source}: recipe {node.config.recipe.name} gives this stage its pictures; leave it out")
        return [_of_stage(node)]
    root, layout = source_layout(node.config)
    if layout == "stage":
        return [_of_stage(replace(node, upstream={**node.upstream, ROLE: (_given(root),)}))]
    source = listed(node.config, root, layout)
    inputs = {"source": InputFile(str(root), source.identity)}
    spec = _spec(node, source.n, inputs, dataset=source.dataset, source_classes=source.classes)
    notes = {"notes": [source.undecoded]} if source.undecoded else {}
    return [replace(spec, files={NAME: source.listing}, settings={**spec.settings, **notes})]


def _spec(node: Node, n: int, inputs: dict[str, InputFile], **more) -> StageSpec:
    keys = node.config.img2img
    unlabelled = "dataset" in more and [c.name for c in more["dataset"].classes] == [UNLABELLED]
    if keys.prompt == "template" and CLASS in keys.prompt_template and unlabelled:
        fix = f"use img2img.prompt=caption, or a template without {CLASS}"
        raise InputError(f"img2img.prompt_template={keys.prompt_template!r}: the source has no classes; {fix}")
    model = plan_model(node.config.model)
    config = Img2ImgConfig(
        **drawing(model, keys, "img2img"),
        per_image=keys.per_image,
        noise_strength=keys.noise_strength,
        prompt=_one_of("prompt", keys.prompt, PROMPTS),
        prompt_template=keys.prompt_template,
        resize=_one_of("resize", keys.resize, RESIZES),
        **more,
    )
    model.judge(config, img2img=True)
    run = run_settings(node.config, model.folder)
    return node.spec(dump(config), n * keys.per_image, keys.unit_size, keys.batch_size, {**model.inputs, **inputs}, run)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InputError(f"img2img.{key}={value}: use one of {', '.join(allowed)}")
    return value


def _given(path: Path) -> PlannedStage:
    """A stage of pictures that was made before."""
    folder = StageFolder.open(path)
    if folder.path.name != folder.spec.folder_name or not makes_pictures(folder.spec.kind):
        known = ", ".join(k for k in KINDS if makes_pictures(k))
        what = f"is of kind {folder.spec.kind}; a source is one of {known}, under its own name {folder.spec.folder_name}"
        raise InputError(f"img2img.source: {folder.path} {what}")
    if not folder.is_whole():
        raise InputError(f"img2img.source: {folder.path} is not whole; complete it first, by the command that planned it")
    return PlannedStage(folder.spec, folder.path.parent)


def _of_stage(node: Node) -> StageSpec:
    """All slots of the upstream, or a subset; those without a picture stay slots without a picture."""
    keys, upstream = node.config.img2img, node.one(ROLE)
    chosen = subset_of(keys.subset, keys.subset_file, "img2img.subset", upstream.slots, "slot")
    numbers = chosen if chosen is not None else range(upstream.slots)
    if keys.random_count is not None:
        if keys.random_count > len(numbers):
            raise InputError(f"img2img.random_count={keys.random_count}: there are {len(numbers)} inputs; ask for fewer, or leave it null")
        lots = sorted(numbers, key=lambda slot: (derive(keys.seed, "img2img", "subset", f"{slot:09d}"), slot))
        chosen = Ranges.of(lots[: keys.random_count])
        numbers = chosen
    return _spec(node, len(numbers), {}, subset="" if chosen is None else str(chosen))
