"""The table of stage kinds: a row a kind, and nowhere else a list of them. Strings, imported when used.

A new filter or export is its file, a row here, a YAML in conf/ and a test.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from synth import keys
from synth.errors import InputError
from synth.store.folder import StageFolder

CORES, GPU, ENGINE = "cores", "gpu", "engine"  # what workers compute on; ENGINE: a caption engine, which may be somebody else's server
CAPTIONS, TABLE, PICTURES, STORY, PAIRS, LABELS = (
    "captions",
    "captions.json",
    "pictures of classes",
    "a story",
    "tracking pairs",
    "layout labels",
)  # what stages make

# what HDF5 files hold of samples that are more than a picture of a class
H5_ITEMS = {PAIRS: "synth.tracking.h5_items:PairItems", LABELS: "synth.layout.exports.h5_items:LabelItems"}


@dataclass(frozen=True)
class Kind:
    """One kind of stage. Places are written "module:name"."""

    stage: str  # what the worker runs: a subclass of synth.run.stage.Stage
    config: str  # its sample config
    planner: str  # launch.plan.node.Node -> StageSpecs
    framing: str = "tar"  # of its units, unless its config says otherwise
    device: str = CORES
    makes: tuple[str, ...] = ()
    group: str = ""  # of the config, where it is chosen by name: filter | export
    of: tuple[str, ...] = (PICTURES,)  # what a filter or export can be made of
    role: str = "images"  # in which it reads that
    chooses: bool = False  # a filter: it makes no pictures of its own, its samples stand for those that it keeps
    parts: str = ""  # the kind of a stage before it, which it alone reads in role "parts"
    serves: Mapping[str, str] = field(default_factory=dict)  # what stages make -> the kind that this one stands for there, of the same keys
    tells: str = ""  # of a filter of objects: the file in its folder that counts what it kept and took out
    look_at: str = ""  # of an export whose last line is a file to open: its name, or a pattern


_FILTERS, _EXPORTS = "launch.plan.filters", "launch.plan.exports"


def _asks(stage: str, planner: str) -> Kind:
    return Kind(f"synth.captions.{stage}", "synth.captions.config:AskConfig", planner, framing="jsonl", device=ENGINE)


def _filter(stage: str, config: str) -> Kind:
    place = "synth.filters.config"
    return Kind(stage, f"{place}:{config}", f"{_FILTERS}:plan", "jsonl", makes=(PICTURES,), group="filter", chooses=True)


def _export(stage: str, config: str, planner: str = f"{_EXPORTS}:plan", framing: str = "jsonl", **more: Any) -> Kind:
    return Kind(stage, config, planner, framing, group="export", **more)


def _objects(stage: str, config: str, planner: str, **more: Any) -> Kind:
    place = "synth.layout.objects"
    return Kind(f"{place}.{stage}", f"{place}.config:{config}", f"launch.plan.layout_objects:{planner}", **more)


def _filters_objects(stage: str, config: str, planner: str) -> Kind:
    """A filter of layout labels, whose samples are records of its own."""
    more = {"makes": (LABELS,), "group": "filter", "of": (LABELS,), "role": "layout", "tells": "objects.json"}
    return _objects(f"filters:{stage}", config, planner, framing="jsonl", **more)


def _labels(stage: str, config: str, place: str = "synth.layout.exports.config", **more: Any) -> Kind:
    return _export(f"synth.layout.exports.{stage}", f"{place}:{config}", of=(LABELS,), **more)


KINDS = {
    "probe": Kind("synth.run.probe:Probe", "synth.run.config:ProbeConfig", "launch.plan.probe:plan"),
    "captions": Kind(
        "synth.captions.stage:Captions",
        "synth.captions.config:CaptionsConfig",
        "launch.plan.captions:plan",
        framing="jsonl",
        device=ENGINE,
        makes=(CAPTIONS,),
    ),
    "metaprompts": _asks("metaprompts:Metaprompts", "launch.plan.captions:metaprompts"),
    "prompt_trees": _asks("prompt_trees:PromptTrees", "launch.plan.captions:prompt_trees"),
    "backgrounds": _asks("backgrounds:Backgrounds", "launch.plan.captions:backgrounds"),
    "captions_json": Kind(
        "synth.captions.captions_json:CaptionsJson",
        "synth.captions.config:CaptionsJsonConfig",
        "launch.plan.captions:captions_json",
        makes=(TABLE,),
    ),
    "images": Kind(
        "synth.images.stage:Images", "synth.images.config:ImagesConfig", "launch.plan.images:plan", device=GPU, makes=(PICTURES,)
    ),
    "lora": Kind("synth.lora.stage:Lora", "synth.lora.config:LoraConfig", "launch.plan.lora:plan", device=GPU),
    "img2img": Kind(
        "synth.images.img2img:Img2Img", "synth.images.config:Img2ImgConfig", "launch.plan.img2img:plan", device=GPU, makes=(PICTURES,)
    ),
    "story": Kind(
        "synth.story.stage:StoryStage", "synth.story.config:StoryConfig", "launch.plan.story:plan", device=GPU, makes=(PICTURES, STORY)
    ),
    "pairs": Kind(
        "synth.tracking.stage:Pairs",
        "synth.tracking.config:PairsConfig",
        "launch.plan.tracking:plan",
        device=GPU,
        makes=(PAIRS,),
    ),
    "tags": Kind(
        "synth.layout.tags:Tags", "synth.layout.config:TagsConfig", "launch.plan.layout:tags", "jsonl", device=GPU, makes=(LABELS,)
    ),
    "boxes": Kind(
        "synth.layout.boxes:Boxes",
        "synth.layout.config:BoxesConfig",
        "launch.plan.layout_models:boxes",
        "jsonl",
        device=GPU,
        makes=(LABELS,),
    ),
    "masks": Kind(
        "synth.layout.masks:Masks",
        "synth.layout.config:MasksConfig",
        "launch.plan.layout_models:masks",
        "jsonl",
        device=GPU,
        makes=(LABELS,),
    ),
    "box_captions": Kind(
        "synth.layout.box_captions:BoxCaptions",
        "synth.layout.config:BoxCaptionsConfig",
        "launch.plan.layout_models:box_captions",
        "jsonl",
        device=GPU,
        makes=(LABELS,),
    ),
    "crop_scores": _objects("scores:CropScores", "CropScoresConfig", "crop_scores", framing="jsonl", device=GPU, makes=(LABELS,)),
    "box_embeddings": _objects("embeddings:BoxEmbeddings", "BoxEmbeddingsConfig", "box_embeddings", device=GPU),
    "objects": _filters_objects("Objects", "ObjectsConfig", "objects"),
    "crop_clip": _filters_objects("CropClip", "CropClipConfig", "crop_clip"),
    "features": Kind("synth.features.stage:Features", "synth.features.config:FeaturesConfig", "launch.plan.features:plan", device=GPU),
    "perceptual_hash": Kind(
        "synth.filters.scoring:PerceptualHash", "synth.filters.config:PerceptualHashConfig", f"{_FILTERS}:perceptual_hash", framing="jsonl"
    ),
    "clip_score": _filter("synth.filters.selection:ClipScore", "ClipScoreConfig"),
    "label_agreement": _filter("synth.filters.selection:LabelAgreement", "LabelAgreementConfig"),
    "near_duplicates": _filter("synth.filters.near_duplicates:NearDuplicates", "NearDuplicatesConfig"),
    "balance": _filter("synth.filters.selection:Balance", "BalanceConfig"),
    "ensemble": _filter("synth.filters.ensemble:Ensemble", "EnsembleConfig"),
    "image_folder": _export("synth.export.image_folder:ImageFolder", "synth.export.config:ImageFolderConfig", f"{_EXPORTS}:image_folder"),
    "webdataset": _export(
        "synth.export.webdataset:WebDataset", "synth.export.config:WebDatasetConfig", serves={LABELS: "layout_webdataset"}
    ),
    "parquet": _export("synth.export.parquet:Parquet", "synth.export.config:ParquetConfig"),
    "captions_txt": _export(
        "synth.export.captions_txt:CaptionsTxt", "synth.export.config:CaptionsTxtConfig", framing="tar", of=(TABLE,), role="captions"
    ),
    "hdf5_parts": Kind(
        "synth.export.hdf5.parts:Hdf5Parts",
        "synth.export.config:Hdf5PartsConfig",
        f"{_EXPORTS}:hdf5_parts",
        framing="jsonl",
        of=(PICTURES, PAIRS, LABELS),
    ),
    "hdf5": _export(
        "synth.export.hdf5.whole:Hdf5", "synth.export.config:Hdf5Config", framing="tar", of=(PICTURES, PAIRS, LABELS), parts="hdf5_parts"
    ),
    "contact_sheet": _export(
        "synth.export.contact_sheet:ContactSheet", "synth.export.config:ContactSheetConfig", framing="tar", look_at="*.png"
    ),
    "story_pages": _export(
        "synth.story.pages:StoryPages", "synth.story.config:StoryPagesConfig", "launch.plan.story:pages", of=(STORY,), look_at="index.html"
    ),
    "annotations": _export(
        "synth.tracking.annotations:Annotations", "synth.tracking.config:AnnotationsConfig", "launch.plan.tracking:annotations", of=(PAIRS,)
    ),
    "layout_labels": _labels("layout_labels:LayoutLabels", "LayoutLabelsConfig"),
    "coco": _labels("coco:Coco", "CocoConfig"),
    "sacap": _labels("sacap:Sacap", "SacapConfig", planner=f"{_EXPORTS}:sacap"),
    "layoutsam": _labels("shards:LayoutSam", "LayoutSamConfig"),
    "layout_webdataset": replace(_labels("shards:LayoutWebDataset", "WebDatasetConfig", "synth.export.config"), group=""),
    "labels_page": _labels("page:LabelsPage", "LabelsPageConfig", look_at="index.html"),
    "judge_scores": Kind(
        "synth.judge.scores:JudgeScores", "synth.judge.config:JudgeScoresConfig", "launch.plan.judge_filter:scores", framing="jsonl"
    ),
    "judge_filter": Kind(
        "synth.judge.filtering:JudgeFilter",
        "synth.judge.config:JudgeFilterConfig",
        "launch.plan.judge_filter:plan",
        framing="jsonl",
        makes=(PICTURES,),
        group="filter",
        chooses=True,
    ),
    "neighbours": Kind("synth.judge.near:Neighbours", "synth.judge.config:NeighboursConfig", "launch.plan.judge:neighbours"),
    "shares": Kind("synth.judge.shares:Shares", "synth.judge.config:SharesConfig", "launch.plan.feedback:shares"),
    "rounds": Kind(
        "synth.judge.rounds:Rounds",
        "synth.judge.config:RoundsConfig",
        "launch.plan.feedback:rounds",
        framing="jsonl",
        makes=(PICTURES,),
        chooses=True,
    ),
    "judge": Kind("synth.judge.stage:Judge", "synth.judge.config:JudgeConfig", "launch.plan.judge:plan"),
    "finetune": Kind("synth.judge.finetuning:Finetune", "synth.judge.config:FinetuneConfig", "launch.plan.judge:finetune", device=GPU),
    "judge_report": Kind(
        "synth.judge.report:JudgeReport",
        "synth.judge.config:JudgeReportConfig",
        "launch.plan.judge:report",
        framing="jsonl",
        look_at="index.html",
    ),
    "pairs_page": _export("synth.tracking.page:PairsPage", "synth.tracking.config:PairsPageConfig", of=(PAIRS,), look_at="index.html"),
}


def kind_of(name: str) -> Kind:
    """A row of the table; an unknown name is an InputError."""
    if name not in KINDS:
        raise InputError(f"unknown stage kind {name!r}; known: {', '.join(sorted(KINDS))}")
    return KINDS[name]


def named(place: str) -> Any:
    """What "module:name" names, imported now."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def chosen_by(group: str) -> dict[str, Kind]:
    """name -> row of the kinds that a group of the config offers."""
    return {name: kind for name, kind in KINDS.items() if kind.group == group}


def serving(kind: str, made: Iterable[str]) -> str:
    """The kind that does what an export is asked for, of a stage that makes these: itself, or the one that it stands for there."""
    return next((kind_of(kind).serves[what] for what in made if what in kind_of(kind).serves), kind)


def h5_items(kind: str) -> Any:
    """What HDF5 files hold of the samples of a kind of stage: a class like synth.export.hdf5.items.PictureItems, imported now."""
    return named(next((H5_ITEMS[what] for what in kind_of(kind).makes if what in H5_ITEMS), "synth.export.hdf5.items:PictureItems"))


def makes_pictures(kind: str) -> bool:
    """Whether the samples of a kind of stage are pictures of classes that it made, and no choice among those of others."""
    return PICTURES in kind_of(kind).makes and not kind_of(kind).chooses


def makes_files(kind: str) -> bool:
    """Whether a kind of stage makes files or a table for others to read, and its samples only tell of them."""
    row = kind_of(kind)
    helps = any(kind == k.parts or kind in k.serves.values() for k in KINDS.values())
    return row.group == "export" or TABLE in row.makes or helps


def framing_of(kind: str, config: Mapping) -> str:
    """How a kind's units are framed, known without importing the kind; a config may choose (the probe's does)."""
    return config.get("framing") or (KINDS[kind].framing if kind in KINDS else "tar")


def stage_class(kind: str) -> type:
    """The class of a kind, imported now."""
    return named(kind_of(kind).stage)


def load(kind: str, data: Mapping) -> Any:
    """The typed config of a stage kind from stage.json; an unknown or missing key or a wrong type is an InputError."""
    return keys.build(named(kind_of(kind).config), data, kind)


def config_of(folder: StageFolder) -> Any:
    """The typed sample config of a stage, read once."""
    if folder not in _CONFIGS:
        _CONFIGS[folder] = load(folder.spec.kind, folder.spec.config)
    return _CONFIGS[folder]


_CONFIGS: WeakKeyDictionary[StageFolder, Any] = WeakKeyDictionary()
