"""A tiny world for the launcher: a class list, weights that are files of a few bytes, and run.py as a user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RUN = REPO / "launch" / "run.py"
NAMES = ["cat", "dog", "no", "0123", "sea lion", "707-320"]


@pytest.fixture
def world(tmp_path):
    """Overrides that point every input at small files of the test's own; the folder is world.path."""
    return World(tmp_path)


class World:
    def __init__(self, path: Path):
        self.path = path
        (path / "llama").mkdir()
        (path / "llama" / "params.json").write_text("{}")
        (path / "llama" / "consolidated.00.pth").write_bytes(b"weights")
        (path / "llama" / "tokenizer.model").write_bytes(b"pieces")
        (path / "sd").mkdir()
        (path / "sd" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        (path / "classes.json").write_text(json.dumps({"dataset": "tiny", "classes": NAMES}))
        (path / "examples.json").write_text("{}")
        (path / "backgrounds.json").write_text("{}")
        self.runs = path / "runs"

    @property
    def overrides(self) -> list[str]:
        p = self.path
        return [
            f"runs_dir={self.runs}",
            f"dataset.classes_json={p}/classes.json",
            f"dataset.examples={p}/examples.json",
            f"dataset.backgrounds={p}/backgrounds.json",
            f"captioner.ckpt_dir={p}/llama",
            f"captioner.tokenizer_path={p}/llama/tokenizer.model",
            f"model.path={p}/sd",
        ]

    @property
    def probe(self) -> list[str]:
        return ["recipe=probe", f"runs_dir={self.runs}"]

    def point(self, *overrides: str, config_dir: str | None = None):
        """The planned point of a command line, planned in this process."""
        from launch.compose import Composer, typed
        from launch.plan import plan_point

        return plan_point(typed(Composer(config_dir).compose([*self.overrides, *overrides])))

    def run(self, *args: str, env: dict | None = None, timeout: float = 120) -> subprocess.CompletedProcess:
        """python launch/run.py ARGS, from the folder of this world."""
        return subprocess.run(command(*args), cwd=self.path, env=environment() | (env or {}), capture_output=True, text=True, timeout=timeout)

    def start(self, *args: str) -> subprocess.Popen:
        return subprocess.Popen(command(*args), cwd=self.path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def tree(self) -> dict[str, bytes]:
        """Every file of this world, to see that nothing was written."""
        return {str(p.relative_to(self.path)): p.read_bytes() if p.is_file() else b"" for p in sorted(self.path.rglob("*"))}


def command(*args: str) -> list[str]:
    return [sys.executable, str(RUN), *args]


def environment() -> dict[str, str]:
    """Without PYTHONPATH: a clone must do."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LLAMA_FOLDER")} | {"CUDA_VISIBLE_DEVICES": ""}
