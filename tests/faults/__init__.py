"""Workers that are killed, stopped, starved and raced: what they leave must be what an undisturbed run leaves."""

import pytest

pytest.register_assert_rewrite("tests.faults.farm")
