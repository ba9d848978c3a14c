"""The sample configs: one frozen dataclass a stage kind, holding all that its bytes depend on and nothing else.

The launcher builds them from the composed Hydra config; stage.json stores them; the worker reads them back with
`load`. Paths are not here but in a stage's inputs (content identity in stage.json, path in inputs.json).
"""

from synth.config.captions import (
    AskConfig,
    CaptionerConfig,
    CaptionsConfig,
    CaptionsJsonConfig,
    ClassEntry,
    DatasetConfig,
    PromptsConfig,
)
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
from synth.config.images import (
    ClassCount,
    DrawingConfig,
    ImagesConfig,
    Img2ImgConfig,
    ModelConfig,
    PartConfig,
    StoryConfig,
    StoryStyle,
)
from synth.config.kinds import (
    CONFIGS,
    ProbeConfig,
)
from synth.config.plain import (
    dump,
    load,
)
from synth.config.tracking import (
    AnnotationsConfig,
    PairsConfig,
    PairsPageConfig,
    WarpConfig,
)

__all__ = [
    "AnnotationsConfig",
    "AskConfig",
    "BalanceConfig",
    "CONFIGS",
    "CaptionerConfig",
    "CaptionsConfig",
    "CaptionsJsonConfig",
    "CaptionsTxtConfig",
    "ClassCount",
    "ClassEntry",
    "ClipFeaturesConfig",
    "ClipScoreConfig",
    "ContactSheetConfig",
    "DatasetConfig",
    "DrawingConfig",
    "EnsembleConfig",
    "Hdf5Config",
    "Hdf5PartsConfig",
    "ImageFolderConfig",
    "ImagesConfig",
    "Img2ImgConfig",
    "LabelAgreementConfig",
    "ModelConfig",
    "NearDuplicatesConfig",
    "PairsConfig",
    "PairsPageConfig",
    "ParquetConfig",
    "PartConfig",
    "PerceptualHashConfig",
    "ProbeConfig",
    "PromptsConfig",
    "StoryConfig",
    "StoryPagesConfig",
    "StoryStyle",
    "WarpConfig",
    "WebDatasetConfig",
    "dump",
    "load",
]
