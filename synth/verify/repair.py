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
        done.append(_move(source, folder.path / ASIDE / source.name))
    for name in sorted({p.file for p in findings.problems if p.file}):
        out = folder.out_dir
        if (out / name).exists():
            done.append(_move(out / name, out.with_name(f"{out.name}.{ASIDE}") / name))
    with storing(folder.path), contextlib.suppress(FileNotFoundError):
        (folder.path / "done.json").unlink()
        done.append(f"{folder.path.name}: will be looked at again by the next run")
    if "out" in folder.spec.config:
        OutFolder(folder).reopen()
    return [line for line in done if line]


def _move(source: Path, target: Path) -> str:
    """Rename, with a suffix of its own where the name is taken; "" if the source is gone already."""
    while target.exists():
        target = target.with_name(f"{source.name}.{secrets.token_hex(3)}")
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(source, target)
        except FileNotFoundError:
            return ""
        except OSError as e:
            raise InputError(f"{source}: cannot be set aside ({e.strerror}); remove it by hand, then run the same command again") from e
    return f"set aside {source} -> {target}"
