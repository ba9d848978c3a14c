"""What a person sees while stages run: a bar a stage on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from launch.show.saying import say

LINE_EVERY = 30.0  # seconds between lines where there is no terminal


class Bars:
    """Context manager; one stage at a time: begin, at (as often as you like), end."""

    def __init__(self, console: Console):
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>8.1f}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = None
        self._name, self._total, self._first, self._begun, self._said = "", 0, 0, 0.0, 0.0

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, name: str, total: int, done: int, detail: str) -> None:
        self._name, self._total, self._first, self._begun = name, total, done, time.monotonic()
        self._said = self._begun
        self._task = self._bars.add_task(name, total=total, completed=done, rate=0.0)
        if not self.console.is_terminal:
            text = f"{name}: {total - done} of {total} slots to do, {detail}"
            say(self.console, text)

    def at(self, done: int) -> None:
        """`done` slots are there, by whoever made them."""
        now = time.monotonic()
        rate = max(0, done - self._first) / max(1e-6, now - self._begun)
        self._bars.update(self._task, completed=min(done, self._total), rate=rate)
        if not self.console.is_terminal and now - self._said >= LINE_EVERY:
            self._said = now
            left = f", about {(self._total - done) / rate:.0f} s left" if rate else ""
            say(self.console, f"{self._name}: {done}/{self._total} slots, {rate:.1f}/s{left}")

    def end(self, done: int) -> None:
        self.at(done)
        self._bars.stop_task(self._task)
