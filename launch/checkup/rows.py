"""A finding: what was looked at, how it is, what was found, and the fix. As a table, as JSON, and as an exit code."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, worst
from synth.redaction import redacted
from synth.terminal import message

OK, WARN, WRONG, UNKNOWN = "ok", "warn", "wrong", "unknown"
COLOURS = {OK: "green", WARN: "yellow", WRONG: "bold red", UNKNOWN: "cyan"}


@dataclass(frozen=True)
class Row:
    """One finding. code: the exit code that a wrong one asks for, 65 where the config or a file has to change, 75 where the machine has."""

    what: str
    verdict: str
    found: str
    fix: str = ""
    code: int = EXIT_BAD_INPUT


def ok(what: str, found: str) -> Row:
    return Row(what, OK, found)


def warn(what: str, found: str, fix: str = "") -> Row:
    return Row(what, WARN, found, fix)


def unknown(what: str, why: str, fix: str = "") -> Row:
    """What cannot be told, and why: never taken for a good one."""
    return Row(what, UNKNOWN, why, fix)


def wrong(what: str, found: str, fix: str = "") -> Row:
    """Of the config or of a file: trying again changes nothing."""
    return Row(what, WRONG, found, fix)


def broken(what: str, found: str, fix: str = "") -> Row:
    """Of this machine or site: the config may stay as it is."""
    return Row(what, WRONG, found, fix, EXIT_AGAIN)


def exit_code(rows: Iterable[Row]) -> int:
    """0: nothing is wrong; else 65 where anything wrong is of config or files, 75 where it is all of the machine.

    >>> exit_code([ok("a", ""), unknown("b", "")]), exit_code([broken("a", "")]), exit_code([broken("a", ""), wrong("b", "")])
    (0, 75, 65)
    """
    return worst([EXIT_OK, *(row.code for row in rows if row.verdict == WRONG)])


def shown(title: str, rows: Sequence[Row], console: Console) -> None:
    """A table that fits 80 columns: the fix stands below what was found."""
    table = Table(title=title, title_justify="left", show_lines=False, expand=False)
    table.add_column("what", overflow="fold", max_width=20)
    table.add_column("is", no_wrap=True)
    table.add_column("found, and what mends it", overflow="fold")
    for row in rows:
        text = Text(message(redacted(row.found)))
        if row.fix and row.verdict != OK:
            text.append(f"\nfix: {message(redacted(row.fix))}", style="bold")
        table.add_row(Text(message(row.what)), Text(row.verdict, style=COLOURS[row.verdict]), text)
    console.print(table)


def summary(rows: Sequence[Row]) -> str:
    """Counts of verdicts, in words.

    >>> summary([ok("a", ""), ok("b", ""), wrong("c", "")])
    '2 ok, 1 wrong'
    """
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in COLOURS}
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)


def as_json(parts: dict[str, Sequence[Row]], facts: dict[str, Any]) -> str:
    """The same for programs: {"exit_code", "rows": [{"part", "what", "verdict", "found", "fix"}]} and more facts."""
    rows = [
        {"part": part, "what": row.what, "verdict": row.verdict, "found": redacted(row.found), "fix": redacted(row.fix)}
        for part, of_part in parts.items()
        for row in of_part
    ]
    code = exit_code(row for of_part in parts.values() for row in of_part)
    return json.dumps({"exit_code": code, "rows": rows} | facts, indent=1, sort_keys=True, ensure_ascii=False)
