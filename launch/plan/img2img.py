"""Plans the img2img stage: the pictures of a source x img2img.per_image. A folder is listed here, with the
digests of its pictures where they are not too many to be read."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from launch.config.near import did_you_mean
from launch.config.root import Config
from launch.plan.batches import batches_of
from launch.plan.datasets import list_path, official, remarks
from launch.plan.images import drawing, run_settings, subset_of
from launch.plan.inputs import identity_of
from launch.plan.models import judged, plan_model
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth import foreign
from synth.captions.config import ClassEntry, DatasetConfig
from synth.captions.normalise import composed, looked_up
from synth.errors import InputError
from synth.images.config import Img2ImgConfig
from synth.images.prompts import CLASS
from synth.images.slots import Ranges
from synth.images.sources import Input, SourceClass, layout_of, reader
from synth.images.sources.base import encodable
from synth.images.sources.listing import NAME, ListingWriter
from synth.images.sources.read import digested, known_by_name
from synth.keys import WrongKey, dump, of_group
from synth.kinds import KINDS, makes_pictures
from synth.seeds import derive
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec
from synth.store.trees import PICTURES

GROUP, ROLE = "img2img", "images"
UNLABELLED = "unlabelled"  # the one class of a source that has none
NO_DATASET = DatasetConfig(name="", classes=(), n_classes=0, kind="object", suffix="")  # a stage upstream has its own


@dataclass(frozen=True)
class Listed:
    """A folder as it is listed. n: inputs; classes: those that the source has; notes: how it was understood and what is not read."""

    listing: bytes
    identity: str
    n: int
    classes: tuple[SourceClass, ...]
    notes: tuple[str, ...]


def plan(node: Node) -> list[StageSpec]:
    """The spec of a stage whose inputs are an upstream stage of the recipe, or img2img.source: a stage folder or a folder."""
    with of_group(GROUP):
        if ROLE in node.upstream:
            if (source := node.config.img2img.source) is not None:
                raise WrongKey("source", source, f"recipe {node.config.recipe.name} gives this stage its pictures", "leave it out")
            return [_of_stage(node)]
        root, layout = source_layout(node.config.img2img)
        if layout == "stage":
            return [_of_stage(replace(node, upstream={**node.upstream, ROLE: (given_stage(root),)}))]
        return [_of_folder(node, root, layout)]


def _spec(node: Node, config: Img2ImgConfig, n: int, inputs: dict[str, InputFile]) -> StageSpec:
    """config: of the group, with what is known of its source; n: inputs."""
    if config.prompt == "template" and CLASS in config.prompt_template and [c.name for c in config.dataset.classes] == [UNLABELLED]:
        fix = f"use img2img.prompt=caption, or a template without {CLASS}"
        raise WrongKey("prompt_template", config.prompt_template, "the source has no classes", fix)
    model, asked = plan_model(node.config.model), config
    config = drawing(model, config, GROUP)
    judged(model, config, img2img=True)
    batches = batches_of(node, model, config, asked, GROUP)
    config = replace(config, vae_batch=batches.vae_batch)
    run = run_settings(node.config, model.folder) | batches.settings
    return node.spec(dump(config), n * config.per_image, config.unit_size, batches.batch, {**model.inputs, **inputs}, run)


# -- a stage of pictures ---------------------------------------------------------------------------------------------


def given_stage(path: Path, filters: bool = False) -> PlannedStage:
    """A stage of pictures that was made before; WrongKey of the key `source` for another, and for one that is not whole.

    filters: whether what a filter left will do.
    """
    folder = StageFolder.open(path)
    known = [k for k, row in KINDS.items() if makes_pictures(k) or (filters and row.chooses)]
    if folder.path.name != folder.spec.folder_name or folder.spec.kind not in known:
        why = f"is of kind {folder.spec.kind}; a source is one of {', '.join(known)}, under its own name {folder.spec.folder_name}"
        raise WrongKey("source", folder.path, why)
    if not folder.is_whole():
        raise WrongKey("source", folder.path, "is not whole", "complete it first, by the command that planned it")
    return PlannedStage(folder.spec, folder.path.parent)


def _of_stage(node: Node) -> StageSpec:
    """All slots of the upstream, or a subset; those without a picture stay slots without a picture."""
    config, upstream = node.config.img2img, node.one(ROLE)
    chosen = subset_of(config.subset, config.subset_file, upstream.slots, "slot")
    numbers = chosen if chosen is not None else range(upstream.slots)
    if config.random_count is not None:
        if config.random_count > len(numbers):
            raise _too_many(config.random_count, len(numbers))
        lots = sorted(numbers, key=lambda slot: (derive(config.seed, "img2img", "subset", f"{slot:09d}"), slot))
        numbers = chosen = Ranges.of(lots[: config.random_count])
    return _spec(node, replace(config, dataset=NO_DATASET, subset="" if chosen is None else str(chosen)), len(numbers), {})


def _too_many(count: int, there: int) -> WrongKey:
    return WrongKey("random_count", count, f"there are {there} inputs", "ask for fewer, or leave it null for all")


# -- a folder of pictures --------------------------------------------------------------------------------------------


def source_layout(config: Img2ImgConfig) -> tuple[Path, str]:
    """(root, layout) of img2img.source; a path that is not there is a WrongKey."""
    if not config.source:
        raise WrongKey("source", None, "not set", "it must name a folder of pictures: img2img.source=/path")
    # the real place: a link such as image_folder-latest points elsewhere when this run is through; only links name files of a hub's cache
    root = (named := Path(config.source).expanduser()).resolve()
    if not root.exists():
        raise WrongKey(
            "source", config.source, "is not there", "it must name a folder of pictures, a .tar, .parquet or .h5 file, or a stage folder"
        )
    return root, layout_of(named) if config.layout == "auto" else config.layout


def _of_folder(node: Node, root: Path, layout: str) -> StageSpec:
    """The listing of a folder, cut down to what the config asks for, and the stage that is made of it."""
    config, dataset = node.config.img2img, node.config.dataset
    if config.classes == "dataset" and not (dataset.source or dataset.classes_json):
        raise WrongKey("classes", "dataset", "no dataset with a list of classes is chosen", "choose one: dataset=imagenet, say")
    if config.subset is not None:
        fix = "for a folder use img2img.subset_file (names) or img2img.random_count"
        raise WrongKey("subset", config.subset, "is for stages of pictures", fix)
    if root in (node.dataset_root.resolve(), *node.dataset_root.resolve().parents):
        raise InputError(
            f"img2img.source: {root}: the stages of this run would lie in it ({node.dataset_root}) and become part of it; "
            "choose another runs_dir or dataset.name"
        )
    wanted = _names_in(config.subset_file) if config.subset_file is not None else None
    source = _listed(root, layout, config.prompt == "caption", wanted, config.random_count, config.seed)
    names = _class_names(config.class_names_file, source.classes) if config.class_names_file is not None else {}
    classes = [replace(c, name=composed(encodable(names.get(c.name, c.name)))) for c in source.classes]
    entries, indices = _with_dataset(classes, dataset) if config.classes == "dataset" else _of_source(classes, node.config)
    name = dataset.name if dataset.source or dataset.classes_json else ""  # the name of a folder is no part of a stage
    own = replace(dataset, name=name, classes=entries, n_classes=max(e.index for e in entries) + 1, suffix="")
    config = replace(config, dataset=own, source_classes=indices, subset="")
    spec = _spec(node, config, source.n, {"source": InputFile(str(root), source.identity)})
    told = [*source.notes, *(remarks(dataset) if config.classes == "dataset" else ())]
    notes = {"notes": told} if told else {}
    return replace(spec, files={NAME: source.listing}, settings={**spec.settings, **notes})


@cache  # the points of a sweep share it
def _listed(root: Path, layout: str, captions: bool, wanted: frozenset[str] | None, count: int | None, seed: int) -> Listed:
    inputs, writer = reader(layout, root, captions), ListingWriter()
    inputs.identify = identity_of
    chosen: Iterable[Input] = inputs if wanted is None else _named(inputs, wanted)
    for item in digested(chosen if count is None else _drawn(chosen, count, seed), root):
        writer.add(item)
    if not writer.n:
        what = inputs.unread.note() or ", ".join(sorted(PICTURES))
        raise WrongKey("source", root, f"holds no picture ({what})", "check the path and img2img.layout")
    if not writer.usable:
        raise WrongKey("source", root, f"none of the {writer.n} inputs of it can be used: {writer.first}")
    if captions and not writer.captioned:
        raise WrongKey("prompt", "caption", f"no input of {root} has a caption", "use template")
    unread = [f"img2img.source: {root}: {inputs.unread.note()}"] if inputs.unread else []
    notes = (*(f"img2img.source: {note}" for note in inputs.notes), *unread, *known_by_name(writer.by_name, "img2img.source"))
    return Listed(*writer.finish(), writer.n, tuple(inputs.classes), notes)


def _names_in(path: str) -> frozenset[str]:
    try:
        lines = foreign.read(Path(path).expanduser(), foreign.TABLE).split(b"\n")
    except (OSError, InputError) as e:
        raise WrongKey("subset_file", path, f"cannot be read ({getattr(e, 'strerror', None) or e})") from e
    names = frozenset(line.rstrip(b"\r").decode("utf-8", "backslashreplace") for line in lines if line.strip())
    if not names:
        raise WrongKey("subset_file", path, "names nothing", "write a path, a file name or a stem a line")
    return names


def _named(inputs: Iterable[Input], wanted: frozenset[str]) -> Iterator[Input]:
    """The inputs that a line names: by path below the source, by file name, or by its stem."""
    met: set[str] = set()
    for item in inputs:
        base = item.key.rpartition("/")[2]
        if hits := wanted & {item.key, base, base.rpartition(".")[0] or base}:
            met |= hits
            yield item
    if missing := sorted(wanted - met):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise InputError(f"img2img.subset_file: {missing[0]!r}{more} is the name of no input; remove the line, or check img2img.source")


def _drawn(inputs: Iterable[Input], count: int, seed: int) -> list[Input]:
    """`count` inputs drawn by seed, in their order. Each one's lot hangs on its name, so most stay when the source grows."""
    lots = ((derive(seed, "img2img", "subset", item.key), n, item) for n, item in enumerate(inputs))
    drawn = heapq.nsmallest(count, lots, key=lambda lot: lot[:2])
    if len(drawn) < count:
        raise _too_many(count, len(drawn))
    return [item for _, _, item in sorted(drawn, key=lambda lot: lot[1])]


def _class_names(path: str, classes: tuple[SourceClass, ...]) -> dict[str, str]:
    try:
        data = foreign.read_json(Path(path).expanduser(), foreign.TABLE, once=True)
    except (OSError, InputError) as e:
        raise WrongKey("class_names_file", path, f"cannot be read as JSON ({getattr(e, 'strerror', None) or e})") from e
    if not foreign.fits(data, {str: str}) or not all(v.strip() for v in data.values()):
        raise WrongKey("class_names_file", path, 'write an object {"n01440764": "tench"}')
    data |= {composed(name): text for name, text in data.items()}  # the folder of a class may be in another form than the file
    data |= {c.name: data[composed(c.name)] for c in classes if composed(c.name) in data}
    missing = [c.name for c in classes if c.name not in data]
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise WrongKey("class_names_file", path, f"has no name for class {missing[0]!r}{more} of the source")
    return data


def _of_source(classes: list[SourceClass], config: Config) -> tuple[tuple[ClassEntry, ...], tuple[int, ...]]:
    """Classes as the source has them; what it does not number is numbered in the order of the names, as ImageFolder does."""
    if config.dataset.classes != "all" or config.dataset.classes_file is not None:
        raise InputError("dataset.classes: chooses of the classes of dataset=; set img2img.classes=dataset, or use img2img.subset_file")
    if not classes:
        return (ClassEntry(0, UNLABELLED),), ()
    return numbered(classes, lambda why: WrongKey("source", config.img2img.source, why, "use img2img.classes=dataset"))


def numbered(classes: list[SourceClass], wrong: Callable[[str], WrongKey]) -> tuple[tuple[ClassEntry, ...], tuple[int, ...]]:
    """(classes by index, the index of each class number) of a source; what `wrong` makes of the reason for one whose numbers disagree."""
    unnumbered = sorted({c.name for c in classes if c.index is None})
    if unnumbered and any(c.index is not None for c in classes):
        raise wrong(f"some classes have a number, {unnumbered[0]!r} has none")
    entries: dict[int, str] = {}
    indices = tuple(unnumbered.index(c.name) if c.index is None else c.index for c in classes)
    for index, c in zip(indices, classes, strict=True):
        if entries.setdefault(index, c.name) != c.name:
            raise wrong(f"class {index} is called {entries[index]!r} and {c.name!r}")
    return tuple(ClassEntry(i, n) for i, n in sorted(entries.items())), indices


def _with_dataset(classes: list[SourceClass], dataset: DatasetConfig) -> tuple[tuple[ClassEntry, ...], tuple[int, ...]]:
    """Classes found by name, or by index as text, among those of dataset=: with their official indices."""
    known = official(list_path(dataset))
    by_name: dict[str, list[int]] = {}
    for entry in known:
        by_name.setdefault(looked_up(entry.name), []).append(entry.index)
    indices = []
    for c in classes:
        same = by_name.get(looked_up(c.name)) or ([n] if (n := foreign.number_in(c.name)) is not None and n < len(known) else [])
        if len(same) != 1:
            none = f"is none of {dataset.name}'s {len(known)}{did_you_mean(c.name, by_name)}"
            why = f"class {c.name!r} of the source " + (f"is the name of classes {same}" if same else none)
            raise WrongKey("classes", "dataset", why, "say which it is in img2img.class_names_file")
        indices += same
    if not classes:
        raise WrongKey("classes", "dataset", "the source has no classes", "use source")
    return known, tuple(indices)
