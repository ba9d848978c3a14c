"""One flipped byte in a committed unit, and what undoes it."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from launch.verify import verify
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.store import framing, units
from synth.store.damage import repair_line
from synth.store.folder import StageFolder
from synth.store.framing import Entry, UnitIndex
from synth.store.out_folder import MARKER
from tests.fixtures_images import work
from tests.stages import events


def flip(folder: StageFolder, number: int = 1, ext: str = "png", at: int = 40) -> Path:
    """Flip a byte of a file of the third sample of a unit; of JSON one digit becomes another. The unit's path."""
    path = folder.unit_path(number)
    with folder.reader(number) as reader:
        offset, size = reader.index.samples[2].files[ext]
    data = bytearray(path.read_bytes())
    if ext == "json":
        at = next(k for k in range(size - 1, 0, -1) if chr(data[offset + k]).isdigit())
    data[offset + at] ^= 1
    path.unlink()  # copies of a run may share it
    path.write_bytes(data)
    return path


def on_trust(f: BinaryIO, end: int, entry: Entry, exts: Sequence[str]) -> units.Files:
    """In the place of units._checked: what is read is taken as it is."""
    files = units.Files()
    files.update({ext: units._unchecked(f, end, entry, ext) for ext in exts})
    return files


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """Inside, samples are taken as they are: nothing is compared, and a file's digest is taken of the bytes that are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "_checked", on_trust)
        patch.setattr(Entry, "digest_of", lambda self, ext: "")
        yield


@contextlib.contextmanager
def as_earlier() -> Iterator[None]:
    """Inside, units are read and made as before they told digests of files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnitIndex, "with_digests", lambda self, digests: self)
        patch.setattr(framing, "digests_of", lambda files: (framing.sample_digest(files), b""))
        yield


def mended(folder: StageFolder, path: Path, whole: bytes) -> None:
    """What --repair does, and then the command that made the stage: here, the same bytes."""
    assert any(str(path) in str(p) for found, _ in verify(folder.path, True, True, lambda *_: None) for p in found)
    assert not path.exists()
    path.write_bytes(whole)
    for other in (folder.path / "aside").iterdir():  # units of stages that tests make by hand may be out of step
        if other.name != path.name and not folder.unit_path(int(other.stem)).exists():
            other.rename(folder.unit_path(int(other.stem)))
    shutil.rmtree(folder.path / "aside")


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def made(stage: StageFolder) -> dict[str, str]:
    """Digests of units, of what lies in the stage's own folder, and of its place; markers name paths."""
    files = tree(stage.path / "units") | {f"partitions/{n}": d for n, d in tree(stage.path / "partitions").items()}
    return files | ({f"out/{n}": d for n, d in tree(stage.out_dir).items() if n != MARKER} if "out" in stage.spec.config else {})


def forget(stage: StageFolder) -> None:
    """As if the stage had only been planned."""
    places = [stage.path / name for name in ("units", "leases", "partitions")]
    for path in places + ([stage.out_dir] if "out" in stage.spec.config else []):
        shutil.rmtree(path, ignore_errors=True)
    (stage.path / "done.json").unlink(missing_ok=True)
    forget_events(stage)


def forget_events(stage: StageFolder) -> None:
    for path in (stage.path / "events").iterdir():
        path.unlink()


def refused(stage, unit, file=None) -> None:
    """The stage's worker ends with 65 and names the unit, or the file, and its mending; nothing is whole, no unit set aside or blamed."""
    assert work(stage) == EXIT_BAD_INPUT
    (why,) = (e["why"] for e in events(stage, "stop") if e["code"] == EXIT_BAD_INPUT)
    assert str(file or unit) in why and repair_line(unit.parents[2]) in why
    assert not stage.is_done() and not stage.failures() and not (stage.out_dir / MARKER).exists()
    forget_events(stage)


def refused_and_resumed(stage, source, number=1, ext="png", at=40) -> None:
    """The same bytes as ever, once the unit is mended."""
    assert work(stage) == EXIT_OK
    before, whole = made(stage), source.unit_path(number).read_bytes()
    forget(stage)
    unit = flip(source, number, ext, at)
    refused(stage, unit)
    mended(source, unit, whole)
    assert work(stage) == EXIT_OK and made(stage) == before
