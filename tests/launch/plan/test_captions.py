"""Captions as they are planned: how many, of which seeds, what is asked first, and the list that they feed."""

import pytest

from launch.plan.captions import slots_for
from synth.errors import InputError
from tests.launch.plan.test_graph import kinds, stage


def total(point):
    config = stage(point, "captions_json").spec.config
    return config["total"], config["per_class"]


def test_without_a_word_there_are_eight_captions_a_class(world):
    assert total(world.point()) == (48, 0)
    assert total(world.point("dataset.classes=0..1")) == (16, 0)
    assert total(world.point("captions.total=7")) == (7, 0)
    assert total(world.point("captions.per_class=3")) == (18, 3)
    assert stage(world.point("captions.per_class=10", "captions.oversample=1.5"), "captions").spec.slots == 90
    with pytest.raises(InputError, match=r"captions\.total=7 and captions\.per_class=3 are both set"):
        world.point("captions.total=7", "captions.per_class=3")


def test_slots_are_whole_blocks_of_classes_and_exact_about_oversample():
    assert slots_for(160, 1.15, 1, 20) == 200
    assert slots_for(100, 1.1, 1, 10) == 110  # in floats 1.1 * 100 is more than 110
    assert slots_for(10, 1.0, 3, 4) == 4


def test_a_small_total_of_many_classes_asks_for_no_more_than_oversample_and_a_window():
    assert slots_for(64, 1.15, 1, 10_000, 32) == 74
    assert slots_for(1001, 1.15, 1, 1000, 256) == 1152
    assert slots_for(160, 1.15, 1, 20, 32) == 200
    assert slots_for(1000, 1.15, 1, 1000) == 2000  # so many a class: each gets its second try


def test_a_total_below_the_number_of_classes_or_far_below_what_is_made_is_told(world):
    spec = stage(world.point("captions.total=2", "captions.window=1", "captions.unit_size=1"), "captions").spec
    assert spec.slots == 3
    (note,) = spec.settings["notes"]
    assert note.startswith("captions.total=2 asks for 3 captions with captions.oversample=1.15: 3 of 6 classes get one")
    (note,) = stage(world.point("captions.total=7"), "captions").spec.settings["notes"]
    assert note.startswith("12 captions are made for the 7 that were asked for: whole rounds of the 6 classes and 1.15 times as many")
    assert "notes" not in stage(world.point(), "captions").spec.settings


def test_several_seeds_feed_one_captions_json(world):
    point = world.point("captions.seeds=[0,1,2]")
    assert kinds(point).count("captions") == 3 and kinds(point).count("captions_json") == 1
    assert len(stage(point, "captions_json").upstream) == 3
    with pytest.raises(InputError, match="seeds that differ"):
        world.point("captions.seeds=[0,0]")


def test_captions_stages_made_before_feed_captions_json_from_wherever_they_lie(world):
    from synth.store.folder import StageFolder

    elsewhere = stage(world.point(f"runs_dir={world.path}/elsewhere", "captioner.temperature=0.5"), "captions")
    beside = stage(world.point("seed=7"), "captions")
    for s in (elsewhere, beside):
        StageFolder.create(s.dataset_root, s.spec)
    point = world.point(f"captions.stages=[{elsewhere.folder},{beside.folder}]")
    assert stage(point, "captions_json").upstream == (elsewhere.folder, beside.folder)
    assert [s.folder for s in point.stages if s.spec.kind == "captions"] == [elsewhere.folder, beside.folder]
    folder = StageFolder.create(point.stages[2].dataset_root, point.stages[2].spec)
    assert [f.path for f in folder.upstream("captions")] == [elsewhere.folder, beside.folder]
    images = stage(world.point("seed=7"), "images")
    StageFolder.create(images.dataset_root, images.spec)
    with pytest.raises(InputError, match="must be a captions stage"):
        world.point(f"captions.stages=[{images.folder}]")


def test_captions_made_before_count_their_own_classes(world):
    from synth.store.folder import StageFolder

    before = stage(world.point("dataset.classes=0..2"), "captions")
    StageFolder.create(before.dataset_root, before.spec)
    assert total(world.point(f"captions.stages=[{before.folder}]", "captions.per_class=5")) == (15, 5)
    point = world.point(f"captions.stages=[{before.folder}]", "prompts=hirpg")
    assert [s.name for s in point.stages][:2] == ["captions", "captions_json"]  # nothing is asked again


def test_hirpg_has_two_stages_first_and_other_numbers_of_captions_ask_nothing_again(world):
    point = world.point("prompts=hirpg", "prompts.num_metaprompts=5", "prompts.max_prompts=40")
    assert [s.name for s in point.stages][:4] == ["metaprompts", "prompt_trees", "captions", "captions_json"]
    meta, trees, captions = (stage(point, n) for n in ("metaprompts", "prompt_trees", "captions"))
    assert trees.upstream == (meta.folder,) and captions.upstream == (trees.folder,)
    assert (meta.spec.slots, trees.spec.slots, trees.spec.unit_size) == (5, 5 * 8, 32)
    assert not captions.spec.inputs and captions.spec.config["captioner"]["engine"] == "none"
    more = world.point(
        "prompts=hirpg", "prompts.num_metaprompts=5", "prompts.max_prompts=30", "captions.per_class=20", "dataset.classes=0..1"
    )
    assert stage(more, "metaprompts").folder == meta.folder and stage(more, "prompt_trees").folder == trees.folder
    one = world.point("prompts=hirpg", "captions.unit_size=1")
    assert stage(one, "prompt_trees").spec.unit_size == 8  # a tree a unit


def test_the_dynamic_form_has_trees_of_each_class_and_the_stages_know_it(world):
    point = world.point("prompts=hirpg", "prompts.form=dynamic", "captions.window=16", "captions.unit_size=30")
    meta, trees = stage(point, "metaprompts").spec, stage(point, "prompt_trees").spec
    assert (meta.slots, meta.batch, trees.slots) == (6 * 7, 42, 6 * 7 * 8)
    assert (trees.unit_size, trees.batch) == (32, 16)  # whole trees, whole batches


def test_synclr_chat_asks_for_places_first(world):
    point = world.point("prompts=synclr_chat")
    assert stage(point, "captions").upstream == (stage(point, "backgrounds").folder,)
    assert stage(point, "backgrounds").spec.slots == 6
