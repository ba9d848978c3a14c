"""Filters, their scores, and exports."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass
class Export:
    """What every export has; the key in `export` is the name of its stage."""

    kind: str = MISSING
    out: str | None = None


@dataclass
class ImageFolder(Export):
    names: str = MISSING
    val_share: float = MISSING
    split_seed: int = MISSING
    link_from: str | None = None


@dataclass
class WebDataset(Export):
    shard: int = MISSING
    shuffle: bool = MISSING
    seed: int = MISSING


@dataclass
class Parquet(WebDataset): ...


@dataclass
class CaptionsTxt(Export): ...


@dataclass
class Hdf5(Export):
    layout: str = MISSING
    content: str = MISSING
    gzip: int = MISSING
    partition: int = MISSING


@dataclass
class ContactSheet(Export):
    columns: int = MISSING
    tile: int = MISSING
    max_classes: int = MISSING


@dataclass
class StoryPages(Export):
    grid: str = MISSING
    animation: str = MISSING
    frame_ms: int = MISSING


@dataclass
class Filter:
    """What every filter has; the key in `filter` is the name of its stage."""

    kind: str = MISSING


@dataclass
class ClipScore(Filter):
    score: str = MISSING
    min_score: float = MISSING
    top_share: float = MISSING
    count: Any = None  # null | ma | a number
    count_file: str | None = None
    ratio: float = MISSING


@dataclass
class LabelAgreement(Filter):
    margin: float = MISSING


@dataclass
class NearDuplicates(Filter):
    method: str = MISSING
    distance: int = MISSING
    similarity: float = MISSING
    within: str = MISSING
    against: str | None = None


@dataclass
class Balance(Filter):
    count: Any = None  # ma | a number
    count_file: str | None = None
    ratio: float = MISSING
    allow_short: bool = MISSING
    seed: int = MISSING


@dataclass
class Ensemble(Balance):
    stages: list[str] = MISSING
    mode: str = MISSING
    temperature: float = MISSING


@dataclass
class Scores:
    """The scoring stages that filters read."""

    clip: str | None = None
    templates: list[str] = MISSING
    batch_size: int = MISSING
    unit_size: int = MISSING
