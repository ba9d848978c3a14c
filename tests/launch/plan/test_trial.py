"""try=N: what a run is cut to, that its samples are the run's own, and what cannot be cut."""

import hashlib
from dataclasses import replace

import pytest

from launch.config.compose import Composer, typed
from launch.plan import trial
from launch.plan.graph import plan_point
from launch.slurm.resources import resources_of
from synth.errors import InputError
from synth.store.folder import StageFolder
from tests.fixtures_images import work
from tests.launch.plan.test_graph import stage

SCENES, STORY, LAYOUT = ("recipe=tracking",), ("recipe=story",), ("recipe=layout",)


def planned(runs, *overrides):
    return plan_point(typed(Composer().compose([f"runs_dir={runs}", *overrides])))


def test_captions_are_the_first_of_the_run_and_a_picture_is_drawn_of_each(world):
    whole, tried = (world.point("images.per_caption=3", *more) for more in ((), ("trial=2",)))
    captions, table, images = (stage(tried, name).spec for name in ("captions", "captions_json", "images"))
    of = stage(whole, "captions").spec
    assert (captions.config, captions.batch, captions.inputs) == (of.config, of.batch, of.inputs), "a slot is filled as in the whole run"
    assert (captions.slots, of.slots) == (18, 60)
    assert (table.config["total"], table.config["per_class"], table.config["allow_short"]) == (12, 2, True)
    assert (images.slots, images.config["per_caption"]) == (12, 1)
    ours = {k: v for k, v in images.config.items() if k != "per_caption"}
    assert ours == {k: v for k, v in stage(whole, "images").spec.config.items() if k != "per_caption"}
    assert all(s.dataset_root == world.runs / "try" / "pictures" for s in tried.stages)
    assert tried.trial == 2 and tried.notes == (
        f"try=2: captions 18 of 60, images 12 of 144, image_folder 12 of 144; all below {world.runs / 'try' / 'pictures'}",
    )


@pytest.mark.parametrize(
    ("overrides", "total", "per_class", "slots"),
    [
        (["captions.per_class=5"], 12, 2, 18),
        (["captions.per_class=1"], 6, 1, 12),
        (["captions.total=13"], 12, 0, 18),  # 18 captions are asked for, and the run keeps 13: the first ones of any class
        (["captions.total=9"], 9, 0, 12),
        (["prompts.class_balance=random"], 12, 0, 18),
        (["captions.seeds=[5,6]"], 12, 2, 18),
        (["images.count=7"], 12, 2, 18),
        (["images.count=1"], 6, 1, 12),
    ],
    ids=str,
)
def test_captions_are_those_that_the_run_keeps(world, overrides, total, per_class, slots):
    tried = world.point("trial=2", *overrides)
    table = stage(tried, "captions_json").spec
    assert (table.config["total"], table.config["per_class"]) == (total, per_class)
    (captions,) = (s.spec for s in tried.stages if s.spec.kind == "captions")
    assert captions.slots == slots and stage(tried, "images").spec.slots == total and not stage(tried, "images").spec.config["counts"]


def test_an_export_goes_below_the_try_and_nothing_is_judged(world):
    judged = [f"judge.test={world.path}/llama", "export=[image_folder]", f"export.image_folder.out={world.path}/mine"]
    with pytest.raises(InputError, match="judge"):
        world.point("trial=1", *judged)  # what is wrong with the run is wrong with its try
    tried = world.point("trial=1", *judged[1:], f"export.image_folder.link_from={world.path}")
    assert stage(tried, "image_folder").spec.config["out"] == "" and "link_from" not in stage(tried, "image_folder").spec.settings


def test_a_filter_that_wants_more_of_a_class_takes_what_a_try_has(world):
    words = ["filter=[balance]", "filter.balance.count=9"]
    assert stage(world.point("trial=1", *words), "balance").spec.config["allow_short"] is True
    assert stage(world.point(*words), "balance").spec.config["allow_short"] is False


def test_each_stage_has_one_job_on_slurm(world):
    tried = world.point(
        "trial=1", "cluster=slurm", "cluster.gpu_mem_gb=24", "cluster.n_jobs=9", "cluster.stages.images.n_jobs=3", "cluster.cpu.n_jobs=4"
    )
    assert {resources_of(tried.cluster, s.spec.kind, s.spec.config).n_jobs for s in tried.stages} == {1}
    assert world.point("trial=1", "cluster.n_jobs='auto:8h'").cluster.n_jobs is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trial=0"], "must be 1 or more"),
        (["trial=2", "images.subset=0..3"], "images.subset names rows of the whole captions.json"),
        (["trial=2", "images.count=0"], "every class would get 0 pictures"),
        (["trial=2", "images.count=1", "captions.total=6"], "may leave out captions that a try draws; use captions.per_class"),
    ],
    ids=str,
)
def test_what_cannot_be_cut_is_refused_by_name(world, overrides, message):
    with pytest.raises(InputError, match=message):
        world.point(*overrides)


def test_an_ensemble_is_no_small_thing_and_refused():
    config = typed(Composer().compose(["trial=1"]))
    with pytest.raises(InputError, match=r"try=1: filter=\[ensemble\] reads the whole pictures of other runs"):
        trial.cut(replace(config, filter={"ensemble": None}), ())


def test_stories_pairs_scenes_and_probes_are_cut_to_their_first_ones(tmp_path):
    story = stage(planned(tmp_path, "trial=2", *STORY), "story").spec
    assert story.config["prompts"] == [2] and story.slots == 2 * len(story.config["styles"])
    whole = stage(planned(tmp_path, *STORY), "story").spec
    first = whole.config["prompts"][0]
    more = stage(planned(tmp_path, f"trial={first + 1}", *STORY), "story").spec
    assert more.config["prompts"][0] == first and len(more.config["prompts"]) == 2, "a chapter is cut only if it is the last one"
    assert {k: v for k, v in more.config.items() if k != "prompts"} == {k: v for k, v in whole.config.items() if k != "prompts"}
    pairs = planned(tmp_path, "trial=3", "tracking.variants=4", *SCENES)
    assert stage(pairs, "pairs").spec.slots == 3 and stage(pairs, "pairs").dataset_root.parent == tmp_path / "try"
    scenes = planned(tmp_path, "trial=3", *LAYOUT)
    assert {s.name: s.spec.slots for s in scenes.stages if s.name in ("tags", "boxes")} == {"tags": 3, "boxes": 3}
    assert stage(planned(tmp_path, "recipe=probe", "trial=3"), "probe").spec.slots == 3
    with pytest.raises(InputError, match="recipe=judge has nothing that can be made in part"):
        planned(tmp_path, "recipe=judge", f"judge.source={class_folders(tmp_path / 'real')}", "trial=2")


def class_folders(folder):
    from PIL import Image

    for name in ("cat", "dog"):
        for n in range(3):
            (folder / "source" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (n * 60, 40, 90)).save(folder / "source" / name / f"{n}.png")
    return folder / "source"


def test_inputs_of_noise_denoise_are_those_that_a_larger_number_draws_first(tmp_path):
    source = [f"img2img.source={class_folders(tmp_path)}", "recipe=noise_denoise", "img2img.per_image=2"]
    names = {}
    for n in (1, 2):
        spec = stage(planned(tmp_path / "runs", *source, f"trial={n}"), "img2img").spec
        assert spec.slots == 2 * n
        names[n] = spec.inputs["source"].identity
    drawn = stage(planned(tmp_path / "runs", *source, "img2img.random_count=2"), "img2img").spec
    assert drawn.inputs["source"].identity == names[1] != names[2]


def pictures(point) -> set[str]:
    """sha256 of each PNG that a point's images stage makes, in this process."""
    for name in ("captions", "captions_json", "images"):
        one = stage(point, name)
        folder = StageFolder.create(one.dataset_root, one.spec)
        assert work(folder) == 0
    found = set()
    for number in range(folder.spec.n_units):
        with folder.reader(number) as unit:
            found |= {hashlib.sha256(dict(unit.files(entry))["png"]).hexdigest() for entry in unit.entries.values()}
    return found


def test_the_pictures_of_a_try_are_among_those_of_the_run(tmp_path):
    lines = [f"a {name} on a {place} => {name}" for place in ("lawn", "hill") for name in ("apple", "banana")]
    (tmp_path / "said.txt").write_text("\n".join(lines))
    run = ["prompts=from_file", f"prompts.file={tmp_path}/said.txt", "dataset.classes=[apple,banana]", "images.steps=1"]
    run += ["images.per_caption=2", "export=[]", "images.unit_size=8", "images.batch_size=4"]
    tried, whole = pictures(planned(tmp_path / "runs", *run, "trial=1")), pictures(planned(tmp_path / "runs", *run))
    assert len(tried) == 2 and len(whole) == 8 and tried < whole


def test_what_is_wrong_with_it_is_told_by_the_name_that_is_typed(tmp_path):
    with pytest.raises(InputError, match=r"^try=0: must be 1 or more"):
        planned(tmp_path, "trial=0")
