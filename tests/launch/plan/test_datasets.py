"""Class lists and their choice; the datasets of conf/dataset: known sizes, official order, prompts that read well."""

import copy
import csv
import dataclasses
import json
import re
from functools import lru_cache
from pathlib import Path

import pytest

from launch.config.compose import CONF, Composer, typed
from launch.plan.datasets import choose, counts, dataset_of, names_in, official, remarks
from launch.plan.graph import plan_point
from launch.plan.makers import maker_of
from synth.captions.config import DatasetConfig
from synth.captions.prompts import Sources, make
from synth.errors import InputError
from synth.store.names import folder_names
from tests.images.test_packed_sources import images, parquet

ANNOTATED = ("lvis", "scenes")  # tests/launch/plan/test_tracking.py
SIZES = {
    "aircraft": 100, "cars": 196, "flowers": 102, "dtd": 47, "imagenet": 1000, "food101": 101, "pacs": 7, "cifar10": 10,
    "domainnet": 345, "pictures": 20,
}  # fmt: skip
KNOWN = {  # official index -> name
    "aircraft": {0: "707-320", 37: "BAE 146-200", 71: "Eurofighter Typhoon", 99: "Yak-42"},
    "cars": {0: "AM General Hummer SUV 2000", 195: "smart fortwo Convertible 2012"},
    "flowers": {0: "pink primrose", 7: "bird of paradise", 101: "blackberry lily"},
    "dtd": {0: "banded", 16: "grid", 46: "zigzagged"},
    "imagenet": {0: "tench", 207: "Golden Retriever", 388: "giant panda", 657: "missile", 744: "missile", 836: "sunglasses",
                 837: "sunglasses", 999: "toilet paper"},
    "food101": {0: "apple pie", 76: "pizza", 100: "waffles"},
    "pacs": {0: "horse", 6: "house"},
    "cifar10": {0: "airplane", 3: "cat", 9: "truck"},
    "domainnet": {0: "aircraft_carrier", 344: "zigzag"},
    "pictures": {0: "apple", 19: "pizza"},
}  # fmt: skip
TOTALS = {"flowers": 1020, "dtd": 1880, "food101": 75750, "pacs": 1333, "cifar10": 10000, "imagenet": 200000}


@lru_cache  # composing takes a third of a second; nobody writes to what it gives
def config_of(*overrides: str):
    return typed(Composer().compose(list(overrides)))


def prompts_of(config, n: int):
    dataset = dataset_of(config.dataset)
    planned = maker_of(config, dataset)
    table = {role: json.loads(Path(file.path).read_text()) for role, file in planned.inputs.items()}
    maker = make(dataset, planned.config, Sources(table.__getitem__, lambda role: planned.inputs[role].path))
    return dataset, [maker.prompt(1, slot, 0) for slot in range(n)]


def test_every_dataset_of_conf_is_tested_here():
    assert {path.stem for path in (CONF / "dataset").glob("*.yaml")} == {*SIZES, "custom", "source", *ANNOTATED}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_order_are_the_official_ones(name):
    dataset = dataset_of(config_of(f"dataset={name}").dataset)
    assert dataset.name == name and dataset.n_classes == len(dataset.classes) == SIZES[name]
    assert [c.index for c in dataset.classes] == list(range(SIZES[name]))
    assert {i: dataset.classes[i].name for i in KNOWN[name]} == KNOWN[name]
    assert dataset.kind == ("texture" if name == "dtd" else "object")
    assert all(c.superclass for c in dataset.classes) == (name != "dtd")
    folders = folder_names({c.index: c.name for c in dataset.classes})
    assert len({f.casefold() for f in folders.values()}) == SIZES[name]


def test_counts_are_those_of_the_annotated_training_sets():
    found = {name: counts(config_of(f"dataset={name}").dataset) for name in SIZES}
    assert {name: sum(c.values()) for name, c in found.items() if name in TOTALS} == TOTALS
    assert all(set(found[name]) == set(range(SIZES[name])) for name in (*TOTALS, "domainnet"))
    assert found["pacs"][2] == 345 and found["domainnet"][4] == 21
    assert found["aircraft"] == found["cars"] == found["pictures"] == {}  # known for the whole set alone


def test_each_list_states_its_source_and_licence_and_counts_say_of_what():
    for path in sorted((CONF.parent / "synth" / "captions" / "datasets").glob("*.json")):
        data = json.loads(path.read_text())
        assert data["name"] == path.stem and data["source"] and data["licence"]
        assert ("count_of" in data) == any("count" in c for c in data["classes"])
        assert len(data.get("domains", [])) == {"pacs": 4, "domainnet": 6}.get(path.stem, 0)


def test_two_classes_of_one_name_are_chosen_by_index():
    classes = official(config_of("dataset=imagenet").dataset.classes_json)
    assert [c.name for c in choose(classes, [657, "744"])] == ["missile", "missile"]
    with pytest.raises(InputError, match="classes 836, 837; choose by index"):
        choose(classes, "sunglasses")


@pytest.mark.parametrize("name", SIZES)
def test_prompts_of_every_dataset_speak_of_its_classes_on_whole_lines(name):
    dataset, prompts = prompts_of(config_of(f"dataset={name}"), SIZES[name])
    by_index = {c.index: c for c in dataset.classes}
    assert {p.label for p in prompts} == set(by_index)
    for prompt in prompts:
        query = prompt.text.split("\n\n")[-1]
        assert query.startswith(dataset.phrase(by_index[prompt.label])) and query.endswith("=>") and query.count("=>") == 1
        assert not re.search(r"[_()]| / ", query), query
        assert len(prompt.text) < 1000  # 512 tokens hold it, of any tokenizer but one of single bytes


def test_names_that_say_little_are_spoken_with_what_they_are():
    named = ("aircraft", "cars", "imagenet", "flowers")
    aircraft, cars, imagenet, flowers = (dataset_of(config_of(f"dataset={name}").dataset) for name in named)
    assert aircraft.phrase(aircraft.classes[0]) == "707-320 aircraft"
    said = {c.name: cars.phrase(c) for c in cars.classes}
    assert said["Audi A5 Coupe 2012"] == "2012 Audi A5 Coupe" and said["Acura TL Type-S 2008"] == "2008 Acura TL Type-S car"
    assert [imagenet.phrase(imagenet.classes[i]) for i in (21, 242)] == ["kite bird of prey", "Boxer dog"]
    assert flowers.phrase(flowers.classes[7]) == "bird of paradise flower"


@pytest.mark.parametrize("name", SIZES)
def test_every_dataset_is_planned_whole(name, tmp_path, world):
    config = copy.deepcopy(config_of(f"dataset={name}"))
    model = dataclasses.replace(config.model, path=str(world.path / "sd"))
    llama = f"{world.path}/llama"
    captioner = dataclasses.replace(config.captioner, ckpt_dir=llama, tokenizer_path=f"{llama}/tokenizer.model")
    config = dataclasses.replace(config, runs_dir=str(tmp_path / "r"), model=model, captioner=captioner)
    captions = plan_point(config).stages[0].spec
    assert captions.slots % SIZES[name] == 0 and len(captions.config["dataset"]["classes"]) == SIZES[name]
    assert "count" not in captions.config["dataset"]["classes"][0]  # numbers of pictures change no caption


# -- dataset=custom ----------------------------------------------------------------------------------------------------


def custom(path) -> DatasetConfig:
    return dataclasses.replace(config_of("dataset=custom").dataset, source=str(path))


def names(path) -> list[str]:
    return [c.name for c in dataset_of(custom(path)).classes]


def test_classes_of_ones_own_come_from_text_csv_json_and_folders(tmp_path):
    text = tmp_path / "list.txt"
    text.write_bytes("\ufeffno\r\n  salt, coarse \r\n\r\nZürich\n".encode())
    assert names(text) == ["no", "salt, coarse", "Zürich"]
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as f:
        csv.writer(f).writerows([["superclass", "Name", "count"], ["tool", "salt, coarse", "12"], ["", 'say "hi"', ""]])
    assert names(table) == ["salt, coarse", 'say "hi"'] and counts(custom(table)) == {0: 12}
    assert dataset_of(custom(table)).classes[0].superclass == "tool"
    plain = tmp_path / "plain.CSV"
    plain.write_text("cat\ndog\n")
    assert names(plain) == ["cat", "dog"]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(["0123", {"name": "kite", "spoken": "kite bird", "count": 3}]))
    assert names(listed) == ["0123", "kite"] and dataset_of(custom(listed)).classes[1].said == "kite bird"
    folder = tmp_path / "images"
    for name in ("b/1.png", "b/deep/2.JPG", "b/notes.txt", "A dog/1.webp", ".cache/x.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "readme.md").write_text("no class")
    assert names(folder) == ["A dog", "b"] and counts(custom(folder)) == {0: 1, 1: 2}


def test_classes_are_read_from_pictures_in_parquet_files(tmp_path):
    """A folder of them or one; names and their order stand in the file, and how many pictures each has."""
    note = {"label": {"_type": "ClassLabel", "names": ["zebra", "tench, Tinca tinca", "cat"]}}
    file = parquet(tmp_path / "s" / "data" / "train-0.parquet", {"image": images(3), "label": [1, 0, 1]}, note)
    for path in (file, tmp_path / "s"):
        assert names(path) == ["zebra", "tench, Tinca tinca", "cat"] and counts(custom(path)) == {0: 1, 1: 2, 2: 0}
    for split in ("test", "train"):
        parquet(tmp_path / "t" / f"{split}-0.parquet", {"image": images(1), "label": [0]}, note)
    assert "'test', 'train' are splits" in remarks(custom(tmp_path / "t"))[0]


def test_parquet_files_that_number_their_classes_in_two_ways_are_refused(tmp_path):
    for n, names_of_one in enumerate((["cat", "dog"], ["dog", "cat"])):
        note = {"label": {"_type": "ClassLabel", "names": names_of_one}}
        parquet(tmp_path / f"{n}.parquet", {"image": images(1), "label": [0]}, note)
    with pytest.raises(InputError, match=f"dataset.source: {tmp_path}: its files do not number their classes in one way"):
        names(tmp_path)
    parquet(tmp_path / "2.parquet", {"image": images(1)}, None)
    with pytest.raises(InputError, match="holds no class"):
        names(tmp_path / "2.parquet")


def test_an_image_folder_that_we_exported_gives_its_names_back(tmp_path):
    listed = {3: "sea lion / seal", 5: "missile", 9: "missile", 11: ".."}
    folders = folder_names(listed)
    for folder in folders.values():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.png").write_bytes(b"")
    entries = [{"index": i, "name": n, "folder": folders[i]} for i, n in listed.items()]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": entries[:3]}))
    assert names(tmp_path) == ["sea lion / seal", "missile", "missile"] and counts(custom(tmp_path)) == {0: 1, 1: 1, 2: 1}


def test_a_classes_json_that_lies_leads_nowhere(tmp_path):
    outside, torn = tmp_path / "outside", tmp_path / "torn"
    for folder, entry in ((outside, {"index": 0, "name": "cat", "folder": "../torn"}), (torn, {"index": 0})):
        folder.mkdir()
        (folder / "classes.json").write_text(json.dumps({"classes": [entry]}))
    assert names(outside) == ["cat"] and counts(custom(outside)) == {}
    with pytest.raises(InputError, match=r"classes\.json: not the classes\.json of an export"):
        names(torn)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("a.txt", b"", "holds no class"),
        ("a.txt", b" \n\n\t\n", "holds no class"),
        ("a.txt", b"cat\ndog\ncat\n", "'cat' is there twice"),
        ("a.txt", b"caf\xe9\n", "not UTF-8"),
        ("a.txt", b"x" * 10_000, "has 10,000 characters; at most 200"),
        ("a.txt", b"cat => dog\n", "holds =>"),
        ("a.txt", b"..\n", "no letter and no digit"),
        ("a.txt", b"cat\x00dog\n", "x00"),
        ("a.txt", "cat\u202edog\n".encode(), "u202e"),
        ("a.json", b'["a\\nb"]', r"holds the character '\\n'"),
        ("a.json", b'["\\ud800"]', "lone surrogate"),
        ("a.json", b"[]", "holds no class"),
        ("a.json", b"3", "needs a list"),
        ("a.json", b'["a", ["b"]]', "class 1 is"),
        ("a.json", b'[{"name": "a", "count": -1}]', "count is -1"),
        ("a.json", b'[{"name": "a", "count": true}]', "count is True"),
        ("a.json", b'[{"name": "a", "spoken": "x => y"}]', "holds =>"),
        ("a.json", b'[{"name": "a", "id": "1"}, {"name": "a", "id": "1"}]', "twice"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.csv", b"cat,dog\nowl,bat\n", "begin the file with their names"),
        ("a.csv", b"name,count\ncat,many\n", "count is 'many'"),
        ("a.csv", b"name,count\ncat\n", "has 1 columns"),
        ("a.csv", b'name\n"cat\n', "not CSV"),
        ("a.csv", b"name\n", "holds no class"),
    ],
)
def test_a_list_that_cannot_be_taken_names_file_item_and_fix(tmp_path, file, content, said):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=said) as e:
        names(tmp_path / file)
    assert str(tmp_path / file) in str(e.value) and len(str(e.value)) < 500


def test_a_source_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.source: not set"):
        dataset_of(config_of("dataset=custom").dataset)
    with pytest.raises(InputError, match=r"nowhere\.txt: cannot be read"):
        names(tmp_path / "nowhere.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no class"):
        names(tmp_path / "empty")
    with pytest.raises(InputError, match=r"dataset\.kind=textur"):
        plan_point(config_of("dataset=pictures", "dataset.kind=textur"))


def test_a_yaml_file_of_ones_own_need_not_say_what_its_classes_are(tmp_path):
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text(f"name: mine\nclasses: all\nsource: {tmp_path}/list.txt\n")
    dataset = dataset_of(typed(Composer(str(tmp_path)).compose(["dataset=mine"])).dataset)
    assert (dataset.kind, dataset.suffix, dataset.n_classes) == ("object", "", 2)


# -- tables of ones own ------------------------------------------------------------------------------------------------

CAT = {"class": "cat", "caption": "A cat sleeps.", "background": "sofa", "relation": "on"}


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("examples", "{", "is not JSON"),
        ("examples", "[]", "must be an object"),
        ("examples", {"class": [CAT] * 2}, "mode 'class' has 2 examples"),
        ("examples", {"class": "cat"}, "mode 'class' has 0 examples"),
        ("examples", {"class": [CAT, CAT, {"class": "cat"}]}, r"class\[2\] .* needs the texts class, caption"),
        ("examples", {"class": [CAT, CAT, CAT | {"caption": "A dog sleeps."}]}, r"class\[2\]: .* does not name 'cat'"),
        ("examples", {"class": [CAT, CAT, CAT | {"caption": "A cat\nsleeps."}]}, "one line"),
        ("examples", {"class": [CAT, CAT, CAT | {"class": 3}]}, r"class\[2\]\.class is 3"),
        ("backgrounds", "[]", "must be an object"),
        ("backgrounds", {"*": "street"}, r"'\*' has 'street'; write a list"),
        ("backgrounds", {"*": []}, "one at least"),
        ("backgrounds", {"*": ["street", "a => b"]}, r"place 1 of '\*' is 'a => b'"),
        ("backgrounds", {"apple": ["bowl"]}, "no places for class 'banana', its super-class 'fruit'"),
    ],
)
def test_a_users_table_is_judged_when_the_run_is_planned(tmp_path, key, content, said):
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    config = config_of("dataset=pictures")
    modes = {"class": 1.0} if key == "examples" else {"class_background": 1.0}
    config = dataclasses.replace(config, prompts=dataclasses.replace(config.prompts, modes=modes, **{f"{key}_file": str(path)}))
    with pytest.raises(InputError, match=said) as e:
        maker_of(config, dataset_of(config.dataset))
    assert f"prompts.{key}_file: {path}" in str(e.value)


def test_a_users_tables_take_the_place_of_the_datasets(tmp_path):
    examples, places = tmp_path / "e.json", tmp_path / "b.json"
    examples.write_text(json.dumps({"class_background": [CAT | {"caption": f"Cat {n} of three."} for n in range(3)]}))
    places.write_text(json.dumps({"apple": ["my bowl"], "*": ["my street"]}))
    config = config_of(f"prompts.examples_file={examples}", f"prompts.backgrounds_file={places}",
                       "prompts.modes={class_background:1,class:0,class_relation:0}")  # fmt: skip
    _, prompts = prompts_of(config, 20)
    assert {p.text.split("\n\n")[-1] for p in prompts if p.label < 2} == {"apple, my bowl =>", "banana, my street =>"}
    assert all("Cat 0 of three." in p.text for p in prompts)


# -- the choice of classes: official indices stay, words that YAML would spoil are safe ----------------------------------

LIST = ["cat", "dog", "no", "0123", "sea lion", "707-320"]


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(LIST))
    return official(str(path))


def names_of(classes):
    return [c.name for c in classes]


def test_a_range_includes_both_ends_and_keeps_official_indices(classes):
    assert [(c.index, c.name) for c in choose(classes, "1..3")] == [(1, "dog"), (2, "no"), (3, "0123")]


def test_names_indices_and_ranges_mix_and_come_in_official_order(classes):
    assert names_of(choose(classes, ["707-320", "0..1", 3])) == ["cat", "dog", "0123", "707-320"]
    assert names_of(choose(classes, "sea lion")) == ["sea lion"]
    assert names_of(choose(classes, "all")) == LIST
    assert names_of(choose(classes, 2)) == ["no"]


def test_names_that_yaml_spoils_are_taken_as_texts_and_spoilt_ones_are_refused(classes):
    assert names_of(choose(classes, ["no", "0123"])) == ["no", "0123"]
    with pytest.raises(InputError, match="quote it"):
        choose(classes, [False])


def test_names_that_yaml_spoils_survive_the_command_line(world):
    point = world.point("dataset.classes=[no,0123,707-320]")
    assert [c["name"] for c in point.stages[0].spec.config["dataset"]["classes"]] == ["no", "0123", "707-320"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("3..9", r"classes 0..5"),
        ("4..2", "lower end"),
        ([], "empty list"),
        (["cat", "0..2"], "chosen twice"),
        ("sea loin", "did you mean sea lion"),
        (17, "0..5"),
    ],
)
def test_a_choice_that_cannot_be_met_says_why(classes, wanted, said):
    with pytest.raises(InputError, match=said):
        choose(classes, wanted)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds no class"),
        ('["a", "b", "a"]', "'a' is there twice"),
        ('["a", 3]', "class 1 is 3"),
        ('{"names": []}', "needs a list of names"),
        ('["a"', "not JSON"),
        ('[{"name": "a", "index": 4}]', "official index"),
    ],
)
def test_a_wrong_class_list_names_the_file_and_the_item(tmp_path, content, said):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as e:
        official(str(path))
    assert str(path) in str(e.value)


def test_class_lists_may_be_text_files_and_hold_superclasses(tmp_path):
    text = tmp_path / "list.txt"
    text.write_text("no\n1:20\n\nsalt, coarse\n", encoding="utf-8")
    assert names_of(official(str(text))) == ["no", "1:20", "salt, coarse"]
    assert names_in(str(text)) == ["no", "1:20", "salt, coarse"]
    rich = tmp_path / "rich.json"
    rich.write_text(json.dumps({"classes": [{"name": "oak", "superclass": "tree"}]}))
    assert official(str(rich))[0].superclass == "tree"
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"classes": ["oak", "cat"], "superclass": {"oak": "tree"}}))
    assert [c.superclass for c in official(str(table))] == ["tree", ""]


def test_a_file_twin_chooses_names_with_commas(world):
    (world.path / "classes.json").write_text(json.dumps(["salt, coarse", "pepper"]))
    (world.path / "mine.txt").write_text("salt, coarse\n")
    point = world.point(f"dataset.classes_file={world.path}/mine.txt")
    assert [c["name"] for c in point.stages[0].spec.config["dataset"]["classes"]] == ["salt, coarse"]


def test_a_suffix_that_is_a_word_is_one_in_prompts():
    config = dataset_of(dataclasses.replace(config_of("dataset=aircraft").dataset, suffix="plane"))
    assert config.phrase(config.classes[0]) == "707-320 plane"
    config = dataset_of(dataclasses.replace(config_of("dataset=aircraft").dataset, suffix="-like"))
    assert config.phrase(config.classes[0]) == "707-320-like"
