"""Plans tracking pairs: annotated images x tracking.variants, a bucket of sizes after the other; and the exports made of them."""

from dataclasses import replace

from launch.plan import exports
from launch.plan.annotated import Joined, Wanted, joined
from launch.plan.batches import batches_of
from launch.plan.images import drawing, run_settings
from launch.plan.models import PlannedModel, plan_model
from launch.plan.node import Node
from synth.captions.config import DatasetConfig
from synth.errors import InputError
from synth.images.schedulers import DEFAULT, SCHEDULERS, class_of
from synth.images.sources.read import known_by_name
from synth.images.strength import steps_run
from synth.keys import WrongKey, dump, of_group
from synth.store.identity import LISTED
from synth.store.spec import InputFile, StageSpec
from synth.tracking.config import LARGEST, PairsConfig
from synth.tracking.listing import ROLE
from synth.tracking.repaint import INSTEAD, UNSUITED, check_repaint
from synth.tracking.sources import KEY

GROUP = "tracking"
IMAGES = "images"  # role of the place where the images lie
LATENTS = 8  # latents a side that U-Nets halve three times


def plan(node: Node) -> list[StageSpec]:
    """slot = image * variants + variant; images lie in the order of their buckets, and no unit holds two of them."""
    dataset = annotated(node)
    with of_group(GROUP):
        model = plan_model(node.config.model)
        config = _drawn(_filled(node.config.tracking, dataset, model), model)
        run = _steps_run(config)
        check_repaint(model.folder, config)
    size, drop = (config.long_side, config.short_side), config.on_bad == "drop"
    by_path = config.names == "path"
    wanted = Wanted(
        dataset.name, dataset.base_classes, drop, by_path, config.variants, config.min_area, config.max_area, size, config.bucket,
        node.config.trial,
    )  # fmt: skip
    images = joined(dataset, wanted)
    if not images.captioned:  # as OVTrack does: there is no text to be guided by
        config = replace(config, guidance_scale=0.0, guidance_interval=(0.0, 1.0))
    config = replace(config, dataset=images.dataset)
    batches = batches_of(node, model, config, node.config.tracking, GROUP)
    config = replace(config, vae_batch=batches.vae_batch)
    settings = (
        run_settings(node.config, model.folder)
        | batches.settings
        | {
            "price": price(config, images, run),
            "notes": notes(dataset, images),
        }
    )
    settings["shapes"] = max(1, sum(b is not None for b, _ in images.buckets))
    inputs = {
        **model.inputs,
        ROLE: InputFile(str(images.annotations), images.identity),
        IMAGES: InputFile(str(images.images), LISTED),
    }
    ends, unit_size = units(images, config.variants, config.unit_size)
    slots = sum(n for _, n in images.buckets) * config.variants
    spec = node.spec(dump(config), slots, unit_size, batches.batch, inputs, settings)
    return [replace(spec, ends=ends, files=images.files)]


def annotated(node: Node) -> DatasetConfig:
    """The dataset of the run, which must be an annotated one with its files."""
    dataset, recipe = node.config.dataset, node.config.recipe.name
    if not dataset.annotated:
        fix = "choose dataset=scenes (the embedded one), or dataset=lvis with dataset.annotations, dataset.images and dataset.captions"
        raise InputError(f"dataset={dataset.name}: has no annotated images, and recipe={recipe} makes pairs of such; {fix}")
    if dataset.classes != "all" or dataset.classes_file is not None:
        raise InputError(
            "dataset.classes: pairs keep all categories of the annotation file; "
            "use all, or dataset.base_classes=true for LVIS's base classes"
        )
    return dataset


def _filled(config: PairsConfig, dataset: DatasetConfig, model: PlannedModel) -> PairsConfig:
    """The group with what its dataset and model say where it is null: all but the keys of drawing."""
    long_side, short_side = size_of(config, model)
    config = replace(
        config,
        harmonize=model.config.native_pair_harmonize if config.harmonize is None else config.harmonize,
        min_area=float(dataset.native_min_area if config.min_area is None else config.min_area),
        dilate=dataset.native_dilate if config.dilate is None else config.dilate,
        long_side=long_side,
        short_side=short_side,
        # what all layers of a U-Net divide evenly: 64 pixels for a VAE of 8 pixels a latent
        bucket=LATENTS * max(1, model.folder.vae_factor) if config.bucket is None else config.bucket,
    )
    if config.min_area >= config.max_area:
        raise WrongKey("min_area", config.min_area, f"not below max_area={config.max_area:g}, so no object could be kept")
    return config


def size_of(config: PairsConfig, model: PlannedModel) -> tuple[int, int]:
    """(long, short): tracking.size, else the model's for pairs, else 1.5 and 1 times what it was trained on."""
    given = config.size if config.size is not None else model.config.native_pair_size
    if given is None:
        sides = [model.config.native_height, model.config.native_width]
        if None in sides:
            raise WrongKey(
                "size", None, f"the folder of {model.folder.name} does not say its own", "give [long, short] in pixels, [768,512] say"
            )
        return max(sides) * 3 // 2, min(sides)
    given = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    whole = len(given) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in given)
    if not whole or not 1 <= given[1] <= given[0] <= LARGEST:
        raise WrongKey("size", given, f"must be [long, short] in pixels, with long at least as large as short, {LARGEST} at most")
    return given[0], given[1]


def _drawn(config: PairsConfig, model: PlannedModel) -> PairsConfig:
    """The group with its model and the keys of drawing. height and width are those of the largest canvas."""
    if model.config.command:
        raise InputError("model.command: a command starts from no picture and keeps no objects; choose a model of diffusers for pairs")
    if "vae" not in model.folder.components:
        raise InputError(
            f"{model.folder.path}: {model.folder.pipeline} has no VAE, in whose latents the objects are kept; choose a latent model"
        )
    nobody_chose = config.scheduler in (None, DEFAULT)  # one that somebody chose is refused by check_repaint
    if config.guidance_scale is None:
        config = replace(config, guidance_scale=model.config.native_pair_guidance_scale)
    width, height = (-(-side // config.bucket) * config.bucket for side in (config.long_side, config.short_side))
    config = drawing(model, replace(config, width=width, height=height), GROUP)
    name = config.scheduler
    if nobody_chose and name in (DEFAULT, *SCHEDULERS) and class_of(name, model.folder.scheduler) in UNSUITED:
        config = replace(config, scheduler=INSTEAD)
    return config


def _steps_run(config: PairsConfig) -> int:
    """Steps of a picture. WrongKey where that is none, or none in which objects are kept."""
    run = steps_run(config.steps, config.noise_strength)
    if not run:
        why = f"none of steps={config.steps} is run, so nothing would be drawn"
        raise WrongKey("noise_strength", config.noise_strength, why, "raise it")
    if run <= config.harmonize:
        why = (
            f"steps={config.steps} and noise_strength={config.noise_strength:g} are {run} steps, "
            f"and the objects are kept in all but the last {config.harmonize}"
        )
        raise WrongKey("harmonize", config.harmonize, why, "raise the steps or the strength")
    return run


def units(images: Joined, variants: int, unit_size: int) -> tuple[tuple[int, ...], int]:
    """(the slot behind each unit, slots of the largest one): whole images, and never two buckets in a unit."""
    step = max(1, unit_size // variants) * variants
    ends: list[int] = []
    at = 0
    for _, n in images.buckets:
        stop = at + n * variants
        ends += [*range(at + step, stop, step), stop]
        at = stop
    return tuple(ends), max(b - a for a, b in zip([0, *ends], ends, strict=False))


def price(config: PairsConfig, images: Joined, run: int) -> str:
    """What a stage of pairs costs, in words."""
    drawn = {b: n for b, n in images.buckets if b}
    n, same = sum(drawn.values()), images.images_of.get(None, 0)
    sizes = ", ".join(f"{w}x{h} ({count:,})" for (w, h), count in list(drawn.items())[:4])
    more = f" and {len(drawn) - 4} more" if len(drawn) > 4 else ""
    pairs = n * config.variants
    parts = [
        (
            f"{_many(n, 'image')} x {_many(config.variants, 'variant')} = {_many(pairs, 'pair')} to draw, "
            f"{_many(pairs * run, 'denoising step')}"
        )
    ]
    parts += [f"drawn at {_many(len(drawn), 'size')}: {sizes}{more}"] if drawn else []
    parts += (
        [f"{_many(same, 'image')} without an object to keep {'is stored as it is' if same == 1 else 'are stored as they are'}"]
        if same
        else []
    )
    parts += [f"captions for {_many(images.captioned, 'image')}" if images.captioned else "no captions: no text, no guidance"]
    return "; ".join(parts)


def notes(dataset: DatasetConfig, images: Joined) -> list[str]:
    """Lines for whoever started the run."""
    lines = []
    if images.left_out:
        listed = f"a run lists them in left_out.jsonl of the stage's folder; the first: {images.first_left_out}"
        lines.append(f"tracking: {images.left_out:,} annotations and images cannot be used and are left out{images.kinds}; {listed}")
    for n, how, readers in zip(images.turned, ("shown", "stored"), ("must", "must not"), strict=True):
        if n:
            why = f"EXIF turns them, and their sizes are those of the images as they are {how}"
            lines.append(f"tracking: {_many(n, 'image')} taken as {how}: {why}; exports keep their bytes, so readers {readers} turn them")
    if images.strangers:
        lines.append(f"tracking: {images.strangers:,} captions of {dataset.captions} are of images that {images.annotations} does not have")
    lines += known_by_name(images.by_name, KEY)
    if not any(b for b, _ in images.buckets):
        lines.append(f"tracking: no image has an object to keep, so all are stored as they are: {images.no_objects}")
    return lines


def annotations(node: Node) -> list[StageSpec]:
    """One JSON of all pairs."""
    settings, dataset = node.settings, node.config.dataset
    if settings.min_variant_area is None:
        if not dataset.annotated:  # exported later, from the stage alone
            raise InputError(
                f"export.{node.name}.min_variant_area: not set, and the stage does not say what fits its images; 1024 (32 x 32 pixels), say"
            )
        settings = replace(settings, min_variant_area=float(dataset.native_min_variant_area))
    return exports.plan(replace(node, settings=replace(settings, min_area=node.one("images").config["min_area"])))


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"
