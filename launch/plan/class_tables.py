"""Class lists in text, CSV and TSV files: which line is a heading, which column holds the names, and which only counts them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth import foreign
from synth.captions import tabular
from synth.errors import InputError

NAMES = ("name", "class", "class_name", "classname", "category", "category_name", "label_name", "species", "label")
INDICES = ("index", "class_index", "class_id", "label_id", "label", "target")
HEADINGS = frozenset(("class_name", "classname", "category_name", "label_name"))  # no class is called so
COUNTING = frozenset(("index", "class_index", "label", "label_id"))  # labels of pictures; others may be ids of another data set
_NUMBERED = re.compile(r"(\d+)(\s*[\t,;:|]\s*|\.?\s+)(\S.*)")
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Listed:
    """The items of a list, objects with "name" and what else is known, in official order, and how they were read, if not plainly."""

    items: list[dict[str, Any]]
    remark: str = ""


def lines_of(text: str, choice: bool) -> Listed:
    """A name a line. Not of chosen classes: a heading, and numbers that count the lines, are none of the names."""
    names = [line.strip() for line in text.split("\n") if line.strip()]
    remarks = []
    if not choice and names and tabular.heading(names[:1])[0] in HEADINGS:
        remarks.append(f"its first line, {names[0]!r}, is taken for a heading")
        names = names[1:]
    matches = [m for name in names if (m := _NUMBERED.fullmatch(name))] if not choice else []
    alike = 1 < len(matches) == len(names) and len({m[2].strip() for m in matches}) == 1
    if alike and (by := _order([int(m[1][:18]) for m in matches])):
        remarks.append(f"its lines begin with their numbers, which are no part of the names: class 0 is {matches[by[0]][3]!r}")
        names = [matches[i][3] for i in by]
    return Listed([{"name": name} for name in names], "; ".join(remarks))


def table_of(path: Path, text: str, keys: Sequence[str], choice: bool) -> Listed:
    """The rows of a table, by its heading; or names alone. keys: columns that are taken as they are."""
    table = tabular.read_table(path, text, (*NAMES, *keys))
    at = table.column(NAMES)
    if at is None:
        return _headless(path, table, choice)
    if _numbers(table, at) and (named := next((i for i, n in enumerate(table.head) if n in NAMES and not _numbers(table, i)), None)):
        at = named  # `class,label` with 0, ape: the texts are the names
    index = next((i for i in (table.column((n,)) for n in (*INDICES, *NAMES)) if i not in (None, at) and _numbers(table, i)), None)
    items: list[dict[str, Any]] = []
    for i, row in enumerate(table.rows):
        if len(row.cells) < len(table.head) or any(cell.strip() for cell in row.cells[len(table.head) :]):
            raise InputError(
                f"{path}, line {row.line}: class {i} ({foreign.seen(list(row.cells))}) has {len(row.cells)} columns, the heading has "
                f"{len(table.head)}; put names that hold the character between columns in quotes"
            )
        items.append({key: cell.strip() for key, cell in zip(table.head, row.cells, strict=False) if key in keys and cell.strip()})
        if (count := foreign.number_in(items[-1].get("count", ""))) is not None:
            items[-1]["count"] = count
        items[-1]["name"] = row.cells[at].strip()
    remarks = []
    if index is not None and not choice and items:
        name = table.head[index]
        if by := _order([int(row.cells[index]) for row in table.rows]):
            items = [items[i] for i in by]
        elif name in COUNTING:
            raise InputError(f"{path}: column {name!r} must count the classes, 0, 1, 2, .., each once; mend it, or remove the column")
        else:
            remarks, index = [f"its column {name!r} does not count the classes and is not used"], None
    plain = table.delimiter == "," and table.head[at] in ("name", "class") and not table.quotes_kept and index is None
    said = [] if plain else [tabular.said(table, [table.head[at], *([table.head[index]] if index is not None and not choice else [])])]
    return Listed(items, "; ".join(said + remarks))


def _headless(path: Path, table: tabular.Table, choice: bool) -> Listed:
    """Names alone; or names with the numbers that count them."""
    width = max((len(row.cells) for row in table.rows), default=1)
    if width == 1:
        names = [row.cells[0].strip() for row in table.rows]
        remark = f"no heading is known in it: its first line, {names[0]!r}, is a class" if names else ""
        return Listed([{"name": name} for name in names], "" if choice else remark)
    columns = list(zip(*(row.cells for row in table.rows), strict=True)) if all(len(r.cells) == 2 for r in table.rows) else []
    for counting, texts in ((columns[0], columns[1]), (columns[1], columns[0])) if columns else ():
        counts = [n for cell in counting if (n := foreign.number_in(cell.strip())) is not None]
        if not choice and len(counts) == len(texts) and (by := _order(counts)):
            said = f"{tabular.said(table, ())}: one of two columns counts the classes, class 0 is {texts[by[0]].strip()!r}"
            return Listed([{"name": texts[i].strip()} for i in by], said)
    wide = next(row for row in table.rows if len(row.cells) > 1)
    shown = foreign.seen(list(wide.cells))
    fix = "begin the file with their names, one of them `name`"
    raise InputError(f"{path}, line {wide.line}: {shown} has {len(wide.cells)} columns; {fix}")


def _numbers(table: tabular.Table, column: int) -> bool:
    """Whether whole numbers alone stand in a column."""
    return all(column < len(row.cells) and _WHOLE.fullmatch(row.cells[column].strip()) for row in table.rows)


def _order(numbers: Sequence[int]) -> list[int]:
    """The order in which numbers count from 0, or from 1; [] if they do not count."""
    by = sorted(range(len(numbers)), key=numbers.__getitem__)
    first = numbers[by[0]] if by else 0
    return by if first in (0, 1) and [numbers[i] for i in by] == list(range(first, first + len(by))) else []
