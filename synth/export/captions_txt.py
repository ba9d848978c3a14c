"""Stage kind `captions_txt`: `captions.txt`, a line `caption => class` a row of captions.json, as the original scripts write it."""

from synth.captions.table import rows
from synth.errors import InputError
from synth.export.config import CaptionsTxtConfig
from synth.run.findings import AGAIN, Check
from synth.run.place import WholeFiles
from synth.store.samples import Sample

ARROW, ROWS = " => ", 8192


class CaptionsTxt(WholeFiles):
    config: CaptionsTxtConfig
    key, exts = "captions", frozenset({"txt"})

    def compute(self, state, slots: range) -> list[bytes]:
        table, lines, at = self.folder.upstream("captions")[0], [], 0
        while batch := rows(table, at, at + ROWS):
            lines += [line(r.caption, r.class_name) for r in batch]
            at += ROWS
        return ["".join(lines).encode("utf-8", "replace")]

    def encode(self, state, item: bytes) -> Sample:
        return Sample(0, self.key, {"txt": item})

    def verify(self, check: Check) -> None:
        """The file is that of the unit; deep: its lines are those of the table."""
        super().verify(check)
        if check.deep and not check.alone and not check.found.bad_units():
            ((name, data),) = self._files()
            if data != self.compute(None, range(1))[0]:
                check.found.add(self.folder.unit_path(0), f"{name} tells other captions than its table; {AGAIN}", 0, name)


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
