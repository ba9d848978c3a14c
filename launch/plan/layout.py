"""Plans layout labels: a source of pictures with alt texts, and the chain of stages that says what is in them, a slot a picture.

`tags` lists the source; `chained` gives a later stage the slots, units and pictures of the one before it.
"""

import gzip
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from launch.plan import servers
from launch.plan.absent import stand_in, unless_absent
from launch.plan.fetching import fetched
from launch.plan.img2img import given_stage
from launch.plan.inputs import existing, identity_of, input_file
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.plan.servers import Server
from launch.plan.sources import PACKAGE
from synth import foreign
from synth.errors import InputError
from synth.images.sources.base import Reader
from synth.images.sources.listing import NAME, ListingWriter
from synth.images.sources.read import digested, known_by_name
from synth.keys import WrongKey, dump, of_group
from synth.layout.config import CAPTION, FILE, FLORENCE2, MODELS, SERVED, TOY, VLM, VOCABULARY, TaggerConfig, TagsConfig
from synth.layout.florence2 import Florence2Model
from synth.layout.meta_files import MetaReader
from synth.layout.readers import layout_of, reader
from synth.layout.source import IMAGES, KEY, ROLE, SOURCE
from synth.layout.tag_files import read_tags, strangers
from synth.layout.vlm_tags import check_vlm
from synth.layout.vocabulary import check_model, read_words
from synth.run.empty import AFTER
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec
from synth.store.trees import PICTURES

GROUP = "layout"


@dataclass(frozen=True)
class Listed:
    """A source as it is listed. root: the folder that its paths are relative to; n: pictures; notes: what people should know of it."""

    root: Path
    listing: bytes
    identity: str
    n: int
    notes: tuple[str, ...]

    def images(self) -> Iterator[str]:
        """The name of each picture."""
        with gzip.open(io.BytesIO(self.listing)) as lines:
            yield from (json.loads(line)[0] for line in lines)


# -- the chain -------------------------------------------------------------------------------------------------------


def chained(
    node: Node,
    config: Mapping,
    batch: int,
    inputs: Mapping[str, InputFile] | None = None,
    settings: Mapping | None = None,
) -> StageSpec:
    """The spec of a stage of the chain behind the first: the slots and units of the stage before it, and the same source.

    config: as `dump` gives it; batch: slots, at most a unit; inputs: further ones, of its model.
    """
    before = node.one(ROLE)
    source = {role: file for role, file in before.inputs.items() if role == SOURCE}
    spec = node.spec(config, before.slots, before.unit_size, batch, {**source, **(inputs or {})}, settings)
    images = {role: ups for role, ups in before.upstream.items() if role == IMAGES}  # named from beside: a chain lies in one folder
    return replace(spec, upstream={**spec.upstream, **images})


def left_out(node: Node) -> list[PlannedStage]:
    """In the place of a stage that nobody asked for: the one before it, which is what the next one reads."""
    return list(node.upstream[ROLE])


def toys(node: Node, group: str, model: Path) -> list[str]:
    """What to say of a model that ships here, where the pictures are others than those that do."""
    source = node.config.layout.source
    if PACKAGE not in model.resolve().parents or (source and PACKAGE in Path(source).expanduser().resolve().parents):
        return []
    fix = "choose another for pictures of your own (docs/layout.md)"
    return [f"{TOY}: {group} is {model.name}, which ships here and knows drawings of 20 things, and no photographs; {fix}"]


# -- tags, the first stage -------------------------------------------------------------------------------------------


def tags(node: Node) -> list[StageSpec]:
    """The source is layout.source, or an upstream stage of pictures of the recipe."""
    config = node.config.layout
    taggers, files, server = _planned_taggers(node)  # first: to list a source may take minutes
    own = (server.settings if server else {}) | _stopping(node)
    stored = dump(TagsConfig(taggers=taggers, max_tags=config.max_tags or 0))
    of_toys = [note for name, tagger in zip(node.config.tagger, taggers, strict=True) for note in _toy_tagger(node, name, tagger, files)]

    def spec(node: Node, slots: int, inputs: Mapping[str, InputFile], notes: Sequence[str] = ()) -> StageSpec:
        notes = [*of_toys, *notes]
        settings = own | ({"notes": notes} if notes else {})
        made = node.spec(stored, slots, config.unit_size, config.batch_size, {**inputs, **files}, settings)
        if server:
            servers.check_undone(node, [made], server, f"tagger.{SERVED}")
        return made

    with of_group(GROUP):
        if IMAGES in node.upstream:
            if config.source is not None:
                raise WrongKey("source", config.source, f"recipe {node.config.recipe.name} gives this stage its pictures", "leave it out")
            return [spec(node, node.one(IMAGES).slots, {})]
        root, layout = _place(node)
        if layout == "stage":
            stage = given_stage(root)
            notes = _unnamed(node, root, lambda: _keys(stage))
            slots = min(stage.spec.slots, node.config.trial or stage.spec.slots)
            return [spec(replace(node, upstream={**node.upstream, IMAGES: (stage,)}), slots, {}, notes)]
        source = _listed(root, layout, config.image_folder, node.config.trial)
    # of a try the whole source was judged before
    notes = [*source.notes, *(_unnamed(node, source.root, source.images) if node.config.trial is None else ())]
    made = spec(node, source.n, {SOURCE: InputFile(str(source.root), source.identity)}, notes)
    return [replace(made, files={NAME: source.listing})]


def _planned_taggers(node: Node) -> tuple[tuple[TaggerConfig, ...], dict[str, InputFile], Server | None]:
    """The taggers of a run as their stage has them, in the order in which they were chosen, the files that they read, and their server."""
    if not node.config.tagger:
        raise InputError("tagger=[]: names no way to find tags; choose one: tagger=[vocabulary], or tagger=[caption,vocabulary]")
    taggers: list[TaggerConfig] = []
    files: dict[str, InputFile] = {}
    server: Server | None = None
    for n, (name, tagger) in enumerate(node.config.tagger.items()):
        with of_group(f"tagger.{name}"):
            if tagger.kind == SERVED:
                if server is not None:
                    raise InputError(f"tagger.{name}: is the second tagger that starts a server; a worker has one")
                server = servers.planned(f"tagger.{name}", tagger)
                tagger = replace(tagger, rows=1, server=server.server)
            file = server.file if tagger.kind == SERVED and server else _tagger_input(f"tagger.{name}", tagger)
            words = _words(f"tagger.{name}", tagger) if tagger.kind == VOCABULARY else ()
        role = f"tagger_{n}" if file else ""
        files |= {role: file} if file else {}
        taggers.append(replace(tagger, role=role, words=words))
    return tuple(taggers), files, server


def _stopping(node: Node) -> dict[str, int]:
    """After how many pictures without a tag a worker stops: the largest number of the taggers that are asked; {} if none is."""
    numbers = [tagger.stop_when_empty for tagger in node.config.tagger.values() if tagger.stop_when_empty is not None]
    return {AFTER: 0 if 0 in numbers else max(numbers)} if numbers else {}


def _toy_tagger(node: Node, name: str, tagger: TaggerConfig, files: Mapping[str, InputFile]) -> list[str]:
    return toys(node, f"tagger.{name}", Path(files[tagger.role].path)) if tagger.kind in MODELS else []


def _tagger_input(group: str, tagger: TaggerConfig) -> InputFile | None:
    """The folder or file that a tagger reads, judged. A model's folder is judged before it is hashed."""
    if tagger.kind == FILE:
        file = input_file(tagger.file, f"{group}.file", "a file with tags by picture")
        read_tags(Path(file.path))
        return file
    if tagger.kind == CAPTION:
        return None
    what = "a folder of a model in transformers' layout"
    path = unless_absent(lambda: existing(tagger.path or fetched(group, None, tagger.repo), f"{group}.path", what))
    if path is None:
        return stand_in(f"{group}.path")
    _CHECKS[tagger.kind](path)
    return InputFile(str(path), identity_of(path))


_CHECKS: Mapping[str, Callable[[Path], object]] = {VOCABULARY: check_model, FLORENCE2: Florence2Model.check, VLM: check_vlm}


def _keys(stage: PlannedStage) -> Iterator[str]:
    """The name of each picture of a whole stage. Reads the end of every unit."""
    folder = StageFolder.open(stage.folder)
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            yield from (entry.key for _, entry in sorted(reader.entries.items()))


def _unnamed(node: Node, source: Path, images: Callable[[], Iterator[str]]) -> list[str]:
    """What to say of files of tags that name pictures which the source does not have; WrongKey for one that names none of its pictures:
    a stage without tags would come of it, and labels without a box."""
    notes: list[str] = []
    for name, tagger in node.config.tagger.items():
        if tagger.kind != FILE:
            continue
        named = read_tags(existing(tagger.file, f"tagger.{name}.file", "a file with tags by picture"))
        others = strangers(named, images())
        if len(others) == len(named):
            why = f"names no picture of {source}: its first one is {others[0]!r}, the first one there {next(images(), '')!r}"
            raise WrongKey("file", tagger.file, why, "write names as the source has them", f"tagger.{name}")
        if others:
            notes.append(f"tagger.{name}.file: {len(others):,} of {len(named):,} names in it are of no picture; the first: {others[0]}")
    return notes


def _words(group: str, tagger: TaggerConfig) -> tuple[str, ...]:
    """The list of words of a vocabulary; WrongKey for templates that hold none of them."""
    for template in tagger.templates:
        if "{}" not in template:
            raise WrongKey("templates", template, "has no {} for the word")
    if not tagger.templates:
        raise WrongKey("templates", [], "needs one text with {} at least")
    return read_words(existing(tagger.vocabulary, f"{group}.vocabulary", "a text file with a word a line"))


# -- the source ------------------------------------------------------------------------------------------------------


def _place(node: Node) -> tuple[Path, str]:
    """(root, layout) of layout.source."""
    config = node.config.layout
    what = "img2dataset's output, a folder of pictures, a .tar, .parquet or .h5 file, meta files or a stage folder"
    if not config.source:
        raise WrongKey("source", None, "not set", f"it must name {what}: layout.source=/path")
    # the real place: a link such as image_folder-latest points elsewhere when this run is through; only links name files of a hub's cache
    root = (named := Path(config.source).expanduser()).resolve()
    if not root.exists():
        raise WrongKey("source", config.source, f"is {foreign.absent(root)}", f"it must name {what}")
    layout = layout_of(named) if config.layout == "auto" else config.layout
    if config.image_folder is not None and layout != "meta":
        raise WrongKey("image_folder", config.image_folder, f"is for meta files, and {root} is of layout {layout}", "leave it out")
    if layout not in ("meta", "stage") and root in (node.dataset_root.resolve(), *node.dataset_root.resolve().parents):
        why = f"the stages of this run would lie in it ({node.dataset_root}) and become part of it"
        raise WrongKey("source", root, why, "choose another runs_dir or dataset.name")
    return root, layout


@cache  # the points of a sweep share it
def _listed(root: Path, layout: str, image_folder: str | None, most: int | None = None) -> Listed:
    """most: the first so many pictures alone."""
    inputs, writer = reader(layout, root), ListingWriter()
    inputs.identify = identity_of
    base = _base(inputs, image_folder)
    for item in digested(itertools.islice(inputs, most), base, KEY):
        writer.add(item)
    if not writer.n:
        what = inputs.unread.note() or ", ".join(sorted(PICTURES))
        raise WrongKey("source", root, f"holds no picture ({what})", "check the path and layout.layout")
    if not writer.usable:
        fix = "say where they lie: layout.image_folder=/path" if layout == "meta" else "check the path"
        raise WrongKey("source", root, f"none of the {writer.n:,} pictures of it can be used: {writer.first}", fix)
    notes = [f"{KEY}: {note}" for note in inputs.notes]
    notes += [f"{KEY}: {root}: {inputs.unread.note()}"] if inputs.unread else []
    notes += known_by_name(writer.by_name, KEY)
    notes += [] if writer.captioned else [f"{KEY}: no picture of {root} has an alt text"]
    return Listed(base, *writer.finish(), writer.n, tuple(notes))


def _base(inputs: Reader, image_folder: str | None) -> Path:
    """The folder that the paths of the inputs are relative to."""
    if not isinstance(inputs, MetaReader):
        return inputs.root
    if image_folder is not None:
        inputs.image_folder = Path(image_folder).expanduser().resolve()
        if not inputs.image_folder.is_dir():
            raise WrongKey("image_folder", image_folder, "is no folder that is there", "it must hold the pictures of the meta files")
    return inputs.base
