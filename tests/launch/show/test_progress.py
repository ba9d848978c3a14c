"""The bar of a stage, and the lines in its place where there is no terminal."""

import io

import pytest
from rich.console import Console

from launch.show import progress
from launch.show.progress import Bars


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_pace_counts_neither_what_was_there_nor_the_time_in_which_models_are_loaded(clock):
    out = io.StringIO()
    with Bars(Console(file=out, width=160)) as bars:
        bars.begin("images", 200, 20, "9 units in x")
        for seconds, done in ((40, 20), (41, 100), (81, 140)):  # 80 slots of another stage are taken over at once
            clock[0] = 1000.0 + seconds
            bars.at(done)
    first, waiting, moving = out.getvalue().splitlines()
    assert first == "images: 180 of 200 slots to do, 9 units in x"
    assert waiting == "images: 20/200 slots, starting, 40 s"
    assert moving == "images: 140/200 slots, 1.0/s, about 60 s left"


def test_a_terminal_shows_a_bar_with_its_pace(clock):
    out = io.StringIO()
    with Bars(Console(file=out, width=160, force_terminal=True)) as bars:
        bars.begin("images", 200, 0, "")
        clock[0] += 12
        bars.at(0)
        bars._bars.refresh()
        assert "starting, 12 s" in out.getvalue()
        for _ in range(2):
            clock[0] += 10
            bars.at(20 if bars._moved else 10)
        bars._bars.refresh()
    assert "1.0/s" in out.getvalue()
