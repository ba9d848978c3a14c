"""A process that has imported everything and forks a child a command, so that hundreds of commands cost no start of Python.

    python -m tests.faults.zygote [MODULE ...]        with LD_PRELOAD=full.so; MODULE: what is imported before

Each line of its standard input is a Command as JSON, each line of its output the exit code of one.
"""

import ctypes
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
FULL = Path(__file__).with_name("full.c")
HOW = ("enospc", "edquot", "inodes", "erofs")  # by their numbers in full.c
HEAVY = ("launch.run", "launch.plan.graph", "synth.worker", "synth.run.loop", "numpy", "PIL.Image", "h5py", "pyarrow.parquet")


@dataclass(frozen=True)
class Command:
    """main(argv) of a module of launch or synth. room: calls that find room on the disk below `root` (full.c); None: the disk is large."""

    module: str
    argv: tuple[str, ...]
    log: str  # what it prints is added to this file
    cwd: str = ""
    root: str = ""
    room: int | None = None
    how: str = "enospc"
    where: str = ""  # a file: the path of the first call that was refused
    env: Mapping[str, str] = field(default_factory=dict)


class Zygote:
    def __init__(self, build: Path, modules: Sequence[str] = ()):
        """build: a folder for the library that is preloaded."""
        library = build / "full.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, FULL, "-ldl"], check=True)
        env = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", *modules], cwd=REPO, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, command: Command) -> int:
        """The exit code; 128 + the number of a signal."""
        print(json.dumps(asdict(command)), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main(modules: Sequence[str]) -> None:
    for module in (*HEAVY, *modules):
        importlib.import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _child(Command(**json.loads(line)))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(status if status >= 0 else 128 - status, flush=True)


def _child(command: Command) -> None:
    code = 99
    try:
        out = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(command.env)
        os.chdir(command.cwd or ".")
        sys.argv = [command.module, *command.argv]
        work = importlib.import_module(command.module).main
        if command.room is not None:
            words = (command.root.encode(), ctypes.c_long(command.room), HOW.index(command.how), command.where.encode())
            ctypes.CDLL(None).full_disk(*words)
        code = work(list(command.argv))
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:  # noqa: BLE001 (main() promises to return)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
