"""recipe=feedback as a user runs it, with pictures that a program draws: all rounds in one command, and the same command again."""

import json

import numpy as np
import pytest
from PIL import Image

from synth.seeds import generator
from tests.golden.cases import CLASS_NAME
from tests.launch.conftest import REPO
from tests.launch.plan.test_filters import clip  # noqa: F401 (a fixture)

CLASSES = ("apple", "banana", "strawberry")
N = 20


@pytest.fixture
def asked(world, clip):  # noqa: F811
    """The words of the command."""
    for seed, name in enumerate(("real", "test")):
        for number, cls in enumerate(CLASSES):
            folder = world.path / name / cls
            folder.mkdir(parents=True)
            for k in range(6):
                noise = generator(100 * seed + 10 * number + k).integers(0, 60, (16, 16, 3))
                Image.fromarray((noise + 60 * number).astype(np.uint8)).save(folder / f"{k}.png")
    drawing = [word.replace("tests/golden", str(REPO / "tests" / "golden")) for word in CLASS_NAME]
    keys = ("recipe=feedback", "rounds=3", "feedback=coverage", f"feedback.pictures={N}", "cluster=debug", "export=[image_folder]")
    sets = (f"judge.real={world.path}/real", f"judge.test={world.path}/test", "judge.neighbours=2", "judge.seeds=[0]", "judge.worst=0")
    return [*drawing, *keys, *sets, f"features.model={clip}", f"runs_dir={world.runs}"]


def test_the_pictures_of_all_rounds_are_drawn_judged_and_exported(world, asked):
    done = world.run(*asked)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (world.runs / "pictures" / "exports").glob("judge_report-*[0-9a-f]")
    rounds = json.loads((report / "judge.json").read_bytes())["rounds"]
    assert [one["pictures"] for one in rounds] == [7, 7, 6] and [one["by"] for one in rounds] == ["none", "coverage", "coverage"]
    assert all(sum(c["pictures"] for c in one["classes"]) == one["pictures"] for one in rounds)
    assert all("accuracy" in one for one in rounds) and "accuracy_before" in rounds[2]
    (folder,) = (world.runs / "pictures" / "exports").glob("image_folder-*[0-9a-f]")
    for place, name in enumerate(CLASSES):
        assert len(list((folder / name).glob("*.png"))) == sum(one["classes"][place]["pictures"] for one in rounds)
    seeds = [json.loads(line)["seed"] for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert len(seeds) == len(set(seeds)) == N
    before = world.tree()
    again = world.run(*asked)
    assert again.returncode == 0 and "slots to do" not in again.stdout + again.stderr
    assert {name: data for name, data in world.tree().items() if "/units/" in name} == {n: d for n, d in before.items() if "/units/" in n}
