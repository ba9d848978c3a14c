"""What a filter of objects left, and what it took out by which reason, in a line for people."""

from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.kinds import KINDS

_SHAPES = {"kept": foreign.COUNT, "taken_out": {str: foreign.COUNT}}


def took_out(folder: Path, kind: str) -> list[str]:
    """The line, without the stage's name; none of other stages, of one that is not whole yet, or of a file that says something else."""
    if kind not in KINDS or not (name := KINDS[kind].tells):
        return []
    try:
        counted = foreign.obj(foreign.read_json(folder / name, foreign.RECORD), folder / name, **_SHAPES)
    except (OSError, InputError):
        return []
    gone = counted["taken_out"]
    each = ", ".join(f"{why} ({n:,})" for why, n in sorted(gone.items(), key=lambda item: (-item[1], item[0])))
    taken = f"{sum(gone.values()):,}: {each}" if each else "none"
    return [f"kept {counted['kept']:,} objects, took out {taken}"]
