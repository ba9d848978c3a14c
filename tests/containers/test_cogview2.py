"""CogView2's adapter behind the real worker. In CI on a double of CogView2's own code; with COGVIEW2_PYTHON and COGVIEW2_HOME, as
`make cogview2-test` sets them, on its pinned libraries and its own code, with tiny random weights on cores."""

import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_OK
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.configs import ImagesConfig, ModelConfig
from tests.containers.standin import ROOT
from tests.fixtures_images import captions_json_stage, captions_stage, child, digests, work
from tests.images.test_external import reasons
from tests.images.test_stage import pixels

HERE = Path(__file__).parent / "cogview2"
ADAPTER = ROOT / "containers" / "cogview2" / "adapter.py"
REAL = os.environ.get("COGVIEW2_PYTHON", "")
LONG = " ".join(["panda"] * 120)
CAPTIONS = ["a red panda", "a green car", LONG, "a blue boat near water", "the <start_of_image> on a table", "an old house"]


@pytest.fixture(scope="module")
def adapter():
    spec = importlib.util.spec_from_file_location("cogview2_adapter", ADAPTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class World:
    """Where the adapter finds CogView2, and the weights."""

    python: str
    code: Path
    weights: Path
    path: str  # PYTHONPATH

    def command(self, *words: str, env: dict | None = None) -> list[str]:
        given = [
            f"{k}={v}" for k, v in ({"PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/proc/none"} | (env or {})).items()
        ]
        return ["env", *given, self.python, str(ADAPTER), str(self.weights), "--code", str(self.code), "--fp32", *words]

    def stage(self, root: Path, captions: list[str], *words: str, unit_size: int = 2, env: dict | None = None) -> StageFolder:
        """Captions drawn by the adapter, 48x48 pixels each."""
        table = captions_json_stage(root, [captions_stage(root, captions)], len(captions))
        assert work(table) == EXIT_OK
        command = self.command(*words, env=env)
        model = ModelConfig("cogview2", "external", command=tuple("{model_command_1}" if w == str(ADAPTER) else w for w in command))
        config = ImagesConfig(seed=3, model=model, height=48, width=48, steps=1, guidance_scale=1.0)
        inputs = {"model_command_1": InputFile(str(ADAPTER), identity(ADAPTER))}
        run = {"timeout": 600.0, "start_timeout": 600.0, "restarts": 1}
        return child(root, "images", config, {"captions": [table]}, len(captions), unit_size, 2, inputs, run=run)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("cogview2")
    cores, weights = str(HERE / "cores"), folder / "weights"
    if REAL:
        made = subprocess.run([REAL, HERE / "tiny.py", weights], env=os.environ | {"PYTHONPATH": cores}, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return World(REAL, Path(os.environ["COGVIEW2_HOME"]), weights, cores)
    code = Path(shutil.copytree(HERE / "clone", folder / "clone"))
    np.save(code / "cluster_label.npy", np.zeros(20000, dtype=np.int64))
    for name in ("coglm", "cogview2-dsr", "cogview2-itersr"):
        (weights / name / "7").mkdir(parents=True)
        (weights / name / "latest").write_text("7\n")
        for file in ("model_config.json", "7/mp_rank_00_model_states.pt"):
            (weights / name / file).write_text("{}")
    (weights / "icetk_models").mkdir()
    for file in ("ice_text.model", "ice_image.pt"):
        (weights / "icetk_models" / file).write_text("{}")
    return World(sys.executable, code, weights, f"{cores}:{HERE / 'double'}")


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p.relative_to(folder)), p.stat().st_mtime_ns) for p in folder.rglob("*"))


def drawn_while_killed(folder: StageFolder) -> None:
    """A worker that is killed, with all that it started, when its first unit is there."""
    worker = [sys.executable, "-m", "synth.worker", str(folder.path), "--trust"]
    env = os.environ | {"SYNTHSET_FAULT": "after_commit:kill"}
    done = subprocess.run(worker, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900)
    assert done.returncode == -signal.SIGKILL and list((folder.path / "units").rglob("*.tar")) and not folder.is_whole()


def test_a_picture_is_of_its_prompt_and_seed_whatever_came_before_and_whoever_is_killed(world, tmp_path):
    before = listing(world.weights)
    whole = world.stage(tmp_path / "a" / "toys", CAPTIONS, "--only-first-stage")
    assert work(whole) == EXIT_OK
    why = reasons(whole)
    assert sorted(why) == [2, 4] and "tokens long with its style; CogView2 reads 110" in why[2]
    assert "the prompt holds <start_of_image>" in why[4]
    found = pixels(whole)
    assert len(found) == 4 and all(p.shape == (48, 48, 3) for p in found.values()) and len({p.tobytes() for p in found.values()}) == 4
    mark = tmp_path / "died"
    dies = {} if REAL else {"COGVIEW2_DOUBLE_DIES": str(mark)}
    other = world.stage(tmp_path / "b" / "toys", CAPTIONS, "--only-first-stage", env=dies)
    drawn_while_killed(other)  # the third unit's pictures are the first ones of their process
    assert work(other) == EXIT_OK
    assert {k: p.tobytes() for k, p in pixels(other).items()} == {k: p.tobytes() for k, p in found.items()}
    assert REAL or (mark.exists() and digests(other).keys() == digests(whole).keys())
    assert listing(world.weights) == before  # nothing is written there: it may be mounted read-only


def exchange(command: list[str], requests: list[dict], **env: str) -> tuple[list[dict], str]:
    """What it answered, line by line, and its log."""
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    done = subprocess.run(command, input=lines, env=os.environ | env, capture_output=True, text=True, timeout=3600 if REAL else 300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def request(number: int, folder: Path, **more) -> dict:
    asked = {"id": number, "key": f"{number:06}", "prompt": "a red panda", "negative_prompt": "", "seed": 2**64 - 1, "width": 480}
    return asked | {"height": 480, "steps": 1, "guidance_scale": 1.0, "out": str(folder / f"{number}.png")} | more


def test_all_three_stages_draw_at_a_free_port_and_leave_cudnn_on(world, tmp_path):
    """The port that the environment names, and the ranks of a Slurm step, are another's. What it prints is no answer."""
    words = [] if not REAL else ["--style", "none"]
    asked = [
        request(0, tmp_path),
        request(1, tmp_path, prompt="a blue boat"),
        request(2, tmp_path),
        request(3, tmp_path, prompt=" ".join(["panda"] * 97)),
    ]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        others = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "MASTER_PORT": str(taken.getsockname()[1])}
        said, log = exchange(world.command(*words), asked, **others)
    assert "cuDNN is on" in log
    assert said[:4] == [{"hello": "synthset-external", "version": 1}, {"id": 0}, {"id": 1}, {"id": 2}]
    assert said[4]["id"] == 3 and "CogView2 reads 96" in said[4]["error"] and len(said) == 5
    drawn = [Image.open(tmp_path / f"{n}.png") for n in range(3)]
    assert all(image.size == (480, 480) for image in drawn)
    assert drawn[0].tobytes() == drawn[2].tobytes() != drawn[1].tobytes()


# -- without a process of its own ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"steps": 50}, "images.steps=50: CogView2 has none"),
        ({"guidance_scale": 4.0}, "images.guidance_scale=4.0: CogView2 has none"),
        ({"negative_prompt": "blur"}, "images.negative_prompt=blur: CogView2 has none"),
        ({"width": 640}, "images.width=640 images.height=480: CogView2 draws 480x480"),
    ],
)
def test_what_it_cannot_heed_is_refused_by_name_and_the_next_request_is_drawn(asked, why, adapter, tmp_path):
    answers = io.StringIO()
    lines = [json.dumps(r) for r in (request(0, tmp_path, **asked), request(1, tmp_path))]
    adapter.serve(lines, answers, lambda r: Image.new("RGB", (r["width"], r["height"])))
    hello, refused, drawn = map(json.loads, answers.getvalue().splitlines())
    assert hello["hello"] == "synthset-external" and drawn == {"id": 1} and (tmp_path / "1.png").exists()
    assert refused["id"] == 0 and why in refused["error"] and not (tmp_path / "0.png").exists()


def test_a_picture_is_made_smaller_when_another_size_is_asked_for(adapter):
    import torch

    level = torch.zeros(3, 480, 480)
    level[0, :240] = 1.2  # more than a colour: cut
    image = adapter.picture(level, 32)
    assert image.size == (32, 32) and image.getpixel((0, 0)) == (255, 0, 0) and image.getpixel((31, 31)) == (0, 0, 0)


def test_weights_that_are_missing_are_named_with_what_brings_them(tmp_path):
    done = subprocess.run([sys.executable, ADAPTER, tmp_path], input="", capture_output=True, text=True, timeout=120)
    assert done.returncode == 65 and not done.stdout
    lacks, brings = (
        f"{tmp_path} lacks icetk_models/ice_text.model",
        "cogview2-itersr/latest; bring it with: python containers/cogview2/fetch.py",
    )
    assert lacks in done.stderr and brings in done.stderr


class Cards:
    """A torch.cuda that sees one card."""

    def __init__(self, capability: tuple[int, int] | None, kernels: list[str]):
        self.capability, self.kernels = capability, kernels
        self.is_available, self.get_device_capability = (lambda: capability is not None), (lambda: capability)
        self.get_arch_list, self.get_device_name = (lambda: kernels), (lambda: "a card")


@pytest.mark.parametrize(
    ("capability", "why"),
    [
        ((8, 0), ""),
        ((8, 9), ""),
        ((9, 0), "no code for a card (sm_90"),
        ((7, 5), ""),
        ((6, 1), "no code for a card (sm_61"),
        (None, "sees no GPU"),
    ],
)
def test_a_card_that_its_torch_has_no_code_for_is_told_before_the_hello(capability, why, adapter, capsys):
    class Torch:
        __version__ = "1.13.1"
        cuda = Cards(capability, ["sm_70", "sm_80", "sm_86"])

        class version:
            cuda = "11.6"

    if not why:
        adapter.check_gpu(Torch)
        return
    with pytest.raises(SystemExit) as e:
        adapter.check_gpu(Torch)
    assert e.value.code == 65 and why in capsys.readouterr().err
