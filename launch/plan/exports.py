"""Plans the exports: stages that read the images and write a place that people use.

A place that the user chose is in the config (what and where), so that two places are two exports.
"""

from pathlib import Path

from launch.plan.node import Node
from synth.errors import InputError
from synth.export.config import (
    CaptionsTxtConfig,
    ContactSheetConfig,
    Hdf5Config,
    Hdf5PartsConfig,
    ImageFolderConfig,
    ParquetConfig,
    WebDatasetConfig,
)
from synth.export.hdf5.settings import PAIRS, check_settings, partition_of_pairs
from synth.keys import dump
from synth.store.spec import StageSpec

NAMES = ("key", "number", "nested")  # of synth.export.image_folder


def image_folder(node: Node) -> list[StageSpec]:
    """A slot is a slot of the images, a unit covers one of theirs: a killed export goes on where it was."""
    images, s = node.one("images"), node.settings
    if s.names not in NAMES:
        raise InputError(f"export.{node.name}.names={s.names}: use one of {', '.join(NAMES)}")
    if not 0 <= s.val_share < 1:
        raise InputError(f"export.{node.name}.val_share={s.val_share}: must be 0 or more, and less than 1")
    settings = _told(node)
    if s.link_from is not None:
        source = Path(s.link_from).expanduser().absolute()
        if not source.is_dir():
            raise InputError(
                f"export.{node.name}.link_from: {source} is not there; give the folder of an ImageFolder made of the same pictures"
            )
        settings = settings | {"link_from": str(source)}
    config = ImageFolderConfig(_out(node), s.names, s.val_share, s.split_seed)
    return [node.spec(dump(config), images.slots, images.unit_size, images.unit_size, settings=settings)]


def webdataset(node: Node) -> list[StageSpec]:
    return _sharded(node, WebDatasetConfig)


def parquet(node: Node) -> list[StageSpec]:
    return _sharded(node, ParquetConfig)


def _sharded(node: Node, kind: type) -> list[StageSpec]:
    """A unit is a file of `shard` pictures."""
    images, s = node.one("images"), node.settings
    if s.shard < 1:
        raise InputError(f"export.{node.name}.shard={s.shard}: pictures a file, at least 1")
    size = max(1, min(s.shard, images.slots))
    return [node.spec(dump(kind(_out(node), s.seed if s.shuffle else -1)), images.slots, size, size, settings=_told(node))]


def captions_txt(node: Node) -> list[StageSpec]:
    node.one("captions")
    return [node.spec(dump(CaptionsTxtConfig(_out(node))), 1, 1, 1)]


def hdf5_parts(node: Node) -> list[StageSpec]:
    """A unit is a partition file, written in one go."""
    images, s = node.one("images"), node.settings
    config, pairs = Hdf5PartsConfig(s.layout, s.content, s.gzip), images.kind == PAIRS
    check_settings(config, pairs)
    if s.partition < 1:
        raise InputError(f"export.hdf5.partition={s.partition}: pictures a file, at least 1")
    size = partition_of_pairs(s.partition, images.config["variants"], images.slots) if pairs else max(1, min(s.partition, images.slots))
    return [node.spec(dump(config), images.slots, size, size)]


def hdf5(node: Node) -> list[StageSpec]:
    """The merge, which waits for all partitions."""
    node.one("parts")
    return [node.spec(dump(Hdf5Config(out=_out(node))), 1, 1, 1, settings=_told(node))]


def contact_sheet(node: Node) -> list[StageSpec]:
    node.one("images")
    s = node.settings
    return [node.spec(dump(ContactSheetConfig(_out(node), s.columns, s.tile, s.max_classes)), 1, 1, 1)]


def _told(node: Node) -> dict[str, str]:
    """For the dataset card, not for the bytes of units."""
    return {"command": node.command} if node.command else {}


def _out(node: Node) -> str:
    return str(Path(node.settings.out).expanduser().absolute()) if node.settings.out else ""
