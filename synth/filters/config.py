"""Keys of filters, and of the hashes that they read. The key in `filter` is the name of a filter's stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from synth.features.config import KIND as FEATURES
from synth.keys import key, later, plan_key

HASH = "perceptual_hash"  # kind of scoring stage, as FEATURES is


@dataclass(frozen=True)
class PerceptualHashConfig:
    """kind "perceptual_hash": a hash of 64 bits of each picture of role "images", or of the listing of input "source"."""

    method: str  # phash | dhash | ahash | whash, of the imagehash library


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What every filter has. A filter has the slots of its images: upstream roles "images" and, where it reads scores, "scores"."""

    kind: str = plan_key("kind of stage")

    pools: ClassVar[bool] = False  # whether it reads the pictures of several runs
    reads_texts: ClassVar[bool] = False  # whether it reads how like pictures and texts are

    @property
    def scores(self) -> str:
        """The kind of the scoring stage that it reads; "" for none."""
        return FEATURES


@dataclass(frozen=True, kw_only=True)
class CountedConfig(FilterConfig):
    """A filter that may know how many pictures of a class are wanted."""

    count: Any = plan_key(
        "pictures a class: a number | ma: as many as the real training set has", given=Any, null="as count_file says; neither: no limit"
    )
    count_file: str = plan_key("JSON {class: pictures}, or CSV class,count; classes that are not in it take `count`", null="none")
    ratio: float = plan_key("on top of ma and count_file, rounded down")
    counts: Mapping[str, int] = later(factory=dict)  # official index -> pictures; {}: no limit

    must_count: ClassVar[bool] = True  # whether it needs one of the two


@dataclass(frozen=True, kw_only=True)
class ClipScoreConfig(CountedConfig):
    reads_texts = True
    score: str = key("class: against the class name | caption: against the picture's own caption", choices=("class", "caption"))
    min_score: float = key("cosine similarity, -1..1; a good picture has about 0.25 with openai's ViT-B/32", low=-1, high=1)
    top_share: float = key("share of each class that stays, 0..1", low=0, high=1)

    must_count = False


@dataclass(frozen=True, kw_only=True)
class LabelAgreementConfig(FilterConfig):
    reads_texts = True
    margin: float = key("cosine similarity by which the own class may miss the best one", low=0, high=2)


@dataclass(frozen=True, kw_only=True)
class NearDuplicatesConfig(FilterConfig):
    """upstream role "against": the scores of a given test set."""

    method: str = key(
        "phash | dhash | ahash | whash: 64-bit hashes of the imagehash library | embedding: features.model",
        choices=("phash", "dhash", "ahash", "whash", "embedding"),
    )
    distance: int = key("bits of 64 in which two hashes may differ", low=0, high=31)
    similarity: float = key("cosine similarity of two embeddings that are alike", low=-1, high=1)
    within: str = key(
        "embedding: class: compare within a class | all: everything with everything (slow beyond 100,000)", choices=("class", "all")
    )
    against: str = plan_key("folder of pictures, such as the test set: what is like one of them goes", null="none")

    @property
    def scores(self) -> str:
        return FEATURES if self.method == "embedding" else HASH


@dataclass(frozen=True, kw_only=True)
class BalanceConfig(CountedConfig):
    seed: int = key("integer; draws who stays")
    allow_short: bool = key("take all of a class that has fewer instead of failing")

    @property
    def scores(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(CountedConfig):
    """upstream roles "images" (several stages) and "scores" (of each, in the same order)."""

    seed: int = key("integer; draws who stays")
    allow_short: bool = key("take all of a class that has fewer instead of failing")
    mode: str = key(
        "conan: drawn by softmax(z / temperature) | inverse | equal: each generator alike | top | bottom",
        choices=("conan", "top", "bottom", "inverse", "equal"),
    )
    temperature: float = key("of the softmax: lower takes the best only, higher draws alike", low=1e-3, high=1e3)
    stages: tuple[str, ...] = plan_key("folders of whole images stages of other runs, one at least; this run's own pictures come first")

    pools = True
