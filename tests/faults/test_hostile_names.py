"""Names that look like something else, through the main recipe, its exports and the commands that look at them.

SYNTHSET_NAMES says how many runs, SYNTHSET_NAMES_SEED picks others; longer: python -m tests.campaign --phase names.
"""

import os
import random
import re
from pathlib import Path

import pytest

from tests.campaign.names import WORDS, folder_name, hostile_run, quoted
from tests.faults.zygote import Command, Zygote

RUNS = int(os.environ.get("SYNTHSET_NAMES", "1"))
SEED = int(os.environ.get("SYNTHSET_NAMES_SEED", "0"))
EXAMPLE = re.search(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "external.md").read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("n", range(RUNS))
def test_hostile_names_are_text(n, tmp_path):
    zygote = Zygote(tmp_path, ["launch.verify", "launch.status"])

    def run(words, cwd, log):
        log.unlink(missing_ok=True)
        return zygote.run(Command(f"launch.{words[0].removesuffix('.py')}", tuple(words[1:]), str(log), cwd=str(cwd)))

    place = tmp_path / "run"
    place.mkdir()
    (tmp_path / "draw.py").write_text(EXAMPLE)
    try:
        assert hostile_run(place, tmp_path / "draw.py", random.Random(f"{SEED}/{n}"), run) == []
    finally:
        zygote.close()


def test_words_can_be_values_of_overrides():
    from launch.config.compose import Composer

    words = [w for w in WORDS if "${" not in w and not set(w) & set("\n\\")]
    values = "+".join(words)
    assert Composer().compose([f"dataset.name={quoted(values)}"]).dataset.name == values
    assert folder_name(random.Random(0)) in WORDS
