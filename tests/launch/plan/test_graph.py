"""Composed config -> stages: graph, slots, fingerprints, precedence, bad input."""

import json

import pytest

from launch.config.compose import Composer, typed
from launch.config.root import RecipeStage
from launch.plan.graph import distinct, plan_point, topological
from synth.errors import InputError
from synth.keys import dump
from synth.kinds import load


def kinds(point):
    return [s.spec.kind for s in point.stages]


def stage(point, name):
    return next(s for s in point.stages if s.name == name)


def test_the_default_recipe_is_captions_json_images_exports(world):
    point = world.point()
    assert kinds(point) == ["captions", "captions_json", "images", "image_folder", "contact_sheet"]
    assert stage(point, "captions_json").upstream == (stage(point, "captions").folder,)
    assert stage(point, "images").upstream == (stage(point, "captions_json").folder,)
    assert stage(point, "contact_sheet").upstream == (stage(point, "images").folder,)
    assert all(s.folder.parent == world.runs / "pictures" for s in point.stages)


def test_every_sample_config_can_be_read_back_by_the_worker(world):
    for s in world.point("captions.seeds=[0,1]").stages:
        loaded = load(s.spec.kind, json.loads(s.spec.to_json())["config"])
        assert dump(loaded) == s.spec.config


def test_slots_units_and_batches_follow_the_config(world):
    point = world.point("captions.total=10", "captions.oversample=1.5", "images.per_caption=3", "images.unit_size=8", "images.batch_size=5")
    assert stage(point, "captions").spec.slots == 18  # 15 rounded up to blocks of 6 classes
    images = stage(point, "images")
    assert (images.spec.slots, images.spec.n_units, images.n_batches) == (30, 4, 8)
    assert stage(point, "image_folder").spec.slots == 30
    assert stage(point, "contact_sheet").spec.slots == 1


def test_a_range_of_classes_keeps_the_length_of_the_official_list(world):
    dataset = stage(world.point("dataset.classes=1..2"), "captions").spec.config["dataset"]
    assert [c["index"] for c in dataset["classes"]] == [1, 2] and dataset["n_classes"] == 6


def test_a_sweep_over_guidance_shares_captions_and_a_seed_does_not(world):
    points = [world.point(f"seed={s}", f"images.guidance_scale={g}") for s in (0, 1) for g in (1.5, 4)]
    names = [s.name for s in distinct(points)]
    assert (names.count("captions"), names.count("captions_json"), names.count("images")) == (2, 2, 4)


def test_where_and_how_it_runs_is_in_no_fingerprint(world):
    first = [s.spec.fingerprint for s in world.point().stages]
    assert first[:3] == [s.spec.fingerprint for s in world.point("cluster.n_jobs=7", "until=images").stages]
    assert first == [s.spec.fingerprint for s in world.point("cluster=debug", f"runs_dir={world.path}/elsewhere").stages]
    assert first != [s.spec.fingerprint for s in world.point("numerics=fast").stages]


def test_weights_are_known_by_content_not_by_path(world):
    first = stage(world.point(), "captions").spec.fingerprint
    assert stage(world.point(), "captions").spec.config["captioner"]["model_parallel"] == 1  # counted
    (world.path / "llama").rename(world.path / "moved")
    moved = [f"captioner.ckpt_dir={world.path}/moved", f"captioner.tokenizer_path={world.path}/moved/tokenizer.model"]
    assert stage(world.point(*moved), "captions").spec.fingerprint == first


def test_a_place_that_the_user_chose_is_part_of_an_export(world):
    plain, chosen = world.point(), world.point(f"export.image_folder.out={world.path}/out")
    assert stage(plain, "image_folder").folder != stage(chosen, "image_folder").folder
    assert stage(plain, "images").folder == stage(chosen, "images").folder
    assert stage(chosen, "image_folder").spec.config["out"] == f"{world.path}/out"


def test_exports_are_a_list_and_may_be_none(world):
    assert kinds(world.point("export=[]")) == ["captions", "captions_json", "images"]
    assert kinds(world.point("export=[contact_sheet]"))[-1] == "contact_sheet"


def test_until_takes_a_stage_and_what_it_needs(world):
    assert [s.name for s in world.point("until=images").chosen()] == ["captions", "captions_json", "images"]
    assert [s.name for s in world.point("until=captions", "model.path=/nowhere", "export=[]").stages] == [
        "captions"
    ]  # nothing else is planned
    assert [s.name for s in world.point("only=[images]").chosen()] == ["images"]
    assert [s.name for s in world.point("only=contact_sheet").chosen()] == ["contact_sheet"]
    with pytest.raises(InputError, match="did you mean images"):
        world.point("until=image")


RECIPE = """# @package _global_
defaults:
  - override /cluster: debug
  - override /export: [contact_sheet]
images:
  steps: 7
  guidance_scale: 2.5
recipe:
  name: mine
  stages:
    captions: {kind: captions}
    captions_json: {kind: captions_json, upstream: {captions: captions}}
    images: {kind: images, upstream: {captions: captions_json}}
  exports_of: images
"""


def test_a_recipe_overrides_groups_and_values_and_the_command_line_wins_over_it(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(RECIPE)
    composer = Composer(str(tmp_path))
    config = typed(composer.compose(["recipe=mine"]))
    assert (config.cluster.kind, list(config.export), config.images.steps) == ("debug", ["contact_sheet"], 7)
    config = typed(composer.compose(["recipe=mine", "cluster=local", "export=[image_folder]", "images.steps=9"]))
    assert (config.cluster.kind, list(config.export), config.images.steps) == ("local", ["image_folder"], 9)
    assert config.images.guidance_scale == 2.5


def test_seeds_follow_the_seed_unless_they_are_set():
    config = typed(Composer().compose(["seed=5", "images.seed=9"]))
    assert (config.captions.seed, config.images.seed) == (5, 9)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("images.height=33", "images.height=33: sd computes multiples of 8 pixels; use 32 or 40"),
        ("images.scheduler=eular", "use one of default, ddim"),
        ("images.format=gif", "png, jpg, webp"),
        ("numerics=loose", "exact, fast"),
        ("captions.total=0", "captions.total=0: must be 1 or more"),
        ("images.eta=2", "from 0 to 1"),
        ("model.path=/no/such/folder", "/no/such/folder is not there"),
        ("model=diffusers model.path=null", "model.path: not set"),
        ("model.pipeline=FluxPipeline", "is a StableDiffusionPipeline"),
        ("captioner.model_parallel=2", "captioner.model_parallel=1"),
        ("dataset.classes=[]", "empty list"),
        ("dataset.name=a/b", "plain name"),
        ("prompts.modes={class:0.3}", "sum to 1"),
        ("only=[]", "names no stage"),
        ("until=images only=[images]", "both set"),
    ],
)
def test_bad_input_names_the_item_and_the_fix(world, override, said):
    with pytest.raises(InputError) as e:
        world.point(*override.split())
    assert said in str(e.value)


def test_a_torn_checkpoint_is_found_before_anything_is_written(world):
    shard = world.path / "llama" / "consolidated.00.pth"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"consolidated\.00\.pth"):
        world.point()
    assert not world.runs.exists()


def test_missing_weights_are_told_by_file_and_llama_folder_by_name(world, monkeypatch):
    (world.path / "llama" / "params.json").unlink()
    with pytest.raises(InputError, match=r"params\.json"):
        world.point()
    monkeypatch.delenv("LLAMA_FOLDER", raising=False)
    composer = Composer()
    from launch.plan.graph import plan_point

    rest = [o for o in world.overrides if not o.startswith("captioner")]
    with pytest.raises(InputError, match="LLAMA_FOLDER"):
        plan_point(typed(composer.compose([*rest, "captioner=llama2_7b"])))


def test_a_negative_prompt_may_come_from_a_file(world):
    (world.path / "neg.txt").write_text("blurry, grey\n")
    point = world.point(f"images.negative_prompt_file={world.path}/neg.txt")
    assert stage(point, "images").spec.config["negative_prompt"] == "blurry, grey"
    with pytest.raises(InputError, match="both set"):
        world.point(f"images.negative_prompt_file={world.path}/neg.txt", "images.negative_prompt=x")


def test_circles_and_unknown_stages_in_a_recipe_are_told():
    with pytest.raises(InputError, match="a -> b -> a is a circle"):
        topological({"a": RecipeStage("probe", {"x": "b"}), "b": RecipeStage("probe", {"x": "a"})})
    with pytest.raises(InputError, match="did you mean images"):
        topological({"images": RecipeStage("images"), "a": RecipeStage("probe", {"x": "image"})})


def test_the_card_of_an_export_is_not_told_whom_the_run_tells(world):
    config = typed(Composer().compose([*world.overrides, "export=[image_folder]"]))
    point = plan_point(config, command="run.py seed=1 'notify.command=curl https://hooks.example/T0'")
    (export,) = [s for s in point.stages if s.spec.kind == "image_folder"]
    assert export.spec.settings["command"] == "run.py seed=1"
