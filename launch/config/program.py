"""The commands of this program, and how it was called: every message names commands in words that work where they were typed.

synthset run, python -m launch run, python -m launch.run and python launch/run.py are the same. Imports nothing that has to be installed.
"""

import ast
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from synth.host.source import interpreter

LAUNCH = Path(__file__).resolve().parents[1]
NAME = "synthset"
BY_HAND = LAUNCH / "slurm" / "stage.sbatch"  # for people who submit a stage by hand

_TAKES_A_WORD = ("-W", "-X", "--check-hash-based-pycs")  # options of Python
_MODULE = re.compile(r"-[a-zA-Z]*m")  # python -m, python -um
_VALUES = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p", "--info", "-i")


def commands() -> list[str]:
    """A command for each file at the top of launch/; a new file is a new command."""
    return sorted(p.stem for p in LAUNCH.glob("*.py") if not p.stem.startswith("_"))


def summary(command: str) -> str:
    """The first line of a command's docstring, without importing the command."""
    text = (LAUNCH / f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def this_command() -> str:
    """This whole command line, for a shell in the same folder."""
    line = _line()
    end = _end(line) or 0
    return shlex.join([*_short(line[:end]), *line[end:]])


def lasting_command() -> str:
    """The same for whoever types it later, in any shell: with the Python, or the program, that ran it by its whole path."""
    line = _line()
    end = _end(line) or 1
    if Path(line[end - 1]).name == NAME:
        return shlex.join([os.path.abspath(line[end - 1]), *line[end:]])
    return shlex.join([sys.executable, *line[1:]])


def public(command: str) -> str:
    """A command line as cards and reports tell it: without notify, as the address of whoever is told may be as good as a password.

    >>> public("synthset run seed=1 'notify.command=curl https://hooks.example/T0/B1' recipe=story")
    'synthset run seed=1 recipe=story'
    """
    try:
        words = shlex.split(command)
    except ValueError:  # no command line of ours
        return command
    kept = [word for word in words if not word.lstrip("+").startswith("notify.")]
    return command if kept == words else shlex.join(kept)


def as_typed(command: str = "") -> str:
    """How another command is called in the form in which this one was; no command: the program alone.

    After `synthset run` as_typed("verify") is "synthset verify", after `python launch/run.py` it is "python launch/verify.py".
    """
    line = _line()
    *before, last = _short(line[: _end(line)]) if _end(line) else [interpreter(), "-m", "launch"]
    if last.endswith(".py") and Path(last).stem in commands():
        folder = os.path.dirname(last)
        return shlex.join([*before, os.path.join(folder, f"{command}.py") if command else folder or "."])
    if last.startswith("launch."):
        return shlex.join([*before, f"launch.{command}" if command else "launch"])
    return shlex.join([*before, last, *filter(None, [command])])


def help_text(text: str) -> str:
    """A text with `synthset COMMAND` as it is called here."""
    return re.sub(rf"\b{NAME} ({'|'.join(commands())})\b", lambda found: as_typed(found[1]), text)


def folders_of(argv: Sequence[str]) -> list[str]:
    """The words of a command line that are neither settings nor flags nor the value of a flag of Hydra: folders, for example."""
    plain = [w for before, w in zip(["", *argv], argv, strict=False) if before not in _VALUES]
    return [w for w in plain if "=" not in w and not w.startswith(("-", "~"))]


def _line() -> list[str]:
    """The words with which this process was started; those of a caller in the same process where that was something else."""
    line = list(sys.orig_argv)
    return line if _end(line) is not None else [interpreter(), *sys.argv]


def _end(line: Sequence[str]) -> int | None:
    """Where the words that name the program end in a command line of Python, and its arguments begin. None: not this program.

    >>> _end(["python", "-u", "launch/run.py", "seed=1"]), _end(["python", "-m", "launch", "run"]), _end(["python", "-m", "pytest"])
    (3, 3, None)
    """
    i = 1
    while i < len(line) and line[i].startswith("-") and not _MODULE.fullmatch(line[i]):
        i += 2 if line[i] in _TAKES_A_WORD else 1
    if i < len(line) and _MODULE.fullmatch(line[i]):
        return i + 2 if line[i + 1] in ("launch", *(f"launch.{c}" for c in commands())) else None
    if i >= len(line):
        return None
    path = Path(line[i]).resolve()
    return i + 1 if path.name == NAME or path == LAUNCH or path.parent == LAUNCH else None


def _short(head: list[str]) -> list[str]:
    """Without the Python of an installed script, and without the folder of what the shell finds by its name."""
    if not head:
        return []
    if Path(head[-1]).name == NAME:
        head = head[-1:]
    name = Path(head[0]).name
    return [name if shutil.which(name) == head[0] else head[0], *head[1:]]
