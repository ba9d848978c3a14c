"""A whole images stage of drawn pictures, with a slot that has none."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.fixtures_images import CLASSES, IMAGES, captions_json_stage, captions_stage, commit_units, work

NAMES = (*CLASSES, "../..", "", "caf\u00e9", "cafe\u0301", "x" * 300, "CON", "<b>", "a\nb")
DEAD = 5  # a slot without a picture
EVERY, ORDERED = 24, ("Zebra", "ant", "red panda")  # pictures and classes of `pictures`: folders have another order than the official one


def png(slot: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), slot * 5 % 256, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def images(tmp_path) -> StageFolder:
    """A whole images stage made without a model: 26 pictures of 13 hostile classes, one of them a tombstone."""
    root = tmp_path / "runs" / "toys"
    table = captions_json_stage(root, [captions_stage(root, [f"caption {k}" for k in range(26)], classes=NAMES)], 26)
    assert work(table) == EXIT_OK
    spec = StageSpec(
        "images", "images", dump(IMAGES), 26, 8, 4, EXACT, {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)},
        {"model": InputFile("/nowhere", "0")},
    )  # fmt: skip
    folder = StageFolder.create(root, spec)
    results = []
    for slot in range(26):
        label = slot % 13
        record = {
            "caption": f"caption {slot}",
            "class": NAMES[label],
            "label": label,
            "labels": [label],
            "seed": (1 << 64) - 1 - slot,
            "caption_seed": slot,
        }
        sample = Sample(slot, f"{slot:09d}", {"png": png(slot), "json": canonical(record)})
        results.append(Tombstone(slot, "not finite") if slot == DEAD else sample)
    commit_units(folder, results)
    return folder


def pictures(root: Path, dead: Sequence[int] = (), ext: str = "png") -> StageFolder:
    """A stage of pictures of three classes, whose folders have another order than the official one."""
    table = captions_json_stage(root, [captions_stage(root, [f"caption {k}" for k in range(EVERY)], classes=ORDERED)], EVERY)
    assert work(table) == EXIT_OK
    upstream = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    folder = StageFolder.create(
        root, StageSpec("images", "images", dump(IMAGES), EVERY, 8, 4, EXACT, upstream, {"model": InputFile("/no", "0")})
    )
    results = []
    for slot in range(EVERY):
        label = slot * 3 // EVERY
        facts = {"caption": f"caption {slot}", "class": ORDERED[label], "label": label, "seed": (1 << 64) - 1 - slot, "caption_seed": slot}
        sample = Sample(slot, f"{slot:09d}", {ext: png(slot), "json": canonical(facts | {"model_parts": {}})})
        results.append(Tombstone(slot, "not finite") if slot in dead else sample)
    commit_units(folder, results)
    return folder
