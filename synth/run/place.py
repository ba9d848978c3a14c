"""Stages that write files into a place of their own beside their units: exports, and the captions table.

The marker of the place is written last, so a finish that was killed is done anew, to the same bytes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from synth.errors import InputError
from synth.run.findings import Check
from synth.run.growth import grows
from synth.run.stage import Stage
from synth.store.damage import Damaged, mending
from synth.store.folder import StageFolder
from synth.store.out_folder import OutFolder
from synth.store.samples import Sample, Unit
from synth.store.spec import canonical
from synth.terminal import printable

Files = dict[str, tuple[int, str]]  # name of a file in the place -> size, sha256


class PlaceStage(Stage):
    """`out` is the place."""

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self.out = OutFolder(folder, grows(folder))

    def check(self) -> None:
        self.out.check()

    def unit_inputs(self, unit: Unit) -> str:
        return self.folder.spec.fingerprint  # a unit that was linked from another stage would leave this place without its files

    def facts(self, *needs: str) -> Mapping:
        """What its only sample says; needs: facts that are among it."""
        for stored in self.folder.samples():
            return stored.json(*needs)
        raise InputError(f"{self.folder.path}: its unit holds no sample; verify --repair sets the unit aside")

    def keep(self, files: Files, name: str, data: bytes) -> None:
        """Write a file unless it is there, and list it in `files`."""
        files[name] = len(data), hashlib.sha256(data).hexdigest()
        if not self.out.has(name, len(data)):
            if folder := name.rpartition("/")[0]:
                self.out.make_folder(folder)
            self.out.put(name, data)


class WholeFiles(PlaceStage):
    """One sample holds the files as they stand in the place, called `<key>.<ext>`. One with other names is Damaged."""

    key: str  # of its sample
    exts: frozenset[str]  # that it may hold

    def name_of(self, key: str, ext: str) -> str:
        return f"{key}.{ext}"

    def finish(self) -> None:
        """All files, plain; the marker last."""
        self.out.claim()
        for name, data in self._files():
            self.out.write(name, data)
        self.out.complete()

    def verify(self, check: Check) -> None:
        """The files are those of the unit, byte by byte: they are small."""
        try:
            for name, data in self._files():
                check.same(name, data)
        except Damaged as e:
            check.blame(self.folder, 0, e)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each; Damaged where the unit holds others than those of this kind."""
        path, kind = self.folder.unit_path(0), self.folder.spec.kind
        for stored in self.folder.samples():
            if stored.key != self.key or not self.exts.issuperset(stored.exts):
                held = printable(", ".join(f"{stored.key}.{ext}" for ext in stored.exts), 200)
                raise Damaged(f"{path}: holds {held}, which {kind} does not write; {mending(path)}")
            for ext in stored.exts:
                yield self.name_of(self.key, ext), stored.read(ext)


class Pages(PlaceStage):
    """Each sample lists its `files` (see `keep`); what is of all samples is made of what they say: `whole`."""

    def open(self) -> None:
        self.out.claim()

    def make(self, slot: int) -> dict:
        """Put the files of a slot into their places; what its sample says."""
        raise NotImplementedError

    def whole(self) -> dict[str, bytes]:
        """The files that are of all samples, by name."""
        raise NotImplementedError

    def compute(self, state: None, slots: range) -> Sequence[int]:
        return slots

    def encode(self, state: None, item: int) -> Sample:
        return Sample(item, self.key_of(item), {"json": canonical(self.make(item))})

    def key_of(self, slot: int) -> str:
        return f"{slot:06d}"

    def finish(self) -> None:
        """Whatever files are missing are written again, then what is of all samples; the marker last."""
        self.out.claim()
        for stored in self.folder.samples():
            if not all(self.out.has(name, size) for name, (size, _) in stored.json("files")["files"].items()):
                self.make(stored.slot)
        for name, data in self.whole().items():
            self.out.write(name, data)
        self.out.complete()

    def verify(self, check: Check) -> None:
        """Every file of every sample is there and whole (deep: byte by byte); what is of all samples is as they say.

        What is of all samples is made anew of the upstream and the units, and not looked at where these are gone or wrong.
        """
        for _, record in check.records(self.folder, "files"):
            for name, (size, sha256) in record["files"].items():
                check.file(name, size, sha256)
            check.progress(1)
        for name, data in () if check.alone or check.found.bad_units() else self.whole().items():
            check.same(name, data)
