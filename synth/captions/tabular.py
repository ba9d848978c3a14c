"""Tables of users, from spreadsheets and scripts: which character parts their columns, what their heading says, which line is which.

CSV   columns between commas, semicolons, tabs or bars, whichever parts the heading; quotes as RFC 4180 has them; a first line `sep=;`
TSV   columns between tabs. Quotes are text, unless the file quotes each cell (numbers may stay without), or doubles the quotes inside
      quoted ones, as programs do that quote only where they must
"""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from synth.errors import InputError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEP = re.compile(r"sep=([,;|\t])\r?\n", re.IGNORECASE)  # how Excel is told
# each cell behind the heading in quotes, without tabs in it (a lone quote would take in the rows up to the next one), or a number
_THROUGHOUT = re.compile(r'(?:[^"\n]*+\n)?(?:(?:"[^"\t]*+(?:""[^"\t]*+)*+"|[-+0-9.eE]*+)(?:\t|\r?\n|\Z))*+')
_BY_NEED = re.compile(r'"[^"]*+(?:""[^"]*+)++"')  # a cell, by a program that quotes where it must: it has a quote in it


@dataclass(frozen=True)
class Row:
    line: int  # on which it begins, from 1
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """head: the names of the columns, without case; () where the first line holds none that is known."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]  # those with anything in them
    delimiter: str
    quotes_kept: bool  # they are part of the texts

    def column(self, names: Collection[str]) -> int | None:
        """The first column that has one of the names, in the order of the names."""
        return next((self.head.index(n) for n in names if n in self.head), None)


def read_table(path: Path, text: str, known: Collection[str]) -> Table:
    """The table in a text. known: names of columns by which a heading is told. InputError for quotes that do not close."""
    first, stated = 1, ""
    if sep := _SEP.match(text):
        first, stated, text = 2, sep[1], text[sep.end() :]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else stated or _delimiter(path, text, known)
    kept = path.suffix.lower() == ".tsv" and '"' in text and not _THROUGHOUT.fullmatch(text)
    rows = list(_tabbed(text) if kept else _quoted(path, text, delimiter, first))
    head = heading(rows[0].cells) if rows else ()
    if not any(name in known for name in head):
        head = ()
    by_need = kept and all('"' not in c or _BY_NEED.fullmatch(c) for row in rows for c in row.cells)
    if by_need:
        rows = [Row(r.line, tuple(c[1:-1].replace('""', '"') if '"' in c else c for c in r.cells)) for r in rows]
    return Table(head, tuple(rows[1:] if head else rows), delimiter, kept and not by_need)


def heading(cells: Collection[str]) -> tuple[str, ...]:
    """Names of columns as they are compared: without case, `_` for blanks and hyphens."""
    return tuple(re.sub(r"[\s-]+", "_", cell.strip().casefold()) for cell in cells)


def _delimiter(path: Path, text: str, known: Collection[str]) -> str:
    """The character between the columns: it parts a known name off the heading, or parts all lines alike; a comma where none does."""
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        cells = {d: heading(next(csv.reader(lines[:1], delimiter=d), ())) for d in DELIMITERS}
    except csv.Error as e:
        raise InputError(f"{path}: its first line is no heading of a table ({e})") from e
    told = [d for d in DELIMITERS if len(cells[d]) > 1 and any(name in known for name in cells[d])]
    if told or any(name in known for name in cells[","]):
        return max(told, key=lambda d: len(cells[d]), default=",")
    return next((d for d in DELIMITERS if len(counts := {line.count(d) for line in lines}) == 1 and 0 not in counts), ",")


def _tabbed(text: str) -> Iterator[Row]:
    for n, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Row(n, tuple(line.removesuffix("\r").split("\t")))


def _quoted(path: Path, text: str, delimiter: str, first: int) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = first
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield Row(line, tuple(cells))
            line = first + reader.line_num
    except csv.Error as e:
        fix = 'put texts that hold " or the character between columns in quotes, and double the quotes in them'
        raise InputError(f"{path}, line {line}: not CSV ({e}); {fix}, or write JSON Lines") from e


def said(table: Table, columns: Collection[str]) -> str:
    """How a table was read, in words; "" for one with commas and a plain heading.

    columns: names of the columns that were taken.
    """
    quotes = ", quotes are part of the texts" if table.quotes_kept else ""
    taken = f"columns {', '.join(columns)}" if columns else "no heading"
    return f"read with {DELIMITERS[table.delimiter]} between columns{quotes}, {taken}"
