"""Pictures that a key of the config names, or a stage of the run, as the slots of a stage. Folders and tars are listed with
digests of their bytes, and no pixel is looked at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import synth
from launch.plan.img2img import given_stage, numbered
from launch.plan.inputs import existing, identity_of
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from synth.captions.config import ClassEntry
from synth.captions.normalise import composed
from synth.features.config import ClassList
from synth.features.sources import KEY, SOURCE
from synth.images.sources import TABLES, SourceClass, layout_of, reader
from synth.images.sources.base import encodable
from synth.images.sources.listing import NAME, ListingWriter
from synth.images.sources.read import digested, known_by_name
from synth.keys import WrongKey
from synth.store.spec import InputFile, StageSpec
from synth.store.trees import PICTURES

IMAGES, STAGE, FILES, AUTO = "images", "stage", "files", "auto"
PACKAGE = Path(synth.__file__).resolve().parent / "embedded"  # models and pictures that ship
WHAT = "a folder of pictures, WebDataset tars, Parquet or HDF5 files, an export or a stage of pictures"


@dataclass(frozen=True)
class Given:
    """Pictures that a key of the config names. As the `settings` of a node of kind `features` it stands for a stage upstream.

    labelled: whether their classes are asked for; captions: whether the texts beside them are; layout: as img2img.layout; whole: whether
    every byte of a folder or tar is read when it is listed, so that any change of a picture makes another stage.
    """

    path: str | None
    key: str
    labelled: bool = True
    captions: bool = False
    layout: str = AUTO
    whole: bool = False

    def wrong(self, why: str, fix: str = "") -> WrongKey:
        group, _, name = self.key.rpartition(".")
        return WrongKey(name, self.path, why, fix, group)


@dataclass(frozen=True)
class Planned:
    """Where a stage has its pictures. node: which reads them upstream, if they are those of a stage."""

    node: Node
    slots: int
    classes: ClassList = field(default_factory=ClassList)  # of a listing
    source_classes: tuple[int, ...] = ()
    inputs: Mapping[str, InputFile] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # how the pictures were understood, and what is not read
    given: bool = False  # whether a key names them: those of this run are of its dataset

    @property
    def embedded(self) -> bool:
        """Whether these pictures, or the classes that they are made for, ship with synthset."""
        if self.given:
            files = [*self.inputs.values(), *(f for s in self.node.upstream.get(IMAGES, ()) for f in s.spec.inputs.values())]
            return any(Path(f.path).is_relative_to(PACKAGE) for f in files)
        dataset = self.node.config.dataset
        own = self.inputs[SOURCE].path if SOURCE in self.inputs else dataset.source or dataset.classes_json or ""
        return Path(own).is_relative_to(PACKAGE)

    def spec(
        self, config: Mapping, texts: int, unit_size: int, batch: int, inputs: Mapping[str, InputFile], notes: Iterable[str] = ()
    ) -> StageSpec:
        """The spec of the stage. texts: further slots, behind those of the pictures; inputs: further ones."""
        said = [*self.notes, *notes]
        settings = {**self.settings, "notes": said} if said else self.settings
        made = self.node.spec(config, self.slots + texts, unit_size, batch, {**self.inputs, **inputs}, settings)
        return replace(made, files=self.files)


def of_stage(node: Node, stage: PlannedStage) -> Planned:
    """All slots of a stage of pictures, or of what a filter left of one."""
    return Planned(replace(node, upstream={IMAGES: (stage,)}), stage.spec.slots)


def of_given(node: Node, given: Given) -> Planned:
    """What a key names. A path that is not there, and pictures none of which can be used, are InputErrors that name the key."""
    node = replace(node, upstream={})
    # the real place: a link such as image_folder-latest points elsewhere when this run is through; only links name files of a hub's cache
    root = (named := existing(given.path, given.key, WHAT)).resolve()
    layout = layout_of(named, given.key) if given.layout == AUTO else given.layout
    if layout == STAGE:
        try:
            return replace(of_stage(node, given_stage(root, filters=True)), given=True)
        except WrongKey as e:
            raise given.wrong(e.why, e.fix) from e
    if root in (node.dataset_root.resolve(), *node.dataset_root.resolve().parents):
        raise given.wrong(f"the stages of this run would lie in it ({node.dataset_root})", "choose another runs_dir or dataset.name")
    listed = _listed(root, layout if given.labelled or layout in ("webdataset", *TABLES) else FILES, given)
    inputs, files = {SOURCE: InputFile(str(root), listed.identity)}, {NAME: listed.listing}
    return Planned(node, listed.n, listed.classes, listed.source_classes, inputs, files, {KEY: given.key}, listed.notes)


@dataclass(frozen=True)
class Listed:
    """A folder or tars as they are listed. n: pictures; notes: how they were understood and what is not read."""

    listing: bytes
    identity: str
    n: int
    classes: ClassList
    source_classes: tuple[int, ...]
    notes: tuple[str, ...]


@cache  # the points of a sweep share it
def _listed(root: Path, layout: str, given: Given) -> Listed:
    inputs, writer = reader(layout, root, given.captions, given.key), ListingWriter()
    inputs.identify = identity_of
    for item in digested(inputs, root, given.key, given.whole):
        writer.add(item)
    if not writer.n:
        raise given.wrong(f"holds no picture ({inputs.unread.note() or ', '.join(sorted(PICTURES))})", "check the path")
    if not writer.usable:
        raise given.wrong(f"none of its {writer.n:,} pictures can be used: {writer.first}", "check the path")
    notes = [f"{given.key}: {note}" for note in inputs.notes]
    notes += [f"{given.key}: {root}: {inputs.unread.note()}"] if inputs.unread else []
    notes += known_by_name(writer.by_name, given.key)
    entries, indices = _classes(inputs.classes, given)
    return Listed(*writer.finish(), writer.n, ClassList(classes=entries), indices, tuple(notes))


def _classes(classes: list[SourceClass], given: Given) -> tuple[tuple[ClassEntry, ...], tuple[int, ...]]:
    if not given.labelled or not classes:
        return (), ()
    named = [replace(c, name=composed(encodable(c.name))) for c in classes]
    return numbered(named, lambda why: given.wrong(why, "give a source whose classes are numbered in one way"))
