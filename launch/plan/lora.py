"""Plans LoRAs that a run trains on a few real pictures of each class, and puts their stage before those that draw."""

import gzip
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.config.root import Config, RecipeStage
from launch.plan.apart import apart
from launch.plan.batches import GB
from launch.plan.datasets import dataset_of
from launch.plan.gpu_memory import gpu_memory
from launch.plan.loras import called, forms_of, several
from launch.plan.models import PlannedModel, plan_model
from launch.plan.node import Node
from launch.plan.sources import IMAGES, Given, Planned, of_given
from synth import foreign
from synth.captions.config import ClassEntry
from synth.features.sources import labelled_in
from synth.images.config import DrawingConfig
from synth.images.families import family_class
from synth.images.memory import ITEM, known, need
from synth.images.model_folder import ModelFolder
from synth.images.models import check_channels
from synth.images.prompts import CLASS
from synth.images.sources.base import Input
from synth.images.sources.listing import NAME
from synth.images.trained import ROLE
from synth.keys import WrongKey, dump, of_group
from synth.lora.config import ALL, PLAIN, LoraClass, LoraConfig
from synth.numerics import PRESETS
from synth.reading.stage import StageReader
from synth.store.folder import StageFolder
from synth.store.names import classes_in
from synth.store.spec import StageSpec

LORA, KEY, IMAGES_KIND = "lora", "lora.real", "images"  # the stage and the group of its keys
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
UNET, VAE = "UNet2DConditionModel", "AutoencoderKL"
PREDICTIONS = ("epsilon", "v_prediction", "sample")
COPIES = 4  # of latents on the host: mean and deviation, as it is and mirrored
FEW, UNDONE = 4, "training on pictures may undo that; look at what it draws (try=2)"  # steps of models that were distilled
FIX = "use a Stable Diffusion 1, 2 or XL model, or LoRAs that were trained elsewhere: model.lora_by_class"
DRAWN: dict[str, Any] = {"lora_by_class": None, "parts": {}, "safety_checker": "off", "dtype": "auto", "attention_backend": None}


def add(config: Config, stages: dict[str, RecipeStage]) -> None:
    """Have all stages that draw from captions read LoRAs, where lora.real names pictures to train them on."""
    if config.lora.real is None:
        return
    drawing = [name for name, stage in stages.items() if stage.kind == IMAGES_KIND]
    if not drawing:
        why = f"recipe {config.recipe.name} draws no pictures from captions"
        raise WrongKey("real", config.lora.real, why, "leave it out, or use recipe=class_images", LORA)
    stages[LORA] = RecipeStage(LORA)
    for name in drawing:
        stages[name] = replace(stages[name], upstream={**stages[name].upstream, ROLE: LORA})


def plan(node: Node) -> list[StageSpec]:
    """A unit a LoRA. WrongKey for a model that has none to be trained, and for classes without a real picture."""
    keys = node.config.lora
    with of_group(LORA):
        model, drawn = _model(node.config)
        size = _size(keys, model, drawn)
        source = of_given(node, Given(keys.real, KEY))
        apart(node, keys.real, KEY, "teach the model what it is judged by", "leave judge.test out")
        classes, notes = _classes(node, source)
        if keys.scope == ALL and CLASS not in keys.prompt and len(classes) > 1:
            notes.append(f"{LORA}.prompt: does not say {CLASS}, so that the one LoRA of all classes cannot tell them apart")
        if model.config.native_steps <= FEW:
            notes.append(f"{KEY}: {model.config.id} draws in {model.config.native_steps} steps, for which it was distilled: {UNDONE}")
        legs = _legs(keys.steps, keys.save_every)
    config = replace(
        keys, size=size, legs=legs, classes=classes, model=model.config, pictures=source.slots, dataset=source.classes,
        source_classes=source.source_classes,
    )  # fmt: skip
    together = [min(keys.per_class, c.pictures) for c in classes]
    held = sum(together) if keys.scope == ALL else max(together)
    memory = _memory(node, model, replace(drawn, height=size, width=size), keys, held)
    said = [*source.notes, *model.notes, *notes]
    settings = {**source.settings, **memory} | ({"notes": said} if said else {})
    units = 1 if keys.scope == ALL else len(classes)
    inputs = {**source.inputs, **model.inputs}
    spec = replace(node, upstream=source.node.upstream).spec(dump(config), units * len(legs), len(legs), 1, inputs, settings)
    return [replace(spec, files=source.files)]


# -- the model -------------------------------------------------------------------------------------------------------


def _model(config: Config) -> tuple[PlannedModel, DrawingConfig]:
    """(the model as it is trained, what it draws)"""
    real = config.lora.real
    if config.model.lora_by_class is not None:
        raise WrongKey("real", real, "model.lora_by_class names LoRAs of classes, too", "leave one of them out")
    if config.model.command or config.model.restarts is not None:
        raise WrongKey("real", real, "the model is a command, whose weights nobody knows", FIX)
    drawing = plan_model(config.model)
    model = plan_model(replace(config.model, **DRAWN)) if drawing.folder.pipeline in PIPELINES else drawing
    if drawing.folder.pipeline not in PIPELINES:
        raise WrongKey("real", real, f"LoRAs of {drawing.folder.pipeline} ({drawing.folder.name}) are not trained here", FIX)
    if not model.absent:
        _check_folder(real, model.folder)
    with of_group(IMAGES_KIND):
        return model, drawing.settings(config.images)


def _check_folder(real: str, folder: ModelFolder) -> None:
    """WrongKey for a model of parts that are not trained here."""
    what, unet = f"{folder.pipeline} ({folder.name})", folder.component_config("unet")
    if unet.get("time_cond_proj_dim") is not None:
        raise WrongKey("real", real, f"{what} is distilled (its U-Net takes the guidance scale), which training would undo", FIX)
    predicts = folder.scheduler_config().get("prediction_type", PREDICTIONS[0])
    if predicts not in PREDICTIONS or folder.scheduler.startswith("FlowMatch"):
        raise WrongKey("real", real, f"{what} predicts {predicts} by {folder.scheduler}, which is not trained here", FIX)
    vae = folder.classes.get("vae", "")
    if folder.classes.get("unet") != UNET or (folder.vae is None and not vae.endswith(VAE)):
        why = f"{what} has a {folder.classes.get('unet')} and a {vae}, which are not trained here"
        raise WrongKey("real", real, why, FIX)
    check_channels(folder)


def _size(keys: LoraConfig, model: PlannedModel, drawn: DrawingConfig) -> int:
    """Pixels of a side: what is asked for, else the smaller one of what is drawn."""
    size = keys.size if keys.size is not None else min(drawn.height, drawn.width)
    try:
        if not model.absent:
            model.folder.check_size(size, size, family_class(model.folder.pipeline).size_step)
    except WrongKey as e:
        raise WrongKey("size", size, e.why, e.fix, LORA) from e
    return size


def _legs(steps: int, every: int) -> tuple[int, ...]:
    """Steps between two moments at which a training is kept.

    >>> _legs(5, 2), _legs(4, 9)
    ((2, 2, 1), (4,))
    """
    return tuple(min(every, steps - begun) for begun in range(0, steps, every))


def _memory(node: Node, model: PlannedModel, drawn: DrawingConfig, keys: LoraConfig, held: int) -> dict[str, Any]:
    """For the settings: what is known of a worker's memory. held: pictures whose latents are on the host together. WrongKey where a GPU
    does not even hold the weights."""
    gpu = gpu_memory(node.config.cluster, node.kind, {})
    if gpu is None or model.absent or not known(model.folder):
        return {}
    dtype = "bfloat16" if keys.dtype == "auto" else keys.dtype
    own = replace(drawn, model=replace(model.config, dtype=dtype))
    cost = need(model.folder, own, PRESETS[node.config.numerics], 1, 1)
    weights = sum(cost.weights.values()) + cost.weights.get("vae", 0) * (ITEM["float32"] / ITEM[cost.dtype] - 1)  # in float32
    if weights > gpu.gb * GB:
        why = f"its weights are {weights / GB:.1f} GB, and a GPU of this plan has {gpu.gb:g} GB ({gpu.source})"
        raise WrongKey("real", keys.real, f"{model.config.id} does not fit: {why}", "use GPUs with more memory")
    vae = model.folder.component_config("vae")
    latents = int(vae.get("latent_channels", 4)) * (drawn.height // model.folder.vae_factor) ** 2
    host = cost.host + held * latents * COPIES * ITEM["float32"]
    figures = {"weights": round(weights / GB, 1), "host": round(host / GB, 1)}
    return {"memory": figures | {"dtype": cost.dtype, "gpu": gpu.gb, "source": gpu.source}}


# -- which real pictures are of which class --------------------------------------------------------------------------


def _classes(node: Node, source: Planned) -> tuple[tuple[LoraClass, ...], list[str]]:
    """(the classes of the run that have real pictures, what to say of the others)"""
    keys, chosen = node.config.lora, dataset_of(node.config.dataset).classes
    of_source = _source_classes(source)
    if not of_source:
        raise WrongKey("real", keys.real, "its pictures are of no class", "give a folder with a folder of pictures for each class")
    labels, others = _matched(of_source, chosen, keys)
    counts, bad = _counted(source)
    found = tuple(
        LoraClass(c.index, c.name, c.said, labels[c.index], counts[labels[c.index]])
        for c in sorted(chosen, key=lambda c: c.index)
        if counts[labels.get(c.index, -1)]
    )
    lacking = [c.name for c in chosen if c.index not in {f.index for f in found}]
    if lacking and (keys.missing != PLAIN or not found):
        fix = "add some, choose other classes (dataset.classes), or let the model draw such classes without: lora.missing=plain"
        raise WrongKey("real", keys.real, f"no real picture of {several(lacking, 'class')}", fix)
    few = [f"{c.name} ({c.pictures})" for c in found if c.pictures < keys.per_class]
    notes = [f"{LORA}.per_class={keys.per_class}: there are fewer real pictures of {several(few, 'class')}"] if few else []
    notes += [f"{LORA}.missing={PLAIN}: no real picture of {several(lacking, 'class')}"] if lacking else []
    notes += [f"{KEY}: left out: {several(bad, 'picture')}"] if bad else []
    return found, notes + ([f"{KEY}: of no class of this run: {several(others, 'class')} of the source"] if others else [])


def _source_classes(source: Planned) -> dict[int, str]:
    """label -> name of the classes of the real pictures."""
    if IMAGES in source.node.upstream:
        (stage,) = source.node.upstream[IMAGES]
        return classes_in(stage, source.node.above)
    return {c.index: c.name for c in source.classes.classes}


def _counted(source: Planned) -> tuple[Counter[int], list[str]]:
    """(pictures that may be used by label, the others with what is wrong with them). Reads the records of a stage, or the listing."""
    if IMAGES in source.node.upstream:
        (stage,) = source.node.upstream[IMAGES]
        return Counter(label for _, _, label in labelled_in(StageReader(StageFolder.open(stage.folder)))), []
    counts, bad = Counter[int](), []
    for line in gzip.decompress(source.files[NAME]).splitlines():
        item = Input.from_list(foreign.parse(line, Path(NAME), halves=True))
        if item.reason or not item.labels:
            bad.append(f"{item.key}: {item.reason or 'has no class'}")
        else:
            counts[source.source_classes[item.labels[0]]] += 1
    return counts, bad


def _matched(of_source: Mapping[int, str], chosen: tuple[ClassEntry, ...], keys: LoraConfig) -> tuple[dict[int, int], list[str]]:
    """({official index: label of its pictures}, names of other classes of the source), by name, as exports call folders, or by index."""
    indices = {c.index: c.name for c in chosen}
    by_name = forms_of(indices)
    labels: dict[int, int] = {}
    others = []
    for label, name in sorted(of_source.items()):
        mine = called(name, by_name, indices)
        if len(mine) > 1:
            why = f"{name!r} is the name of classes {sorted(mine)}"
            raise WrongKey("real", keys.real, why, "call the folder of a class by its index")
        if not mine:
            others.append(name)
            continue
        (index,) = mine
        if index in labels:
            why = f"{of_source[labels[index]]!r} and {name!r} are both class {index}"
            raise WrongKey("real", keys.real, why, "leave one of them")
        labels[index] = label
    return labels, others
