"""Stages that write files into a place of their own beside their units: exports, and the captions table.

The marker of the place is written last, so a finish that was killed is done anew, to the same bytes.
"""

import hashlib
from collections.abc import Iterator, Mapping

from synth.run.findings import Check
from synth.run.stage import Stage
from synth.store.files import write_atomic
from synth.store.folder import StageFolder
from synth.store.out_folder import OutFolder
from synth.store.samples import Unit

Files = dict[str, tuple[int, str]]  # name of a file in the place -> size, sha256


class PlaceStage(Stage):
    """`out` is the place."""

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self.out = OutFolder(folder)

    def check(self) -> None:
        self.out.check()

    def unit_inputs(self, unit: Unit) -> str:
        return self.folder.spec.fingerprint  # a unit that was linked from another stage would leave this place without its files

    def facts(self) -> Mapping:
        """What its only sample says."""
        (facts,) = (stored.json() for stored in self.folder.samples())
        return facts

    def keep(self, files: Files, name: str, data: bytes) -> None:
        """Write a file unless it is there, and list it in `files`."""
        files[name] = len(data), hashlib.sha256(data).hexdigest()
        if not self.out.has(name, len(data)):
            (self.out.path / name).parent.mkdir(parents=True, exist_ok=True)
            self.out.put(name, data)


class WholeFiles(PlaceStage):
    """One sample holds the files as they stand in the place, called `<key>.<ext>`."""

    def name_of(self, key: str, ext: str) -> str:
        return f"{key}.{ext}"

    def finish(self) -> None:
        """All files, plain; the marker last."""
        self.out.claim()
        for name, data in self._files():
            write_atomic(self.out.path / name, data)
        self.out.complete()

    def verify(self, check: Check) -> None:
        """The files are those of the unit, byte by byte: they are small."""
        for name, data in self._files():
            check.same(name, data)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for stored in self.folder.samples():
            for ext in stored.exts:
                yield self.name_of(stored.key, ext), stored.read(ext)
