"""Python's search for reference cycles, where it finds none."""

import contextlib
import gc
from collections.abc import Iterator

OBJECTS = 100_000  # new ones between two looks


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Look for reference cycles rarely: what is imported and loaded stays, and torch and diffusers are so many objects that looking at them
    every 700 new ones takes an eighth of their start."""
    usual = gc.get_threshold()
    gc.set_threshold(OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
