"""Prompt makers as they are planned: totals, stages that come first, fingerprints, bad keys and files."""

import hashlib
import json

import pytest

from synth.errors import InputError


def stage(point, name):
    return next(s for s in point.stages if s.name == name)


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


def test_makers_that_ask_no_model_have_the_same_stage_whatever_the_captioner(world):
    one, other = (
        world.point("prompts=class_name"),
        world.point("prompts=class_name", "captioner.temperature=0.1", "captioner.id=other"),
    )
    assert stage(one, "captions").folder == stage(other, "captions").folder
    assert total(one) == (6, 0) and stage(one, "captions").spec.slots == 6


def test_stages_that_ask_take_a_gpu_and_captions_made_of_what_is_there_take_none(world):
    from launch.plan.devices import places_of

    stages = world.point("prompts=hirpg").stages[:3]
    places = {s.name: places_of(("0", "1"), 2, s.spec.kind, s.spec.config) for s in stages}
    assert places == {"metaprompts": [("0",), ("1",)], "prompt_trees": [("0",), ("1",)], "captions": [None, None]}


def test_aliases_are_the_same_maker(world):
    (world.path / "d.json").write_text(json.dumps(dict.fromkeys(("cat", "dog", "no", "0123", "sea lion", "707-320"), "some thing")))
    for name, alias, more in (("fake_it", "fake_f", "hypernyms_file"), ("fake_definition", "fake_d", "definitions_file")):
        both = [world.point(f"prompts={n}", f"prompts.{more}={world.path}/d.json") for n in (name, alias)]
        assert len({stage(p, "captions").folder for p in both}) == 1


def test_a_users_tables_come_before_the_datasets(world):
    (world.path / "mine.json").write_text((world.path / "examples.json").read_text())
    inputs = stage(world.point(f"prompts.examples_file={world.path}/mine.json"), "captions").spec.inputs
    assert inputs["examples"].path.endswith("mine.json") and inputs["backgrounds"].path.endswith("backgrounds.json")


def test_own_captions_are_counted_without_those_that_come_twice_or_cannot_be_used(world):
    file = world.path / "own.txt"
    file.write_text("A cat. => cat\na CAT => cat\n[concept]! => dog\n => dog\nTwo no. => no\nI'm sorry. => dog\n")
    point = world.point("prompts=from_file", f"prompts.file={file}")
    assert stage(point, "captions").spec.slots == 6 and total(point) == (4, 0)  # [concept] is filled in
    assert total(world.point("prompts=from_file", f"prompts.file={file}", "prompts.check=true")) == (2, 0)
    some = world.point("prompts=from_file", f"prompts.file={file}", "dataset.classes=[cat]")
    assert stage(some, "captions").spec.slots == 2 and total(some) == (1, 0)
    torn = world.path / "torn.txt"
    torn.write_text(file.read_text() + "A cat. =")
    with pytest.raises(InputError, match="caption 6 says no class"):
        world.point("prompts=from_file", f"prompts.file={torn}")


def test_a_large_file_of_captions_is_known_by_all_of_its_content(world):
    """Identities of inputs look at both ends of large files only; captions may differ in the middle."""
    file = world.path / "own.txt"
    file.write_text("".join(f"A cat number {n:09000d}. => cat\n" for n in range(1000)))
    config = stage(world.point("prompts=from_file", f"prompts.file={file}"), "captions").spec.config
    assert config["prompts"]["content"] == hashlib.sha256(file.read_bytes()).hexdigest() and file.stat().st_size > 8 << 20


def test_a_maker_that_asks_needs_a_captioner():
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    for maker in ("synclr", "hirpg", "synclr_chat"):
        with pytest.raises(InputError, match=f"captioner=none: prompts.maker={maker} asks a model; .*class_name"):
            plan_point(typed(Composer().compose([f"prompts={maker}", "captioner=none"])))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["prompts=from_file"], "prompts.file: not set"),
        (["prompts=from_file", "prompts.file=nowhere.txt"], "nowhere.txt is not there"),
        (["prompts=class_name", "captions.per_class=2"], "makes 1 different captions of a class"),
        (["prompts=class_name", "captions.total=7"], "captions.total=7, 2 a class"),
        (["prompts=class_name", "prompts.templates=[photo]"], "'photo' must hold {}"),
        (["prompts=class_name", "prompts.templates=[]"], "holds no template"),
        (["prompts=class_name", "captions.seeds=[0,1]"], "asks no model"),
        (["prompts=hirpg", "prompts.max_prompts=57"], "must be from num_metaprompts=7 to .* = 56"),
        (["prompts=hirpg", "prompts.max_prompts=6"], "prompts.max_prompts=6"),
        (["prompts=hirpg", "prompts.form=both"], "static or dynamic"),
        (["prompts=hirpg", "prompts.class_balance=random"], "class_balance=random"),
        (["prompts=hirpg", "prompts.metaprompts_file=nowhere.json"], "prompts.metaprompts_file"),
        (["prompts=hirpg", "prompts.num_metaprompts=0"], "prompts.num_metaprompts=0: must be 1 or more"),
        (["prompts.examples_per=word"], "caption or group"),
        (["prompts.group_size=0"], "prompts.group_size=0"),
        (["prompts.class_balance=fair"], "prompts.class_balance=fair"),
        (["prompts=fake_it", "prompts.source=web"], "auto, wordnet, table"),
        (["prompts=fake_it", "prompts.places_file=nowhere.json", "dataset.classes=[cat]"], "prompts.places_file"),
        (["prompts=fake_it"], "no hypernym is known for 'no', '0123'"),
        (["dataset.examples=null"], "prompts.examples_file: not set"),
        (["recipe=probe", "prompts=hirpg"], "recipe=probe: has no stage 'captions', .*prompts=hirpg.* recipe=class_images"),
        (["recipe=noise_denoise", "prompts=synclr_chat"], "recipe=noise_denoise: has no stage 'captions'"),
        (["captions.min_words=9", "captions.max_words=8"], "captions.min_words=9: more than captions.max_words=8"),
        (["captioner.max_seq_len=40"], r"max_seq_len=40: prompts of this run have \d+ to \d+ tokens.*prompts.shots=3"),
        (["prompts=hirpg", "prompts.metaprompts_file={torn}"], "prompts.metaprompts_file: .*torn.json is not JSON"),
        (["prompts=hirpg", "prompts.metaprompts_file={list}"], "prompts.metaprompts_file: .*text 0 is 'a => b'; .*[concept]"),
        (["prompts=fake_it", "prompts.source=table", "prompts.places_file={torn}"], "prompts.places_file: .*torn.json is not"),
        (["prompts=fake_it", "prompts.places_file={list}"], "prompts.places_file: .*place 0 is 'a => b'"),
        (["prompts=fake_it", "prompts.places_file={object}"], "prompts.places_file: .*must be a list of texts"),
    ],
)
def test_bad_settings_are_told_when_the_run_is_planned(world, overrides, said, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", str(world.path / "none"))
    files = {"torn": "{", "list": '["a => b"]', "object": "{}"}
    if "places_file" in overrides[-1]:
        overrides = [*overrides, f"prompts.hypernyms_file={world.path}/hypernyms.json"]
        (world.path / "hypernyms.json").write_text(json.dumps(dict.fromkeys(("cat", "dog", "no", "0123", "sea lion", "707-320"), "x")))
    for name, text in files.items():
        (world.path / f"{name}.json").write_text(text)
    paths = {name: world.path / f"{name}.json" for name in files}
    with pytest.raises(InputError, match=said):
        world.point(*(o.format(**paths) if o.endswith("}") else o for o in overrides))


def test_prompts_that_fit_after_all_are_planned(world):
    """Single prompts that are too long are rejections of theirs; a run of which one fits is planned."""
    with pytest.raises(InputError, match="max_seq_len") as e:
        world.point("captioner.max_seq_len=10")
    shortest = int(str(e.value).partition("have ")[2].split()[0])
    assert world.point(f"captioner.max_seq_len={shortest + 1}").stages
    with pytest.raises(InputError, match=f"max_seq_len={shortest}:"):
        world.point(f"captioner.max_seq_len={shortest}")
