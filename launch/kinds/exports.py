"""Plans the exports: stages that read the images and write a place that people use.

A place that the user chose is in the config (what and where), so that two places are two exports.
"""

import shlex
import sys
from pathlib import Path

from launch.kinds import Node
from synth.config import ContactSheetConfig, ImageFolderConfig, dump
from synth.store.spec import StageSpec


def image_folder(node: Node) -> list[StageSpec]:
    """A slot is a slot of the images, a unit covers one of theirs: a killed export goes on where it was."""
    images = node.one("images")
    return [node.spec(dump(ImageFolderConfig(out=_out(node))), images.slots, images.unit_size, images.unit_size, settings=told())]


def contact_sheet(node: Node) -> list[StageSpec]:
    node.one("images")
    s = node.settings
    return [node.spec(dump(ContactSheetConfig(_out(node), s.columns, s.tile, s.max_classes)), 1, 1, 1)]


def told() -> dict[str, str]:
    """For the dataset card, not for the bytes of units: the command that plans this, if it is one of ours."""
    called = Path(sys.argv[0])
    ours = called.absolute().parent == Path(__file__).resolve().parent.parent
    return {"command": shlex.join(["python", f"launch/{called.name}", *sys.argv[1:]])} if ours else {}


def _out(node: Node) -> str:
    return str(Path(node.settings.out).expanduser().absolute()) if node.settings.out else ""
