"""Planned and finished pairs stages for tests: small, with the embedded model."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from synth.errors import EXIT_OK
from synth.store.folder import StageFolder
from tests.fixtures_images import work
from tests.tracking.scenes import AnnotatedSet

SETTINGS = {
    "guidance_scale": 3, "steps": 4, "harmonize": 1, "min_area": 144, "dilate": 3, "size": "[64,48]", "bucket": 16, "batch_size": 4,
    "unit_size": 4,
    "variants": 1,
}  # fmt: skip


def pairs_stage(root: Path, annotated: AnnotatedSet, *overrides: str, **tracking) -> StageFolder:
    """The planned stage of a set. tracking: keys of that group."""
    keys = [f"tracking.{k}={v}" for k, v in (SETTINGS | tracking).items()]
    point = plan_point(typed(Composer().compose([*annotated.overrides, "export=[]", f"runs_dir={root}", "seed=3", *keys, *overrides])))
    (stage,) = point.stages
    return StageFolder.create(stage.dataset_root, stage.spec)


def done(root: Path, annotated: AnnotatedSet, *overrides: str, **tracking) -> StageFolder:
    folder = pairs_stage(root, annotated, *overrides, **tracking)
    assert work(folder) == EXIT_OK and folder.is_done()
    return folder


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def made(folder: StageFolder) -> dict[str, tuple[dict, np.ndarray]]:
    """file_name of a variant -> its record and pixels."""
    return {s.json()["file_name"]: (s.json(), pixels(s.read("jpg"))) for s in folder.samples()}


def tombstones(folder: StageFolder) -> dict[int, str]:
    found = {}
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            found |= reader.index.tombstones
    return found
