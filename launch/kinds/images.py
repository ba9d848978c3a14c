"""Plans the images stage: captions x images.per_caption, or a number of pictures a class."""

from pathlib import Path

from launch.counts import counts_of
from launch.inputs import input_file, text_of
from launch.kinds import Node
from launch.kinds.captions import dataset_of
from launch.schema import Images, Img2Img
from launch.subsets import subset_of
from synth.config import ImagesConfig, ModelConfig, dump
from synth.errors import InputError
from synth.store.spec import InputFile, StageSpec

FORMATS = ("png", "jpg", "webp")


def plan(node: Node) -> list[StageSpec]:
    """The spec of the images of a captions_json stage; its `total` is the number of captions."""
    images = node.config.images
    total = node.one("captions").config["total"]
    subset = subset_of(images.subset, images.subset_file, "images.subset", total, "row")
    counts = counts_of(node.config, dataset_of(node.config.dataset).classes)
    if counts:
        slots = sum(c.count for c in counts)
    else:
        slots = (total if subset is None else len(subset)) * images.per_caption
    model, folder = model_of(node, images)
    config = ImagesConfig(
        **drawing(images, "images"),
        model=model,
        per_caption=images.per_caption,
        subset="" if subset is None else str(subset),
        counts=counts,
    )
    return [node.spec(dump(config), slots, images.unit_size, images.batch_size, {"model": folder})]


def drawing(keys: Images | Img2Img, group: str) -> dict:
    """What text to image and image to image have in common, checked; `group` is the group of its keys."""
    if keys.format not in FORMATS:
        msg = f"{group}.format={keys.format}: no such format; there are {', '.join(FORMATS)}"
        raise InputError(msg)
    return {
        "seed": keys.seed,
        "guidance_scale": keys.guidance_scale,
        "steps": keys.steps,
        "scheduler": keys.scheduler,
        "height": keys.height,
        "width": keys.width,
        "save_size": keys.save_size,
        "format": keys.format,
        "negative_prompt": text_of(keys.negative_prompt, keys.negative_prompt_file, f"{group}.negative_prompt"),
        "eta": keys.eta,
    }


def model_of(node: Node, keys: Images | Img2Img) -> tuple[ModelConfig, InputFile]:
    """The model, judged by its files: a torn or incomplete one must not wait in a queue to be found."""
    from synth.images.model_folder import inspect  # neither of them imports torch or diffusers
    from synth.images.schedulers import check_scheduler

    model = node.config.model
    folder = input_file(model.path, "model.path", "a folder in diffusers' layout (model_index.json)")
    found = inspect(Path(folder.path), model.pipeline)
    found.check_size(keys.height, keys.width)
    check_scheduler(keys.scheduler, found.scheduler)
    return ModelConfig(model.id or Path(folder.path).name, model.pipeline), folder
