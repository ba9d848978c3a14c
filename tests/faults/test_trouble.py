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
from synth.export.hdf5.file import new_file
from synth.host import private
from synth.store import files
from synth.store.files import write_atomic, write_once
from synth.store.folder import StageFolder
from synth.store.out_folder import CLAIM, MARKER, OutFolder
from tests.faults.farm import FAST, check, plan, reference
from tests.fixtures_images import captions_json_stage, captions_stage, work

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

    def small(path, most=0):
        if path.name == "inputs.json":
            raise OSError(116, "Stale file handle")
        return path.read_bytes()

    monkeypatch.setattr("synth.store.folder.read_small", small)
    with pytest.raises(StoreError, match="run the same command again"):
        StageFolder.open(folder.path)


def late(call):
    """A call whose answer gets lost, and which is then made again."""

    def done_twice(*args):
        call(*args)
        raise FileNotFoundError(2, "No such file or directory")

    return done_twice


def test_a_rename_or_link_that_was_done_and_says_that_its_source_is_missing_was_done(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", late(os.replace))
    monkeypatch.setattr(os, "link", late(os.link))
    write_atomic(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert write_once(tmp_path / "b", b"first") is True
    assert write_once(tmp_path / "c", b"first") is True and (tmp_path / "c").read_bytes() == b"first"
    monkeypatch.undo()
    assert write_once(tmp_path / "b", b"second") is False and (tmp_path / "b").read_bytes() == b"first"


def test_every_rename_that_was_done_counts_as_done(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "runs"
    table = captions_json_stage(root, [captions_stage(root, ["a", "b"])], 2)
    monkeypatch.setattr(os, "replace", late(os.replace))
    monkeypatch.setattr(os, "rename", late(os.rename))
    assert work(table) == 0
    out = OutFolder(table)
    out.reopen()
    assert out.path.joinpath(CLAIM).exists() and not out.path.joinpath(MARKER).exists()
    temp = out.part("big.h5")
    temp.write_bytes(b"whole")
    out.place(temp, "big.h5")
    out.put("small", b"whole")
    with new_file(out.path / "new.h5") as new:
        new.h5.attrs["n"] = 1
    assert (out.path / "big.h5").read_bytes() == (out.path / "small").read_bytes() == b"whole" and (out.path / "new.h5").exists()
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    assert len(private.key()) == private.LENGTH
    monkeypatch.setattr(files, "rename_once", late(files.rename_once))
    assert write_once(tmp_path / "once", b"whole") is True and not list(tmp_path.glob(".once*"))
    monkeypatch.setattr(files, "rename_once", lambda *_: None)
    assert write_once(tmp_path / "twice", b"whole") is True and not list(tmp_path.glob(".twice*"))
    monkeypatch.undo()
    folder = plan(tmp_path, behaviour={"13": {"raise": "bug"}})
    for n in range(3):
        folder.report_failure(1, {"error": "bug", "host": f"h{n}", "device": f"d{n}"})
    assert folder.set_aside() == [1]
    monkeypatch.setattr(os, "replace", late(os.replace))
    assert folder.retry_set_aside() == [1] and not folder.set_aside()


def test_a_rename_that_was_not_done_is_an_error(tmp_path, monkeypatch):
    def gone(source, target):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "replace", gone)
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "a", b"one")
