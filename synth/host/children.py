"""Ties the life of a child process to ours: nothing that a killed process started may stay behind.

A process killed by SIGKILL cannot clean up, so the kernel does it, in one of two ways:

    tied(module, ...)      a module of our own, which asks for its end itself: die_with_parent()
    guarded(words, ...)    any program, and whatever it starts: under a guardian, `python -I children.py PARENT_PID STDIN STDOUT COMMAND...`

Each runs in a session of its own: ctrl-C in a terminal reaches only the launcher, which lets its workers end in good order.
Signals that a scheduler sends to every process of a job are for the worker alone, which drains and needs its children until then:
so what a worker starts is deaf to FOR_THE_WORKER.

The guardian is started by this file's path and imports nothing of synthset, so that the command's environment can be any. It sees
the end of the worker (its standard input closes, or it has another parent), and then kills the command and all that ever descended
from it, which the kernel hands to it as their subreaper. Should it be killed itself, the kernel kills the command.
STDIN and STDOUT are file descriptors for the command, or -: nothing to read, and its output to that of the guardian.
What it says on the way to a log passes the guardian where there are secrets to cut out of it: those of the environment, and those that
the worker tells as the first line of the guardian's standard input.
"""

import contextlib
import ctypes
import errno
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

PARENT = "SYNTHSET_PARENT_PID"  # tells a child who its parent must be
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FOR_THE_WORKER = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2})
TAIL = 65536  # bytes of a log that are looked at for its last lines
LOOK = 1000  # milliseconds between looks at the parent, should its pipe be held open by somebody else
PATIENCE = 10.0  # seconds until killed processes must be gone
REDACTION = Path(__file__).resolve().parents[1] / "redaction.py"
GOODBYE = 15.0  # seconds the guardian gets to end all


def tied(module: str, words: Sequence[str], log: Path, env: Mapping[str, str] = os.environ, keep: Collection[str] = ()) -> subprocess.Popen:
    """Start a module that calls die_with_parent(); its output is added to `log`. It dies with the *thread* that calls this.

    keep: names of the secrets in `env` that it gets (see synth.host.environment).
    """
    from synth.host.environment import without_secrets
    from synth.host.source import SAFE, python_path  # here: the guardian finds nothing of synthset

    log.parent.mkdir(parents=True, exist_ok=True)
    with _added_to(log) as out:
        return subprocess.Popen(
            [sys.executable, *SAFE, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**without_secrets(env, keep), **python_path(env), PARENT: str(os.getpid())},
            start_new_session=True,
        )


def _added_to(log: Path) -> BinaryIO:
    """A log, open to be added to. One that is a link may lead anywhere: that is an InputError."""
    from synth.errors import InputError

    try:
        return open(log, "ab", opener=adding)
    except OSError as e:
        if e.errno != errno.ELOOP:
            raise
        raise InputError(f"{log}: is a link; remove it, then run the same command again") from e


def adding(path: str, flags: int) -> int:
    """An opener that follows no link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def die_with_parent(number: int = signal.SIGKILL) -> bool:
    """Have the kernel send us a signal when our parent ends; False if it has ended already. Without Linux it does nothing."""
    parent = int(os.environ.pop(PARENT, os.getppid()))  # the variable also notices a parent that ended before this line
    if not sys.platform.startswith("linux"):
        return True
    _prctl(PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def guarded(
    words: Sequence[str],
    log: Path,
    stdin: int | None = None,
    stdout: int | None = None,
    keep: Collection[str] = (),
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start a command under a guardian. Its standard error, and its output without `stdout`, are added to `log`.

    stdin, stdout: descriptors for it alone. keep: names of the secrets in our environment that it gets; more: variables of its own.
    """
    from synth.host.environment import without_secrets  # here: the guardian finds nothing of synthset
    from synth.redaction import redacted, told  # here: as above

    fds = [fd for fd in (stdin, stdout) if fd is not None]
    ends = ["-" if fd is None else str(fd) for fd in (stdin, stdout)]
    guardian = [sys.executable, "-I", os.path.abspath(__file__), str(os.getpid()), *ends, *words]
    log.parent.mkdir(parents=True, exist_ok=True)
    with _added_to(log) as out:
        out.write(f"--- {redacted(' '.join(words))}\n".encode(errors="replace"))
        out.flush()
        child = subprocess.Popen(
            guardian, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, pass_fds=fds, start_new_session=True,
            env=without_secrets(keep=keep) | dict(more or {}),
        )  # fmt: skip
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended at once: its caller will see that
        child.stdin.write(json.dumps(told()).encode() + b"\n")
        child.stdin.flush()
    return child


def end(guardian: subprocess.Popen | None) -> None:
    """Let the guardian kill all; its own death by SIGKILL takes the command along."""
    if guardian is None or guardian.poll() is not None:
        return
    if guardian.stdin is not None:
        guardian.stdin.close()
    try:
        guardian.wait(GOODBYE)
    except subprocess.TimeoutExpired:
        guardian.kill()
        guardian.wait()


def kill_group(process: subprocess.Popen, known: Iterable[int] = ()) -> None:
    """Kill a tied process with its group, and wait until all below it (`known`, if /proc tells of none) are gone: they are tied to it."""
    below = descendants(process.pid) or list(known)
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, below)) and time.monotonic() < deadline:
        time.sleep(0.01)


def tail(log: Path, lines: int = 40, start: int = 0) -> str:
    """The last lines of a log (of what was added behind `start` bytes), printable and without secrets, for messages."""
    from synth import foreign  # here: the guardian finds nothing of synthset
    from synth.errors import InputError, StoreError
    from synth.redaction import redacted
    from synth.terminal import printable

    with contextlib.suppress(OSError, InputError, StoreError), foreign.open_file(log) as f:
        f.seek(max(start, os.fstat(f.fileno()).st_size - TAIL))
        last = redacted(f.read(TAIL).decode("utf-8", "replace")).splitlines()[-lines:]
        return "\n".join([f"last lines of {printable(log)}:", *map(printable, last)])
    return ""


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie, by /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """All living processes below a process, by /proc."""
    pids, todo = [], [pid]
    while todo:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{todo.pop()}/task").iterdir():
                with contextlib.suppress(OSError):
                    children = [int(c) for c in (task / "children").read_text().split()]
                    pids += children
                    todo += children
    return pids


def kill_descendants() -> None:
    """Kill everything that descended from this process, and wait until it is gone."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
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


def guard(parent: int, stdin: int | None, stdout: int | None, command: list[str]) -> int:
    """The guardian: run the command until it ends or the parent does; its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_WORKER)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    filtered = Filtered(_first_line(0))
    try:
        reads = subprocess.DEVNULL if stdin is None else stdin
        server = subprocess.Popen(
            command,
            stdin=reads,
            stdout=filtered.to if stdout is None else stdout,
            stderr=filtered.to,
            start_new_session=True,
            preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    except OSError as e:
        print(f"{command[0]}: {e.strerror}", file=sys.stderr)
        return 127
    for fd in (stdin, stdout):
        if fd is not None:
            os.close(fd)  # or the worker would not see the end of its command's output
    filtered.begin()
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
    kill_descendants()
    filtered.end()
    return code if 0 <= code < 256 else 128 + abs(code)


class Filtered:
    """What a command says, line by line without secrets to our own output; straight to it where there is none."""

    def __init__(self, line: bytes):
        """line: a list of secrets as JSON."""
        self._redaction = _load(REDACTION)
        for secret in json.loads(line or b"[]"):
            self._redaction.keep(secret)
        self._from: int | None = None
        self.to: int | None = None  # what the command writes to
        self._known = self._redaction.secrets()
        if self._redaction.told():
            self._from, self.to = os.pipe()
        self._thread = threading.Thread(target=self._copy, daemon=True)

    def begin(self) -> None:
        """The command has its end of the pipe."""
        if self.to is not None:
            os.close(self.to)
            self._thread.start()

    def end(self) -> None:
        """All who could say something are gone: wait until what they said is written."""
        if self._from is not None:
            self._thread.join(PATIENCE)

    def _copy(self) -> None:
        assert self._from is not None
        with open(self._from, "rb") as lines:
            while line := lines.readline(1 << 16):
                with contextlib.suppress(OSError):  # a full disk: the command shall not wait for it
                    os.write(1, self._redaction.redacted(line.decode(errors="backslashreplace"), self._known).encode())


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _first_line(fd: int) -> bytes:
    """Up to the end of the line and no further: what follows is for poll()."""
    line = bytearray()
    while (byte := os.read(fd, 1)) and byte != b"\n":
        line += byte
    return bytes(line)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    reads, writes = (None if word == "-" else int(word) for word in sys.argv[2:4])
    sys.exit(guard(int(sys.argv[1]), reads, writes, sys.argv[4:]))
