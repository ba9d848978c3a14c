"""Plans the filters: stages with the slots of their images."""

from collections.abc import Mapping

from launch.plan.captions import dataset_of
from launch.plan.counts import class_counts, scaled
from launch.plan.node import Node
from synth.errors import InputError
from synth.filters.config import (
    BalanceConfig,
    ClipScoreConfig,
    EnsembleConfig,
    LabelAgreementConfig,
    NearDuplicatesConfig,
)
from synth.keys import dump
from synth.store.spec import StageSpec


def clip_score(node: Node) -> list[StageSpec]:
    s = node.settings
    _one_of(node, "score", ("class", "caption"))
    _between(node, "min_score", -1, 1)
    _between(node, "top_share", 0, 1)
    counts = _counts(node) if s.count is not None or s.count_file is not None else {}
    return _filter(node, ClipScoreConfig(s.score, s.min_score, s.top_share, counts))


def label_agreement(node: Node) -> list[StageSpec]:
    _between(node, "margin", 0, 2)
    return _filter(node, LabelAgreementConfig(node.settings.margin))


def near_duplicates(node: Node) -> list[StageSpec]:
    s = node.settings
    _between(node, "distance", 0, 31)
    _between(node, "similarity", -1, 1)
    _one_of(node, "within", ("class", "all"))
    return _filter(node, NearDuplicatesConfig(s.method, s.distance, s.similarity, s.within))


def balance(node: Node) -> list[StageSpec]:
    s = node.settings
    return _filter(node, BalanceConfig(s.seed, _counts(node), allow_short=s.allow_short))


def ensemble(node: Node) -> list[StageSpec]:
    from synth.filters.ensemble import MODES

    s = node.settings
    _one_of(node, "mode", MODES)
    _between(node, "temperature", 1e-3, 1e3)
    return _filter(node, EnsembleConfig(s.seed, _counts(node), allow_short=s.allow_short, mode=s.mode, temperature=s.temperature))


def _filter(node: Node, config) -> list[StageSpec]:
    images = node.upstream["images"]
    return [node.spec(dump(config), sum(s.spec.slots for s in images), images[0].spec.unit_size, images[0].spec.unit_size)]


def _counts(node: Node) -> Mapping[str, int]:
    """{official index as text: pictures}, the ratio applied to numbers of real pictures and of the file."""
    s, group = node.settings, f"filter.{node.name}"
    if s.count is None and s.count_file is None:
        raise InputError(f"{group}.count: not set; give a number, ma (as many as the real training set has) or {group}.count_file")
    if not s.ratio > 0:
        raise InputError(f"{group}.ratio={s.ratio}: must be more than 0")
    classes = dataset_of(node.config.dataset).classes
    known, plain = class_counts(node.config.dataset, classes, s.count, s.count_file, group)
    return {str(i): n for i, n in sorted(({i: scaled(n, s.ratio) for i, n in known.items()} | plain).items())}


def _one_of(node: Node, key: str, allowed: tuple[str, ...]) -> None:
    if (value := getattr(node.settings, key)) not in allowed:
        raise InputError(f"filter.{node.name}.{key}={value!r}: use one of {', '.join(allowed)}")


def _between(node: Node, key: str, low: float, high: float) -> None:
    if not low <= (value := getattr(node.settings, key)) <= high:
        raise InputError(f"filter.{node.name}.{key}={value}: must be {low:g}..{high:g}")
