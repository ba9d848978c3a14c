"""The code of this process, for processes that it starts: the same synth and launch, in a clone, installed for development, installed."""

import os
import shlex
import shutil
import site
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
# without the folder they are started in, where another synth may lie; of this process only: children's children are not ours
SAFE = ("-P",)
ORIGIN = "SYNTHSET_SOURCE"  # of a job that runs from a frozen copy


def origin(env: Mapping[str, str] = os.environ) -> Path:
    """Where this code lies for people: of a frozen copy, which goes with its job, the folder that it was copied from."""
    return Path(env.get(ORIGIN) or SOURCE)


def installed() -> bool:
    """Whether Python finds this code by itself, among its installed packages."""
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages(), site.getusersitepackages()]
    return str(SOURCE) in map(os.path.realpath, places)


def interpreter() -> str:
    """This Python, as a shell is to call it: by its name only where a shell finds this one by it."""
    return "python" if shutil.which("python") == sys.executable else sys.executable


def as_module(module: str) -> str:
    """How a module of this code is started from a shell in the same folder, whatever is activated there later: "python -m synth.worker"."""
    found = installed() or Path.cwd() == origin()
    return shlex.join([*([] if found else ["env", f"PYTHONPATH={origin()}"]), interpreter(), "-m", module])


def python_path(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """PYTHONPATH of a process that is to import this code. What is installed stays behind the standard library: nothing is added."""
    given = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join(given if installed() else dict.fromkeys([str(SOURCE), *given]))
    return {"PYTHONPATH": path} if path else {}
