"""Stage kind `captions_txt`: `captions.txt`, a line `caption => class` a row of captions.json, as the original scripts write it."""

from synth.captions.table import rows
from synth.errors import InputError
from synth.export.config import CaptionsTxtConfig
from synth.run.findings import Check
from synth.run.stage import Stage
from synth.store.files import write_atomic
from synth.store.out_folder import OutFolder
from synth.store.samples import Sample, Unit

NAME, ARROW, ROWS = "captions.txt", " => ", 8192


class CaptionsTxt(Stage):
    config: CaptionsTxtConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.out = OutFolder(folder)

    def check(self) -> None:
        self.out.check()

    def unit_inputs(self, unit: Unit) -> str:
        return self.folder.spec.fingerprint

    def compute(self, state, slots: range) -> list[bytes]:
        table, lines, at = self.folder.upstream("captions")[0], [], 0
        while batch := rows(table, at, at + ROWS):
            lines += [line(r.caption, r.class_name) for r in batch]
            at += ROWS
        return ["".join(lines).encode("utf-8", "replace")]

    def encode(self, state, item: bytes) -> Sample:
        return Sample(0, "captions", {"txt": item})

    def finish(self) -> None:
        self.out.claim()
        with self.folder.reader(0) as reader:
            write_atomic(self.out.path / NAME, reader.read(reader.index.samples[0], "txt"))
        self.out.complete()

    def verify(self, check: Check) -> None:
        """The one file is that of the unit."""
        for stored in self.folder.samples():
            check.same(NAME, stored.read("txt"))


def line(caption: str, class_name: str) -> str:
    """One line; a class name with ` => ` in it could not be told from its caption when the line is split at the last arrow.

    >>> line("a red  crane", "crane")
    'a red crane => crane\\n'
    """
    name = " ".join(class_name.split())
    if ARROW in name:
        raise InputError(
            f"export=[captions_txt]: class {class_name!r} holds {ARROW!r}, at which its lines are split; leave captions_txt out"
        )
    return f"{' '.join(caption.split())}{ARROW}{name}\n"
