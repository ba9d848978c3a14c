"""What costs most of a judgement, in blocks: the same numbers as in one piece, whatever the blocks and jobs."""

import json
import shutil

import numpy as np
import pytest

from synth.errors import EXIT_OK
from synth.judge import parts
from synth.judge.near import read_near
from synth.judge.numbers import alike, balls
from synth.judge.sets import read_sets
from synth.judge.summary import summary
from tests.fixtures_images import digests, work
from tests.judge.sets import clusters, features, judge

K = 3


@pytest.fixture
def sets(tmp_path):
    """A judged set with repeats and pictures that have no feature, a real and a test set that share some with it."""
    made, labels = clusters(9, seed=3)
    made[20:24] = made[2:6]
    real, real_labels = clusters(7, seed=1)
    real[:3], real[9] = made[:3], real[8]
    test, test_labels = clusters(5, seed=2)
    test[4] = made[10]
    return (
        features(tmp_path, "features", made, labels, dead=(0, 11, 30)),
        features(tmp_path, "real_features", real, real_labels),
        features(tmp_path, "test_features", test, test_labels, dead=(7,)),
    )


def judged(folder) -> dict:
    assert work(folder) == EXIT_OK
    return summary(folder, read_sets(folder))[0]


def test_blocks_of_any_size_say_what_one_says(sets, monkeypatch):
    found = []
    for rows in (parts.ROWS, 7):
        monkeypatch.setattr(parts, "ROWS", rows)
        folder = judge(*sets)
        found.append(judged(folder) | {"measured": ""})
        for stage in (folder, *folder.upstream("neighbours"), *folder.upstream("real_neighbours")):
            shutil.rmtree(stage.path)
    assert found[0]["duplicates"]["within"] + found[0]["duplicates"]["between"] >= 4 and found[0]["leaks"]["pictures"] >= 1
    assert all(json.dumps(other) == json.dumps(found[0]) for other in found[1:])


def test_it_says_what_the_functions_say_of_whole_sets(sets, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 10)
    folder = judge(*sets)
    found, read = judged(folder), read_sets(folder)
    whole = balls.balls(read.real.features, read.made.features, K)
    prdc = balls.prdc_of(whole)
    told = {name: found["numbers"][name]["value"] for name in ("precision", "recall", "density", "coverage")}
    assert told == {name: pytest.approx(getattr(prdc, name), rel=1e-5) for name in told}
    clipped = found["numbers"]["clipped_density"]["value"], found["numbers"]["clipped_coverage"]["value"]
    assert clipped == pytest.approx(balls.clipped_of(whole), rel=1e-5)
    pairs = alike.duplicates(read.made.features, read.made.own, 0.999)
    assert [found["duplicates"][n] for n in ("within", "between", "repeats")] == [pairs.within, pairs.between, pairs.repeats]
    slots = [[int(read.made.slots[a]), int(read.made.slots[b])] for a, b, _ in pairs.examples_within]
    assert [pair[:2] for pair in found["duplicates"]["examples"]["within"]] == slots
    leaks = alike.leaks(read.made.features, read.test.features, 0.999)
    assert found["leaks"]["pictures"] == round(leaks.share * len(read.made))
    near = read_near(folder.upstream("neighbours")[0])
    assert np.array_equal(near.test.index[:, 0], leaks.nearest)


def test_blocks_are_shared_by_jobs_and_have_the_same_bytes(sets, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 10)
    near = judge(*sets).upstream("neighbours")[0]
    assert near.spec.slots == 4
    one = digests(near)
    shutil.rmtree(near.path / "units")
    (near.path / "done.json").unlink()
    for job in (2, 0, 1):
        work(near, job, 3)
    assert digests(near) == one


def test_sets_too_small_for_their_neighbours_say_so_in_each_number(tmp_path):
    made = features(tmp_path, "features", *clusters(1, seed=3))
    real = features(tmp_path, "real_features", *clusters(5, seed=1))
    numbers = judged(judge(made, real, neighbours=4))["numbers"]
    assert (
        numbers["coverage"]
        == numbers["clipped_density"]
        == {"value": None, "why": "made: has 4 pictures; the 4 nearest others of each need 5"}
    )
    assert numbers["cmmd"]["value"] > 0
