"""Stage kind -> its sample config; the probe's."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.config.captions import AskConfig, CaptionsConfig, CaptionsJsonConfig
from synth.config.exports import (
    CaptionsTxtConfig,
    ContactSheetConfig,
    Hdf5Config,
    Hdf5PartsConfig,
    ImageFolderConfig,
    ParquetConfig,
    StoryPagesConfig,
    WebDatasetConfig,
)
from synth.config.filters import (
    BalanceConfig,
    ClipFeaturesConfig,
    ClipScoreConfig,
    EnsembleConfig,
    LabelAgreementConfig,
    NearDuplicatesConfig,
    PerceptualHashConfig,
)
from synth.config.images import ImagesConfig, Img2ImgConfig, StoryConfig
from synth.config.tracking import AnnotationsConfig, PairsConfig, PairsPageConfig


@dataclass(frozen=True)
class ProbeConfig:
    """kind "probe": numpy only; makes samples of any size and misbehaves on request, by slot ("17": {...}).

    behaviour keys: sleep (s), allocate (bytes), size (bytes of the sample), raise ("input"|"bug"|"broken"), times (raise or
    hang only the first N tries, counted in a folder), hang (true), tombstone (reason).
    """

    seed: int = 0
    size: int = 64  # bytes a sample
    sleep: float = 0.0  # seconds a batch
    behaviour: Mapping[str, Mapping[str, typing.Any]] = field(default_factory=dict)
    framing: str = "tar"

CONFIGS: dict[str, type] = {
    "captions": CaptionsConfig,
    "metaprompts": AskConfig,
    "prompt_trees": AskConfig,
    "backgrounds": AskConfig,
    "captions_json": CaptionsJsonConfig,
    "images": ImagesConfig,
    "img2img": Img2ImgConfig,
    "story": StoryConfig,
    "pairs": PairsConfig,
    "image_folder": ImageFolderConfig,
    "webdataset": WebDatasetConfig,
    "parquet": ParquetConfig,
    "captions_txt": CaptionsTxtConfig,
    "hdf5_parts": Hdf5PartsConfig,
    "hdf5": Hdf5Config,
    "contact_sheet": ContactSheetConfig,
    "story_pages": StoryPagesConfig,
    "annotations": AnnotationsConfig,
    "pairs_page": PairsPageConfig,
    "clip_features": ClipFeaturesConfig,
    "perceptual_hash": PerceptualHashConfig,
    "clip_score": ClipScoreConfig,
    "label_agreement": LabelAgreementConfig,
    "near_duplicates": NearDuplicatesConfig,
    "balance": BalanceConfig,
    "ensemble": EnsembleConfig,
    "probe": ProbeConfig,
}
