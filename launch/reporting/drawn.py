"""What a report draws: the graph of stages, and when which job ran and why it ended. Inline SVG; pure."""

import time
from collections.abc import Mapping, Sequence

from launch.reporting.events import ENDS, KILLED, LIVE, Job
from launch.reporting.stages import DONE, StageFacts
from synth.errors import EXIT_AGAIN, EXIT_OK
from synth.export.page_parts import text

NODE_W, NODE_H, GAP_X, GAP_Y, MARGIN = 190, 44, 50, 14, 6  # pixels of the graph
NODES = 80  # stages that are drawn
LABEL, WIDTH, LINE, BAR, AXIS = 210, 940, 16, 10, 24  # pixels of the timeline
LINES = 120  # jobs that are drawn
PAUSE, TICK = 24, 76  # pixels of a time in which no job ran, of a label of the axis
LETTERS = 26  # of a name
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800)  # seconds
CLASSES = {ENDS[EXIT_OK]: "ok", LIVE: "live", ENDS[EXIT_AGAIN]: "early", KILLED: "killed"}  # of a bar; others: "wrong"
CSS = """
svg.graph, svg.jobs { max-width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: currentColor; }
.graph rect { fill: #8882; stroke: #8888; } .graph .done rect { stroke: #009e73; } .graph .wrong rect { stroke: #d55e00; stroke-width: 2; }
.graph path { fill: none; stroke: #8888; } svg .small { opacity: .7; } .jobs .grid { stroke: currentColor; opacity: .15; }
.ok { fill: #009e73; } .live { fill: #56b4e9; } .early { fill: #e69f00; } .killed { fill: #d55e00; } .wrong { fill: #cc79a7; }
.key span { display: inline-block; margin-right: 1rem; } .key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
.key .ok { background: #009e73; } .key .live { background: #56b4e9; } .key .early { background: #e69f00; }
.key .killed { background: #d55e00; } .key .wrong { background: #cc79a7; }
"""


def graph(stages: Sequence[StageFacts]) -> str:
    """Stages from left to right, each behind those that it reads; "" of none, and of more than can be drawn."""
    if not 0 < len(stages) <= NODES:
        return ""
    columns = _columns(stages)
    places = {}
    tallest = max(map(len, columns))
    for x, column in enumerate(columns):
        for y, stage in enumerate(column):
            places[stage.path] = (
                MARGIN + x * (NODE_W + GAP_X),
                MARGIN + y * (NODE_H + GAP_Y) + (tallest - len(column)) * (NODE_H + GAP_Y) // 2,
            )
    width, height = 2 * MARGIN + len(columns) * (NODE_W + GAP_X) - GAP_X, 2 * MARGIN + tallest * (NODE_H + GAP_Y) - GAP_Y
    edges = [_edge(places[up], places[s.path]) for s in stages for up in s.upstream if up in places]
    nodes = [_node(s, *places[s.path]) for s in stages]
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<div class="wide"><svg class="graph" {size} role="img" aria-label="stages">{"".join([*edges, *nodes])}</svg></div>\n'


def _columns(stages: Sequence[StageFacts]) -> list[list[StageFacts]]:
    """By the longest way to each stage. A stage that reads itself, or what reads it, stands at the end of that way."""
    by_path = {s.path: s for s in stages}
    depth: dict[str, int] = {}

    def of(path: str) -> int:
        if path not in depth:
            depth[path] = 0  # while its upstreams are asked
            depth[path] = max((1 + of(up) for up in by_path[path].upstream if up in by_path), default=0)
        return depth[path]

    columns: list[list[StageFacts]] = [[] for _ in range(1 + max(of(s.path) for s in stages))]
    for stage in stages:
        columns[depth[stage.path]].append(stage)
    return columns


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y, to_x, to_y = start[0] + NODE_W, start[1] + NODE_H // 2, end[0], end[1] + NODE_H // 2
    middle = (x + to_x) // 2
    return f'<path d="M{x},{y}C{middle},{y} {middle},{to_y} {to_x},{to_y}"/>'


def _node(stage: StageFacts, x: int, y: int) -> str:
    ill = bool(stage.set_aside or stage.given_up)
    how = "wrong" if ill else "done" if stage.state == DONE else ""
    below = f"{stage.state}, {stage.committed:,} of {stage.units:,} units"
    return (
        f'<g class="{how}"><title>{text(f"{stage.folder}: {below} {stage.differs_by}")}</title>'
        f'<rect x="{x}" y="{y}" width="{NODE_W}" height="{NODE_H}" rx="4"/>'
        f'<text x="{x + 8}" y="{y + 18}">{text(_cut(stage.name))}</text>'
        f'<text class="small" x="{x + 8}" y="{y + 34}">{text(below, 32)}</text></g>'
    )


def timeline(jobs: Sequence[tuple[StageFacts, Job]]) -> str:
    """A line a job, from its begin to its end; those that ended badly first where there are more than can be drawn."""
    if not jobs:
        return ""
    shown = sorted(jobs, key=lambda sj: sj[1].well)[:LINES]
    shown.sort(key=lambda sj: (sj[1].begun, sj[1].worker))
    pieces = at_work([(j.begun, j.ended) for _, j in shown])
    height = len(shown) * LINE + AXIS
    room = WIDTH - LABEL - 10
    pause = min(PAUSE, room / (3 * len(pieces)))
    scale = (room - pause * (len(pieces) - 1)) / max(1.0, sum(end - begin for begin, end in pieces))

    def x(at: float) -> float:
        before = [(begin, end) for begin, end in pieces if begin <= at]
        return LABEL + pause * (len(before) - 1) + scale * sum(min(at, end) - begin for begin, end in before)

    parts = []
    free = 0.0  # where the last label ends
    for at, label in _ticks(pieces):
        parts.append(f'<path class="grid" d="M{x(at):.1f},0V{height - AXIS}"/>')
        if x(at) < free:
            continue
        free = x(at) + TICK
        parts.append(f'<text class="small" x="{x(at):.1f}" y="{height - 8}" text-anchor="middle">{text(label)}</text>')
    for line, (stage, job) in enumerate(shown):
        y = line * LINE
        parts.append(f'<text x="0" y="{y + BAR}">{text(_cut(f"{stage.name} {_called(job)}", LETTERS + 6))}</text>')
        parts.append(
            f'<rect class="{bar_class(job)}" x="{x(job.begun):.1f}" y="{y + 1}" width="{max(2.0, x(job.ended) - x(job.begun)):.1f}" '
            f'height="{BAR}"><title>{text(_told(stage, job))}</title></rect>'
        )
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    more = f"<p><small>{len(shown):,} of {len(jobs):,} jobs are drawn.</small></p>\n" if len(jobs) > len(shown) else ""
    return f'<div class="wide"><svg class="jobs" {size} role="img" aria-label="jobs">{"".join(parts)}</svg></div>\n{_key(shown)}{more}'


def at_work(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The times in which jobs ran, joined over pauses that are short beside them.

    >>> at_work([(0, 50), (40, 100), (101, 200), (9000, 9100)])
    [(0, 200), (9000, 9100)]
    """
    ordered = sorted(spans)
    least = sum(end - begin for begin, end in ordered) / 10
    pieces = [ordered[0]]
    for begin, end in ordered[1:]:
        if begin - pieces[-1][1] <= least:
            pieces[-1] = pieces[-1][0], max(pieces[-1][1], end)
        else:
            pieces.append((begin, end))
    return pieces


def _ticks(pieces: Sequence[tuple[float, float]]) -> list[tuple[float, str]]:
    """(time, label): round times since the begin; where there were pauses, when each piece began."""
    if len(pieces) > 1:
        return [(begin, moment(begin)[5:16]) for begin, _ in pieces]
    [(begin, end)] = pieces
    span = max(1.0, end - begin)
    step = next((t for t in TICKS if span / t <= 8), TICKS[-1] * max(1, round(span / TICKS[-1] / 8)))
    return [(begin + n * step, lasting(n * step)) for n in range(int(span // step) + 1)]


def bar_class(job: Job) -> str:
    return CLASSES.get(job.state, "wrong")


def _key(shown: Sequence[tuple[StageFacts, Job]]) -> str:
    states: Mapping[str, str] = {j.state: bar_class(j) for _, j in shown}
    spans = "".join(f'<span><i class="{css}"></i>{text(state)}</span>' for state, css in sorted(states.items()))
    return f'<p class="key">{spans}</p>\n'


def _called(job: Job) -> str:
    return job.slurm.partition("@")[0].rpartition("/")[2] or (f"job {job.job}" if job.job is not None else job.worker)


def _told(stage: StageFacts, job: Job) -> str:
    where = ", ".join(filter(None, (job.node or job.host, job.place if job.gpus and job.place != "default" else "", job.device)))
    why = f": {job.why}" if job.why else ""
    return f"{stage.folder}, worker {job.worker} on {where}: {job.units:,} units in {lasting(job.seconds)}; {job.state}{why}"


def _cut(name: str, letters: int = LETTERS) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}\u2026"


def lasting(seconds: float) -> str:
    """A length of time for people: lasting(45) == "45 s", lasting(5400) == "1.5 h"."""
    for unit, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit or (unit < 86400 and seconds >= 1.5 * unit):
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def moment(seconds: float) -> str:
    """A time as "2026-11-26 22:01 UTC"; "" of one that is none."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return ""
