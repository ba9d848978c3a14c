"""Planning of filter `judge`: where it stands, what it shares with the judge, and what is refused before anything runs."""

import pytest

from synth.errors import InputError
from tests.launch.plan.test_filters import clip  # noqa: F401 (a fixture)
from tests.launch.plan.test_graph import kinds, stage
from tests.launch.plan.test_judge import pictures

FILTER = ("filter=[judge]", "filter.judge.keep=margin")


@pytest.fixture
def real(tmp_path):
    return pictures(tmp_path / "given", "cat", "Sea_Lion", "dog")


def test_it_shares_the_features_of_the_judge_that_measures_what_it_left(world, clip, real):  # noqa: F811
    given = (f"features.model={clip}", f"judge.real={real}", f"judge.test={real}")
    point = world.point(*FILTER, *given)
    assert kinds(point).count("features") == 3 and kinds(point)[-2:] == ["judge", "judge_report"]
    scores, judge = stage(point, "judge_scores"), stage(point, "judge")
    images, chosen = stage(point, "images"), stage(point, "judge_filter")
    assert {p.name.rpartition("-")[0] for p in scores.upstream} == {"features", "real_features", "test_features"}
    assert chosen.upstream == (images.folder, scores.folder) and chosen.spec.slots == scores.spec.slots == images.spec.slots
    assert chosen.folder in judge.upstream and set(scores.upstream) <= set(judge.upstream)
    assert stage(point, "image_folder").upstream == (chosen.folder,)
    other = world.point(*FILTER, *given, "filter.judge.share=0.3", "filter.judge.max_distance=0.9", "judge.per_class=2")
    assert stage(other, "judge_scores").folder == scores.folder and stage(other, "judge_filter").folder != chosen.folder


def test_sets_of_its_own_bring_no_judge_and_stand_beside_those_of_the_judge(world, clip, real, tmp_path):  # noqa: F811
    model = f"features.model={clip}"
    alone = world.point(*FILTER, model, f"filter.judge.real={real}")
    assert "judge" not in kinds(alone) and stage(alone, "real_features").spec.settings["key"] == "filter.judge.real"
    beside = world.point(*FILTER, model, f"filter.judge.real={real}", f"judge.real={pictures(tmp_path / 'other', 'cat', 'dog')}")
    assert stage(beside, "filter_real_features").folder in stage(beside, "judge_scores").upstream
    assert stage(beside, "real_features").folder in stage(beside, "judge").upstream


def test_leaks_need_no_real_pictures(world, clip, real):  # noqa: F811
    point = world.point("filter=[judge]", f"features.model={clip}", f"judge.test={real}", f"judge.real={real}")
    assert {p.name.rpartition("-")[0] for p in stage(point, "judge_scores").upstream} == {"features", "test_features"}


def test_classes_without_real_pictures_are_told_when_it_is_planned(world, clip, real):  # noqa: F811
    point = world.point(*FILTER, f"features.model={clip}", f"judge.real={real}")
    (note,) = stage(point, "judge_scores").spec.settings["notes"]
    assert (
        note
        == "filter.judge.real: has no pictures of 3 classes of the pictures ('no', '0123', '707-320'): no rule of real ones takes these out"
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["filter.judge.keep=margin"], "filter.judge.keep=margin: a picture is held against real ones .* set judge.real=FOLDER"),
        (["filter.judge.max_distance=0.9", "judge.test=REAL"], "filter.judge.max_distance=0.9: a picture is held against real ones"),
        (["filter.judge.min_margin=0"], "filter.judge.min_margin=0: a picture is held against real ones"),
        (["judge.real=REAL"], "filter.judge.keep=none: with these keys nothing is taken out; set filter.judge.keep=margin"),
        (["filter.judge.keep=best", "judge.real=REAL"], "filter.judge.keep=best: use one of none, margin, entropy"),
        (["filter.judge.keep=margin", "filter.judge.real=NOWHERE"], "filter.judge.real: .*NOWHERE is not there"),
        (["filter.judge.keep=margin", "filter.judge.real=OTHERS"], "no class is in all of these sets"),
        (["filter.judge.keep=margin", "judge.real=REAL", "filter.judge.share=2"], "filter.judge.share=2: must be from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(world, clip, real, tmp_path, overrides, said):  # noqa: F811
    places = {"REAL": str(real), "OTHERS": str(pictures(tmp_path / "others", "n01", "n02")), "NOWHERE": str(tmp_path / "NOWHERE")}
    words = [f"{key}={places.get(value, value)}" for key, _, value in (o.partition("=") for o in overrides)]
    with pytest.raises(InputError, match=said):
        world.point("filter=[judge]", f"features.model={clip}", *words)


def test_behind_an_ensemble_it_is_refused(world, clip, real):  # noqa: F811
    from synth.store.folder import StageFolder

    other = stage(world.point("images.seed=5"), "images")
    StageFolder.create(other.dataset_root, other.spec)
    keys = ("filter=[ensemble,judge]", f"filter.ensemble.stages=[{other.folder}]", "filter.ensemble.count=3", f"features.model={clip}")
    with pytest.raises(InputError, match=r"filter=\[ensemble,judge\]: behind an ensemble are pictures of other runs"):
        world.point(*keys, f"judge.test={real}")


def test_pictures_without_classes_are_held_against_a_test_set_alone(world, clip, real, tmp_path):  # noqa: F811
    source = tmp_path / "loose"
    source.mkdir()
    (real / "cat" / "a.png").rename(source / "a.png")
    keys = ("recipe=noise_denoise", f"img2img.source={source}", "img2img.prompt_template=a photo", f"features.model={clip}")
    assert stage(world.point(*keys, "filter=[judge]", f"filter.judge.test={real}"), "judge_filter").spec.slots
    with pytest.raises(InputError, match=r"the made set has 'unlabelled'; .* no class is in all of these sets"):
        world.point(*keys, *FILTER, f"filter.judge.real={real}")
