"""A tiny world for the launcher: a class list, weights that are files of a few bytes, and run.py as a user calls it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.conftest import images  # noqa: F401 (a fixture)

REPO = Path(__file__).resolve().parents[2]
RUN = REPO / "launch" / "run.py"
NAMES = ["cat", "dog", "no", "0123", "sea lion", "707-320"]
EXAMPLES = {
    mode: [{"class": n, "background": "lawn", "relation": "on", "caption": f"A {n} on a lawn."} for n in ("cat", "dog", "owl")]
    for mode in ("class", "class_background", "class_relation", "texture")
}


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """A LLaMA checkpoint of some kilobytes in Meta's layout."""
    from tests.captions.llama import tiny

    tokenizer = tiny.train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")
    tiny.one_process()
    return tiny.write_checkpoint(tmp_path_factory.mktemp("llama"), tiny.GQA, tokenizer)


@pytest.fixture
def world(tmp_path, llama):
    """Overrides that point every input at small files of the test's own; the folder is world.path."""
    return World(tmp_path, Path(llama))


class World:
    def __init__(self, path: Path, llama: Path):
        self.path = path
        shutil.copytree(llama, path / "llama")
        sd = path / "sd"
        for name, content in {
            "model_index.json": {
                "_class_name": "StableDiffusionPipeline",
                "vae": ["diffusers", "AutoencoderKL"],
                "scheduler": ["diffusers", "DDIMScheduler"],
            },
            "vae/config.json": {"block_out_channels": [8, 8]},
            "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler"},
        }.items():
            (sd / name).parent.mkdir(parents=True, exist_ok=True)
            (sd / name).write_text(json.dumps(content))
        (sd / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")  # a header without tensors
        (path / "classes.json").write_text(json.dumps({"dataset": "tiny", "classes": NAMES}))
        (path / "examples.json").write_text(json.dumps(EXAMPLES))
        (path / "backgrounds.json").write_text('{"*": ["street"]}')
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
        from launch.config.compose import Composer, typed
        from launch.plan.graph import plan_point

        return plan_point(typed(Composer(config_dir).compose([*self.overrides, *overrides])))

    def run(self, *args: str, env: dict | None = None, timeout: float = 400) -> subprocess.CompletedProcess:
        """python launch/run.py ARGS, from the folder of this world."""
        return subprocess.run(
            command(*args), cwd=self.path, env=environment() | (env or {}), capture_output=True, text=True, timeout=timeout
        )

    def start(self, *args: str) -> subprocess.Popen:
        return subprocess.Popen(
            command(*args), cwd=self.path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def tree(self) -> dict[str, bytes]:
        """Every file of this world, to see that nothing was written."""
        return {str(p.relative_to(self.path)): p.read_bytes() if p.is_file() else b"" for p in sorted(self.path.rglob("*"))}


def command(*args: str) -> list[str]:
    return [sys.executable, str(RUN), *args]


def environment() -> dict[str, str]:
    """Without PYTHONPATH: a clone must do."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LLAMA_FOLDER")} | {"CUDA_VISIBLE_DEVICES": ""}
