"""The pictures behind an export, against what its records say of them: an export is not proved by itself."""

from collections.abc import Callable, Mapping
from pathlib import Path

from synth.errors import InputError, PictureGone, StoreError
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.run.findings import Check, Findings
from synth.store.damage import mending

FACTS = ("member", "file_name", "file_bytes", "sha256", "bytes")  # what an export adds to the record of a picture
OTHER_BYTES = "was made of other bytes than its unit holds"


class GonePictures:
    """Pictures of a source outside that are not there any more, which is nobody's fault: a note of what was found, counted."""

    def __init__(self, found: Findings):
        self._notes, self._n, self._first = found.notes, 0, ""

    def all(self, why: str) -> None:
        self._notes.append(f"{why}: labels are not compared with their pictures")

    def one(self, error: PictureGone) -> None:
        if self._n:
            self._notes.remove(self._note())
        self._first, self._n = self._first or str(error), self._n + 1
        self._notes.append(self._note())

    def _note(self) -> str:
        return f"pictures that are gone, and are not compared with their labels: {self._n:,}; the first: {self._first}"


class Sources:
    """Compares pictures, as their stage holds them, where a check is deep and the stage is still there. Each of them is read whole.

    A stage whose pictures lie outside of it may have lost them: those are a note, not wrong.
    """

    def __init__(self, check: Check, stage: Callable[[], StageReader]):
        """stage: opens what the pictures are read from."""
        self._check, self._told = check, set[str]()
        self._pictures: StageReader | None = None
        self._lost = GonePictures(check.found)
        if check.deep:
            try:
                self._pictures = stage()
            except InputError:
                if not check.alone:
                    raise
        if self._pictures is not None and (why := self._pictures.gone()):
            self._lost.all(why)
            self._pictures = None

    def __bool__(self) -> bool:
        """Whether there is anything to compare with."""
        return self._pictures is not None

    def compare(self, slot: int, record: Mapping, name: str, where: Path, unit: int | None = None, file: str = "") -> None:
        """Add what is wrong between the picture in a slot of the stage and a record of it, its bytes' sha256 among it.

        name: of what the export made of it; where, unit: the unit that holds the record, its number if it is one of the stage that is
        checked; file: what is set aside with it.
        """
        if self._pictures is None:
            return
        if (picture := self._read(slot, name)) is None:
            return
        if wrong := _difference(record, picture):
            self._check.found.add(where, f"{name} {wrong}" + ("" if unit is not None else f"; {mending(where)}"), unit, file)

    def all_whole(self) -> None:
        """Add every picture of the stage that is not as it was committed: for what is drawn from many of them."""
        if self._pictures is None:
            return
        for slot in self._pictures.sample_slots:
            self._read(slot, "")

    def _read(self, slot: int, name: str) -> StageSample | None:
        """A picture that is as it was committed, its digest and metadata read."""
        try:
            picture = self._pictures[slot]
            picture.hold()
            picture.metadata  # noqa: B018 (read while the files are held)
            return picture
        except PictureGone as e:
            self._lost.one(e)
            return None
        except (InputError, StoreError, KeyError) as e:
            if str(e) not in self._told:
                self._told.add(str(e))
                self._check.found.add(self._pictures.stage.path, f"does not hold the pictures of this export any more: {e}")
            if name:
                self._check.found.add(self._check.out / name, "cannot be compared with its picture, which is damaged or gone")
            return None


def _difference(record: Mapping, picture: StageSample) -> str:
    if not picture.made(record):
        return OTHER_BYTES
    told = {k: v for k, v in picture.metadata.items() if k in record and k not in FACTS}
    return next((f"tells another {k} than its unit does" for k, v in told.items() if record[k] != v), "")
