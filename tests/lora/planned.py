"""Stages of a run that trains LoRAs of a tiny model on a few small pictures, planned by the real planner."""

from pathlib import Path

from launch.config.compose import Composer, typed
from launch.plan import sources
from launch.plan.graph import plan_point
from synth.errors import EXIT_OK
from synth.store.folder import StageFolder
from tests.fixtures_images import work

CLASSES = ("cat", "red fox", "owl")
TRAINING = ("lora.per_class=3", "lora.steps=5", "lora.save_every=2", "lora.batch_size=2", "lora.rank=2", "lora.learning_rate=0.01")
DRAWING = ("images.steps=2", "images.height=16", "images.width=16", "images.per_caption=3", "images.batch_size=2", "images.unit_size=4")
MAKER = ("prompts=class_name", "captioner=none", "export=[]", "filter=[]")


def point(root: Path, model: Path, real: Path | None, *overrides: str):
    """The planned point of a run below root/runs, of pictures of CLASSES."""
    sources._listed.cache_clear()  # a process lists a source once; the tests change theirs
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    own = [f"runs_dir={root}/runs", f"dataset.source={root}/classes.txt", f"model.path={model}"]
    given = [f"lora.real={real}"] if real else []
    return plan_point(typed(Composer().compose([*MAKER, *DRAWING, *TRAINING, *own, *given, *overrides])))


def stages(root: Path, model: Path, real: Path | None, *overrides: str) -> dict[str, StageFolder]:
    """name -> planned stage."""
    return {s.name: StageFolder.create(s.dataset_root, s.spec) for s in point(root, model, real, *overrides).stages}


def whole(root: Path, model: Path, real: Path | None, *overrides: str) -> dict[str, StageFolder]:
    """The same, each of them made."""
    made = stages(root, model, real, *overrides)
    for name, folder in made.items():
        assert work(folder) == EXIT_OK, name
    return made
