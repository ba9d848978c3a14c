"""Runs lie in memory, and below a short name: sockets have to find room in it."""

from tests.faults.conftest import tmp_path  # noqa: F401 (a fixture)
