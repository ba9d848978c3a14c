"""Sample configs of scores and filters."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ClipFeaturesConfig:
    """kind "clip_features": a sample a picture of role "images", or of the folder in input "folder". input "clip": a CLIP model."""

    id: str
    templates: tuple[str, ...] = ("a photo of a {}",)  # class texts; their features are averaged


@dataclass(frozen=True)
class PerceptualHashConfig:
    """kind "perceptual_hash": the same with a hash of 64 bits."""

    method: str = "phash"  # phash | dhash | ahash | whash, of the imagehash library


@dataclass(frozen=True)
class ClipScoreConfig:
    """kind "clip_score": upstream roles "images" and "scores" (clip_features). All filters have the slots of their images."""

    score: str = "class"  # class | caption
    min_score: float = -1.0  # cosine similarity
    top_share: float = 1.0  # of each class
    counts: Mapping[str, int] = field(default_factory=dict)  # official index -> at most so many; {} = no limit


@dataclass(frozen=True)
class LabelAgreementConfig:
    """kind "label_agreement": upstream roles "images" and "scores" (clip_features)."""

    margin: float = 0.0  # cosine similarity by which the own class may miss the best


@dataclass(frozen=True)
class NearDuplicatesConfig:
    """kind "near_duplicates": upstream roles "images", "scores" and, of a given test set, "against"."""

    method: str = "phash"  # or embedding
    distance: int = 4  # bits of 64
    similarity: float = 0.97  # cosine, for embedding
    within: str = "class"  # class | all, for embedding


@dataclass(frozen=True)
class BalanceConfig:
    """kind "balance": upstream role "images"."""

    seed: int
    counts: Mapping[str, int]  # official index -> pictures
    allow_short: bool = False


@dataclass(frozen=True)
class EnsembleConfig:
    """kind "ensemble": upstream roles "images" (several stages) and "scores" (clip_features of each, in the same order)."""

    seed: int
    counts: Mapping[str, int]
    allow_short: bool = False
    mode: str = "conan"  # conan | top | bottom | inverse | equal
    temperature: float = 0.5
