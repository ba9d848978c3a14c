"""Prompt makers as they are planned: fingerprints, bad keys and files; hypernyms and definitions of files, a small WordNet, our table."""

import hashlib
import json

import pytest

from launch.plan.makers import definitions, hypernyms
from synth.captions.config import ClassEntry
from synth.errors import InputError
from tests.configs import DatasetConfig
from tests.launch.plan.test_captions import total
from tests.launch.plan.test_graph import stage


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
    some = ["prompts=from_file", f"prompts.file={file}", "captions.allow_short=true"]
    point = world.point(*some)
    assert stage(point, "captions").spec.slots == 6 and total(point) == (4, 0)  # [concept] is filled in
    assert total(world.point(*some, "prompts.check=true")) == (2, 0)
    some = world.point("prompts=from_file", f"prompts.file={file}", "dataset.classes=[cat]")
    assert stage(some, "captions").spec.slots == 2 and total(some) == (1, 0)
    torn = world.path / "torn.txt"
    torn.write_text(file.read_text() + "A cat. =")
    with pytest.raises(InputError, match="line 7: says no class"):
        world.point("prompts=from_file", f"prompts.file={torn}")


def test_own_captions_of_some_of_the_classes_are_taken_only_where_that_is_said(world):
    file = world.path / "own.txt"
    file.write_text("A cat. => cat\nA dog. => dog\nI'm sorry. => no\n")
    given = ["prompts=from_file", f"prompts.file={file}"]
    with pytest.raises(
        InputError, match=r"captions of 3 of the 6 classes; none of 0123, sea lion, 707-320; captions.allow_short=true takes"
    ):
        world.point(*given)
    assert total(world.point(*given, "dataset.classes=[cat,dog]")) == (2, 0)
    with pytest.raises(InputError, match=r"that pass the checks of 2 of the 3 classes; none of no; prompts.check=false takes"):
        world.point(*given, "dataset.classes=[cat,dog,no]", "prompts.check=true")
    with pytest.raises(InputError, match=r"captions.total=10: prompts.maker=from_file has 2 different captions here; captions.total=2, or"):
        world.point(*given, "dataset.classes=[cat,dog]", "captions.total=10")


def test_a_large_file_of_captions_is_known_by_all_of_its_content(world):
    """Identities of inputs look at both ends of large files only; captions may differ in the middle."""
    file = world.path / "own.txt"
    file.write_text("".join(f"A cat number {n:09000d}. => cat\n" for n in range(1000)))
    config = stage(world.point("prompts=from_file", f"prompts.file={file}", "captions.allow_short=true"), "captions").spec.config
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
        (["prompts=hirpg", "prompts.form=both"], "use one of static, dynamic"),
        (["prompts=hirpg", "prompts.class_balance=random"], "class_balance=random"),
        (["prompts.maker=hirpg"], r"prompts.maker=hirpg: its YAML file must begin with `defaults: \[schema_hirpg, _self_\]`"),
        (["prompts=hirpg", "prompts.metaprompts_file=nowhere.json"], "prompts.metaprompts_file"),
        (["prompts=hirpg", "prompts.num_metaprompts=0"], "prompts.num_metaprompts=0: must be 1 or more"),
        (["prompts.examples_per=word"], "use one of caption, group"),
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
        (["prompts=hirpg", "prompts.metaprompts_file={torn}"], "prompts.metaprompts_file: .*torn.json: is not JSON"),
        (["prompts=hirpg", "prompts.metaprompts_file={list}"], "prompts.metaprompts_file: .*text 0 is 'a => b'; .*[concept]"),
        (["prompts=fake_it", "prompts.source=table", "prompts.places_file={torn}"], "prompts.places_file: .*torn.json: is not"),
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


# -- hypernyms and definitions -------------------------------------------------------------------------------------------

DATA = DatasetConfig(
    "d", (ClassEntry(0, "cat"), ClassEntry(1, "fire_engine"), ClassEntry(2, "glorb", "gadget"), ClassEntry(3, "old tom cat")), 4
)
NOUNS = [  # words, hypernym (index), gloss
    (["entity"], None, "that which is"),
    (["feline", "felid"], 0, "an animal that lands on its feet"),
    (["cat"], 1, "a small feline kept for company"),
    (["motor_vehicle"], 0, "a vehicle with a motor"),
    (["fire_engine", "fire_truck"], 3, "a motor vehicle that carries hoses"),
]


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    """A WordNet database of five nouns; other parts of speech are empty."""
    import nltk.data

    folder = tmp_path / "nltk" / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    sizes = [len(_line(0, *noun, [0] * 5)) for noun in NOUNS]
    offsets = [sum(sizes[:i]) for i in range(5)]
    (folder / "data.noun").write_text("".join(_line(offsets[i], *noun, offsets) for i, noun in enumerate(NOUNS)))
    index = sorted((w, offsets[i]) for i, (words, _, _) in enumerate(NOUNS) for w in words)
    (folder / "index.noun").write_text("".join(f"{w} n 1 1 @ 1 0 {at:08d}  \n" for w, at in index))
    (folder / "index.sense").write_text("")
    (folder / "lexnames").write_text("".join(f"{k:02d}\tnoun.x\t1\n" for k in range(45)))
    for pos in ("verb", "adj", "adv"):
        (folder / f"data.{pos}").write_text("")
        (folder / f"index.{pos}").write_text("")
    for pos in ("noun", "verb", "adj", "adv"):
        (folder / f"{pos}.exc").write_text("")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])


def _line(at, words, above, gloss, offsets):
    pointer = f"001 @ {offsets[above]:08d} n 0000" if above is not None else "000"
    said = " ".join(f"{w} 0" for w in words)
    return f"{at:08d} 03 n {len(words):02x} {said} {pointer} | {gloss}  \n"


@pytest.fixture
def no_wordnet(monkeypatch, tmp_path):
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nowhere")])


def test_wordnet_knows_words_phrases_and_the_last_word_of_a_name(wordnet):
    assert hypernyms(DATA, None, "auto") == {"0": "feline", "1": "motor vehicle", "2": "gadget", "3": "cat"}
    some = DatasetConfig("d", DATA.classes[:2], 4)
    assert definitions(some, None) == {"0": "a small feline kept for company", "1": "a motor vehicle that carries hoses"}


def test_a_users_file_comes_first(wordnet, tmp_path):
    (tmp_path / "h.json").write_text('{"cat": "pet\\n animal"}')
    assert hypernyms(DATA, str(tmp_path / "h.json"), "auto")["0"] == "pet animal"
    (tmp_path / "d.json").write_text('{"glorb": "a thing", "old tom cat": "an old cat"}')
    assert definitions(DATA, str(tmp_path / "d.json"))["2"] == "a thing"


def test_without_wordnet_our_table_or_the_super_class_answers(no_wordnet):
    data = DatasetConfig("d", (ClassEntry(0, "glorb", "gadget"), ClassEntry(1, "x", "fish")), 2)
    assert hypernyms(data, None, "auto") == hypernyms(data, None, "table")
    assert hypernyms(data, None, "auto")["0"] == "gadget" and hypernyms(data, None, "auto")["1"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f: hypernyms(DATA, None, "wordnet"), "its data is not there"),
        (lambda f: definitions(DATA, None), "its data is not there"),
        (
            lambda f: hypernyms(DatasetConfig("d", (ClassEntry(0, "glorb"),), 1), None, "auto"),
            "no hypernym is known for 'glorb'",
        ),
        (lambda f: definitions(DATA, f('{"cat": "x"}')), "no definition is known for 'fire_engine', 'glorb'"),
        (lambda f: hypernyms(DATA, f('{"glorbs": "x"}'), "table"), "did you mean glorb"),
        (lambda f: hypernyms(DATA, f('["x"]'), "table"), "must be a JSON object"),
        (lambda f: hypernyms(DATA, f("{"), "table"), "is not JSON"),
    ],
)
def test_what_is_lacking_is_told(no_wordnet, tmp_path, call, said):
    def file(text):
        (tmp_path / "own.json").write_text(text)
        return str(tmp_path / "own.json")

    with pytest.raises(InputError, match=said):
        call(file)
