"""Plans the images stage: captions x images.per_caption."""

from launch.inputs import text_of
from launch.kinds import Node
from launch.models import plan_model
from synth.config import ImagesConfig, dump
from synth.errors import InputError
from synth.store.spec import StageSpec

FORMATS = ("png", "jpg", "webp")


def plan(node: Node) -> list[StageSpec]:
    """The spec of the images of a captions_json stage; its `total` is the number of captions."""
    images = node.config.images
    if images.format not in FORMATS:
        msg = f"images.format={images.format}: no such format; there are {', '.join(FORMATS)}"
        raise InputError(msg)
    model = plan_model(node.config.model)
    config = ImagesConfig(
        seed=images.seed,
        model=model.config,
        per_caption=images.per_caption,
        **model.settings(images),
        save_size=images.save_size,
        format=images.format,
        negative_prompt=text_of(images.negative_prompt, images.negative_prompt_file, "images.negative_prompt"),
        eta=images.eta,
    )
    model.judge(config)
    total = node.one("captions").config["total"]
    return [node.spec(dump(config), total * images.per_caption, images.unit_size, images.batch_size, model.inputs)]
