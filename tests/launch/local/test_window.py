"""The window of newest pictures: only where there is one to look at, started and ended by us, and nothing else is."""

import json
import subprocess
import sys
import time

import pytest

from launch.local import window
from synth.store.folder import StageFolder
from tests.stages import probe

HANGS = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]
SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def folder(tmp_path) -> StageFolder:
    made = probe(tmp_path)
    path = made.path / "inputs.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"growing": 10}}))
    return StageFolder.open(made.path)


@pytest.fixture
def started(monkeypatch):
    """What was started, with a terminal and a display; `command` of it can be set."""
    found = []

    class Seen(subprocess.Popen):
        def __init__(self, *args, **kw):
            super().__init__(*args, **kw)
            found.append(self)

    monkeypatch.setattr(window.subprocess, "Popen", Seen)
    monkeypatch.setattr(window.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(window, "viewer", lambda path: SLEEPS)
    return found


def test_a_window_is_ended_by_us_and_other_viewers_live_on(folder, started):
    other = subprocess.Popen(SLEEPS)  # somebody else's viewer of the same name
    told = []
    try:
        with window.shown(folder, told.append):
            mine = started[-1]
            assert mine.pid != other.pid and mine.poll() is None
        assert mine.poll() is not None and other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert told == [f"probe: a page that grows: {folder.path}/growing.html"]


def test_a_window_that_does_not_close_is_killed_and_one_that_was_closed_is_no_error(folder, started, monkeypatch):
    monkeypatch.setattr(window, "PATIENCE", 0.3)
    monkeypatch.setattr(window, "viewer", lambda path: HANGS)
    with window.shown(folder, print):
        time.sleep(0.5)
    assert started[-1].returncode is not None
    with window.shown(folder, print):
        started[-1].kill()
        started[-1].wait()


def test_it_is_ended_when_the_run_fails(folder, started):
    with pytest.raises(KeyError), window.shown(folder, print):
        raise KeyError
    assert started[-1].returncode is not None


def test_there_is_no_window_without_preview_terminal_display_or_viewer(tmp_path, folder, started, monkeypatch):
    with window.shown(probe(tmp_path / "other"), print):
        assert not started
    monkeypatch.setattr(window, "viewer", lambda path: None)
    with window.shown(folder, print):
        assert not started
    monkeypatch.setattr(window, "viewer", lambda path: ["/nowhere/viewer"])
    with window.shown(folder, print):
        assert not started
    monkeypatch.setattr(window, "viewer", lambda path: SLEEPS)
    monkeypatch.setattr(window.sys.stdout, "isatty", lambda: False, raising=False)
    with window.shown(folder, print):
        assert not started


def test_a_viewer_needs_a_display(monkeypatch):
    assert window.viewer("p.png", {}) is None
    monkeypatch.setattr(window.importlib.util, "find_spec", lambda name: name)
    assert window.viewer("p.png", {"DISPLAY": ":0"}) == [sys.executable, "-P", "-m", "synth.story.window", "p.png"]
    monkeypatch.setattr(window.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(window.shutil, "which", lambda name: None)
    assert window.viewer("p.png", {"DISPLAY": ":0"}) is None
    monkeypatch.setattr(window.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert window.viewer("p.png", {"WAYLAND_DISPLAY": "w"})[0] == "/usr/bin/feh"
