"""The one program: synthset COMMAND ..., with a command for each file beside this one.

`python -m launch COMMAND`, `python -m launch.COMMAND` and, in a clone, `python launch/COMMAND.py` are the same: those files hand
over to this one before they import anything, so that what this Python lacks is told in one place.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python comes as far as this line)
    sys.stderr.write("error: synthset needs Python 3.11 or newer: make run PYTHON=python3.11\n")
    sys.exit(65)

import importlib
import importlib.metadata
import importlib.util
import os
import re
import shlex
from pathlib import Path

if "launch" not in sys.modules:  # called by its path: a clone works without installing, whose root takes the place of launch/
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [os.path.dirname(here), *(p for p in sys.path if os.path.realpath(p) != here)]

from launch.config import program
from launch.config.near import did_you_mean
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.host.leaving import leave

ROOT = Path(__file__).resolve().parents[1]


def usage() -> str:
    """All commands, with what each does."""
    known = program.commands()
    width = max(map(len, known))
    this = program.as_typed()
    return "\n".join(
        [
            "synthset: labelled synthetic image datasets from class names.",
            "",
            f"usage: {this} COMMAND ...",
            "",
            *(f"  {command:<{width}}  {program.summary(command)}" for command in known),
            "",
            f"{program.as_typed('run')} --help names all settings; each command has its own --help.",
            f"{'SYNTHSET_CONF=DIR':<20}YAML files of your own, laid out like conf/; several folders as in PATH",
            f"By hand on Slurm: sbatch --array=0-15 {shlex.quote(str(program.BY_HAND))} STAGE_DIR",
        ]
    )


def main(command: str | None = None) -> int:
    """Run a command, by default that of the first argument; the exit code."""
    if command is None:
        command, *sys.argv[1:] = sys.argv[1:] or [""]  # Hydra reads its own part of the command line from sys.argv
    if command in ("", "-h", "--help"):
        print(usage())
        return EXIT_OK if command else EXIT_BAD_INPUT
    known = program.commands()
    if command not in known:
        this = program.as_typed()
        hint = f"; settings stand behind a command: {this} run {command}" if "=" in command else did_you_mean(command, known)
        print(f"error: {command}: no such command; there are {', '.join(known)}{hint}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        return importlib.import_module(f"launch.{command}").main(sys.argv[1:])
    except ModuleNotFoundError as e:
        module = e.name or ""
        if module.partition(".")[0] in ("", "launch", "synth"):
            raise
        print(f"error: {sys.executable} has no package {module!r}, which synthset needs. Type:\n  {remedy(module)}", file=sys.stderr)
        return EXIT_BAD_INPUT


def remedy(module: str) -> str:
    """The line to type where a module is missing."""
    if not (ROOT / "setup.cfg").is_file():  # installed, without what it needs
        return shlex.join([sys.executable, "-m", "pip", "install", *(_lacking() or [module])])
    activate = ROOT / ".venv" / "bin" / "activate"
    if activate.is_file() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        return f". {_path(activate)}"
    if sys.prefix != sys.base_prefix:  # an environment of the user's own, or one that was not finished
        return f"{shlex.quote(sys.executable)} -m pip install -e {_path(ROOT)}"
    where = "" if Path.cwd() == ROOT else f"-C {_path(ROOT)} "
    return f"make {where}run    # makes .venv and runs the example; then: . {_path(activate)}"


def _path(path: Path) -> str:
    """For a shell, the shorter of absolute and relative."""
    return shlex.quote(min(str(path), os.path.relpath(path), key=len))


def _lacking() -> list[str]:
    """Requirements of the installed synthset that are not installed."""
    try:
        needed = [r for r in importlib.metadata.requires("synthset") or () if "extra ==" not in r]
    except importlib.metadata.PackageNotFoundError:
        return []
    installed = {_normal(d.metadata["Name"]) for d in importlib.metadata.distributions()}
    return [r for r in needed if _normal(re.split(r"[^\w.-]", r, maxsplit=1)[0]) not in installed]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    leave(main(globals().get("COMMAND")))  # COMMAND: from the file of a command
