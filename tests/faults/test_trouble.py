"""A network file system in trouble: calls that fail now and then, answers that got lost, writes that take half.

Whatever happens, a worker says 0 or 75, nothing wrong is in units/, no unit is blamed, and the same command completes the stage
with the same bytes. SYNTHSET_TROUBLE says how many stages are tried, SYNTHSET_TROUBLE_SEED picks others.
"""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from synth.errors import StoreError
from synth.store.files import write_atomic, write_once
from synth.store.folder import StageFolder
from tests.faults.farm import FAST, check, plan, reference

STAGES = int(os.environ.get("SYNTHSET_TROUBLE", "3"))
SEED = int(os.environ.get("SYNTHSET_TROUBLE_SEED", "0"))
ALL = "eio,estale,eintr,late,short"
ROUNDS = 12  # times that the same command is typed; the last ones without trouble


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, Path(__file__).with_name("shim.c"), "-ldl"], check=True)
    return path


def troubled(shim: Path, root: Path, faults: str, rate: int, seed: int, log: Path) -> dict[str, str]:
    """The environment of a process that has trouble with what lies below `root`, `rate` times in a million calls."""
    words = {"ROOT": root, "FAULTS": faults, "RATE": rate, "SEED": seed, "LOG": log}
    return os.environ | FAST | {"LD_PRELOAD": str(shim)} | {f"SHIM_{k}": str(v) for k, v in words.items()}


@pytest.mark.parametrize("faults", ["late", "short", ALL])
def test_the_same_command_completes_a_stage_with_the_same_bytes(shim, tmp_path, faults):
    rng, hits = random.Random(SEED), Counter()
    for n in range(STAGES):
        folder = plan(
            tmp_path / f"s{n}", rng.choice([60, 200]), rng.choice([5, 10]), rng.choice([1, 3]), links=rng.random() < 0.7,
            seed=n, size=rng.choice([10, 3000]), framing=rng.choice(["tar", "jsonl"]),
        )  # fmt: skip
        want, log, tried = reference(tmp_path / f"r{n}", folder), tmp_path / f"s{n}.shim", 0
        while not folder.is_done():
            assert tried < ROUNDS, "never whole"
            env = troubled(shim, folder.path, faults, 30_000 if tried < ROUNDS - 2 else 0, 1000 * SEED + 20 * n + tried, log)
            words = [sys.executable, "-m", "synth.worker", str(folder.path), "--n-jobs", "2", "--job-idx"]
            workers = [
                subprocess.Popen([*words, str(i)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for i in range(2)
            ]
            for worker in workers:
                said = worker.communicate(timeout=240)[0]
                assert worker.returncode in (0, 75), said[-3000:]
            check(folder, want, whole=False)
            tried += 1
        check(folder, want)
        hits.update(log.read_text() if log.exists() else "")
    assert sum(hits.values()) >= 5, hits


def test_trouble_while_a_unit_is_read_says_nothing_about_the_unit(tmp_path, monkeypatch):
    folder = plan(tmp_path)
    reference_of = folder.reader

    def stale(*args):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("synth.store.framing.json.loads", stale)
    (folder.unit_path(0).parent).mkdir(parents=True)
    folder.unit_path(0).write_bytes(b"x" * 4096)
    with pytest.raises(StoreError, match="Stale file handle"):
        reference_of(0)


def test_trouble_with_the_list_of_inputs_does_not_ask_for_a_new_plan(tmp_path, monkeypatch):
    folder = plan(tmp_path)

    def small(path):
        if path.name == "inputs.json":
            raise OSError(116, "Stale file handle")
        return path.read_bytes()

    monkeypatch.setattr("synth.store.folder.read_small", small)
    with pytest.raises(StoreError, match="run the same command again"):
        StageFolder.open(folder.path)


def test_a_rename_or_link_that_was_done_and_says_that_its_source_is_missing_was_done(tmp_path, monkeypatch):
    def late(call):
        def done_twice(*args):
            call(*args)
            raise FileNotFoundError(2, "No such file or directory")

        return done_twice

    monkeypatch.setattr(os, "replace", late(os.replace))
    monkeypatch.setattr(os, "link", late(os.link))
    write_atomic(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert write_once(tmp_path / "b", b"first") is True
    assert write_once(tmp_path / "c", b"first") is True and (tmp_path / "c").read_bytes() == b"first"
    monkeypatch.undo()
    assert write_once(tmp_path / "b", b"second") is False and (tmp_path / "b").read_bytes() == b"first"


def test_a_rename_that_was_not_done_is_an_error(tmp_path, monkeypatch):
    def gone(source, target):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "replace", gone)
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "a", b"one")
