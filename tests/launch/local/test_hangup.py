"""A terminal that is lost: what was started to outlive it does, everything else drains."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable

import pytest

from tests.launch.conftest import command, environment
from tests.launch.local.test_local import SLOW, begun, the_stage


def on_terminal(world, before: Callable[[], object], *prefix: str) -> tuple[subprocess.Popen, int]:
    """A run that sits at the end of a connection, in a session of its own; its process, and our end of the terminal."""
    ours, theirs = pty.openpty()

    def attach() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        before()

    words = [*prefix, *command(*world.probe, *SLOW)]
    env = environment() | {"SSH_TTY": "/dev/pts/0", "TERM": "xterm"}
    process = subprocess.Popen(words, cwd=world.path, env=env, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=attach)
    os.close(theirs)
    return process, ours


def ignore() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def heed() -> None:
    """Also where the tests themselves were begun by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(("before", "prefix"), [(ignore, ()), (heed, ("nohup",))], ids=["ignored", "nohup"])
def test_a_run_that_ignores_hanging_up_goes_on_to_its_end_without_the_terminal(world, before, prefix):
    process, terminal = on_terminal(world, before, *prefix)
    folder = begun(world)
    os.close(terminal)
    assert process.wait(240) == 0 and folder.is_done()


def test_another_drains_says_so_beforehand_and_the_same_command_completes_it(world):
    process, terminal = on_terminal(world, heed)
    begun(world)
    told = os.read(terminal, 4096).decode()
    assert "if this connection is lost" in told and "nohup" in told
    os.close(terminal)
    assert process.wait(240) == 75 and not the_stage(world).is_done()
    assert world.run(*world.probe, *SLOW).returncode == 0 and the_stage(world).is_done()
