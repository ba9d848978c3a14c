"""What a stage wrote beside its units, against them; and whose place an export's folder is."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from synth.errors import InputError
from synth.kinds import makes_files, stage_class
from synth.run.findings import Check, Findings
from synth.store.folder import StageFolder
from synth.store.out_folder import CLAIM, MARKER, marker_in

Progress = Callable[[int], None]


def gone_behind(folder: StageFolder) -> list[Path]:
    """The stages, near and far, that a stage was made of and that are not there any more."""
    gone: list[Path] = []
    for up in (up for ups in folder.spec.upstream.values() for up in ups):
        path = Path(os.path.normpath(folder.path / up.path))
        if not (path / "stage.json").exists():
            gone.append(path)
            continue
        with contextlib.suppress(InputError):  # torn or edited, and not gone: told where it is compared with
            gone += gone_behind(StageFolder.open(path))
    return sorted(set(gone))


def is_export(folder: StageFolder) -> bool:
    """Whether a stage writes a place for people beside its units."""
    return "out" in folder.spec.config


def verify_files(folder: StageFolder, deep: bool, findings: Findings, progress: Progress = lambda slots: None) -> None:
    """Add what is wrong with what a whole stage wrote beside its units: into the place of an export, or its own folder."""
    if is_export(folder):
        verify_place(folder, deep, findings, progress)
    else:
        _look(folder, Check(folder.path, deep, findings, progress, _alone(folder)))


def _alone(folder: StageFolder) -> bool:
    return makes_files(folder.spec.kind) and bool(gone_behind(folder))


def _look(folder: StageFolder, check: Check) -> None:
    try:
        stage_class(folder.spec.kind)(folder).verify(check)
    except InputError as e:  # what it was made of cannot be read
        check.found.add(folder.path, f"cannot be compared with what it was made of: {e}")


def verify_place(folder: StageFolder, deep: bool, findings: Findings, progress: Progress = lambda slots: None) -> None:
    """Add what is wrong with the place of an export. Deep compares bytes, else names and sizes."""
    out, marker = folder.out_dir, folder.out_dir / MARKER
    if not out.is_dir():
        findings.add(out, "the export is gone: run the same command again to write it anew")
        return
    if not marker.exists():
        if (out / CLAIM).exists():
            findings.add(out, "is not finished; run the same command again")
        else:
            findings.add(
                out,
                f"has no {MARKER}, so nothing tells that it is this export; --repair lets the next run of the same command complete it",
            )
        return
    try:
        facts = marker_in(marker) or {}
    except InputError as e:
        findings.add(marker, f"{str(e).removeprefix(f'{marker}: ')}; run the same command again", file=MARKER)
        return
    if folder.spec.fingerprint in facts.get("grown_from", ()):
        findings.notes.append(f"{out}: has grown into the export of {facts['stage']}")
        return
    if (owner := facts.get("fingerprint")) != folder.spec.fingerprint:
        findings.add(out, f"holds the export of another stage ({owner}); this one is {folder.spec.fingerprint}")
        return
    _look(folder, Check(out, deep, findings, progress, _alone(folder)))


def stage_of(out: Path) -> StageFolder:
    """The stage that wrote an export folder, by its marker; InputError if it cannot be found."""
    marker = Path(out) / MARKER
    try:
        facts = marker_in(marker)
    except InputError as e:
        raise InputError(f"{e}; not the marker of a finished export: give the folder of its stage") from e
    name, path = (facts["stage"], facts["path"]) if facts else ("", None)
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"{marker}: not the marker of a finished export (it names no stage); give the folder of its stage")
    near = Path(os.path.realpath(out)).parent.parent / name
    for place in ([Path(path)] if path else []) + [near]:
        if (place / "stage.json").exists():
            return StageFolder.open(place)
    raise InputError(f"{out}: was made by stage {name}, which is neither in {path} nor in {near.parent}; give the path of the stage")
