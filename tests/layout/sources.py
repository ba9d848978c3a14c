"""Sources of pictures with alt texts, of a few pixels each."""

import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from synth.images.sources.base import Input
from synth.layout.readers import layout_of, reader


def png(number: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    """A picture of one colour, another one for each number."""
    out = io.BytesIO()
    Image.new("RGB", size, (number * 40 % 256, 90, 200)).save(out, "PNG")
    return out.getvalue()


def write(root: Path, files: dict[str, bytes | str | list | dict]) -> Path:
    """A folder of files: bytes, text, or what becomes JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content if isinstance(content, str) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def pictures(root: Path, n: int, folder: str = "", caption: str = "a dog on a red sofa, number {}") -> Path:
    """n pictures with a .txt beside each."""
    files: dict[str, bytes | str | list | dict] = {}
    for i in range(n):
        files |= {f"{folder}{i:03d}.png": png(i), f"{folder}{i:03d}.txt": caption.format(i)}
    return write(root, files)


def listed(root: Path) -> tuple[list[Input], list[str]]:
    """(inputs, notes) of a source, as its own layout says."""
    found = reader(layout_of(root), root)
    return list(found), found.notes
