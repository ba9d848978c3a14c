"""recipe=layout without arguments: the captioned scenes and the toy models that ship with the project."""

from pathlib import Path

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from launch.plan.planned import Point
from synth.embedded.train import captioned, scenes
from synth.store.folder import StageFolder

# three units of two batches each
UNITS = ("layout.unit_size=16", *(f"{group}.batch_size=8" for group in ("layout", "detector", "segmenter", "box_captioner")))


def point(runs: Path, *more: str) -> Point:
    return plan_point(typed(Composer().compose(["recipe=layout", f"runs_dir={runs}", *more])))


def planned(runs: Path, *more: str) -> dict[str, StageFolder]:
    """name -> its stages."""
    return {s.name: StageFolder.create(s.dataset_root, s.spec) for s in point(runs, *more).stages}


def shown(slot: int) -> set[str]:
    """The classes that a scene shows."""
    return {item.cls for item in scenes.made(captioned.FIRST + slot).scene.items}
