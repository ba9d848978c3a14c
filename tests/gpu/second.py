"""A process that works on stages as job 1 of 2, one after the other: python -m tests.gpu.second

A line in: a stage's folder. A line out: the worker's exit code. One process for many stages, because a start costs seconds.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

from synth.store.folder import StageFolder


class Second:
    """Such a process, and what it is asked. with Second() as second: second.work(folder)"""

    def __init__(self, env: Mapping[str, str] | None = None):
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.gpu.second"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def work(self, folder: StageFolder) -> int:
        """The exit code of a worker of this process on a stage."""
        self._child.stdin.write(f"{folder.path}\n")
        self._child.stdin.flush()
        if not (line := self._child.stdout.readline()):
            raise RuntimeError(f"the second process ended with {self._child.wait()} while it worked on {folder.path}")
        return int(line)

    def __enter__(self) -> "Second":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stdin.close()
        self._child.wait()


def main() -> None:
    from synth import worker

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print is no answer
    for line in sys.stdin:
        answers.write(f"{worker.main([line.strip(), '--job-idx', '1', '--n-jobs', '2'])}\n")


if __name__ == "__main__":
    main()
