"""A window with the newest pictures of a story, on a terminal with a display. We end what we started, and nothing else."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

from synth.host.environment import without_secrets
from synth.host.source import SAFE, python_path
from synth.store.folder import StageFolder

PATIENCE = 3.0  # seconds that a viewer has to close by itself


def viewer(path: str, env: Mapping[str, str] = os.environ) -> list[str] | None:
    """The command of a viewer that shows a file, again when it changes, until it is ended; None if there is none."""
    if not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
        return None
    if importlib.util.find_spec("_tkinter"):
        return [sys.executable, *SAFE, "-m", "synth.story.window", path]
    if feh := shutil.which("feh"):
        return [feh, "--reload", "2", "--auto-zoom", "--force-aliasing", "--scale-down", "--geometry", "800x600", path]
    return None


@contextlib.contextmanager
def shown(folder: StageFolder, tell: Callable[[str], None]) -> Iterator[None]:
    """Show the preview of a stage that makes a growing page, while the body runs."""
    process = None
    if folder.spec.settings.get("growing"):
        from synth.story.growing import PAGE  # with numpy, which most commands do without

        tell(f"{folder.spec.name}: a page that grows: {folder.path / PAGE}")
        if sys.stdout.isatty() and (command := viewer(str(folder.preview_path))):
            process = _start(command)
    try:
        yield
    finally:
        if process is not None:
            _end(process)


def _start(command: list[str]) -> subprocess.Popen | None:
    quiet = subprocess.DEVNULL
    try:
        # a session of its own: ctrl-C drains the workers, and their last pictures are still shown
        return subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, env=without_secrets() | python_path(), start_new_session=True
        )
    except OSError:
        return None  # a look, nothing more: the page is there


def _end(process: subprocess.Popen) -> None:
    """End our own child, which may have been closed by hand."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
