"""Keys of filters of objects, and of what CLIP says of objects, which they and exports read."""

from dataclasses import dataclass
from typing import ClassVar

from synth.filters.config import FilterConfig
from synth.keys import key, later, plan_key

SCORES, EMBEDDINGS = "crop_scores", "box_embeddings"  # kinds of stages
CAPTION, LABEL = "caption", "label"


@dataclass(frozen=True, kw_only=True)
class ObjectsConfig(FilterConfig):
    """kind "objects": the records of the stage before, without the objects that a rule takes out. max_boxes 0: all."""

    reasons: ClassVar[tuple[str, ...]] = ("objects.min_score", "objects.min_box", "objects.max_boxes")  # in the order of the rules

    min_score: float = key("score of a box, 0..1, that it must have at least", low=0, high=1)
    min_box: int = key("pixels; a box of fewer than its square goes", low=1)
    max_boxes: int = key("boxes a picture, the best ones", low=1, null="all")

    @property
    def scores(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class CropClipConfig(FilterConfig):
    """kind "crop_clip": the same without the objects whose crop scores too low."""

    reasons: ClassVar[tuple[str, ...]] = ("crop_clip.min_score",)

    min_score: float = key("cosine similarity, -1..1, that a box must have at least", low=-1, high=1)
    against: str = plan_key(
        "caption: of the box, its label where it has none | label: the tag that it was found by", choices=(CAPTION, LABEL)
    )
    margin: float = plan_key("share of a box's sides that is shown around it on each side", low=0, high=2)

    @property
    def scores(self) -> str:
        return SCORES


@dataclass(frozen=True, kw_only=True)
class CropScoresConfig:
    """kind "crop_scores": the records of the stage before, with the similarity of each box to its text. input "model": the model."""

    against: str = later()
    margin: float = later()
    rows: int = later()  # boxes, or texts, a call of the model


@dataclass(frozen=True, kw_only=True)
class BoxEmbeddingsConfig:
    """kind "box_embeddings": embeddings of the texts of each box. input "model": the model."""

    rows: int = later()  # texts a call of the model
