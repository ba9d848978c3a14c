"""Set aside what is wrong, so that the next run of the same command makes it again. Nothing is deleted."""

import contextlib
import os
import secrets
from pathlib import Path

from synth.errors import InputError
from synth.run.findings import Findings
from synth.store.damage import ASIDE
from synth.store.files import storing
from synth.store.folder import StageFolder
from synth.store.inside import Inside
from synth.store.out_folder import OutFolder


def repair(folder: StageFolder, findings: Findings) -> list[str]:
    """Move bad units and bad export files away and forget that the stage was done; what was done, a line each.

    A unit that is set aside is made again from the same config and slots, so whatever was built on it stays as it is.
    """
    if not findings.problems:
        return []
    done = []
    for number in findings.bad_units():
        source = folder.unit_path(number)
        done.append(_move(source, Inside(folder.path), f"{ASIDE}/{source.name}"))
    out = folder.out_dir
    here, beside = Inside(out), Inside(out.parent)
    for name in sorted({p.file for p in findings.problems if p.file}):
        try:
            folder.prove_out()
            if here.status(name) is not None:
                done.append(_move(out / name, beside, f"{out.name}.{ASIDE}/{name}"))
        except InputError as e:  # it is not inside: what is outside stays as it is
            done.append(f"left alone: {e}")
    with storing(folder.path), contextlib.suppress(FileNotFoundError):
        (folder.path / "done.json").unlink()
        done.append(f"{folder.path.name}: will be looked at again by the next run")
    if "out" in folder.spec.config:
        OutFolder(folder).reopen()
    return [line for line in done if line]


def _move(source: Path, into: Inside, name: str) -> str:
    """Rename, with a suffix of its own where the name is taken; "" if the source is gone already. A link goes itself."""
    target = Path(into.file(name))
    while os.path.lexists(target):
        target = target.with_name(f"{source.name[:200]}.{secrets.token_hex(3)}")
    with storing(target):
        try:
            os.rename(source, target)
        except FileNotFoundError:
            return ""
        except OSError as e:
            raise InputError(f"{source}: cannot be set aside ({e.strerror}); remove it by hand, then run the same command again") from e
    return f"set aside {source} -> {target}"
