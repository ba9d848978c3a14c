"""What is said of a unit that does not hold what was committed: which sample, and the command that mends it."""

import shlex
from pathlib import Path

from synth.errors import InputError
from synth.host.source import interpreter, origin

ASIDE = "aside"  # what is set aside: beside units/ in a stage folder, and `<export>.aside` beside an export


class Damaged(InputError):
    """A unit, or a file made of units, does not hold the bytes that were committed: nothing is made of it."""


def repair_line(stage: Path) -> str:
    """The command that sets the damaged units of a stage aside, for a shell in any folder."""
    return shlex.join([interpreter(), str(origin() / "launch" / "verify.py"), str(stage), "--deep", "--repair"])


def mending(unit: Path) -> str:
    """What to do about a damaged unit of a stage folder; of one that lies elsewhere, what is left to do."""
    if len(unit.parents) > 2 and unit.parents[1].name == "units":
        return f"run `{repair_line(unit.parents[2])}`, then the command that made this stage, and the one that reads it, again"
    return "move it away and run the same command again"
