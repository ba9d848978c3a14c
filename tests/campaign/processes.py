"""Who is who among the processes of a run."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from synth.host.children import descendants


@dataclass(frozen=True)
class Process:
    """kind: launcher, worker of a stage (`worker: captions`), torchrun, rank, guardian, command, or splitter."""

    pid: int
    kind: str
    start: str  # time since boot, in ticks: another process of that number has another one

    def send(self, number: int) -> bool:
        """Whether it was still there to get the signal."""
        with contextlib.suppress(OSError):
            if _start(self.pid) == self.start:
                os.kill(self.pid, number)
                return True
        return False


def processes(launcher: int) -> list[Process]:
    """The launcher and all below it."""
    found = []
    for pid in (launcher, *descendants(launcher)):
        with contextlib.suppress(OSError):
            found.append(Process(pid, "launcher" if pid == launcher else kind_of(_words(pid), _words(_parent(pid))), _start(pid)))
    return found


def kind_of(words: list[str], parent: list[str]) -> str:
    """The kind of a process by its command line and that of its parent.

    >>> kind_of(["python", "-m", "synth.worker", "/runs/toys/captions-0123", "--job-idx", "0"], [])
    'worker: captions'
    """
    modules = {"synth.captions.llama.agent": "torchrun", "synth.captions.llama.ranks": "rank"}
    for word, following in zip(words, words[1:], strict=False):
        if word == "-m" and following in modules:
            return modules[following]
        if word == "-m" and following == "synth.worker":
            stage = next(w for w in words[words.index(following) + 1 :] if "/" in w)
            return f"worker: {Path(stage).name.rpartition('-')[0]}"
        if Path(following).name == "children.py":
            return "guardian"
        if Path(following).name == "splitting.py":
            return "splitter"
    return "command" if any(Path(word).name == "children.py" for word in parent) else "other"


def is_blocked(pid: int, number: int) -> bool:
    """Whether a process is deaf to a signal, as what a worker starts is to those for the worker alone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def name(number: int) -> str:
    return signal.Signals(number).name


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _start(pid: int) -> str:
    return _stat(pid)[19]
