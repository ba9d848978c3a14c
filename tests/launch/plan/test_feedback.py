"""Planning of rounds: all of them at once, of sizes that are fixed, the test set apart, and what is refused before anything runs."""

import shutil

import pytest

from launch.config.aliases import spelt
from launch.config.compose import Composer, typed
from launch.plan.trial import cut
from synth.errors import InputError
from tests.launch.plan.test_filters import clip  # noqa: F401 (a fixture)
from tests.launch.plan.test_graph import kinds, stage
from tests.launch.plan.test_judge import pictures


@pytest.fixture
def keys(clip, tmp_path):  # noqa: F811
    """Overrides of a run whose real and test pictures differ."""
    real, test = pictures(tmp_path / "real", "cat", "Sea_Lion", "dog"), pictures(tmp_path / "test", "dog", "cat", "sea lion")
    for file in test.glob("*/*"):
        file.write_bytes(file.read_bytes() + b"another one")
    return ["recipe=feedback", f"features.model={clip}", f"judge.real={real}", f"judge.test={test}"]


def names(folders) -> set[str]:
    return {folder.name.rpartition("-")[0] for folder in folders}


def test_all_rounds_are_planned_at_once_and_the_test_set_decides_nothing(world, keys):
    point = world.point(*keys, "feedback.pictures=20", "filter=[]")
    sizes = [stage(point, f"images_{k}").spec.slots for k in (1, 2, 3)]
    assert sizes == [7, 7, 6] and stage(point, "rounds").spec.slots == 20
    of_earlier = {"captions_json", "shares_1", "shares_2", "features_1", "features_2", "real_features"}
    assert names(stage(point, "shares_3").upstream) == of_earlier
    assert names(stage(point, "rounds").upstream) == {"images_1", "images_2", "images_3"}
    judge = stage(point, "judge")
    near = {"neighbours", "real_neighbours"}
    assert names(judge.upstream) == {"features_1", "features_2", "features_3", "rounds", "real_features", "test_features", *near}
    below, seen = [stage(point, "images_3").folder], set()
    while below:
        folder = below.pop()
        seen.add(folder.name.rpartition("-")[0])
        below += next(s for s in point.stages if s.folder == folder).upstream
    assert "test_features" not in seen and "shares_2" in seen
    assert [s.name for s in point.stages if s.upstream == (stage(point, "rounds").folder,)] == ["image_folder", "contact_sheet"]


def test_the_control_needs_no_real_pictures_and_shares_the_first_round(world, keys):
    learns = world.point(*keys)
    control = world.point(*keys, "feedback.by=none")
    alone = world.point("recipe=feedback", "feedback.by=none")
    assert not any("feature" in s.name or "judge" in s.name for s in alone.stages)
    for name in ("shares_1", "images_1", "features_1"):
        assert stage(learns, name).folder == stage(control, name).folder
    assert stage(learns, "shares_2").folder != stage(control, "shares_2").folder == stage(alone, "shares_2").folder
    assert names(stage(control, "shares_3").upstream) == {"captions_json", "shares_1", "shares_2"}


def test_as_many_pictures_as_without_rounds(world, keys):
    plain = world.point("images.per_caption=2", "captions.total=10")
    point = world.point(*keys, "images.per_caption=2", "captions.total=10", "feedback.rounds=2")
    assert stage(point, "rounds").spec.slots == stage(plain, "images").spec.slots == 20


def test_filters_read_the_pictures_of_all_rounds(world, keys):
    point = world.point(*keys, "filter=[label_agreement]")
    assert stage(point, "features").upstream == (stage(point, "rounds").folder,)
    assert stage(point, "label_agreement").spec.slots == stage(point, "rounds").spec.slots == stage(point, "features").spec.slots - 6
    judge = stage(point, "judge")
    assert names(judge.upstream) >= {"features_1", "features_3", "label_agreement"} and "features" not in names(judge.upstream)
    assert stage(point, "image_folder").upstream == (stage(point, "label_agreement").folder,)


def test_captions_may_be_exported_beside_pictures_of_rounds(world, keys):
    point = world.point(*keys, "export=[image_folder,captions_txt]")
    assert stage(point, "captions_txt").upstream == (stage(point, "captions_json").folder,)


def test_until_and_only_name_stages_of_a_round(world, keys):
    point = world.point(*keys, "until=shares_2")
    before = ("captions", "captions_json", "shares_1", "images_1", "features_1", "real_features")
    assert {s.name for s in point.chosen()} == {*before, "shares_2"}
    assert [s.name for s in world.point(*keys, "only=[images_2]").chosen()] == ["images_2"]
    for one in ("only=[round_images]", "until=features_before_3"):  # which stand for several stages, and would compute nothing
        with pytest.raises(InputError, match=r"no such stage in this run; there are captions, captions_json, shares_1, images_1"):
            world.point(*keys, one)


def test_classes_that_real_pictures_are_not_of_are_told(world, keys):
    assert stage(world.point(*keys), "shares_2").spec.settings["notes"] == [
        "judge.real: has no pictures of 3 classes of the run ('no', '0123', '707-320'): these get a usual share"
    ]


def test_short_names_on_the_command_line():
    assert [spelt(word) for word in ("rounds=2", "feedback=none,error", "feedback.floor=0")] == [
        *("feedback.rounds=2", "feedback.by=none,error", "feedback.floor=0")
    ]


@pytest.mark.parametrize("same", ["path", "copy", "one"])
def test_test_pictures_that_would_decide_are_refused(world, keys, tmp_path, same):
    other = tmp_path / "other"
    if same == "path":
        other = tmp_path / "test"
    elif same == "copy":
        shutil.copytree(tmp_path / "test", other)
    else:
        shutil.copytree(tmp_path / "real", other)
        shutil.copy(tmp_path / "test" / "cat" / "a.png", other / "dog" / "b.png")
    said = "1 of its pictures are in judge.test, too" if same == "one" else "it holds the pictures of judge.test"
    with pytest.raises(InputError, match=f"judge.real={other}: {said}.*and would decide what is drawn"):
        world.point(*keys, f"judge.real={other}")
    assert stage(world.point(*keys, f"judge.real={other}", "feedback.by=none"), "judge")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("judge.real=null", "feedback.by=entropy: what pictures lack is told by real ones, and none are given; set judge.real=FOLDER"),
        ("feedback.rounds=1", "feedback.rounds=1: there is no round before to learn from"),
        ("feedback.rounds=0", "feedback.rounds=0: must be 1 or more"),
        ("feedback.by=luck", "feedback.by=luck: use one of error, entropy, coverage, none"),
        ("feedback.by=null", "feedback.by=null: not set"),
        ("feedback.floor=2", "feedback.floor=2: must be from 0 to 1"),
        ("feedback.pictures=17", "feedback.pictures=17: 5 pictures in a round for 6 classes, each of which gets one; use 18 or more"),
        ("images.count=3", "images.count=3: recipe=feedback decides which pictures are drawn"),
        ("images.subset=0..3", "images.subset=0..3: recipe=feedback decides"),
        ("filter=[ensemble]", "reads the images of several runs, and recipe=feedback has several of its own"),
        ("recipe=class_images feedback.rounds=3", "feedback.rounds=3: recipe=class_images draws its pictures at once; use recipe=feedback"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(world, keys, overrides, said):
    with pytest.raises(InputError) as e:
        world.point(*keys, *overrides.split())
    assert said in str(e.value)


def test_a_try_draws_what_the_first_round_draws(world, keys):
    config = typed(Composer().compose([*world.overrides, *keys, "trial=2", "captions.per_class=4"]))
    whole = world.point(*keys, "captions.per_class=4")
    point = world.point(*keys, "captions.per_class=4", "trial=2")
    assert cut(config, whole.stages).feedback.rounds == 1
    assert kinds(point)[:4] == ["captions", "captions_json", "shares", "images"] and "judge" not in kinds(point)
    assert stage(point, "images_1").spec.slots == 6, "a round of 24 pictures has 8, one of each class at least"
    assert any("images_1 6 of 8" in note for note in point.notes)
