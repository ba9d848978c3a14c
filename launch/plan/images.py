"""Plans the images stage: captions x images.per_caption, or a number of pictures a class. Drawing keys of all stages that draw."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.config.near import did_you_mean
from launch.config.root import Config
from launch.plan.batches import ALL, AUTO, batches_of
from launch.plan.datasets import counts as real_counts
from launch.plan.datasets import dataset_of, list_path, official
from launch.plan.inputs import read_json, text_of
from launch.plan.loras import trained
from launch.plan.models import Drawn, PlannedModel, judged, patience_of, plan_model
from launch.plan.node import Node
from synth import foreign
from synth.captions.config import ClassEntry, DatasetConfig
from synth.captions.normalise import looked_up
from synth.errors import InputError
from synth.images.attention import check_backend
from synth.images.config import ClassCount, ImagesConfig
from synth.images.families import family_class
from synth.images.model_folder import ModelFolder
from synth.images.slots import Ranges
from synth.judge.config import SHARES
from synth.keys import WrongKey, dump, of_group
from synth.numerics import PRESETS
from synth.store.names import classes_in
from synth.store.spec import StageSpec

HEADING = ["class", "count"]
FORM = 'an object {"class": 100}, or a CSV file with the heading class,count'
MA = "ma"  # images.count: manually annotated, the size of the real training set


def plan(node: Node) -> list[StageSpec]:
    """The spec of the images of a captions_json stage, or of what a round of feedback draws; its `total` is the number of captions."""
    images, table = node.config.images, node.one("captions")
    if table.kind == SHARES:  # a row of a round's is a picture
        images = replace(images, per_caption=1)
    total = table.config["total"]
    with of_group("images"):
        subset = subset_of(images.subset, images.subset_file, total, "row")
        counts = counts_of(images, node.config.dataset)
        classes = _drawn_classes(node, counts)
        model = plan_model(node.config.model, classes)
        model = replace(model, config=replace(model.config, trained=trained(node, classes)))
        config = replace(drawing(model, images, "images"), subset="" if subset is None else str(subset), counts=counts)
        judged(model, config)
    batches = batches_of(node, model, config, images, "images")
    config = replace(config, vae_batch=batches.vae_batch)
    slots = sum(c.count for c in counts) if counts else (total if subset is None else len(subset)) * images.per_caption
    run = run_settings(node.config, model.folder) | batches.settings | ({"notes": list(model.notes)} if model.notes else {})
    return [node.spec(dump(config), slots, images.unit_size, batches.batch, model.inputs, run)]


def _drawn_classes(node: Node, counts: tuple[ClassCount, ...]) -> dict[int, str]:
    """official index -> name of the classes that get pictures."""
    none = {c.index for c in counts if not c.count}
    return {index: name for index, name in classes_in(node.upstream["captions"][0], node.above).items() if index not in none}


# -- what all stages that draw share ---------------------------------------------------------------------------------


def drawing(model: PlannedModel, config: Drawn, group: str) -> Drawn:
    """The config of a group that draws, with its model and what it leaves to that. A vae_batch of auto is 0 until it is settled."""
    text = text_of(config.negative_prompt, config.negative_prompt_file, f"{group}.negative_prompt")
    vae_batch = ALL if config.vae_batch == AUTO else config.vae_batch
    return replace(model.settings(config), model=model.config, negative_prompt=text, vae_batch=vae_batch)


def run_settings(config: Config, model: ModelFolder) -> dict[str, Any]:
    """How a stage that draws is worked on: nothing that its bytes depend on. InputError for what cannot be."""
    what = f"{model.pipeline} ({model.name})"
    check_backend(config.model.attention_backend, family_class(model.pipeline).chooses_attention, what, config.numerics)
    if config.model.text_offload and not family_class(model.pipeline).embeds:
        why = f"{what} encodes its texts while it draws"
        raise WrongKey("text_offload", True, why, "use false", "model")
    on_oom = config.images.on_oom
    if on_oom == "auto":
        on_oom = "fail" if PRESETS[config.numerics]["deterministic"] else "split"
    return {
        "on_oom": on_oom,
        "preview_every": config.images.preview_every,
        "stop_when_empty": config.images.stop_when_empty,
        "text_offload": config.model.text_offload,
    } | patience_of(config.model)


def subset_of(value: object, path: str | None, total: int, what: str) -> Ranges | None:
    """Rows of captions.json or slots of a stage that `subset` or `subset_file` gives, all below `total`; None if neither is set."""
    if value is not None and path is not None:
        raise WrongKey("subset_file", path, "subset and subset_file are both set", "give one of them")
    if value is None and path is None:
        return None
    key = "subset" if path is None else "subset_file"
    if path is not None:
        value = path
        try:
            text = foreign.read_text(Path(path).expanduser())
        except (OSError, InputError) as e:
            raise WrongKey(key, path, f"cannot be read ({getattr(e, 'strerror', None) or e})") from e
    else:
        text = ",".join(str(item) for item in (value if isinstance(value, (list, tuple)) else [value]))
    chosen = Ranges.parse(text, key)
    if not len(chosen):
        raise WrongKey(key, value, f"names no {what}", "write 0..99, or leave it null for all")
    if chosen.last >= total:
        raise WrongKey(key, value, f"{what} {chosen.last}: there are {total}, counted from 0")
    return chosen


# -- pictures a class: GenCL's rule ----------------------------------------------------------------------------------


def counts_of(images: ImagesConfig, dataset: DatasetConfig) -> tuple[ClassCount, ...]:
    """The count of every chosen class; () where pictures are made per caption. A class without one is an InputError.

    `images.count_file` comes before `images.count`. The ratio is for numbers of real pictures, so not for a plain number.
    """
    if images.increase_ratio != 1 and images.count != MA and images.count_file is None:
        raise WrongKey("increase_ratio", images.increase_ratio, "is for images.count=ma and images.count_file", "leave it at 1")
    if images.count is None and images.count_file is None:
        return ()
    if images.per_caption != 1:
        raise WrongKey("per_caption", images.per_caption, "and count or count_file are both set", "leave it at 1")
    classes = dataset_of(dataset).classes
    real, plain = class_counts(dataset, classes, images.count, images.count_file, "images")
    counts = {index: scaled(n, images.increase_ratio) for index, n in real.items()} | plain
    if not any(counts[c.index] for c in classes):
        raise InputError("images: every class would get 0 pictures; raise images.count or images.increase_ratio")
    return tuple(ClassCount(c.index, counts[c.index]) for c in classes)


def class_counts(
    dataset: DatasetConfig, classes: tuple[ClassEntry, ...], count: object, count_file: str | None, group: str
) -> tuple[dict[int, int], dict[int, int]]:
    """({index: number of real pictures or of the file}, {index: the plain number}) of all chosen classes, by `<group>.count`
    and `<group>.count_file`; a class without either is an InputError."""
    given = _counts_in(count_file, official(list_path(dataset)), f"{group}.count_file") if count_file is not None else {}
    known, plain = {c.index: given[c.index] for c in classes if c.index in given}, {}
    rest = [c for c in classes if c.index not in known]
    if rest and count == MA:
        real = real_counts(dataset)
        known |= {c.index: real[c.index] for c in rest if c.index in real}
    elif rest and count is not None:
        plain = dict.fromkeys([c.index for c in rest], _number(count, f"{group}.count"))
    unknown = [c for c in classes if c.index not in known and c.index not in plain]
    if unknown:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        who = f"dataset {dataset.name} does not say how many real pictures"
        why = who if count == MA else f"{group}.count_file does not say how many"
        what = f"class {unknown[0].index} ({unknown[0].name!r}){more} {'have' if more else 'has'}"
        raise InputError(f"{group}: {why} {what}; add it to {group}.count_file, or set {group}.count to a number")
    return known, plain


def scaled(count: int, ratio: float) -> int:
    """Rounded down, in floating point as GenCL does, so that its published totals come out.

    >>> scaled(200, 1.15)
    229
    """
    return int(count * ratio)


def _counts_in(path: str, classes: tuple[ClassEntry, ...], key: str) -> dict[int, int]:
    """{index: count} of a file whose classes are names, or indices as text. InputError for a class that is unknown, or there twice."""
    by_name: dict[str, list[int]] = {}
    for c in classes:
        by_name.setdefault(looked_up(c.name), []).append(c.index)
    indices, counts, said = {c.index for c in classes}, dict[int, int](), dict[int, str]()
    for name, count in _pairs(path, key):
        mine = by_name.get(looked_up(name)) or ([n] if (n := foreign.number_in(name)) in indices else [])
        if not mine:
            raise InputError(f"{key}: {path}: no class {name!r} among {len(classes)}{did_you_mean(name, by_name)}")
        if len(mine) > 1:
            raise InputError(f"{key}: {path}: {name!r} is the name of classes {mine}; write their indices instead")
        if mine[0] in counts:
            raise InputError(f"{key}: {path}: {said[mine[0]]!r} and {name!r} are one class; leave one of them out")
        counts[mine[0]], said[mine[0]] = _number(count, f"{key}: {path}: {name!r}"), name
    if not counts:
        raise InputError(f"{key}: {path}: is empty; write {FORM}, or leave it out")
    return counts


def _pairs(path: str, key: str) -> list[tuple[str, object]]:
    """(class, count) of a JSON object, or of the lines of a CSV file with a heading."""
    if not path.lower().endswith(".csv"):
        data = read_json(path, key, FORM)
        if not isinstance(data, dict):
            raise InputError(f"{key}: {path} holds a {type(data).__name__}; write {FORM}")
        return list(data.items())
    try:
        lines = [row for row in csv.reader(foreign.read_text(Path(path).expanduser()).splitlines(), strict=True) if row]
    except (OSError, InputError, csv.Error) as e:
        raise InputError(f"{key}: {path}: cannot be read ({getattr(e, 'strerror', None) or e}); it must be {FORM}") from e
    if not lines or [cell.strip().lower() for cell in lines[0]] != HEADING:
        raise InputError(f"{key}: {path}: begins with {lines[0] if lines else 'nothing'}; its first line must be {','.join(HEADING)}")
    for n, row in enumerate(lines[1:], 2):
        if len(row) != len(HEADING):
            raise InputError(f"{key}: {path}: row {n} has {len(row)} cells, not a class and a count")
    numbers = ((name, count, foreign.number_in(count.strip())) for name, count in lines[1:])
    return [(name, count if number is None else number) for name, count, number in numbers]


def _number(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        allowed = f"a whole number, 0 or more{', or ma' if where.endswith('.count') else ''}"
        raise InputError(f"{where}={value!r}: must be {allowed}")
    return value
