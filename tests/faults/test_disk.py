"""A disk that is full or read-only: nothing wrong is in units/, the worker says 75, and the same command goes on afterwards."""

import contextlib
import os
import random
import shutil
import subprocess
import time

import pytest

from tests.faults.farm import FAST, SLOW, Child, check, finish, plan, reference, run

MiB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 4 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=5000", "synthset-test", mount], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def free(path) -> int:
    s = os.statvfs(path)
    return s.f_bavail * s.f_bsize


def fill(path, leave: int) -> None:
    """Leave so many bytes free."""
    with contextlib.suppress(OSError), open(path / "ballast", "ab") as f:  # it may be full already
        while (n := min(MiB, free(path) - leave)) > 0:
            f.write(bytes(n))
            f.flush()


@pytest.mark.parametrize("links", [True, False])
def test_a_disk_that_fills_up_anywhere_drains_the_worker_and_the_run_goes_on_when_there_is_space(tmp_path, small_disk, links):
    rng, full = random.Random(1), 0
    for n in range(8):
        folder = plan(small_disk / "runs", slots=60, unit=10, batch=3, size=9000, seed=n, links=links)
        fill(small_disk, leave=rng.choice([0, 4096, rng.randrange(40_000), rng.randrange(700_000)]))
        code = run(folder, env=SLOW)
        assert code in (0, 75)
        full += code == 75
        want = reference(tmp_path / f"n{n}", folder)
        check(folder, want, whole=False)
        (small_disk / "ballast").unlink()
        finish(folder)
        check(folder, want)
        shutil.rmtree(small_disk / "runs")
    assert full >= 4


def test_a_disk_that_fills_up_and_frees_up_under_several_workers(tmp_path, small_disk):
    folder = plan(small_disk / "runs", slots=200, unit=10, batch=3, size=4000, sleep=0.02)
    want, rng, codes, end = reference(tmp_path, folder), random.Random(2), [], time.monotonic() + 120
    while not folder.is_done() and time.monotonic() < end:
        children = [Child(folder, i, 3, env=FAST) for i in range(3)]
        time.sleep(rng.uniform(0.0, 0.06) if codes else 0.0)
        fill(small_disk, leave=0)
        if codes:
            time.sleep(rng.uniform(0.0, 0.03))
        else:  # the first time it is full until somebody has met it, however slow the machine is
            while not any(c.poll() == 75 for c in children) and any(c.poll() is None for c in children):
                time.sleep(0.001)
        (small_disk / "ballast").unlink(missing_ok=True)
        codes += [c.wait() for c in children]
        check(folder, want, whole=False)
    assert set(codes) <= {0, 75} and 75 in codes
    check(folder, want)


def test_a_disk_without_inodes_drains_too(tmp_path, small_disk):
    folder = plan(small_disk / "runs", slots=60)
    want = reference(tmp_path, folder)
    with contextlib.suppress(OSError):
        for n in range(100_000):
            (small_disk / f"inode{n}").touch()
    assert run(folder, env=SLOW) == 75
    check(folder, want, whole=False)
    for p in small_disk.glob("inode*"):
        p.unlink()
    finish(folder)
    check(folder, want)


@pytest.mark.parametrize("point", ["before_batch_write", "before_batch_line", "before_index", "after_index", "before_link", "after_lease"])
def test_no_space_at_a_fault_point_is_75_and_blames_no_unit(tmp_path, point):
    folder = plan(tmp_path / "a")
    child = Child(folder, env=SLOW, fault=f"{point}:enospc@2")
    assert child.wait() == 75, child.text()
    assert "run the same command again" in child.text()
    want = reference(tmp_path, folder)
    check(folder, want, whole=False)
    finish(folder)
    check(folder, want)


def remount(path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", path], check=True, capture_output=True)


@pytest.mark.parametrize("begun", [False, True])
def test_a_read_only_folder_is_75_and_nothing_wrong_is_in_units(tmp_path, small_disk, begun):
    folder = plan(small_disk / "runs", slots=40)
    if begun:
        Child(folder, env=SLOW, fault="after_batch:kill@6").wait()
    remount(small_disk, "ro")
    child = Child(folder, env=SLOW)
    code = child.wait()
    want = reference(tmp_path, folder)
    check(folder, want, whole=False)
    remount(small_disk, "rw")
    assert code == 75
    finish(folder)
    check(folder, want)


def test_a_folder_that_becomes_read_only_under_a_worker(tmp_path, small_disk):
    folder = plan(small_disk / "runs", slots=300, unit=3, batch=3, sleep=0.004)
    child, end = Child(folder, env=SLOW), time.monotonic() + 120
    time.sleep(0.05)
    while True:  # refused while a file is open for writing, and hits a moment between two sooner or later
        done = subprocess.run(["mount", "-o", "remount,ro", small_disk], capture_output=True)
        if done.returncode == 0 or child.poll() is not None or time.monotonic() > end:
            break
    code = child.wait()
    want = reference(tmp_path, folder)
    check(folder, want, whole=False)
    remount(small_disk, "rw")
    assert code == (75 if done.returncode == 0 and not folder.is_done() else 0)
    finish(folder)
    check(folder, want)


def test_a_whole_stage_that_is_read_only_is_simply_done(small_disk):
    folder = plan(small_disk / "runs", slots=20)
    finish(folder, env=SLOW)
    remount(small_disk, "ro")
    assert run(folder, env=SLOW) == 0
    remount(small_disk, "rw")
