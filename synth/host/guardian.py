"""Keeps a command only as long as its worker lives: `python -I guardian.py PARENT_PID STDIN STDOUT COMMAND...`

STDIN and STDOUT are file descriptors for the command, or -: nothing to read, and its output to that of the guardian.
It is started by its path and imports nothing of synthset, so that the command's environment can be any.

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
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
FOR_THE_WORKER = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2}
LOOK = 1000  # milliseconds between looks at the parent, should its pipe be held open by somebody else
PATIENCE = 10.0  # seconds until killed processes must be gone
GOODBYE = 15.0  # seconds the guardian gets to end all


def guarded(words: Sequence[str], log: Path, stdin: int | None = None, stdout: int | None = None) -> subprocess.Popen:
    """Start a command under a guardian, in a session of its own: ctrl-C in a terminal drains the worker, and must not reach it.

    Its standard error, and its output without `stdout`, are added to `log`. stdin, stdout: descriptors for it alone.
    """
    fds = [fd for fd in (stdin, stdout) if fd is not None]
    ends = ["-" if fd is None else str(fd) for fd in (stdin, stdout)]
    guardian = [sys.executable, "-I", os.path.abspath(__file__), str(os.getpid()), *ends, *words]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"--- {' '.join(words)}\n".encode(errors="replace"))
        out.flush()
        return subprocess.Popen(
            guardian, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, pass_fds=fds, start_new_session=True
        )  # fmt: skip


def end(guardian: subprocess.Popen | None) -> None:
    """Let the guardian kill all; its own death by SIGKILL takes the command along."""
    if guardian is None or guardian.poll() is not None:
        return
    guardian.stdin.close()
    try:
        guardian.wait(GOODBYE)
    except subprocess.TimeoutExpired:
        guardian.kill()
        guardian.wait()


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, for messages."""
    with contextlib.suppress(OSError), log.open("rb") as f:
        f.seek(max(0, os.fstat(f.fileno()).st_size - 65536))
        found = f.read().decode("utf-8", "replace").splitlines()
        return "\n".join([f"last lines of {log}:", *found[-lines:]])
    return ""


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


def main(parent: int, stdin: int | None, stdout: int | None, command: list[str]) -> int:
    """Run the command until it ends or the parent does; its exit code."""
    libc = ctypes.CDLL(None, use_errno=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_WORKER)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_me() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        reads = subprocess.DEVNULL if stdin is None else stdin
        server = subprocess.Popen(command, stdin=reads, stdout=stdout, start_new_session=True, preexec_fn=die_with_me)
    except OSError as e:
        print(f"{command[0]}: {e.strerror}", file=sys.stderr)
        return 127
    for fd in (stdin, stdout):
        if fd is not None:
            os.close(fd)  # or the worker would not see the end of its command's output
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
    sys.exit(main(int(sys.argv[1]), *(None if a == "-" else int(a) for a in sys.argv[2:4]), sys.argv[4:]))
