"""What a stage kind is to the worker, and the registry of kinds, imported only when used."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from synth.errors import InputError

if TYPE_CHECKING:
    from synth.store.folder import StageFolder
    from synth.store.units import Stored

KINDS = {
    "probe": "synth.probe:Probe",
    "captions": "synth.captions.stage:Captions",
    "metaprompts": "synth.captions.metaprompts:Metaprompts",
    "prompt_trees": "synth.captions.prompt_trees:PromptTrees",
    "backgrounds": "synth.captions.backgrounds:Backgrounds",
    "captions_json": "synth.export.captions_json:CaptionsJson",
    "images": "synth.images.stage:Images",
    "img2img": "synth.images.img2img:Img2Img",
    "story": "synth.story.stage:StoryStage",
    "pairs": "synth.tracking.stage:Pairs",
    "image_folder": "synth.export.image_folder:ImageFolder",
    "webdataset": "synth.export.webdataset:WebDataset",
    "parquet": "synth.export.parquet:Parquet",
    "captions_txt": "synth.export.captions_txt:CaptionsTxt",
    "hdf5_parts": "synth.export.hdf5_parts:Hdf5Parts",
    "hdf5": "synth.export.hdf5:Hdf5",
    "contact_sheet": "synth.report.contact_sheet:ContactSheet",
    "story_pages": "synth.story.pages:StoryPages",
    "annotations": "synth.tracking.annotations:Annotations",
    "pairs_page": "synth.tracking.page:PairsPage",
    "clip_features": "synth.filters.scoring:ClipFeatures",
    "perceptual_hash": "synth.filters.scoring:PerceptualHash",
    "clip_score": "synth.filters.selection:ClipScore",
    "label_agreement": "synth.filters.selection:LabelAgreement",
    "near_duplicates": "synth.filters.selection:NearDuplicates",
    "balance": "synth.filters.selection:Balance",
    "ensemble": "synth.filters.selection:Ensemble",
}


@dataclass(frozen=True)
class Sample:
    """One finished sample: `files` maps an extension to its bytes, e.g. {"json": b"..", "png": b".."}.

    A .jsonl unit stores exactly one file a sample, {"json": one line of JSON without newline}.
    `key` is unique within the stage and is the file stem in tar units.
    """

    slot: int
    key: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Tombstone:
    """A slot that will never have a sample, and why. Slots never shift."""

    slot: int
    reason: str


@dataclass(frozen=True)
class Unit:
    """A contiguous slice [start, stop) of a stage's slots: the atom of work and of commit."""

    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Stage:
    """A stage kind. The worker calls, in this order and each from the main thread unless noted:

    check()            once, before anything is loaded: bad input raises InputError
    open()             once, before the first unit: load models (only when there is a unit to do)
    begin(unit)        once a unit: what its batches share (rows of the upstream, text embeddings); its result is `state`
    resume(state, stop, made)   once, behind begin, if the slots of the unit up to `stop` are done already: their samples, in slot order
    compute(state, slots)   once a batch, always whole, in slot order: one item a slot, in order. Short last batches are the
                       stage's to pad. Anything slow that needs no device belongs in encode
    encode(state, item)     in a thread pool beside the device, one item at a time: Sample or Tombstone
    finish()           when the stage is whole, by whoever finds it so: writes what lies outside units/; idempotent, atomic
    close()            at the end, or before the stage is opened anew
    """

    deterministic: ClassVar[bool] = True  # False: API-backed; differing digests of one unit are then no error

    def __init__(self, folder: "StageFolder"):
        self.folder = folder

    def check(self) -> None: ...

    def open(self) -> None: ...

    def unit_inputs(self, unit: Unit) -> str:
        """Digest of the upstream rows that this unit is a function of; "" if it depends on the config alone.

        Units of a stage that differs only in slots or upstream are linked instead of computed where this agrees. The default
        is safe for any stage: all of its upstream stages.
        """
        return "+".join(u.fingerprint for role in sorted(self.folder.spec.upstream) for u in self.folder.spec.upstream[role])

    def begin(self, unit: Unit) -> object:
        return None

    def resume(self, state: object, stop: int, made: Sequence["Stored"]) -> None:
        """Bring `state` to where compute left it when it had made these; only a stage whose batches build on earlier ones needs it."""
        return

    def compute(self, state: object, slots: range) -> Sequence[object]:
        raise NotImplementedError

    def encode(self, state: object, item: object) -> Sample | Tombstone:
        raise NotImplementedError

    def finish(self) -> None: ...

    def usage(self) -> Mapping[str, float]:
        """What this process spent outside so far (requests, tokens, price), for the worker's events."""
        return {}

    def close(self) -> None: ...


JSONL = (
    *("captions", "metaprompts", "prompt_trees", "backgrounds", "image_folder", "webdataset", "parquet", "hdf5_parts", "story_pages", "annotations", "pairs_page"),
    *("perceptual_hash", "clip_score", "label_agreement", "near_duplicates", "balance", "ensemble"),
)
FRAMING = dict.fromkeys(JSONL, "jsonl")  # kind -> framing where it is not tar


def framing_of(kind: str, config: Mapping) -> str:
    """How a kind's units are framed, known without importing the kind; a config may choose (the probe's does)."""
    return config.get("framing") or FRAMING.get(kind, "tar")


def stage_class(kind: str) -> type[Stage]:
    """The class of a kind, imported now."""
    if kind not in KINDS:
        msg = f"unknown stage kind {kind!r}; known: {', '.join(sorted(KINDS))}"
        raise InputError(msg)
    module, name = KINDS[kind].split(":")
    return getattr(importlib.import_module(module), name)
