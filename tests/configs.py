"""Config classes with a value for every key that a test says nothing about: called like the classes, positions in the order below.

Values of runs stand in conf/ alone; these are for tests that make a stage's config by hand.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import synth.captions.config as captions
import synth.export.config as export
import synth.features.config as features
import synth.filters.config as filters
import synth.images.config as images
import synth.layout.exports.config as labels
import synth.run.config as run
import synth.story.config as story
import synth.tracking.config as tracking

NEEDED = object()


def maker(cls: type, **values: Any) -> Callable:
    """cls(...) by position or name, with `values` for what is not given."""

    def make(*args: Any, **given: Any) -> Any:
        found = values | dict(zip(values, args, strict=False)) | given
        if lacking := [name for name, value in found.items() if value is NEEDED]:
            raise TypeError(f"{cls.__name__}: {', '.join(lacking)} not given")
        made = cls(**found)
        return replace(made, form=found.get("form", made.newest)) if isinstance(made, export.ExportConfig) else made

    return make


DatasetConfig = maker(captions.DatasetConfig, name=NEEDED, classes=NEEDED, n_classes=NEEDED, kind="object", suffix="")
WarpConfig = maker(
    tracking.WarpConfig,
    affine=0.5,
    scale=(0.6, 1.5),
    rotate=(-30.0, 30.0),
    translate=(0.0, 0.2),
    shear=(-15.0, 15.0),
    perspective=0.5,
    distortion=(0.05, 0.2),
    flip=0.5,
    colour=0.2,
    brightness=(-0.2, 0.2),
    contrast=(-0.2, 0.2),
)
AskConfig = maker(captions.AskConfig, seed=NEEDED, dataset=NEEDED, prompts=NEEDED, captioner=NEEDED, max_attempts=4)
CaptionerConfig = maker(
    captions.CaptionerConfig,
    engine="llama",
    id="tiny_llama",
    temperature=0.8,
    top_p=0.9,
    max_seq_len=512,
    max_gen_len=100,
    max_batch_size=32,
    model_parallel=1,
    stop=("\n",),
    dtype="float32",
    model="",
    api="",
    body={},
    command=(),
)
CaptionsConfig = maker(
    captions.CaptionsConfig,
    seed=NEEDED,
    dataset=NEEDED,
    prompts=NEEDED,
    captioner=NEEDED,
    max_attempts=4,
    must_name_class=True,
    min_words=2,
    max_words=60,
)
CaptionsJsonConfig = maker(captions.CaptionsJsonConfig, total=NEEDED, allow_short=False, per_class=0, out="")
PromptsConfig = maker(
    captions.PromptsConfig,
    maker="synclr",
    class_balance="exact",
    modes={"class": 0.44, "class_background": 0.45, "class_relation": 0.11},
    shots=3,
    group=1,
    num_backgrounds=0,
    form="static",
    num_metaprompts=0,
    num_prompts_per_metaprompt=0,
    max_prompts=0,
    max_words=15,
    templates=(),
    senses={},
    content="",
    official=(),
    check=True,
)
CaptionsTxtConfig = maker(export.CaptionsTxtConfig, out="")
ContactSheetConfig = maker(export.ContactSheetConfig, out="", columns=8, tile=96, max_classes=40)
Hdf5Config = maker(export.Hdf5Config, out="")
Hdf5PartsConfig = maker(export.Hdf5PartsConfig, layout="keyed", content="bytes", gzip=0)
ImageFolderConfig = maker(export.ImageFolderConfig, out="", names="key", val_share=0.0, split_seed=0)
ParquetConfig = maker(export.ParquetConfig, out="", shuffle_seed=-1)
WebDatasetConfig = maker(export.WebDatasetConfig, out="", shuffle_seed=0)
StoryPagesConfig = maker(story.StoryPagesConfig, out="", title="", individual=True, grid="chapter", animation="webp", frame_ms=700)
DRAWING = {
    "guidance_scale": 4.0,
    "steps": 20,
    "scheduler": "default",
    "height": 32,
    "width": 32,
    "save_size": 0,
    "format": "png",
    "negative_prompt": "",
    "eta": 0.0,
    "guidance_interval": (0.0, 1.0),
    "vae_batch": 0,
}
StoryConfig = maker(
    story.StoryConfig,
    seed=NEEDED,
    model=NEEDED,
    **DRAWING,
    dataset=DatasetConfig(name="", classes=(), n_classes=0, kind="object", suffix=""),
    styles=(),
    prompts=(),
    progressive=True,
    interleave=True,
    cycle_styles=False,
    carry="chapter",
    rows=16,
)
BalanceConfig = maker(filters.BalanceConfig, seed=NEEDED, counts=NEEDED, allow_short=False)
FeaturesConfig = maker(features.FeaturesConfig, id=NEEDED, texts=0, templates=("a photo of a {}",))
ClipScoreConfig = maker(filters.ClipScoreConfig, score="class", min_score=-1.0, top_share=1.0, counts={})
EnsembleConfig = maker(filters.EnsembleConfig, seed=NEEDED, counts=NEEDED, allow_short=False, mode="conan", temperature=0.5)
LabelAgreementConfig = maker(filters.LabelAgreementConfig, margin=0.0)
NearDuplicatesConfig = maker(filters.NearDuplicatesConfig, method="phash", distance=4, similarity=0.97, within="class")
PerceptualHashConfig = maker(filters.PerceptualHashConfig, method="phash")
ImagesConfig = maker(
    images.ImagesConfig,
    seed=NEEDED,
    model=NEEDED,
    **DRAWING,
    per_caption=1,
    subset="",
    counts=(),
)
Img2ImgConfig = maker(
    images.Img2ImgConfig,
    seed=NEEDED,
    model=NEEDED,
    **DRAWING,
    dataset=DatasetConfig(name="", classes=(), n_classes=0, kind="object", suffix=""),
    source_classes=(),
    subset="",
    per_image=1,
    noise_strength=0.5,
    prompt="template",
    prompt_template="a photo of {class}",
    resize="stretch",
)
ModelConfig = maker(
    images.ModelConfig,
    id=NEEDED,
    pipeline="auto",
    variant="",
    dtype="auto",
    safety_checker="off",
    loras=(),
    parts={},
    command=(),
    deterministic=False,
)
PartConfig = maker(images.PartConfig, steps=0, guidance_scale=0.0, noise_level=0, start=0.0)
LayoutLabelsConfig = maker(
    labels.LayoutLabelsConfig, out="", pictures="copy", names="number", kind="", image=False, dataset_name="synthset"
)
CocoConfig = maker(labels.CocoConfig, out="", pictures="copy", kind="", segmentations=True)
SacapConfig = maker(labels.SacapConfig, out="", pictures="copy", kind="")
LayoutSamConfig = maker(labels.LayoutSamConfig, out="", kind="", shard=4, shuffle=False, seed=0)
LabelsPageConfig = maker(labels.LabelsPageConfig, out="", kind="", max_images=200, sheet=4)
AnnotationsConfig = maker(tracking.AnnotationsConfig, out="", min_area=4096.0, min_variant_area=1024.0, min_side=1.0, segmentations=False)
PairsConfig = maker(
    tracking.PairsConfig,
    seed=NEEDED,
    model=NEEDED,
    **DRAWING,
    dataset=DatasetConfig(name="", classes=(), n_classes=0, kind="object", suffix=""),
    variants=1,
    noise_strength=0.75,
    harmonize=2,
    min_area=4096.0,
    max_area=33554432.0,
    dilate=14,
    long_side=768,
    short_side=512,
    bucket=64,
    warp=WarpConfig(
        affine=0.5,
        scale=(0.6, 1.5),
        rotate=(-30.0, 30.0),
        translate=(0.0, 0.2),
        shear=(-15.0, 15.0),
        perspective=0.5,
        distortion=(0.05, 0.2),
        flip=0.5,
        colour=0.2,
        brightness=(-0.2, 0.2),
        contrast=(-0.2, 0.2),
    ),
    quality=95,
)
PairsPageConfig = maker(tracking.PairsPageConfig, out="", max_images=200, sheet=12)
ProbeConfig = maker(run.ProbeConfig, seed=0, size=64, sleep=0.0, behaviour={}, framing="tar")
