"""What a person sees while stages run: a bar a stage on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from launch.show.left import Part, left
from launch.show.saying import say

LINE_EVERY = 30.0  # seconds between lines where there is no terminal


class Bars:
    """Context manager; one stage at a time: begin, at (as often as you like), end."""

    def __init__(self, console: Console, parts: Sequence[Part] = ()):
        """parts: all stages that are to be done, as the run began with them; (): the time of all of them is not told."""
        self.console, self._parts = console, list(parts)
        self._at_first = left(self._parts)
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]:>14}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[whole]}"),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = None
        self._name, self._folder, self._total, self._said = "", "", 0, 0.0
        self._first, self._since, self._moved = 0, 0.0, False

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, name: str, total: int, done: int, detail: str, folder: str = "") -> None:
        """folder: its name, for the time of all stages."""
        self._folder = folder
        self._name, self._total, self._first, self._moved = name, total, done, False
        self._since = self._said = time.monotonic()
        self._task = self._bars.add_task(name, total=total, completed=done, pace="starting", whole="")
        if not self.console.is_terminal:
            text = f"{name}: {total - done} of {total} slots to do, {detail}"
            say(self.console, text)

    def at(self, done: int) -> None:
        """`done` slots are there, by whoever made them. The pace counts from the first that came: neither the time in which models are
        loaded says anything of it, nor slots that were there before, as those of another stage that are taken over at once."""
        now = time.monotonic()
        if not self._moved and done != self._first:
            self._first, self._since, self._moved = done, now, True
        rate = max(0, done - self._first) / max(1e-6, now - self._since) if self._moved else 0.0
        pace = f"{rate:.1f}/s" if rate else f"starting, {now - self._since:.0f} s" if not self._moved else ""
        whole = self._whole((self._total - done) / rate if rate else None, now)
        self._bars.update(self._task, completed=min(done, self._total), pace=pace, whole=whole)
        if not self.console.is_terminal and now - self._said >= LINE_EVERY:
            self._said = now
            to_do = f", about {(self._total - done) / rate:.0f} s left" if rate else ""
            say(self.console, f"{self._name}: {done}/{self._total} slots{', ' * bool(pace)}{pace}{to_do}{'; ' * bool(whole)}{whole}")

    def _whole(self, seconds: float | None, now: float) -> str:
        """What is said of all stages that are left. seconds: that this one still takes, by its pace; None: not known yet, and then what
        was thought of it counts, less what has passed."""
        if not any(part.folder == self._folder for part in self._parts):
            return ""
        thought = next(part.seconds for part in self._parts if part.folder == self._folder)
        if seconds is None and thought is not None:
            seconds = max(0.0, thought - (now - self._since))
        of_all = left(self._parts, now={self._folder: seconds})
        return f"left of all stages: {of_all.compared(self._at_first)}"

    def end(self, done: int) -> None:
        self.at(done)
        self._parts = [part for part in self._parts if part.folder != self._folder]
        self._bars.stop_task(self._task)
