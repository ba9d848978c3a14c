"""Plans the exports: stages that read the images and write a place that people use.

A place that the user chose is in the config (what and where), so that two places are two exports.
"""

from pathlib import Path

from launch.kinds import Node
from synth.config import ContactSheetConfig, Hdf5Config, Hdf5PartsConfig, ImageFolderConfig, dump
from synth.errors import InputError
from synth.export.hdf5_settings import check_settings
from synth.store.spec import StageSpec


def image_folder(node: Node) -> list[StageSpec]:
    """A slot is a slot of the images, a unit covers one of theirs: a killed export goes on where it was."""
    images = node.one("images")
    return [node.spec(dump(ImageFolderConfig(out=_out(node))), images.slots, images.unit_size, images.unit_size, settings=_told(node))]


def hdf5_parts(node: Node) -> list[StageSpec]:
    """A unit is a partition file, written in one go."""
    images, s = node.one("images"), node.settings
    config = Hdf5PartsConfig(s.layout, s.content, s.gzip)
    check_settings(config)
    if s.partition < 1:
        msg = f"export.hdf5.partition={s.partition}: pictures a file, at least 1"
        raise InputError(msg)
    size = max(1, min(s.partition, images.slots))
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
