"""Plans the images stage: captions x images.per_caption."""

import json
from pathlib import Path

from launch.inputs import input_file, text_of
from launch.kinds import Node
from launch.schema import Model
from synth.config import ImagesConfig, ModelConfig, dump
from synth.errors import InputError
from synth.store.spec import InputFile, StageSpec

FORMATS = ("png", "jpg", "webp")
MULTIPLE = 8  # pixels: latents are eight times smaller in each direction


def plan(node: Node) -> list[StageSpec]:
    """The spec of the images of a captions_json stage; its `total` is the number of captions."""
    images = node.config.images
    for key in ("height", "width"):
        size = getattr(images, key)
        if size % MULTIPLE:
            below = size - size % MULTIPLE
            msg = f"images.{key}={size}: must be divisible by {MULTIPLE}; take {below or MULTIPLE} or {below + MULTIPLE}"
            raise InputError(msg)
    if images.format not in FORMATS:
        msg = f"images.format={images.format}: no such format; there are {', '.join(FORMATS)}"
        raise InputError(msg)
    model, folder = _model(node.config.model)
    config = ImagesConfig(
        seed=images.seed,
        model=model,
        per_caption=images.per_caption,
        guidance_scale=images.guidance_scale,
        steps=images.steps,
        scheduler=images.scheduler,
        height=images.height,
        width=images.width,
        save_size=images.save_size,
        format=images.format,
        negative_prompt=text_of(images.negative_prompt, images.negative_prompt_file, "images.negative_prompt"),
        eta=images.eta,
    )
    total = node.one("captions").config["total"]
    return [node.spec(dump(config), total * images.per_caption, images.unit_size, images.batch_size, {"model": folder})]


def _model(model: Model) -> tuple[ModelConfig, InputFile]:
    folder = input_file(model.path, "model.path", "a folder of diffusers weights (model_index.json) or a checkpoint file")
    path = Path(folder.path)
    if path.is_dir():
        _check_pipeline(path / "model_index.json", model.pipeline)
    return ModelConfig(model.id or path.name, model.pipeline), folder


def _check_pipeline(index: Path, wanted: str) -> None:
    try:
        there = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    except FileNotFoundError:
        msg = f"model.path: {index.parent} has no model_index.json; it must be the folder of a diffusers pipeline"
        raise InputError(msg) from None
    except (OSError, ValueError, AttributeError) as e:
        msg = f"{index}: cannot be read as JSON ({e}); download the model again"
        raise InputError(msg) from e
    if wanted not in ("auto", there):
        msg = f"{index}: is a {there}, model.pipeline asks for {wanted}; set model.pipeline=auto or choose another model"
        raise InputError(msg)
