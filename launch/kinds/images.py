"""Plans the images stage: captions x images.per_caption."""

from pathlib import Path

from launch.inputs import input_file, text_of
from launch.kinds import Node
from synth.config import ImagesConfig, ModelConfig, dump
from synth.errors import InputError
from synth.store.spec import InputFile, StageSpec

FORMATS = ("png", "jpg", "webp")


def plan(node: Node) -> list[StageSpec]:
    """The spec of the images of a captions_json stage; its `total` is the number of captions."""
    images = node.config.images
    if images.format not in FORMATS:
        msg = f"images.format={images.format}: no such format; there are {', '.join(FORMATS)}"
        raise InputError(msg)
    model, folder = _model(node)
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


def _model(node: Node) -> tuple[ModelConfig, InputFile]:
    """The model, judged by its files: a torn or incomplete one must not wait in a queue to be found."""
    from synth.images.model_folder import inspect  # neither of them imports torch or diffusers
    from synth.images.schedulers import check_scheduler

    model, images = node.config.model, node.config.images
    folder = input_file(model.path, "model.path", "a folder in diffusers' layout (model_index.json)")
    found = inspect(Path(folder.path), model.pipeline)
    found.check_size(images.height, images.width)
    check_scheduler(images.scheduler, found.scheduler)
    return ModelConfig(model.id or Path(folder.path).name, model.pipeline), folder
