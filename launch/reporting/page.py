"""A report as one HTML page: no script, nothing from outside, pictures inside of it. Pure; every text escaped and cut."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from rich.filesize import decimal

from launch.reporting import drawn, work
from launch.reporting.captions import Captions
from launch.reporting.drawn import moment
from launch.reporting.facts import Report, taken_out
from launch.reporting.gallery import CSS as PICTURES_CSS
from launch.reporting.gallery import filters_of, galleries, sweep
from launch.reporting.stages import StageFacts
from launch.reporting.work import NAMED, ROWS, full
from synth.errors import InputError, StoreError
from synth.export import page_parts
from synth.export.html import document
from synth.export.page_parts import table, text

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
CONFIG = 5_000  # characters of a config, of a command
JUDGED = 3_000_000  # characters of the judge's part
CSS = f"""{page_parts.CSS}{PICTURES_CSS}{drawn.CSS}
details {{ border-top: 1px solid #8886; padding: .4rem 0; }} summary {{ cursor: pointer; overflow-wrap: anywhere; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; background: #8881; padding: .5rem; margin: .4rem 0; }}
.note {{ border-left: 3px solid #e69f00; padding-left: .6rem; }} nav a {{ margin-right: .8rem; }}
.bars td:nth-child(2) {{ text-align: left; }} .bars i {{ display: inline-block; height: .7em; background: #0072b2; }}
"""


def page(report: Report, at: Path, refresh: int = 0) -> str:
    """The page as it lies at a path: links are relative to its folder. refresh: seconds after which a browser reads it again; 0: never."""
    sections = [
        ("What was asked", _asked(report)),
        ("Stages", _stages(report, at)),
        ("Points side by side", "".join(map(sweep, report.sweeps))),
        ("Pictures", galleries(report.galleries)),
        ("Filters", _filters(report)),
        ("Captions", _captions(report)),
        ("Exports", _exports(report, at)),
        ("Judge", _judge(report)),
        ("What it took", work.cost(report)),
        ("Jobs", work.jobs(report)),
        ("Devices and versions", work.devices(report)),
        ("Provenance", work.provenance(report)),
    ]
    there = [(f"part-{n}", name, body) for n, (name, body) in enumerate(sections) if body]
    links = "".join(f'<a href="#{mark}">{name}</a>' for mark, name, _ in there)
    body = "".join(f'<section id="{mark}"><h2>{name}</h2>\n{part}</section>\n' for mark, name, part in there)
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    css = _judge_css() + CSS if report.judged else CSS
    return document(
        f"Report of {Path(report.path).name or report.path}",
        css,
        f"{_head(report)}{_notes(report)}<nav>{links}</nav>\n{body}",
        again,
        policy=POLICY,
    )


def _head(report: Report) -> str:
    return "".join(f'<p class="{css}">{text(line)}</p>\n' for css, line in zip(("said", "how", "how"), summary(report), strict=False))


def summary(report: Report) -> list[str]:
    """A few lines that say the most, for a page and for a terminal."""
    t = report.totals
    state = "done" if report.done else f"not done: {t.done:,} of {t.stages:,} stages are"
    made = f"{t.samples:,} samples made"
    lines = [
        f"{state}; {made}"
        + _and(t.tombstones, "slots left empty")
        + _and(t.taken_out, "taken out by filters")
        + _and(t.set_aside, "units set aside")
    ]
    hours = f"{t.device_hours:.3g} device hours used" if t.device_hours else f"no device; {t.core_hours:.3g} worker hours on cores"
    lost = sum(t.lost_hours.values())
    left = "" if report.done else ", what is left is not known yet" if t.left_hours is None else f", about {t.left_hours:.3g} left"
    idle = f"; idle {100 * t.idle:.0f} %" if t.idle is not None else ""
    lines.append(hours + (f", {lost:.3g} of them lost" if lost else "") + left + idle)
    lines.append(f"{report.path}, as it was at {moment(report.time)}")
    return lines


def _and(n: int, words: str) -> str:
    return f", {n:,} {words}" if n else ""


def _notes(report: Report) -> str:
    ill = [f"{s.folder}: given up: {s.given_up}" for s in report.stages if s.given_up]
    ill += [f"{s.folder}: {failure}" for s in report.stages for failure in s.failures[:NAMED]]
    ill += [f"{s.folder}: {s.differs:,} units were made twice with different bytes" for s in report.stages if s.differs]
    lines = [*ill, *report.notes]
    rest = f'<p class="note">and {len(lines) - ROWS:,} more</p>\n' if len(lines) > ROWS else ""
    return "".join(f'<p class="note">{text(line)}</p>\n' for line in lines[:ROWS]) + rest


def _asked(report: Report) -> str:
    commands: dict[str, list[str]] = {}
    for stage in report.stages:
        if stage.command:
            commands.setdefault(stage.command, []).append(stage.folder)
    told = "".join(f"<pre>{text(command, CONFIG)}</pre>\n" for command in list(commands)[:NAMED])
    told = (
        told
        or "<p>The command is not recorded: it is of exports, jobs on Slurm and the newest run. The stages below say what was made.</p>\n"
    )
    apart = [s for s in report.stages if s.differs_by]
    differ = table([{"stage": s.folder, "differs by": s.differs_by} for s in apart[:ROWS]])
    between = f"<h3>What differs between points</h3>\n{differ}" if apart else ""
    configs = "".join(
        f"<details><summary>{text(s.folder)}</summary><pre>{_indented(s.config)}</pre></details>\n" for s in report.stages[:ROWS]
    )
    return f"{told}{between}<details><summary>Configs of the stages</summary>{configs}</details>\n"


def _indented(config: Mapping) -> str:
    lines = json.dumps(config, indent=1, ensure_ascii=False, default=str).splitlines()
    shown = "\n".join(lines)[:CONFIG].splitlines()
    return "\n".join(_line(line) for line in shown) + ("\n\u2026" if len(shown) < len(lines) else "")


def _line(line: str) -> str:
    """A line of JSON with its indent."""
    return " " * (len(line) - len(line.lstrip(" "))) + text(line, CONFIG)


def _stages(report: Report, at: Path) -> str:
    by_path = {s.path: s for s in report.stages}
    rows = [
        {
            "stage": s.folder,
            "state": s.state,
            "units": f"{s.committed:,} of {s.units:,}",
            "samples": f"{s.samples:,}" + ("" if s.counted == s.committed else " at least"),
            "empty": f"{s.tombstones:,}",
            "taken out": f"{n:,}" if (n := taken_out(s, by_path)) else "",
            "set aside": f"{s.set_aside:,}" if s.set_aside else "",
            "errors": f"{s.failed:,}" if s.failed else "",
        }
        for s in report.stages[:ROWS]
    ]
    empty = [
        {
            "stage": s.folder,
            "slots": f"{n:,}",
            "why a slot has no sample": reason,
            "counted in": f"{s.empty.read:,} of {s.empty.of:,} units that have some",
        }
        for s in report.stages
        for reason, n in s.empty.reasons.items()
    ]
    said = "".join(f"<p>{text(f'{s.folder}: {line}')}</p>\n" for s in report.stages for line in s.said[:NAMED])
    reasons = f"<h3>Empty slots</h3>\n{table(_first_wide(empty[:ROWS]))}" if empty else ""
    return f"{drawn.graph(report.stages)}{table(full(rows))}{reasons}{said}{_pages(report, at)}"


def _first_wide(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """With the longest text in the first column, which is folded."""
    wide = "why a slot has no sample"
    return [{wide: row[wide]} | {name: cell for name, cell in row.items() if name != wide} for row in rows]


def _pages(report: Report, at: Path) -> str:
    """Links to the pages and sheets that stages made themselves."""
    links = [
        _link(s.place.page, at, f"{s.name}: {Path(s.place.page).name}", s.differs_by) for s in report.stages if s.place and s.place.page
    ]
    return f"<h3>Pages of the stages</h3>\n{''.join(links)}" if links else ""


def _link(path: str, at: Path, words: str, more: str = "") -> str:
    href = quote(os.path.relpath(path, os.path.abspath(at.parent)), errors="surrogateescape")
    return f'<p><a href="./{href}">{text(words)}</a> <small>{text(more)}</small></p>\n'


def _filters(report: Report) -> str:
    by_path = {s.path: s for s in report.stages}
    stages = {s.folder: s for s in report.stages}
    return "".join(filters_of(d, stages[d.stage], taken_out(stages[d.stage], by_path)) for d in report.filters)


def _captions(report: Report) -> str:
    return "".join(_one_table(c) for c in report.captions)


def _one_table(c: Captions) -> str:
    """The captions of one table."""
    most = max(c.words.values(), default=1)
    bars = "".join(
        f'<tr><td>{first} to {first + 4} words</td><td><i style="width:{12 * n / most:.2f}rem"></i> {n:,}</td></tr>\n'
        for first, n in list(c.words.items())[:ROWS]
    )
    rest = "" if c.all else " that were read, of more"
    head = f"{c.read:,} captions{rest}, {c.distinct:,} different ones; the longest has {c.longest:,} words"
    again = table([{"comes again": caption, "times": f"{n:,}"} for caption, n in c.again])
    rejects = table(
        [{"not taken because": r.reason, "captions": f"{r.captions:,}", "for example": "  |  ".join(r.examples)} for r in c.rejects]
    )
    return f'<p>{text(f"{c.stage}: {head}")}</p>\n<div class="wide bars"><table><tbody>{bars}</tbody></table></div>\n{again}' + (
        f"<h3>Not taken</h3>\n{rejects}" if rejects else ""
    )


def _exports(report: Report, at: Path) -> str:
    return "".join(
        f"{_link(s.place.path, at, f'{s.name}: {s.place.path}')}<p><small>{text(_size(s))}</small></p>\n" for s in report.stages if s.place
    )


def _size(stage: StageFacts) -> str:
    place = stage.place
    assert place is not None, stage.folder
    more = "" if place.all else " at least"
    whole = "whole" if stage.done else "not whole yet"
    return f"{place.files:,} files{more}, {decimal(place.bytes)}{more}, {whole}" + (f"; {stage.differs_by}" if stage.differs_by else "")


def _judge(report: Report) -> str:
    """What judges found; the tables alone where pictures of it cannot be read, or are too many for one page."""
    if not report.judged:
        return ""
    from synth.judge.page import sections
    from synth.judge.verdict import rows, sentences, verdict

    why = "Curves, classes and pictures of so many points are on their own pages, which are linked above."
    try:
        whole = sections(report.judged)
        if len(whole) <= JUDGED:
            return whole
    except (InputError, StoreError, OSError) as e:
        why = f"Curves, classes and pictures are left out: {e}"
    found = [verdict(group) for group in report.judged]
    tables = "".join(f"<p>{text(' '.join(sentences(v)))}</p>\n{table(rows(v)[:ROWS])}" for v in found)
    return f"{tables}<p>{text(why)}</p>\n"


def _judge_css() -> str:
    from synth.judge.page import CSS as JUDGE

    return JUDGE.removeprefix(page_parts.CSS)
