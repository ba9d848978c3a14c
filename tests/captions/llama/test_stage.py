"""The captions stage on the native engine, through real worker processes and real torchrun: bytes do not depend on
n_jobs, a kill -9 only delays, bad checkpoints end the worker before any work."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synth.captions.config import ClassEntry
from synth.captions.llama.ragged import share_order
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile, StageSpec
from tests.captions.test_prompts import BACKGROUNDS, EXAMPLES, NAMES
from tests.configs import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig
from tests.processes import below, everywhere
from tests.stages import wait_for

SLOTS = 20  # two whole units and a short one


def plan(root: Path, checkpoint: Path, degree: int = 1, slots: int = SLOTS, min_words: int = 0, **captioner) -> StageFolder:
    """Captions of untrained weights: nonsense, so every check is off, but for `min_words`."""
    inputs = {}
    for role, table in (("examples", EXAMPLES), ("backgrounds", BACKGROUNDS)):
        path = root / f"{role}.json"
        path.write_text(json.dumps(table))
        inputs[role] = InputFile(str(path), identity(path))
    inputs["weights"] = InputFile(str(checkpoint), identity(checkpoint))
    inputs["tokenizer"] = InputFile(str(checkpoint / "tokenizer.model"), identity(checkpoint / "tokenizer.model"))
    data = DatasetConfig("d", tuple(ClassEntry(i, n) for i, n in enumerate(NAMES)), 10)
    engine = {"max_seq_len": 400, "max_gen_len": 8, "max_batch_size": 4, "model_parallel": degree} | captioner
    config = CaptionsConfig(0, data, PromptsConfig(), CaptionerConfig(**engine), must_name_class=False, min_words=min_words)
    spec = StageSpec("captions", "captions", dump(config), slots, 8, 8, EXACT, inputs=inputs, framing="jsonl")
    return StageFolder.create(root / "runs", spec)


def start(folder: StageFolder, job_idx: int = 0, n_jobs: int = 1) -> subprocess.Popen:
    command = [sys.executable, "-m", "synth.worker", str(folder.path), "--job-idx", str(job_idx), "--n-jobs", str(n_jobs)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def units(folder: StageFolder) -> dict[int, bytes]:
    return {n: folder.unit_path(n).read_bytes() for n in sorted(folder.committed())}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("one")


def asked_again(root: Path, checkpoint: Path, **more) -> StageFolder:
    """A plan in whose windows some captions are too short, and drawn anew while the window runs."""
    return plan(root, checkpoint, min_words=3, **more)


@pytest.fixture(scope="module")
def once(root, gqa):
    """A stage by one worker that nobody disturbed."""
    folder = asked_again(root, gqa)
    worker = start(folder)
    assert worker.wait(600) == EXIT_OK, worker.stderr.read()
    return folder


@pytest.fixture(scope="module")
def undisturbed(once):
    return units(once)


def test_captions_that_are_too_short_are_asked_for_again_in_a_running_window(once, undisturbed):
    rows = [json.loads(line) for unit in undisturbed.values() for line in unit.splitlines() if b'"attempt":' in line]
    assert {row["attempt"] for row in rows} >= {0, 1} and all(len(row["caption"].split()) >= 3 for row in rows)
    events = [json.loads(line) for path in (once.path / "events").glob("*.jsonl") for line in path.read_text().splitlines()]
    (stop,) = (e for e in events if e["event"] == "stop")
    assert 0 < stop["live_rows"] <= 4 and stop["drawn_tokens"] >= len(rows) and stop["refused"]["too_short"] > 0


def test_the_windows_of_these_tests_share_beginnings(tmp_path, gqa, undisturbed):
    for unit in undisturbed.values():  # a window each; a slot that was asked for too often has no prompt here
        texts = [json.loads(line)["prompt"] for line in unit.splitlines() if b'"prompt":' in line]
        assert len(texts) >= 2 and share_order(Tokenizer(gqa / "tokenizer.model").encode(texts))


def test_captions_are_identical_for_one_and_three_jobs(tmp_path, gqa, undisturbed):
    folder = asked_again(tmp_path, gqa)
    workers = [start(folder, i, 3) for i in range(3)]
    assert [w.wait(600) for w in workers] == [EXIT_OK] * 3
    assert units(folder) == undisturbed


def test_a_kill_in_the_middle_only_delays_and_leaves_no_process(tmp_path, gqa, undisturbed):
    folder = asked_again(tmp_path, gqa)
    worker = start(folder)
    wait_for(lambda: folder.committed() or worker.poll() is not None)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    again = start(folder)
    assert again.wait(600) == EXIT_OK
    assert units(folder) == undisturbed
    wait_for(lambda: not ranks_of(gqa))


def test_killed_torchrun_and_ranks_only_delay_the_worker_that_lives(tmp_path, gqa, undisturbed):
    folder = asked_again(tmp_path, gqa)
    worker = start(folder)
    for victim in ("synth.captions.llama.ranks", "synth.captions.llama.agent"):
        os.kill(wait_for(lambda of=victim: below(worker.pid, of))[0], signal.SIGKILL)
    _, err = worker.communicate(timeout=600)
    assert worker.returncode == EXIT_OK, err
    assert units(folder) == undisturbed and not folder.failures()
    assert "killed unit=" in err and "killed by SIGKILL" in err


def ranks_of(checkpoint: Path) -> list[int]:
    """Processes whose command line names the checkpoint."""
    return [pid for pid, words in everywhere().items() if any(str(checkpoint).encode() in word for word in words)]


def test_a_larger_run_takes_the_whole_units_of_the_smaller_one(root, gqa, undisturbed):
    small, large = asked_again(root, gqa), asked_again(root, gqa, slots=24)
    assert start(large).wait(600) == EXIT_OK
    assert [large.unit_path(u).stat().st_ino == small.unit_path(u).stat().st_ino for u in range(3)] == [True, True, False]
    rows = [s.json() for s in large.samples(0, SLOTS)]  # the smaller run's last unit was short, so it is made anew
    assert [r["seed"] for r in rows] == [s.json()["seed"] for s in small.samples()]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: (d / "consolidated.00.pth").unlink(), "consolidated"),
        (
            lambda d: (d / "consolidated.00.pth").write_bytes((d / "consolidated.00.pth").read_bytes()[:-5000]),
            "consolidated.00.pth",
        ),
        (lambda d: (d / "params.json").write_text("{"), "params.json"),
    ],
)
def test_a_bad_checkpoint_ends_the_worker_before_any_work(tmp_path, gqa, damage, said):
    checkpoint = tmp_path / "model"
    shutil.copytree(gqa, checkpoint)
    damage(checkpoint)
    folder = plan(tmp_path, checkpoint)
    worker = start(folder)
    _, err = worker.communicate(timeout=240)
    assert worker.returncode == EXIT_BAD_INPUT and said in err
    assert not folder.committed() and not list((folder.path / "parts").rglob("*.jsonl"))
