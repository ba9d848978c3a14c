"""Planning of the judge: where it stands, what it shares, and what is refused before anything runs."""

import io

import pytest
from PIL import Image

from launch.plan import sources
from synth.errors import InputError
from tests.launch.plan.test_filters import clip  # noqa: F401 (a fixture)
from tests.launch.plan.test_graph import kinds, stage

ASKED = ["features", "neighbours", "judge", "judge_report"]


def pictures(folder, *classes):
    """A folder of pictures by class, a colour each."""
    for n, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (80 * n, 200 - 60 * n, 30)).save(out, "PNG")
        (folder / name / "a.png").write_bytes(out.getvalue())
    return folder


@pytest.fixture
def test_set(tmp_path):
    return pictures(tmp_path / "test", "cat", "Sea_Lion", "zebra")


def test_a_run_without_its_keys_has_no_judge(world):
    assert not set(kinds(world.point())) & {*ASKED}


def test_it_stands_behind_the_last_filter_and_shares_the_features_of_all_pictures(world, clip, test_set):  # noqa: F811
    keys = ("filter=[label_agreement]", f"features.model={clip}", f"judge.test={test_set}")
    point = world.point(*keys)
    assert kinds(point).count("features") == 2 and kinds(point)[-2:] == ["judge", "judge_report"]
    judge = stage(point, "judge")
    assert {p.name.rpartition("-")[0] for p in judge.upstream} == {"features", "label_agreement", "test_features", "neighbours"}
    assert stage(point, "features").upstream == (stage(point, "images").folder,)
    other = world.point(*keys, "filter.label_agreement.margin=0.1")
    assert stage(point, "features").folder == stage(other, "features").folder and judge.folder != stage(other, "judge").folder
    assert stage(point, "test_features").folder == stage(other, "test_features").folder


def test_points_of_a_sweep_share_the_features_of_the_real_sets(world, clip, test_set):  # noqa: F811
    keys = ("filter=[]", f"features.model={clip}", f"judge.test={test_set}", f"judge.real={test_set}")
    one, two = (world.point(*keys, f"images.guidance_scale={g}") for g in (2, 4))
    for name in ("real_features", "real_neighbours", "test_features"):
        assert stage(one, name).folder == stage(two, name).folder
    assert stage(one, "judge").spec.slots == 3 + 8 + 3 * 3 and stage(one, "judge").folder != stage(two, "judge").folder


def test_every_byte_of_the_real_sets_counts(world, clip, test_set):  # noqa: F811
    """A leak of a test picture is no matter of its size."""

    def planned() -> set[str]:
        sources._listed.cache_clear()  # a process lists a folder once
        point = world.point("filter=[]", f"features.model={clip}", f"judge.test={test_set}", f"judge.real={test_set}")
        return {stage(point, name).spec.fingerprint for name in ("real_features", "test_features")}

    first = planned()
    file = test_set / "cat" / "a.png"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert not planned() & first


def test_an_ensemble_is_judged_as_the_one_set_that_it_is(world, clip, test_set):  # noqa: F811
    from synth.store.folder import StageFolder

    other = stage(world.point("images.seed=5"), "images")
    StageFolder.create(other.dataset_root, other.spec)
    keys = ("filter=[ensemble]", f"filter.ensemble.stages=[{other.folder}]", "filter.ensemble.count=3", f"features.model={clip}")
    judge = stage(world.point(*keys, f"judge.test={test_set}"), "judge")
    assert len(judge.spec.upstream["features"]) == 2 and len(judge.spec.upstream["images"]) == 1


def test_any_folder_is_judged(world, clip, test_set):  # noqa: F811
    point = world.point("recipe=judge", f"judge.source={test_set}", f"features.model={clip}")
    assert kinds(point) == ASKED and point.stages[0].dataset_root.name == "test"
    assert point.stages[0].spec.inputs["source"].path == str(test_set)


def test_classes_of_the_test_set_that_are_not_judged_are_told_when_it_is_planned(world, clip, tmp_path, test_set):  # noqa: F811
    source = pictures(tmp_path / "source", "cat", "sea lion")
    point = world.point("recipe=judge", f"judge.source={source}", f"features.model={clip}", f"judge.test={test_set}")
    (note,) = stage(point, "judge").spec.settings["notes"]
    assert note == "judge.test: the judged set: 1 class of the test set is not in it ('zebra'); pictures of these take no part"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["recipe=judge", "features.model=CLIP"], "judge.source=null: not set; it must name a folder of pictures by class"),
        (
            ["judge.source=TEST", "features.model=CLIP"],
            "recipe class_images makes the pictures that are judged; leave it out, or use recipe=judge",
        ),
        (["recipe=probe", "judge.test=TEST"], "recipe probe makes no pictures of classes that could be judged"),
        (["judge.test=NOWHERE", "features.model=CLIP"], "judge.test: .*NOWHERE is not there"),
        (["judge.train=finetune"], "judge.train=finetune: there is no test set to ask about; set judge.test=FOLDER"),
        (["judge.test=OTHERS", "features.model=CLIP"], "no class is in all of these sets"),
        (["judge.test=TEST", "features.model=CLIP", "judge.seeds=[]"], r"judge.seeds=\[\]: names no draw"),
        (["judge.test=TEST", "features.model=CLIP", "judge.neighbours=0"], "judge.neighbours=0: must be from 1 to 100"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_runs(world, clip, test_set, tmp_path, overrides, said):  # noqa: F811
    pictures(tmp_path / "others", "n01440764", "n01443537")
    places = {"CLIP": str(clip), "TEST": str(test_set), "OTHERS": str(tmp_path / "others"), "NOWHERE": str(tmp_path / "NOWHERE")}
    words = [f"{key}={places.get(value, value)}" for key, _, value in (o.partition("=") for o in overrides)]
    with pytest.raises(InputError, match=said):
        world.point("filter=[]", *words)
