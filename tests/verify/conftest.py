"""A whole run without a model: captions, captions.json, pictures, an ImageFolder, by the real workers where they need no model."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.configs import ImageFolderConfig
from tests.fixtures_images import CLASSES, IMAGES, captions_json_stage, captions_stage, child, commit_units, work

N = 24
DEAD = 5  # a slot without a picture


def png(slot: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), slot * 9 % 256, np.uint8)).save(out, "PNG")
    return out.getvalue()


def picture(slot: int, **more) -> Sample:
    label = slot % len(CLASSES)
    record = {
        "caption": f"caption {slot}",
        "class": CLASSES[label],
        "label": label,
        "labels": [label],
        "caption_row": slot,
        "seed": slot,
    }
    record |= {"caption_seed": slot, "width": 16, "height": 16} | more
    return Sample(slot, f"{slot:09d}", {"png": png(slot), "json": canonical(record)})


def images_of(table: StageFolder, samples: list) -> StageFolder:
    ups = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    spec = StageSpec("images", "images", dump(IMAGES), len(samples), 8, 4, EXACT, ups, {"model": InputFile("/nowhere", "0")})
    folder = StageFolder.create(table.path.parent, spec)
    commit_units(folder, samples)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> SimpleNamespace:
    """Folders of a whole run, and `export()`, which lets the worker go over the ImageFolder again."""
    root = tmp_path / "runs" / "toys"
    captions = captions_stage(root, [f"caption {k}" for k in range(N)])
    table = captions_json_stage(root, [captions], N)
    assert work(table) == EXIT_OK
    images = images_of(table, [picture(k) if k != DEAD else Tombstone(k, "not finite") for k in range(N)])
    folder = child(root, "image_folder", ImageFolderConfig(), {"images": [images]}, N, 8, 4)
    assert work(folder) == EXIT_OK
    return SimpleNamespace(root=root, captions=captions, table=table, images=images, folder=folder, out=folder.out_dir)
