"""Sources of pictures for tests: class folders, tars, img2dataset's output; small pictures of one colour each."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(n: int = 0, size: tuple[int, int] = (20, 16), ext: str = "png", mode: str = "RGB", **save) -> bytes:
    """File bytes of a picture (width, height) whose pixels depend on n."""
    pixels = np.random.default_rng(n).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, format={"jpg": "JPEG"}.get(ext, ext.upper()), **save)
    return out.getvalue()


def image_folder(root: Path, classes: dict[str, int] | tuple[str, ...] = ("cat", "dog"), each: int = 3) -> Path:
    """<class>/<n>.png, `each` a class or so many."""
    counts = classes if isinstance(classes, dict) else dict.fromkeys(classes, each)
    n = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            (root / name / f"{k}.png").write_bytes(picture(n))
            n += 1
    return root


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, n: int, record: dict | None = None, **more: str) -> list[tuple[str, bytes]]:
    """Members of one WebDataset sample."""
    members = [(f"{key}.png", picture(n))]
    if record is not None:
        members.append((f"{key}.json", json.dumps(record).encode()))
    return members + [(f"{key}.{ext}", text.encode()) for ext, text in more.items()]
