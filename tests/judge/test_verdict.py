"""What a table of points says, and the line that says what to take."""

import pytest

from synth.judge.reading import told_apart
from synth.judge.verdict import rows, sentences, verdict
from tests.judge.points import facts, point

GUIDANCE = "images.guidance_scale"


def said(points):
    return sentences(verdict(told_apart(points)))


def test_a_winner_is_named_with_what_the_others_give():
    points = [point(a, {GUIDANCE: g}) for a, g in ((0.42, 7.5), (0.71, 2.0), (0.55, 4.0))]
    assert said(points)[0].startswith("take images.guidance_scale=2 (accuracy .710 +- .0")
    assert said(points)[0].endswith("; 4 gives .550, 7.5 gives .420)")
    assert "paired bootstrap of the same 100 test pictures of 2 classes, 2 draws" in said(points)[1]
    table = rows(verdict(told_apart(points)))
    assert [r["point"] for r in table] == [f"{GUIDANCE}={g}" for g in ("2", "4", "7.5")]
    assert table[0]["coverage"] == ".500" and table[0]["leaks"] == "1"


def test_no_winner_inside_the_noise():
    same = [point(0.7, {GUIDANCE: g}) for g in (1.5, 2.0)]
    assert said(same)[0].startswith("no point is better than the others by more than the noise (images.guidance_scale=1.5 .700 +- ")
    three = [*same, point(0.2, {GUIDANCE: 9.0})]
    assert "is best" in said(three)[0] and "but not by more than the noise: 2 .700; worse: 9 gives .200" in said(three)[0]


def test_without_a_test_set_no_point_is_taken():
    points = [point(None, {GUIDANCE: 2.0}), point(None, {GUIDANCE: 4.0}, numbers={"clipped_coverage": {"value": 0.1}})]
    assert said(points) == ["which point trains best cannot be said without a test set: judge.test=FOLDER"]
    assert rows(verdict(told_apart(points)))[0]["point"] == f"{GUIDANCE}=4"
    assert "accuracy" not in rows(verdict(points))[0]


def test_a_point_that_nothing_can_be_trained_on_is_named():
    points = [point(0.7, {GUIDANCE: 2.0}), point(None, {GUIDANCE: 4.0}, no_probes={"made": "train: all pictures have the same features"})]
    assert said(points) == [
        f"which point trains best cannot be said: no classifier can be trained on {GUIDANCE}=4: train: all pictures have the same features"
    ]


def test_classes_that_a_set_lacks_are_said_with_the_test_pictures_that_take_no_part():
    found = facts()
    test = found["sets"]["test"] | {"other_classes": ["owl", "Red_Fox"], "without_class": 30}
    made = found["sets"]["made"] | {"other_classes": ["red fox"]}
    one = point(0.7, {}, sets={"made": made, "real": made, "test": test}, name="set")
    one.facts["classes"][0]["pictures"]["made"] = 0
    told = said([one])
    assert "set: 1 class of the test set is not in it ('owl'); 30 test pictures take no part" in told
    assert "set: 1 class of the test set is not in the real set, or twice in a set ('Red_Fox'); 30 test pictures take no part" in told
    assert "set: has no picture of 1 class ('cat')" in told


def test_draws_that_are_one_draw_are_none():
    probe = facts()["probes"]["made"]
    assert "2 draws of the training pictures" in said([point(0.7, {})])[1]
    assert "all pictures of a set train its probe (no draws" in said([point(0.7, {}, probes={"made": probe | {"rows": 40}})])[1]


def test_counts_that_are_not_equal_are_said():
    probe = facts()["probes"]["made"]
    points = [point(0.7, {GUIDANCE: n}, probes={"made": probe | {"rows": n}}) for n in (8, 16)]
    assert "trained on 8 to 16 pictures: set judge.per_class=K for equal counts" in said(points)
    assert not any("equal counts" in line for line in said([point(0.7, {})]))
    sets = facts()["sets"]
    told = said([point(0.7, {}, sets=sets | {"made": sets["made"] | {"pictures": 45}})])
    assert any(line.endswith("need equal counts; go by clipped coverage and CMMD") and "45 pictures beside 40" in line for line in told)


def test_notes_of_the_features_come_first():
    assert said([point(0.7, {}, notes=["features.model: the small CLIP"])])[0] == "features.model: the small CLIP"
    assert said([point(0.7, {k: k}, notes=["toy"]) for k in "ab"])[0] == "toy"


def test_one_point_is_told_beside_real_pictures():
    assert said([point(0.7, {})])[0].endswith("; as many real pictures give .700, both together .700")


def test_of_keys_that_differ_together_the_plainest_is_told():
    points = [
        point(0.7, {"images.model.id": m, "images.height": h, "images.steps": s, "images.slots": 9})
        for m, h, s in (("sd15", 512, 20), ("sdxl", 1024, 20), ("sdxl", 1024, 30))
    ]
    assert [p.label for p in told_apart(points)] == [
        "images.model.id=sd15 images.steps=20", "images.model.id=sdxl images.steps=20", "images.model.id=sdxl images.steps=30",
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 3])
def test_points_of_no_numbers_have_a_table(n):
    points = [point(None, {GUIDANCE: float(k)}, numbers={}) for k in range(n)]
    assert len(rows(verdict(told_apart(points)))) == n and said(points)
