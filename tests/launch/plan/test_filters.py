"""Planning of filters: the chain, the scoring stages that it shares, counts, and what is refused before anything runs."""

import json
import shutil
from pathlib import Path

import pytest

from launch.plan import sources
from synth.errors import InputError
from tests.fixtures_clip import build_tiny_clip
from tests.images.pictures import image_folder, sample, write_tar
from tests.launch.plan.test_graph import kinds, stage


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return build_tiny_clip(tmp_path_factory.mktemp("models") / "clip")


def test_filters_are_a_chain_before_the_exports_with_the_slots_of_the_images(world):
    point = world.point("filter=[near_duplicates,balance]", "filter.balance.count=2")
    assert kinds(point)[3:] == ["perceptual_hash", "near_duplicates", "balance", "image_folder", "contact_sheet"]
    images, near, balance = (stage(point, n) for n in ("images", "near_duplicates", "balance"))
    assert near.spec.slots == balance.spec.slots == images.spec.slots
    assert balance.upstream == (near.folder,) and stage(point, "image_folder").upstream == (balance.folder,)
    assert balance.spec.config["counts"] == {str(i): 2 for i in range(6)}


def test_scores_are_of_all_images_and_shared_and_a_threshold_leaves_them_as_they_are(world, clip):
    chosen = ("filter=[label_agreement,clip_score]", f"features.model={clip}")
    one, two = world.point(*chosen, "filter.clip_score.min_score=0.2"), world.point(*chosen, "filter.clip_score.min_score=0.3")
    assert kinds(one).count("features") == 1
    assert stage(one, "features").upstream == (stage(one, "images").folder,)
    assert stage(one, "features").folder == stage(two, "features").folder
    assert stage(one, "clip_score").folder != stage(two, "clip_score").folder


def test_counts_come_from_a_file_by_name_or_index_with_a_ratio_rounded_down(world):
    (world.path / "counts.json").write_text(json.dumps({"cat": 200, "3": 7}))
    keys = (
        "filter=[balance]",
        f"filter.balance.count_file={world.path}/counts.json",
        "filter.balance.ratio=1.15",
        "filter.balance.count=4",
    )
    counts = stage(world.point(*keys), "balance").spec.config["counts"]
    assert counts == {"0": 229, "1": 4, "2": 4, "3": 8, "4": 4, "5": 4}


def test_an_ensemble_reads_this_run_and_given_ones(world, clip):
    from synth.store.folder import StageFolder

    other = stage(world.point("images.seed=5"), "images")
    StageFolder.create(other.dataset_root, other.spec)
    keys = ("filter=[ensemble]", f"features.model={clip}", f"filter.ensemble.stages=[{other.folder}]", "filter.ensemble.count=3")
    point = world.point(*keys)
    ensemble, own = stage(point, "ensemble"), stage(point, "images")
    assert ensemble.spec.slots == 2 * own.spec.slots and kinds(point).count("features") == 2
    assert {str(u) for u in ensemble.upstream} >= {str(own.folder), str(other.folder)}
    assert stage(point, "image_folder").spec.slots == ensemble.spec.slots


def test_a_given_set_holds_whatever_counts_as_a_picture_and_what_cannot_be_read_is_noted(world, without_decoders):
    against = world.path / "against"
    (against / "cat").mkdir(parents=True)
    for name in ("a.tif", "b.TIFF", "c.gif", "cat/d.png", "e.jpe", "f.heic", "g.txt"):
        (against / name).write_bytes(b"x")
    scores = stage(world.point("filter=[near_duplicates]", f"filter.near_duplicates.against={against}"), "near_duplicates_against").spec
    assert scores.slots == 5
    (note,) = scores.settings["notes"]
    assert note.startswith(f"filter.near_duplicates.against: {against}: 1 .heic file is not read: this Pillow has no decoder")


def test_every_byte_of_a_given_set_counts_and_a_tar_beside_pictures_does_not_stand_for_them(world):
    against = image_folder(world.path / "against", {"cat": 2})
    write_tar(against / "more.tar", sample("a", 7))

    def planned():
        sources._listed.cache_clear()  # a process lists a folder once
        point = world.point("filter=[near_duplicates]", f"filter.near_duplicates.against={against}")
        return stage(point, "near_duplicates_against").spec

    first = planned()
    assert first.slots == 2 and ".tar" in first.settings["notes"][0]
    file = against / "cat" / "1.png"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert planned().fingerprint != first.fingerprint
    shutil.rmtree(against / "cat")
    assert planned().slots == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["filter=[clip_score]", "features.repo=org/name"], "features.model: not set, and SYNTHSET_MODELS names no folder"),
        (["filter=[clip_score]", "features.model=CLIP", "filter.clip_score.score=words"], "use one of class, caption"),
        (["filter=[clip_score]", "features.model=CLIP", "filter.clip_score.top_share=2"], "must be from 0 to 1"),
        (["filter=[clip_score]", "features.model=CLIP", "features.templates=[a photo]"], "has no {}"),
        (["filter=[clip_score]", "features.model=HERE"], "config.json: missing"),
        (["filter=[balance]"], "filter.balance.count: not set"),
        (["filter=[balance]", "filter.balance.count=ma"], "does not say how many real pictures class 0"),
        (["filter=[balance]", "filter.balance.count=-1"], "must be a whole number"),
        (["filter=[balance]", "filter.balance.count=1", "filter.balance.ratio=0"], "more than 0"),
        (["filter=[near_duplicates]", "filter.near_duplicates.method=md5"], "use one of phash"),
        (["filter=[near_duplicates]", "filter.near_duplicates.distance=40"], "must be from 0 to 31"),
        (["filter=[near_duplicates]", "filter.near_duplicates.against=HERE/nothing"], "is not there"),
        (["filter=[near_duplicates]", "filter.near_duplicates.against=HERE/llama"], "holds no picture"),
        (
            ["filter=[ensemble]", "features.model=CLIP", "filter.ensemble.count=1", "filter.ensemble.stages=[HERE]"],
            "no stage.json",
        ),
        (["filter=[ensemble]", "features.model=CLIP", "filter.ensemble.count=1"], "filter.ensemble.stages=[]: names no other run"),
        (
            [
                "filter=[near_duplicates,ensemble]",
                "features.model=CLIP",
                "filter.ensemble.count=1",
                "filter.ensemble.stages=[HERE]",
            ],
            "no stage.json",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_planned(world, clip, overrides, said):
    with pytest.raises(InputError) as e:
        world.point(*(o.replace("CLIP", str(clip)).replace("HERE", str(world.path)) for o in overrides))
    assert said in str(e.value)
