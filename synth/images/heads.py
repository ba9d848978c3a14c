"""Size and orientation of a picture, by its first bytes where they tell: a JPEG without metadata needs four kilobytes."""

from collections.abc import Callable
from dataclasses import dataclass

from synth.store.trees import open_picture

FIRST = 4096  # bytes that are read at once
METADATA = 1 << 16  # bytes in which most pictures say their size and orientation
ORIENTATION = 0x0112  # EXIF
SIZES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))  # JPEG's frames
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
APP1, SCAN, END = 0xE1, 0xDA, 0xD9

Read = Callable[[int, int], bytes]  # (offset, size) -> bytes, fewer at the end


@dataclass(frozen=True)
class Head:
    """width, height: as the picture is stored. orientation: 1 to 8, as EXIF has it; 1: it is shown as it is stored."""

    width: int
    height: int
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) once it is turned."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def head_of(read: Read, size: int) -> Head | None:
    """Of the picture of `size` bytes that `read` gives; None where it cannot be told: whoever decodes it says why."""
    if (head := _plain_jpeg(read)) is not None:
        return head
    return next(filter(None, (_opened(read(0, enough)) for enough in (METADATA, size) if enough <= size)), None)


def _opened(data: bytes) -> Head | None:
    """As Pillow sees it; None of what it cannot open, which may be the beginning of what it can."""
    from PIL import Image

    try:
        with open_picture(data) as image:
            if image.format == "TIFF":  # which Pillow turns by itself
                return Head(*image.size)
            # a PNG's own method would decode it, to look for EXIF behind the pixels
            exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
            orientation = exif.get(ORIENTATION, 1)
            return Head(*image.size, orientation if orientation in range(1, 9) else 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (Pillow raises whatever a broken file provokes)
        return None


def _plain_jpeg(read: Read) -> Head | None:
    """The size of a JPEG that holds no APP1, where EXIF and XMP are; None of anything else."""
    start, data, at = 0, read(0, FIRST), 2
    if data[:2] != b"\xff\xd8":
        return None
    while True:
        if at + 9 > start + len(data):
            start, data = at, read(at, FIRST)
        here = data[at - start : at - start + 9]
        if len(here) < 9 or here[0] != 0xFF or here[1] in (APP1, SCAN, END):
            return None
        if here[1] in SIZES:
            height, width = int.from_bytes(here[5:7], "big"), int.from_bytes(here[7:9], "big")
            return Head(width, height) if width and height else None
        at += 1 if here[1] == 0xFF else 2 if here[1] in ALONE else 2 + int.from_bytes(here[2:4], "big")
