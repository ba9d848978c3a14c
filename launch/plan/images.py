"""Plans the images stage: captions x images.per_caption, or a number of pictures a class."""

from launch.config.schema import Config, Images, Img2Img
from launch.plan.counts import counts_of
from launch.plan.external import patience_of
from launch.plan.inputs import text_of
from launch.plan.models import PlannedModel, plan_model
from launch.plan.node import Node
from launch.plan.subsets import subset_of
from synth.errors import InputError
from synth.images.config import ImagesConfig
from synth.images.families import family_class
from synth.images.model_folder import ModelFolder
from synth.images.settings import check_run, keys_of
from synth.keys import dump
from synth.store.spec import StageSpec

FORMATS = ("png", "jpg", "webp")


def plan(node: Node) -> list[StageSpec]:
    """The spec of the images of a captions_json stage; its `total` is the number of captions."""
    images = node.config.images
    total = node.one("captions").config["total"]
    subset = subset_of(images.subset, images.subset_file, "images.subset", total, "row")
    counts = counts_of(node.config)
    slots = sum(c.count for c in counts) if counts else (total if subset is None else len(subset)) * images.per_caption
    model = plan_model(node.config.model)
    chosen = "" if subset is None else str(subset)
    config = ImagesConfig(**drawing(model, images, "images"), per_caption=images.per_caption, subset=chosen, counts=counts)
    model.judge(config)
    run = run_settings(node.config, model.folder)
    return [node.spec(dump(config), slots, images.unit_size, images.batch_size, model.inputs, run)]


def drawing(model: PlannedModel, keys: Images | Img2Img, group: str) -> dict:
    """The DrawingConfig part of a stage's config; `group` is the group of its keys."""
    with keys_of(group):
        chosen = model.settings(keys)
    if keys.format not in FORMATS:
        raise InputError(f"{group}.format={keys.format}: no such format; there are {', '.join(FORMATS)}")
    return {
        "seed": keys.seed,
        "model": model.config,
        **chosen,
        "save_size": keys.save_size,
        "format": keys.format,
        "negative_prompt": text_of(keys.negative_prompt, keys.negative_prompt_file, f"{group}.negative_prompt"),
        "eta": keys.eta,
        "guidance_interval": tuple(keys.guidance_interval),
        "vae_batch": keys.vae_batch,
    }


def run_settings(config: Config, model: ModelFolder) -> dict[str, object]:
    """How an images stage is worked on, whatever it is: nothing that its bytes depend on. InputError for what cannot be."""
    run = {
        "on_oom": config.images.on_oom,
        "preview_every": config.images.preview_every,
        "text_offload": config.model.text_offload,
    }
    check_run(run)
    if config.model.text_offload and not family_class(model.pipeline).embeds:
        raise InputError(f"model.text_offload=true: {model.pipeline} ({model.name}) encodes its texts while it draws; use false")
    return run | patience_of(config.model)
