"""Plans exports: stages that read pictures, or captions, and write a place that people use."""

from dataclasses import replace
from pathlib import Path

from launch.config.program import public
from launch.plan.node import Node
from synth.errors import InputError
from synth.export.config import KEYED, PACKED, PIXELS, ExportConfig, Hdf5PartsConfig
from synth.keys import dump
from synth.kinds import LABELS, PAIRS, h5_items, kind_of
from synth.layout.config import NONE, WITH_MASKS
from synth.layout.source import ROLE as LAYOUT
from synth.layout.source import SOURCE
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec

UP_TO_MASKS = ("tags", "boxes", "masks")  # stages of layout labels, in order


def plan(node: Node, **settings: str) -> list[StageSpec]:
    """An export of any kind. settings: of its stage, beside the command that its card tells."""
    return [_spec(node, node.settings.settled(), settings)]


def _spec(node: Node, config: ExportConfig, settings: dict[str, str]) -> StageSpec:
    images = node.one("parts" if kind_of(node.kind).parts else kind_of(node.kind).role)
    slots, unit = config.units(images)
    if config.has_card and node.command:
        settings = {"command": public(node.command)} | settings
    return node.spec(dump(replace(config, out=out_of(config))), slots, unit, unit, settings=settings | _pictures_of(images))


def _pictures_of(images: StageSpec) -> dict[str, str]:
    """Where the pictures of layout labels lie: a container must show them to their exports."""
    source = images.inputs.get(SOURCE) if LABELS in kind_of(images.kind).makes else None
    return {"pictures": source.path} if source else {}


def out_of(config: ExportConfig) -> str:
    """The place that the user chose, "" for the stage's own."""
    return str(Path(config.out).expanduser().absolute()) if config.out else ""


def image_folder(node: Node) -> list[StageSpec]:
    """Where it may take files from another export of the same pictures, that must be there."""
    if node.settings.link_from is None:
        return plan(node)
    source = Path(node.settings.link_from).expanduser().absolute()
    if not source.is_dir():
        raise InputError(
            f"export.{node.name}.link_from: {source} is not there; give the folder of an ImageFolder made of the same pictures"
        )
    return plan(node, link_from=str(source))


def hdf5_parts(node: Node) -> list[StageSpec]:
    """A unit is a partition file, written in one go."""
    images, s = node.one("images"), node.settings
    config, pairs = Hdf5PartsConfig(s.layout, s.content, s.gzip), PAIRS in kind_of(images.kind).makes
    check_settings(config, h5_items(images.kind).keyed_only)
    size = partition_of_pairs(s.partition, images.config["variants"], images.slots) if pairs else max(1, min(s.partition, images.slots))
    return [node.spec(dump(config), images.slots, size, size, settings=_pictures_of(images))]


def check_settings(config: Hdf5PartsConfig, keyed_only: str = "") -> None:
    """InputError naming the key, unless the settings make sense together. keyed_only: why only keyed files hold what is exported."""
    if config.content == PIXELS and config.layout == KEYED:
        raise InputError(f"export.hdf5.content={PIXELS}: needs export.hdf5.layout={PACKED}; a keyed file holds encoded pictures")
    if config.gzip and config.content != PIXELS:
        raise InputError(f"export.hdf5.gzip={config.gzip}: only with export.hdf5.content={PIXELS}; encoded pictures are compressed already")
    if keyed_only and config.layout != KEYED:
        raise InputError(f"export.hdf5.layout={config.layout}: {keyed_only}; use export.hdf5.layout={KEYED}")


def partition_of_pairs(partition: int, variants: int, slots: int) -> int:
    """Pictures a partition, such that all variants of an image lie in one: `partition` rounded down, one image at least.

    >>> partition_of_pairs(10, 4, 100), partition_of_pairs(3, 4, 100), partition_of_pairs(1000, 4, 100)
    (8, 4, 100)
    """
    return max(variants, min(partition, slots) // variants * variants)


def sacap(node: Node) -> list[StageSpec]:
    """Layout labels with masks, which are known to be missing where the chain ends before them."""
    if maker := _told_of_masks(node):
        fix = "choose segmenter=sam, detector=sam3, or another export"
        raise InputError(f"export.{node.name}: needs the masks of objects, and {maker} makes none; {fix}")
    return plan(node)


def _told_of_masks(node: Node) -> str:
    """The last of tags, boxes and masks before the export, where it makes no masks: what comes behind them adds none. "" where it does."""
    (labels,) = node.upstream["images"]
    if labels.spec.kind in UP_TO_MASKS:
        return _maskless(labels.spec)
    if not (labels.folder / "stage.json").exists():
        return "boxes" if _unmasked(node) else ""
    stages = [StageFolder.open(labels.folder)]
    while stages and stages[0].spec.kind not in UP_TO_MASKS:
        stages = stages[0].upstream(LAYOUT)
    return _maskless(stages[0].spec) if stages else "boxes"


def _maskless(labels: StageSpec) -> str:
    """The kind of a stage of labels, "" of one that makes masks."""
    masked = labels.kind == "masks" or (labels.kind == "boxes" and labels.config["detector"]["kind"] in WITH_MASKS)
    return "" if masked else labels.kind


def _unmasked(node: Node) -> bool:
    """Whether the chain that is planned leaves masks out."""
    left_out = "masks" not in {s.kind for s in node.config.recipe.stages.values()} or node.config.segmenter.kind == NONE
    return left_out and node.config.detector.kind not in WITH_MASKS
