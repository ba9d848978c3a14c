"""Keeps a server only as long as its worker lives: `python -m synth.captions.remote.guardian PARENT_PID COMMAND...`

A worker killed by SIGKILL cannot clean up, and a server starts processes of its own. So this process stands between the two:
it sees the end of the worker (its standard input closes, or it has another parent), and then kills the server and all
that ever descended from it, which the kernel hands to it as their subreaper. Should it be killed itself, the kernel kills
the server. Signals that a scheduler sends to every process of a job are for the worker alone, which drains: the server is
needed until then, so they are blocked here and in all children.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
FOR_THE_WORKER = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2}
LOOK = 1000  # milliseconds between looks at the parent, should its pipe be held open by somebody else
PATIENCE = 10.0  # seconds until killed processes must be gone


def descendants(pid: int) -> list[int]:
    """All living processes below a process, by /proc."""
    found, todo = [], [pid]
    while todo:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{todo.pop()}/task").iterdir():
                with contextlib.suppress(OSError):
                    children = [int(c) for c in (task / "children").read_text().split()]
                    found += children
                    todo += children
    return found


def kill_all(server: subprocess.Popen) -> None:
    """Kill the server and everything that descended from it, and wait until it is gone."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        living = descendants(os.getpid())
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not living:
            return
        time.sleep(0.02)


def main(parent: int, command: list[str]) -> int:
    """Run the command until it ends or the parent does; its exit code."""
    libc = ctypes.CDLL(None, use_errno=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_WORKER)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_me() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_me)  # noqa: PLW1509
    except OSError as e:
        print(f"{command[0]}: {e.strerror}", file=sys.stderr)
        return 127
    ended = os.pidfd_open(server.pid)
    poll = select.poll()
    for fd in (0, ended):
        poll.register(fd, select.POLLIN | select.POLLHUP)
    code = 1
    while os.getppid() == parent:
        ready = {fd for fd, _ in poll.poll(LOOK)}
        if ended in ready:
            code = server.wait()
            break
        if 0 in ready and not os.read(0, 1):
            break
    kill_all(server)
    return code if 0 <= code < 256 else 128 + abs(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
