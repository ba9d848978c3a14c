"""Plans tracking pairs: annotated images x tracking.variants, a bucket of sizes after the other; and the exports made of them."""

import contextlib
from collections.abc import Iterator
from dataclasses import fields, replace

from launch.config.limits import SHARE, Range
from launch.config.schema import Tracking, Warp
from launch.plan import exports
from launch.plan.annotated import Joined, Wanted, joined
from launch.plan.images import drawing, run_settings
from launch.plan.models import PlannedModel, plan_model
from launch.plan.node import Node
from synth.captions.config import DatasetConfig
from synth.errors import InputError
from synth.images.schedulers import DEFAULT, SCHEDULERS, class_of
from synth.images.strength import steps_run
from synth.keys import dump
from synth.store.identity import LISTED
from synth.store.spec import InputFile, StageSpec
from synth.tracking.config import PairsConfig, WarpConfig
from synth.tracking.listing import ROLE
from synth.tracking.repaint import INSTEAD, UNSUITED, check_repaint
from synth.tracking.settings import RANGES, SHARES

IMAGES = "images"  # role of the place where the images lie
LATENTS = 8  # latents a side that U-Nets halve three times
WARP = dict.fromkeys(SHARES, SHARE) | {key: Range(*ends) for key, ends in RANGES.items()}  # what a number or both ends of a range may be


def plan(node: Node) -> list[StageSpec]:
    """slot = image * variants + variant; images lie in the order of their buckets, and no unit holds two of them."""
    keys, dataset = node.config.tracking, annotated(node)
    check_warp(keys.warp)
    model = plan_model(node.config.model)
    size, bucket = size_of(keys, model, node.config.model.native_pair_size), bucket_of_model(keys, model)
    min_area = dataset.native_min_area if keys.min_area is None else keys.min_area
    if min_area >= keys.max_area:
        raise InputError(f"tracking.min_area={min_area:g}: not below tracking.max_area={keys.max_area:g}; no object could be kept")
    drop = _one_of("tracking.on_bad", keys.on_bad, ("error", "drop")) == "drop"
    wanted = Wanted(dataset.name, dataset.base_classes, drop, keys.variants, min_area, keys.max_area, size, bucket)
    config = PairsConfig(
        **_drawing(node, model, keys, size, bucket),
        variants=keys.variants,
        noise_strength=keys.noise_strength,
        harmonize=node.config.model.native_pair_harmonize if keys.harmonize is None else keys.harmonize,
        min_area=float(min_area),
        max_area=float(keys.max_area),
        dilate=dataset.native_dilate if keys.dilate is None else keys.dilate,
        long_side=size[0],
        short_side=size[1],
        bucket=bucket,
        warp=WarpConfig(**{f.name: _plain(getattr(keys.warp, f.name)) for f in fields(WarpConfig)}),
        quality=keys.quality,
    )
    run = steps_run(config.steps, config.noise_strength)
    if not run:
        raise InputError(
            f"tracking.noise_strength={config.noise_strength:g}: "
            f"none of tracking.steps={config.steps} steps is run, so nothing would be drawn; raise it"
        )
    if run <= config.harmonize:
        says = f"tracking.steps={config.steps} and tracking.noise_strength={config.noise_strength:g} are {run} steps"
        raise InputError(
            f"tracking.harmonize={config.harmonize}: {says}, and the objects are kept in all but the last {config.harmonize}; "
            "raise the steps or the strength"
        )
    check_repaint(model.folder, config)
    found = joined(dataset, wanted)
    if not found.captioned:  # as OVTrack does: there is no text to be guided by
        config = replace(config, guidance_scale=0.0, guidance_interval=(0.0, 1.0))
    config = replace(config, dataset=found.dataset)
    settings = run_settings(node.config, model.folder) | {
        "price": price(config, found, run),
        "notes": notes(dataset, keys, found),
    }
    settings["shapes"] = max(1, sum(b is not None for b, _ in found.buckets))
    inputs = {
        **model.inputs,
        ROLE: InputFile(str(found.annotations), found.identity),
        IMAGES: InputFile(str(found.images), LISTED),
    }
    ends, unit_size = units(found, keys.variants, keys.unit_size)
    slots = sum(n for _, n in found.buckets) * keys.variants
    spec = node.spec(dump(config), slots, unit_size, keys.batch_size, inputs, settings)
    return [replace(spec, ends=ends, files=found.files)]


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


def check_warp(warp: Warp) -> None:
    """InputError that names the key of a probability or a range that is none."""
    for key, allowed in WARP.items():
        value = _plain(getattr(warp, key))
        if not isinstance(value, tuple):
            if value not in allowed:
                raise InputError(f"tracking.warp.{key}={value:g}: a probability, must be {allowed}")
        elif len(value) != 2 or value[0] > value[1] or any(v not in allowed for v in value):
            raise InputError(f"tracking.warp.{key}=[{', '.join(f'{v:g}' for v in value)}]: must be [low, high], both {allowed}")


def size_of(keys: Tracking, model: PlannedModel, native: list[int] | None) -> tuple[int, int]:
    """(long, short): tracking.size, else the model's for pairs, else 1.5 and 1 times what it was trained on."""
    given = keys.size if keys.size is not None else native
    if given is not None:
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(given) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) for v in given) or not 1 <= given[1] <= given[0]:
            raise InputError(f"tracking.size={given}: must be [long, short] in pixels, with long at least as large as short")
        return given[0], given[1]
    sides = [model.native[k] for k in ("height", "width")]
    if None in sides:
        raise InputError(
            f"tracking.size: not set, and the folder of {model.folder.name} does not say its own; tracking.size=[768,512], say"
        )
    return max(sides) * 3 // 2, min(sides)


def bucket_of_model(keys: Tracking, model: PlannedModel) -> int:
    """tracking.bucket, else what all layers of a U-Net divide evenly: 64 pixels for a VAE of 8 pixels a latent."""
    return keys.bucket if keys.bucket is not None else LATENTS * max(1, model.folder.vae_factor)


def units(found: Joined, variants: int, unit_size: int) -> tuple[tuple[int, ...], int]:
    """(the slot behind each unit, slots of the largest one): whole images, and never two buckets in a unit."""
    step = max(1, unit_size // variants) * variants
    ends: list[int] = []
    at = 0
    for _, images in found.buckets:
        stop = at + images * variants
        ends += [*range(at + step, stop, step), stop]
        at = stop
    return tuple(ends), max(b - a for a, b in zip([0, *ends], ends, strict=False))


def price(config: PairsConfig, found: Joined, run: int) -> str:
    """What a stage of pairs costs, in words."""
    drawn = {b: n for b, n in found.buckets if b}
    n, same = sum(drawn.values()), found.images_of.get(None, 0)
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
    parts += [f"captions for {_many(found.captioned, 'image')}" if found.captioned else "no captions: no text, no guidance"]
    return "; ".join(parts)


def notes(dataset: DatasetConfig, keys: Tracking, found: Joined) -> list[str]:
    """Lines for whoever started the run."""
    said = []
    if found.left_out:
        listed = f"a run lists them in left_out.jsonl of the stage's folder; the first: {found.first_left_out}"
        said.append(f"tracking: {found.left_out:,} annotations and images cannot be used and are left out; {listed}")
    if found.strangers:
        said.append(f"tracking: {found.strangers:,} captions of {dataset.captions} are of images that {found.annotations} does not have")
    if not any(b for b, _ in found.buckets):
        said.append("tracking: no image has an object to keep, so all are stored as they are; see tracking.min_area and tracking.max_area")
    return said


def _drawing(node: Node, model: PlannedModel, keys: Tracking, size: tuple[int, int], bucket: int) -> dict:
    """What pairs have in common with all that is drawn. height and width are those of the largest canvas."""
    if model.config.command:
        raise InputError("model.command: a command starts from no picture and keeps no objects; choose a model of diffusers for pairs")
    if "vae" not in model.folder.components:
        raise InputError(
            f"{model.folder.path}: {model.folder.pipeline} has no VAE, in whose latents the objects are kept; choose a latent model"
        )
    own = {f: getattr(keys, f) for f in ("seed", "guidance_scale", "steps", "scheduler", "negative_prompt", "negative_prompt_file", "eta")}
    own |= {f: getattr(keys, f) for f in ("preset", "guidance_interval", "vae_batch")}
    if own["guidance_scale"] is None:
        own["guidance_scale"] = node.config.model.native_pair_guidance_scale
    width, height = (-(-side // bucket) * bucket for side in size)
    with _own_keys():
        found = drawing(model, replace(node.config.images, **own, width=width, height=height, save_size=0, format="jpg"), "tracking")
    name = found["scheduler"]
    nobody_chose = keys.scheduler in (None, DEFAULT)  # one that somebody chose is refused by check_repaint
    if nobody_chose and name in (DEFAULT, *SCHEDULERS) and class_of(name, model.folder.scheduler) in UNSUITED:
        found["scheduler"] = INSTEAD
    return found


@contextlib.contextmanager
def _own_keys() -> Iterator[None]:
    """Inside, errors of what all image stages share name keys of tracking."""
    try:
        yield
    except InputError as e:
        said = str(e).replace("img2img.", "tracking.").replace("tracking.height=", "tracking.bucket=")
        raise (e if said == str(e) else InputError(said)) from e.__cause__


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


def _plain(value: object) -> float | tuple[float, ...]:
    return float(value) if isinstance(value, (int, float)) else tuple(float(v) for v in value)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InputError(f"{key}={value}: use one of {', '.join(allowed)}")
    return value
