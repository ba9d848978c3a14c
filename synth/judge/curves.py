"""A number against a key of a sweep, as inline SVG: a mark a point with its interval, lines where only that key differs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synth.export.html import escaped

WIDTH, HEIGHT = 340, 220  # pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 40  # around the plot
TICKS = 4  # about so many
RADIUS = 4


@dataclass(frozen=True)
class Mark:
    """A point of a curve. x: what the key is set to; rest: the other keys, which a line has in common; name: shown where the pointer
    rests."""

    x: float | str
    y: float
    low: float | None = None
    high: float | None = None
    rest: str = ""
    name: str = ""
    best: bool = False


def curve(title: str, key: str, marks: Sequence[Mark]) -> str:
    """The picture. Values of a key that are all numbers lie where they are, others side by side in the order of the marks."""
    numeric = all(isinstance(m.x, (int, float)) for m in marks)
    names = sorted({m.x for m in marks}) if numeric else list(dict.fromkeys(m.x for m in marks))
    places = {x: float(x) if numeric else float(n) for n, x in enumerate(names)}
    xs = _Scale.around([places[m.x] for m in marks], LEFT, WIDTH - RIGHT)
    ys = _Scale.around([v for m in marks for v in (m.y, m.low, m.high) if v is not None], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(f"{title} against {key}")}">',
        *_axes(title, key, xs, ys, [(x, places[x]) for x in names]),
    ]
    for line in dict.fromkeys(m.rest for m in marks):
        same = sorted((m for m in marks if m.rest == line), key=lambda m: places[m.x])
        path = " ".join(f"{xs(places[m.x]):.1f},{ys(m.y):.1f}" for m in same)
        parts.append(f'<polyline points="{path}"/>' if len(same) > 1 else "")
        parts += [_mark(m, xs(places[m.x]), ys) for m in same]
    return "".join([*parts, "</svg>\n"])


@dataclass(frozen=True)
class _Scale:
    """Values low..high to pixels first..last."""

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def around(cls, values: Sequence[float], first: float, last: float) -> "_Scale":
        """With a margin of a twentieth, so that no mark lies on an axis."""
        low, high = min(values), max(values)
        margin = (high - low) / 20 or abs(low) / 20 or 1.0
        return cls(low - margin, high + margin, first, last)

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Round values between its ends."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda n: abs(n * power - rough))
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _axes(title: str, key: str, xs: _Scale, ys: _Scale, values: Sequence[tuple[float | str, float]]) -> list[str]:
    base = HEIGHT - BOTTOM
    lines = [f'<path class="axis" d="M{LEFT},{TOP}V{base}H{WIDTH - RIGHT}"/>']
    for tick in ys.ticks():
        lines.append(f'<path class="grid" d="M{LEFT},{ys(tick):.1f}H{WIDTH - RIGHT}"/>')
        lines.append(f'<text x="{LEFT - 5}" y="{ys(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for value, place in values:
        word = f"{value:g}" if isinstance(value, (int, float)) else str(value)[:12]
        lines.append(f'<text x="{xs(place):.1f}" y="{base + 15}" text-anchor="middle">{escaped(word)}</text>')
    lines.append(f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escaped(key)}</text>')
    lines.append(f'<text class="name" x="{LEFT - 5}" y="{TOP - 10}">{escaped(title)}</text>')
    return lines


def _mark(mark: Mark, x: float, ys: _Scale) -> str:
    span = ""
    if mark.low is not None and mark.high is not None:
        span = f'<path class="span" d="M{x:.1f},{ys(mark.low):.1f}V{ys(mark.high):.1f}"/>'
    best = ' class="best"' if mark.best else ""
    return f'{span}<circle{best} cx="{x:.1f}" cy="{ys(mark.y):.1f}" r="{RADIUS}"><title>{escaped(mark.name)}</title></circle>'
