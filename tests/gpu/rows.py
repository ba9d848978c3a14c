"""The stages of these tests: an images stage of five captions for each kind of model, in units of three and batches of two."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from synth.errors import EXIT_OK
from synth.images.stage import Images
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.fixtures_images import captions_json_stage, captions_stage, child, work
from tests.images import tiny
from tests.images.test_models import CAPTIONS, MODELS, config_of, paths_of

DRY = ("sdxl with refiner",)  # the rows of MODELS that a dry run takes too; tests/images draws all of them


class Folders:
    """Builder of tests/images/tiny.py -> folder, each built once."""

    def __init__(self, root: Path):
        self._root, self._built = root, {}

    def __call__(self, builder: str) -> Path:
        if builder not in self._built:
            self._built[builder] = tiny.build(builder, self._root / builder)
        return self._built[builder]


class Planner:
    """Plans a row's images stage at a place of its own: the same stage there is worked on by somebody else."""

    def __init__(self, root: Path):
        self._root, self.folders, self._tables = root, Folders(root / "models"), {}

    def table(self, place: str, captions: list[str]) -> StageFolder:
        if (key := (place, len(captions))) not in self._tables:
            root = self._root / place / str(len(captions))
            self._tables[key] = captions_json_stage(root, [captions_stage(root, captions)], len(captions))
            assert work(self._tables[key]) == EXIT_OK
        return self._tables[key]

    def __call__(
        self,
        name: str,
        numerics: Mapping,
        place: str,
        unit_size: int = 3,
        batch: int = 2,
        captions: list[str] = CAPTIONS,
        run=None,
        **config,
    ) -> StageFolder:
        row, table = MODELS[name], self.table(place, captions)
        inputs = {role: InputFile(str(p), identity(p)) for role, p in paths_of(row, self.folders).items()}
        config = replace(config_of(row), **config)
        return child(table.path.parent, "images", config, {"captions": [table]}, len(captions), unit_size, batch, inputs, numerics, run)


@dataclass
class Seen:
    """What a stage's model was made of just before it was closed."""

    devices: set[str] = field(default_factory=set)
    dtypes: set[torch.dtype] = field(default_factory=set)  # of weights


def watched(monkeypatch) -> Callable[[], Seen]:
    """From here on models are looked at when their stage is closed; calling it gives what was seen last."""
    from synth.images.text_encoders import components

    seen, close = [], Images.close

    def made_of(family) -> Seen:  # a function of its own: its frame must not hold the model while the stage is closed
        modules = [m for pipe in (family.pipe, *family.parts.values()) for m in components(pipe).values()]
        weights = [p for m in modules for p in m.parameters()]
        buffers = [b for m in modules for b in m.buffers()]
        return Seen({t.device.type for t in weights + buffers}, {w.dtype for w in weights if w.is_floating_point()})

    def look(self):
        if self.painter is not None:
            seen.append(made_of(self.painter.family))
        close(self)

    monkeypatch.setattr(Images, "close", look)
    return lambda: seen[-1]
