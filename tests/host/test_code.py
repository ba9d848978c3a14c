"""What a worker tells of the code that it runs."""

import json
import os
import time

import pytest

from synth.host import code
from synth.host.code import PACKAGES, PLANNED, Sources, digest, modules


@pytest.fixture
def tree(tmp_path):
    """A small synth, with what belongs to no worker."""
    for name in ("synth/a.py", "synth/run/b.py", "synth/embedded/train/fit.py", "synth/__pycache__/a.py", "launch/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def test_the_digest_is_of_the_modules_of_workers_their_names_and_nothing_else(tree):
    assert list(modules(tree)) == ["synth/a.py", "synth/run/b.py"] and list(modules(tree, "launch")) == ["launch/c.py"]
    before = digest(tree)
    (tree / "synth/embedded/train/fit.py").write_text("other")
    (tree / "launch/c.py").write_text("other")
    assert digest(tree) == before
    (tree / "synth/run/b.py").rename(tree / "synth/run/c.py")
    assert digest(tree) != before


def test_an_edit_that_keeps_size_and_time_is_seen_and_what_is_as_it_was_is_not_read_again(tree, monkeypatch):
    before, file = digest(tree), tree / "synth/run/b.py"
    was = file.stat()
    time.sleep(0.05)  # beyond a tick of the clock of file systems
    file.write_text(file.read_text().replace("run", "ran"))
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    after = digest(tree)
    assert after != before
    monkeypatch.setattr(code.hashlib, "sha256", pytest.fail)
    assert digest(tree) == after


def test_what_an_editor_leaves_beside_a_file_or_nobody_can_read_ends_nothing(tree):
    before = digest(tree)
    (tree / "synth/run/.#b.py").symlink_to("me@here.123")
    assert digest(tree) == before
    (tree / "synth/gone.py").symlink_to("nowhere")
    assert digest(tree) != before


def test_a_worker_tells_of_sources_that_are_not_those_of_the_plan_or_change_under_it(tree):
    events = []

    def note(event, **facts):
        events.append((event, facts["why"]))

    planned = digest(tree)
    same = Sources(tree, {PLANNED: planned})
    same.begin(note)
    same.end(note)
    Sources(tree, {}).begin(note)  # started by hand: nothing was promised
    assert events == []
    (tree / "synth/a.py").write_text("edited\n")
    same.end(note)
    other = Sources(tree, {PLANNED: planned})
    other.begin(note)
    assert [e for e, _ in events] == ["sources", "sources"] and "edited while this worker ran" in events[0][1]
    assert other.digest in events[1][1] and f"was {planned} when this was submitted" in events[1][1]


def test_a_frozen_copy_knows_what_was_installed(tree, monkeypatch):
    events = []
    (tree / PACKAGES).write_text(json.dumps({"torch": "2.9", "numpy": "2.0", "gone": "1"}))
    monkeypatch.setattr(code, "packages", lambda: {"torch": "2.8", "numpy": "2.0", "new": "3"})
    Sources(tree, {}).begin(lambda event, why: events.append(why))
    said = "gone is not there, was 1; new is 3, was not there; torch is 2.8, was 2.9"
    assert events == [f"other packages are installed than when this was submitted: {said}"]
    (tree / PACKAGES).write_text(json.dumps({f"p{n}": "1" for n in range(150)}))
    assert code.other_packages(tree).endswith("; and 148 more")  # the line stays short: status reads ends of files
