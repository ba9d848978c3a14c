"""Plans the images stage: captions x images.per_caption."""

from launch.inputs import text_of
from launch.kinds import Node
from launch.models import plan_model
from launch.schema import Config
from synth.config import ImagesConfig, dump
from synth.errors import InputError
from synth.images.families import family_class
from synth.images.model_folder import ModelFolder
from synth.images.settings import check_run
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
        guidance_interval=tuple(images.guidance_interval),
        vae_batch=images.vae_batch,
    )
    model.judge(config)
    run = run_settings(node.config, model.folder)
    total = node.one("captions").config["total"]
    return [node.spec(dump(config), total * images.per_caption, images.unit_size, images.batch_size, model.inputs, run)]


def run_settings(config: Config, model: ModelFolder) -> dict[str, object]:
    """How an images stage is worked on, whatever it is: nothing that its bytes depend on. InputError for what cannot be."""
    run = {"on_oom": config.images.on_oom, "preview_every": config.images.preview_every, "text_offload": config.model.text_offload}
    check_run(run)
    if config.model.text_offload and not family_class(model.pipeline).embeds:
        msg = f"model.text_offload=true: {model.pipeline} ({model.name}) encodes its texts while it draws; use false"
        raise InputError(msg)
    return run
