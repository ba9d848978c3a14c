"""The end of a process whose objects nobody frees one by one."""

import os
import subprocess
import sys

import pytest

LIVES = """
import atexit, os, sys, threading, time
from synth.host.leaving import leave

class Freed:
    def __del__(self):
        os.write(2, b"freed ")

kept = Freed()
atexit.register(print, "at the end")
print("said", end=" ")
{more}
leave(7)
"""
THREAD = "threading.Thread(target=lambda: (time.sleep(2), print('the thread', end=' ', flush=True))).start()"


@pytest.mark.parametrize(
    ("more", "out", "err"),
    [
        ("", "said at the end\n", ""),
        ("threading.Thread(target=time.sleep, args=(100,), daemon=True).start()", "said at the end\n", ""),
        (THREAD, "said the thread at the end\n", "freed "),  # Python's own end
    ],
    ids=["plain", "beside a daemon", "a thread still runs"],
)
def test_what_was_said_and_registered_is_done_and_nothing_is_freed(more, out, err):
    done = subprocess.run([sys.executable, "-c", LIVES.format(more=more)], capture_output=True, text=True)
    assert done.returncode == 7
    assert (done.stdout, done.stderr) == (out, err)


def test_a_log_without_room_does_not_change_the_exit_code():
    code = "from synth.host.leaving import leave; print('x' * 100, end=''); leave(65)"
    with open("/dev/full", "w") as full:
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        assert subprocess.run([sys.executable, "-c", code], stdout=full, env=buffered).returncode == 65
