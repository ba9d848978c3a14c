"""The table of stage kinds: what computes, configures and plans each. Strings, imported when used."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from synth import keys
from synth.errors import InputError


@dataclass(frozen=True)
class Kind:
    """One kind of stage. Places are written "module:name"."""

    stage: str  # what the worker runs
    config: str  # its sample config
    planner: str  # composed config -> StageSpec
    framing: str = "tar"  # of its units, unless its config says otherwise


KINDS = {
    "probe": Kind("synth.run.probe:Probe", "synth.run.config:ProbeConfig", "launch.plan.probe:plan"),
    "captions": Kind("synth.captions.stage:Captions", "synth.captions.config:CaptionsConfig", "launch.plan.captions:plan", framing="jsonl"),
    "metaprompts": Kind(
        "synth.captions.metaprompts:Metaprompts",
        "synth.captions.config:AskConfig",
        "launch.plan.asking:metaprompts",
        framing="jsonl",
    ),
    "prompt_trees": Kind(
        "synth.captions.prompt_trees:PromptTrees",
        "synth.captions.config:AskConfig",
        "launch.plan.asking:prompt_trees",
        framing="jsonl",
    ),
    "backgrounds": Kind(
        "synth.captions.backgrounds:Backgrounds",
        "synth.captions.config:AskConfig",
        "launch.plan.asking:backgrounds",
        framing="jsonl",
    ),
    "captions_json": Kind(
        "synth.captions.captions_json:CaptionsJson",
        "synth.captions.config:CaptionsJsonConfig",
        "launch.plan.captions_json:plan",
    ),
    "images": Kind("synth.images.stage:Images", "synth.images.config:ImagesConfig", "launch.plan.images:plan"),
    "img2img": Kind("synth.images.img2img:Img2Img", "synth.images.config:Img2ImgConfig", "launch.plan.img2img:plan"),
    "story": Kind("synth.story.stage:StoryStage", "synth.story.config:StoryConfig", "launch.plan.story:plan"),
    "pairs": Kind("synth.tracking.stage:Pairs", "synth.tracking.config:PairsConfig", "launch.plan.tracking:plan"),
    "image_folder": Kind(
        "synth.export.image_folder:ImageFolder",
        "synth.export.config:ImageFolderConfig",
        "launch.plan.exports:image_folder",
        framing="jsonl",
    ),
    "webdataset": Kind(
        "synth.export.webdataset:WebDataset",
        "synth.export.config:WebDatasetConfig",
        "launch.plan.exports:webdataset",
        framing="jsonl",
    ),
    "parquet": Kind("synth.export.parquet:Parquet", "synth.export.config:ParquetConfig", "launch.plan.exports:parquet", framing="jsonl"),
    "captions_txt": Kind(
        "synth.export.captions_txt:CaptionsTxt", "synth.export.config:CaptionsTxtConfig", "launch.plan.exports:captions_txt"
    ),
    "hdf5_parts": Kind(
        "synth.export.hdf5.parts:Hdf5Parts",
        "synth.export.config:Hdf5PartsConfig",
        "launch.plan.exports:hdf5_parts",
        framing="jsonl",
    ),
    "hdf5": Kind("synth.export.hdf5.whole:Hdf5", "synth.export.config:Hdf5Config", "launch.plan.exports:hdf5"),
    "contact_sheet": Kind(
        "synth.export.contact_sheet:ContactSheet", "synth.export.config:ContactSheetConfig", "launch.plan.exports:contact_sheet"
    ),
    "story_pages": Kind("synth.story.pages:StoryPages", "synth.story.config:StoryPagesConfig", "launch.plan.story:pages", framing="jsonl"),
    "annotations": Kind(
        "synth.tracking.annotations:Annotations",
        "synth.tracking.config:AnnotationsConfig",
        "launch.plan.tracking:annotations",
        framing="jsonl",
    ),
    "pairs_page": Kind(
        "synth.tracking.page:PairsPage", "synth.tracking.config:PairsPageConfig", "launch.plan.tracking:page", framing="jsonl"
    ),
    "pool": Kind("", "", "launch.plan.scores:pool"),  # stages of other runs under one name: none of its own
    "clip_features": Kind(
        "synth.filters.scoring:ClipFeatures", "synth.filters.config:ClipFeaturesConfig", "launch.plan.scores:clip_features"
    ),
    "perceptual_hash": Kind(
        "synth.filters.scoring:PerceptualHash",
        "synth.filters.config:PerceptualHashConfig",
        "launch.plan.scores:perceptual_hash",
        framing="jsonl",
    ),
    "clip_score": Kind(
        "synth.filters.selection:ClipScore",
        "synth.filters.config:ClipScoreConfig",
        "launch.plan.filters:clip_score",
        framing="jsonl",
    ),
    "label_agreement": Kind(
        "synth.filters.selection:LabelAgreement",
        "synth.filters.config:LabelAgreementConfig",
        "launch.plan.filters:label_agreement",
        framing="jsonl",
    ),
    "near_duplicates": Kind(
        "synth.filters.selection:NearDuplicates",
        "synth.filters.config:NearDuplicatesConfig",
        "launch.plan.filters:near_duplicates",
        framing="jsonl",
    ),
    "balance": Kind(
        "synth.filters.selection:Balance", "synth.filters.config:BalanceConfig", "launch.plan.filters:balance", framing="jsonl"
    ),
    "ensemble": Kind(
        "synth.filters.selection:Ensemble",
        "synth.filters.config:EnsembleConfig",
        "launch.plan.filters:ensemble",
        framing="jsonl",
    ),
}


def kind_of(name: str) -> Kind:
    """A row of the table; an unknown name is an InputError."""
    if name not in KINDS:
        raise InputError(f"unknown stage kind {name!r}; known: {', '.join(sorted(KINDS))}")
    return KINDS[name]


def named(place: str) -> object:
    """What "module:name" names, imported now."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def framing_of(kind: str, config: Mapping) -> str:
    """How a kind's units are framed, known without importing the kind; a config may choose (the probe's does)."""
    return config.get("framing") or (KINDS[kind].framing if kind in KINDS else "tar")


def stage_class(kind: str) -> type:
    """The class of a kind, imported now."""
    return named(kind_of(kind).stage)


def load(kind: str, data: Mapping):
    """The typed config of a stage kind from stage.json; an unknown or missing key or a wrong type is an InputError."""
    return keys.build(named(kind_of(kind).config), data, kind)
