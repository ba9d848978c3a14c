"""The forms of a file of the user's own captions: told by its ending and by what is in it.

.txt                `caption => class` lines, split at the last =>; a line without one is of the dataset's only class
.csv .tsv           a column caption (or text, prompt), and class (a name) or label (an index); synth.captions.tabular
.jsonl              objects with the same keys
.json               SynCLR's {"captions_single_labeled": [[caption, [class]], ...]} (or captions_multiple_labeled),
                    GenCL's static and dynamic prompt files, or a list of such objects
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synth import foreign
from synth.captions import tabular
from synth.captions.prompts import gencl
from synth.errors import InputError

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json")
SYNCLR = ("captions_single_labeled", "captions_multiple_labeled")
# columns and keys, the first of them that is there
CAPTION = ("caption", "text", "prompt", "description", "sentence", "title")
CLASS = ("class", "class_name", "classname", "category", "category_name", "label_name", "name")
LABEL = ("label", "class_index", "class_id", "label_id", "target")
Said = tuple[str | int, ...]  # names or indices of classes; () = the only class of the dataset


@dataclass(frozen=True)
class Line:
    """One caption as the file has it. at: its line, or its place in a JSON file."""

    at: str
    caption: str
    classes: Said
    wrong: str = ""  # why it cannot be taken


@dataclass(frozen=True)
class Form:
    """What a file holds. remarks: how it was read, where that was not plain to see."""

    lines: Iterable[Line]
    remarks: tuple[str, ...] = field(default=())
    delimiter: str = ""  # between the columns of a table


def form_of(path: Path, text: str, n_classes: int, key: str | None = None) -> Form:
    """The captions of a file. key: which list of SynCLR's. InputError for a file that has no form that is known."""
    kind = path.suffix.lower()
    if kind == ".txt":
        return Form(_arrows(text))
    if kind in (".csv", ".tsv"):
        return _table(path, text)
    if kind == ".jsonl":
        return Form(_json_lines(path, text))
    return Form(_json_file(path, foreign.parse(text, str(path), "mend it", once=True), n_classes, key))


def _arrows(text: str) -> Iterator[Line]:
    for n, line in enumerate(text.split("\n"), start=1):  # and not at the other separators of Unicode, which a caption may hold
        if not line.strip():
            continue
        caption, arrow, name = line.rpartition("=>")
        if not arrow:
            yield Line(f"line {n}", line.strip(), ())
        else:
            yield Line(f"line {n}", caption.strip(), (name.strip(),), "" if name.strip() else "has no class behind =>")


def _table(path: Path, text: str) -> Form:
    table = tabular.read_table(path, text, CAPTION + CLASS + LABEL)
    columns = [table.column(names) for names in (CAPTION, CLASS, LABEL)]
    if columns[0] is None:
        first = text.split("\n", 1)[0].strip()
        raise InputError(f'{path}: needs a first line with the columns "caption" and "class" (or "label"); it is {foreign.seen(first)}')
    taken = [table.head[c] for c in columns if c is not None]
    plain = table.delimiter == "," or path.suffix.lower() == ".tsv"
    remarks = () if plain and not table.quotes_kept and set(taken) <= {"caption", "class", "label"} else (tabular.said(table, taken),)
    return Form((_row(row, table, columns) for row in table.rows), remarks, table.delimiter)


def _row(row: tabular.Row, table: tabular.Table, columns: list[int | None]) -> Line:
    at, cells, width = f"line {row.line}", row.cells, len(table.head)
    if any(cell.strip() for cell in cells[width:]):  # what a delimiter inside a text makes of it
        return Line(at, "", (), f"has {len(cells)} columns where the heading has {width}: put the text that holds the delimiter in quotes")
    caption, name, label = (cells[c] if c is not None and c < len(cells) else None for c in columns)
    return _pair(at, caption, name, label)


def _json_lines(path: Path, text: str) -> Iterator[Line]:
    for n, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                item = foreign.parse(line, f"{path}, line {n}", "mend it", once=True)
            except InputError as e:
                yield Line(f"line {n}", "", (), str(e).removeprefix(f"{path}, line {n}: "))
                continue
            yield _object(f"line {n}", item)


def _object(at: str, item: object) -> Line:
    if not isinstance(item, dict):
        return Line(at, "", (), f'needs an object with "caption" and "class" (or "label"); it is {foreign.seen(item)}')
    return _pair(at, *(next((item[k] for k in keys if item.get(k) is not None), None) for keys in (CAPTION, CLASS, LABEL)))


def _pair(at: str, caption: object, name: object, label: object) -> Line:
    if not isinstance(caption, str):
        return Line(at, "", (), f'"caption" must be a text, it is {foreign.seen(caption)}')
    if isinstance(name, str) and name.strip():
        return Line(at, caption, (name.strip(),))
    if name is None and label is None:
        return Line(at, caption, ())
    if isinstance(label, str) and (index := foreign.number_in(label.strip())) is not None:
        label = index
    if isinstance(label, int) and not isinstance(label, bool):
        return Line(at, caption, (label,))
    if isinstance(label, str) and label.strip():  # a name, whatever the column is called
        return Line(at, caption, (label.strip(),))
    found = f"found class {foreign.seen(name)}, label {foreign.seen(label)}"
    return Line(at, caption, (), f'needs "class", a name, or "label", an index; {found}')


def _json_file(path: Path, data: object, n_classes: int, key: str | None) -> Iterable[Line]:
    if isinstance(data, list):
        return (_object(f"item {n}", item) for n, item in enumerate(data))
    if isinstance(data, dict) and any(k in data for k in SYNCLR):
        return _synclr(path, data, key)
    if gencl.is_static(data):
        return (Line(f"text {n}", text, (i,)) for n, text in enumerate(gencl.static_texts(data, str(path))) for i in range(n_classes))
    if gencl.is_dynamic(data):
        return (Line(f"{name!r}", text, (name,)) for name, text in gencl.dynamic_texts(data, str(path)))
    raise InputError(f'{path}: not a form of captions that is known: a list of objects, {SYNCLR[0]!r}, or GenCL\'s "metaprompts"')


def _synclr(path: Path, data: dict, key: str | None) -> Iterator[Line]:
    there = [k for k in SYNCLR if k in data]
    if key is None and len(there) > 1:
        raise InputError(f"{path}: holds {' and '.join(there)}; say which: prompts.prompts_key={there[0]}")
    if key is not None and key not in there:
        raise InputError(f"{path}: holds no {key}; it has {', '.join(there)}: prompts.prompts_key={there[0]}")
    key = key or there[0]
    items = data[key]
    return (_labelled(f"{key}[{n}]", item) for n, item in enumerate(items if isinstance(items, list) else [items]))


def _labelled(at: str, item: object) -> Line:
    ok = isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)
    labels = item[1] if ok and isinstance(item[1], list) else [item[1]] if ok else []
    if not labels or any(isinstance(x, bool) or not isinstance(x, (str, int)) for x in labels):
        return Line(at, "", (), f"must be [caption, [class]], it is {foreign.seen(item)}")
    return Line(at, item[0], tuple(x.strip() if isinstance(x, str) else x for x in labels))
