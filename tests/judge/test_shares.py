"""Rounds of feedback through the real worker: who gets more pictures, that none is drawn twice, that all are read as one stage."""

import json

import numpy as np
import pytest

from launch.plan.images import _counts_in
from launch.verify import verify
from synth.captions.config import ClassEntry
from synth.captions.table import rows
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.features.config import FeaturesConfig
from synth.images.stage import NO_CAPTION
from synth.judge.config import RoundsConfig, SharesConfig
from synth.judge.sets import read_sets
from synth.judge.shares import count_file
from synth.judge.summary import summary
from synth.kinds import config_of
from synth.reading.stage import StageReader
from synth.run.config import ProbeConfig
from synth.store.samples import Sample, Tombstone
from tests.fixtures_images import captions_json_stage, captions_stage, child, commit_units, digests, images_stage, tiny_sd, work  # noqa: F401
from tests.judge.sets import CLASSES, clusters, features, judge

CAT, DOG, OWL, FOX = range(4)


@pytest.fixture
def pool(tmp_path):
    """captions.json of three captions a class, the last one of another mode."""
    captions = [{"caption": f"a {CLASSES[k % 4]} {k}", "mode": "texture" if k >= 8 else "class"} for k in range(12)]
    table = captions_json_stage(tmp_path, [captions_stage(tmp_path, captions, classes=CLASSES)], 12, allow_short=False, per_class=0, out="")
    assert work(table) == EXIT_OK
    return table


@pytest.fixture
def real(tmp_path):
    return features(tmp_path, "real_features", *clusters(12, seed=1))


def planned(pool, by="none", total=8, earlier=(), made=(), real=None, floor=0.25, k=3):
    upstream = {"captions": [pool]} | ({"earlier": list(earlier)} if earlier else {})
    upstream |= {"features": list(made), "real": [real]} if made else {}
    return child(pool.path.parent, "shares", SharesConfig(by=by, total=total, floor=floor, neighbours=k), upstream)


def shares(*args, **more):
    folder = planned(*args, **more)
    assert work(folder) == EXIT_OK
    return folder


def decided(folder) -> dict:
    return json.loads((folder.path / "shares.json").read_bytes())


def counts(folder) -> list[int]:
    return [c["pictures"] for c in decided(folder)["classes"]]


def pictures_of(folder, name="features", confused=(), seed=3):
    """Features of what a round drew: a picture of a confused class looks like those of the next one."""
    table = rows(folder, 0, folder.spec.config["total"])
    labels = np.array([row.label for row in table])
    shown = np.array([(n + 1) % 4 if n in confused else n for n in labels])
    every, of = clusters(len(table), seed)
    return features(folder.path.parent, name, np.stack([every[of == n][k] for k, n in enumerate(shown)]), labels)


def test_a_first_round_is_alike_and_draws_captions_as_other_recipes_do(pool):
    first, table = shares(pool, total=10), rows(pool, 0, 12)
    drawn = rows(first, 0, 10)
    assert counts(first) == [3, 3, 2, 2] and [row.row for row in drawn] == list(range(10))
    assert [row.label for row in drawn] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1], "any first part is balanced"
    assert {(row.caption, row.seed) for row in drawn} <= {(row.caption, row.seed) for row in table}


def test_units_are_the_same_bytes_however_they_are_made(pool, real):
    first = shares(pool)
    more = {"by": "error", "earlier": [first], "made": [pictures_of(first, confused=(DOG,))], "real": real}
    second = shares(pool, **more)
    one = digests(second)
    second.unit_path(0).unlink()
    (second.path / "done.json").unlink()
    for job in (2, 0, 1):
        work(second, job, 3)
    assert digests(second) == one


def test_rounds_that_are_alike_draw_together_what_one_round_draws(pool):
    first = shares(pool, total=7)
    second = shares(pool, total=7, earlier=[first])
    third = shares(pool, total=6, earlier=[first, second])
    one = rows(shares(pool, total=20), 0, 20)
    drawn = [row for folder, n in ((first, 7), (second, 7), (third, 6)) for row in rows(folder, 0, n)]
    assert {(row.caption, row.seed) for row in drawn} == {(row.caption, row.seed) for row in one}
    assert counts(second) == [2, 2, 1, 2], "who had the fewest comes first"


@pytest.mark.parametrize("by", ["error", "entropy", "coverage"])
def test_a_class_whose_real_pictures_are_missed_gets_more_and_none_starves(pool, real, by):
    first = shares(pool, total=12)
    made = pictures_of(first, confused=(DOG,))
    second = shares(pool, by, 12, [first], [made], real)
    of_class, facts = counts(second), decided(second)
    assert sum(of_class) == 12 and min(of_class) >= 1
    assert of_class[DOG] == max(of_class) or (by == "entropy" and of_class[OWL] == max(of_class))
    assert facts["real"] == 48 and 0 < facts["accuracy"] < 1 and facts["round"] == 2
    assert shares(pool, by, 12, [first], [made], real, floor=1.0).spec.slots == 1
    assert counts(shares(pool, by, 12, [first], [made], real, floor=1.0)) == [3, 3, 3, 3]


def test_no_round_draws_a_picture_of_an_earlier_one(pool, real):
    first = shares(pool, total=20)
    second = shares(pool, "error", 20, [first], [pictures_of(first, "features", (DOG,))], real)
    made = [pictures_of(first, "features", (DOG,)), pictures_of(second, "features", (DOG,))]
    third = shares(pool, "error", 20, [first, second], made, real)
    drawn = [(row.caption, row.seed) for folder in (first, second, third) for row in rows(folder, 0, 20)]
    assert len(drawn) == len(set(drawn)) == 60
    before = {c["class"]: c["before"] for c in decided(third)["classes"]}
    assert sum(before.values()) == 40
    least = [sum(caption == row.caption for caption, _ in drawn) for row in rows(pool, 0, 12) if row.label == OWL]
    assert sum(least) == counts(first)[OWL] + counts(second)[OWL] + counts(third)[OWL]


def test_a_mode_gets_more_whose_pictures_are_nearest_to_what_is_missed(pool, tmp_path, real):
    first = shares(pool, total=12)
    drawn, every = rows(first, 0, 12), clusters(12, seed=5)
    labels = np.array([row.label for row in drawn])
    texture = [row.slot >= 8 for row in drawn]
    theirs, of_real = clusters(12, seed=1)
    # dogs of mode class look like cats, those of mode texture lie on real dogs, too few of them to be seen as dogs
    shown = np.stack(
        [
            theirs[of_real == DOG][0] if n == DOG and t else every[0][every[1] == (CAT if n == DOG else n)][k]
            for k, (n, t) in enumerate(zip(labels, texture, strict=True))
        ]
    )
    second = shares(pool, "coverage", 12, [first], [features(tmp_path, "features", shown, labels)], real, floor=0.0)
    of_dogs = [row.slot >= 8 for row in rows(second, 0, 12) if row.label == DOG]
    assert sum(of_dogs) > len(of_dogs) / 2 and decided(first)["modes"] == {"class": 8, "texture": 4}


def test_a_class_without_real_pictures_gets_a_usual_share_and_is_named(pool, tmp_path):
    first = shares(pool, total=12)
    rows_, labels = clusters(12, seed=1)
    there = labels != FOX
    real = features(tmp_path, "real_features", rows_[there], labels[there], (*CLASSES[:3], "zebra"))
    second = shares(pool, "error", 12, [first], [pictures_of(first, confused=(DOG,))], real)
    facts = decided(second)
    assert facts["classes"][FOX]["need"] is None and counts(second)[FOX] >= 1
    assert facts["notes"] == [
        "a usual share, as their need is not known: 1 class ('red fox'); the first: has no real picture, or its name is there twice",
        "takes no part, as this run does not have it: 1 class ('zebra') of judge.real",
    ]


def test_too_few_real_pictures_for_a_number_are_told(pool, tmp_path):
    first = shares(pool, total=12)
    rows_, labels = clusters(12, seed=1)
    there = (labels != OWL) | (np.arange(len(labels)) < 8)  # two owls
    real = features(tmp_path, "real_features", rows_[there], labels[there])
    facts = decided(shares(pool, "coverage", 12, [first], [pictures_of(first)], real))
    assert facts["classes"][OWL]["need"] is None and facts["notes"][0].startswith(
        "a usual share, as their need is not known: 1 class ('owl')"
    )
    assert "real" in facts["notes"][0].partition("the first:")[2], "why, as balls say it"


def test_the_file_for_ones_own_loop_is_one_that_images_take(pool, real):
    first = shares(pool, total=12)
    second = shares(pool, "error", 12, [first], [pictures_of(first, confused=(DOG,))], real)
    classes = tuple(ClassEntry(i, name) for i, name in enumerate(CLASSES))
    file = second.path / "counts.json"
    assert list(_counts_in(str(file), classes, "images.count_file").values()) == counts(second)
    assert count_file([{"class": "cat", "label": 7, "pictures": 2}, {"class": "Cat", "label": 9, "pictures": 0}]) == {"7": 2, "9": 0}
    assert not [p for findings, _ in verify(second.path, True, False, lambda *_: None) for p in findings.problems]
    file.write_text("{}")
    problems = [str(p) for findings, _ in verify(second.path, True, False, lambda *_: None) for p in findings.problems]
    assert len(problems) == 1 and "counts.json: was edited" in problems[0]


def test_pictures_that_teach_nothing_end_the_worker_and_say_so(pool, tmp_path, real, capsys):
    first = shares(pool, total=4)
    same = features(tmp_path, "features", np.tile(clusters(1, 3)[0][:1], (4, 1)), np.arange(4))
    assert work(planned(pool, "error", 4, [first], [same], real)) == EXIT_BAD_INPUT
    assert "feedback=error: no probe can be trained on the pictures of the rounds before" in capsys.readouterr().err


def test_the_pictures_of_all_rounds_are_those_of_one_stage(pool, tiny_sd):  # noqa: F811
    first = shares(pool, total=6)
    second = shares(pool, total=5, earlier=[first])
    images = [images_stage(pool.path.parent, table, tiny_sd, n) for table, n in ((first, 6), (second, 5))]
    assert all(work(stage) == EXIT_OK for stage in images)
    rounds = child(pool.path.parent, "rounds", RoundsConfig(), {"images": images}, 11, 4, 4)
    assert work(rounds) == EXIT_OK
    one = digests(rounds)
    samples = list(StageReader(rounds))
    assert len(samples) == 11 and len({s.key for s in samples}) == 11 and len({s.metadata["seed"] for s in samples}) == 11
    assert len({s.read() for s in samples}) == 11, "no two pictures are alike"
    assert [s.json()["round"] for s in rounds.samples()] == [1] * 6 + [2] * 5
    for unit in range(3):
        rounds.unit_path(unit).unlink()
    (rounds.path / "done.json").unlink()
    for job in (2, 0, 1):
        work(rounds, job, 3)
    assert digests(rounds) == one
    for stage in (*images, rounds):
        assert not [p for findings, _ in verify(stage.path, True, False, lambda *_: None) for p in findings.problems]


def test_the_judge_tells_the_accuracy_after_each_round_and_what_it_drew(pool, tmp_path, real):
    first, second = shares(pool, total=12), shares(pool, total=8, earlier=[shares(pool, total=12)])
    made = []
    for k, table in enumerate((first, second), 1):
        n = table.spec.config["total"]
        images = child(
            tmp_path, "probe", ProbeConfig(seed=k, size=1, sleep=0.0, framing="tar", behaviour={}), {"captions": [table]}, n, 4, 4
        )
        source = pictures_of(table, f"source_{k}", (DOG,) if k == 1 else (), seed=k)
        made.append(
            child(tmp_path, "features", FeaturesConfig(**vars(config_of(source))), {"images": [images]}, n, 16, 4, source.spec.inputs)
        )
        commit_units(made[-1], [Sample(s.slot, s.key, {"json": s.read("json"), "npy": s.read("npy")}) for s in source.samples()])
    test = features(tmp_path, "test_features", *clusters(20, seed=2))
    judged = judge(made, real, test, seeds=(0,), rounds=(12, 8))
    assert work(judged) == EXIT_OK
    one, two = summary(judged, read_sets(judged))[0]["rounds"]
    assert one["accuracy"]["value"] < two["accuracy"]["value"] and two["accuracy"]["n"] == 80
    assert [c["pictures"] for c in two["classes"]] == counts(second) and (one["round"], two["round"]) == (1, 2)


def test_what_a_round_could_not_draw_is_a_tombstone_of_all_of_them(pool, tmp_path):
    first, second = shares(pool, total=4), shares(pool, total=5)
    config, stages = ProbeConfig(seed=0, size=1, sleep=0.0, framing="tar", behaviour={}), []
    for table, n in ((first, 4), (second, 5)):
        stage = child(tmp_path, "probe", config, {"captions": [table]}, n, 4, 4)
        results = [Tombstone(s, NO_CAPTION) if s == 1 else Sample(s, f"{s:09d}", {"json": b"{}"}) for s in range(n)]
        commit_units(stage, results)
        stages.append(stage)
    rounds = child(tmp_path, "rounds", RoundsConfig(), {"images": stages}, 9, 4, 4)
    assert work(rounds) == EXIT_OK
    assert StageReader(rounds).tombstones == {1: NO_CAPTION, 5: NO_CAPTION} and len(list(rounds.samples())) == 7
