"""Servers that are asked about pictures: transformers' own with a tiny LLaVA, and one of the tests that says what it is told."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from launch.plan import servers
from synth.captions.engines import Request
from synth.captions.remote.calls import WrongServer
from synth.captions.remote.journal import key_of
from synth.captions.remote.served import ServedEngine
from synth.captions.remote.verdict import REFUSED
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, ServiceGone
from synth.keys import WrongKey
from synth.layout.box_captions import BoxCaptions
from synth.layout.caption.base import around
from synth.layout.caption.served import told_as
from synth.layout.config import BoxCaptionerConfig
from tests.captions.remote.fake import shown
from tests.captions.remote.test_served import FAKE, SERVE
from tests.fixtures_images import digests, work
from tests.images.pictures import picture
from tests.layout import tiny
from tests.layout.chains import planned, records, tags
from tests.layout.sources import pictures, write


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory):
    return tiny.owlv2(tmp_path_factory.mktemp("models") / "owlv2")


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return tiny.llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    files = {f"{n}.png": picture(n, (60, 40)) for n in range(6)} | {f"{n}.txt": "a dog and a cat" for n in range(6)}
    return write(tmp_path_factory.mktemp("source"), files)


def command(words: tuple[str, ...]) -> str:
    return f"[{','.join(json.dumps(word) for word in words)}]"


def chain(runs, source, owlv2, *words: str, **keys: object):
    """The last stage of a run whose boxes a server of the tests captions; the two before it are made."""
    stages = planned(
        runs, source, "recipe=layout", "tagger=[caption]", "segmenter=none", "export=[]", "detector=owlv2", f"detector.path={owlv2}",
        "detector.box_threshold=0.3", "detector.template='{}'", "detector.nms=1", "detector.max_boxes=3",
        "box_captioner=served", "box_captioner.model=m", "box_captioner.min_box=1",
        "box_captioner.batch_size=2", "box_captioner.rows=3", f"box_captioner.command={command((*FAKE, *words))}",
        *(f"box_captioner.{key}={value}" for key, value in keys.items()),
    )  # fmt: skip
    assert [work(stages[name]) for name in ("tags", "boxes")] == [EXIT_OK] * 2
    return stages["box_captions"]


def stopped(folder) -> dict:
    """What the last worker said of itself."""
    lines = [json.loads(line) for path in (folder.path / "events").glob("*.jsonl") for line in path.read_text().splitlines()]
    return max((line for line in lines if line["event"] == "stop"), key=lambda line: line["time"])


# -- captions of boxes -----------------------------------------------------------------------------------------------


def test_boxes_are_captioned_by_a_server_alike_for_any_number_of_jobs_and_each_once(source, owlv2, tmp_path, capfd):
    once, other = (chain(tmp_path / name, source, owlv2) for name in ("once", "other"))
    assert work(once) == EXIT_OK and [work(other, i, 3) for i in (2, 0, 1)] == [EXIT_OK] * 3
    assert digests(once) == digests(other)
    found = records(once)
    annos = [anno for record in found.values() for anno in record.annos]
    assert len(annos) > 6 and all(re.fullmatch(r"A picture of picture [0-9a-f]{8}\.", anno.caption) for anno in annos)
    assert stopped(once)["requests"] == len({anno.caption for anno in annos}) and stopped(once)["cut"]["more lines"] == len(annos)
    shutil.rmtree(once.path / "units")
    assert work(once) == EXIT_OK and digests(once) == digests(other)
    assert (stopped(once)["requests"], stopped(once)["reused"] > 6) == (0, True)  # from answers/

    # one box that the server refuses, and it alone
    anno = found[3].annos[0]
    stage = BoxCaptions(once)
    crop = Image.open(source / "3.png").convert("RGB").crop(around(anno.bbox, 0.0, 60, 40))
    word = shown(stage.made().prepare(crop))
    refused = chain(tmp_path / "refused", source, owlv2, "--refuse", word)
    assert work(refused) == EXIT_OK
    for slot, record in records(refused).items():
        without = [a for a in record.annos if a.caption is None]
        assert [a.bbox for a in without] == ([anno.bbox] if slot == 3 else [])
        assert record.dropped.get("caption_refused_by_server", 0) == len(without)
    assert "HTTP 400" in stopped(refused)["said"]["refused_by_server"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--refuse", "picture"), r"\(box_captioner\.model=m\): it refuses every request"),
        (("--say", "<think>A dog"), "box_captioner: none of the first \\d+ boxes got a caption, mostly because of 'thinking'"),
    ],
    ids=["no pictures", "thinking"],
)
def test_a_server_that_captions_nothing_ends_the_worker(words, said, source, owlv2, tmp_path, capfd):
    folder = chain(tmp_path, source, owlv2, *words, stop_when_empty=3, retries=0)
    assert work(folder) == EXIT_BAD_INPUT and not folder.committed()
    assert re.search(said, capfd.readouterr().err)


def test_a_picture_is_part_of_what_an_answer_is_known_by_and_texts_keep_their_names():
    plain, seen, other = (Request("What is it?", pictures=p) for p in ((), ("data:a",), ("data:b",)))
    assert len({key_of(request) for request in (plain, seen, other)}) == 3
    assert key_of(Request("a", (("user", "a"),), 7)) == "d51c6d5667b558fd9d8519b3b66b7a0c"  # of answers that were kept before


# -- tags ------------------------------------------------------------------------------------------------------------


def test_transformers_own_server_sees_pictures(llava, tmp_path):
    settings = [f"tagger.served.path={llava}", f"tagger.served.command={command(SERVE)}", "tagger.served.stop_when_empty=0"]
    settings += ["tagger.served.max_tokens=8", "tagger.served.pixels=784"]
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 2), "tagger=[served]", *settings)
    assert work(folder) == EXIT_OK
    assert all(record.tags or any(why.startswith("vlm_") for why in record.dropped) for record in records(folder).values())
    prompt = folder.spec.config["taggers"][0]["prompt"]
    assert stopped(folder)["requests"] == 2 and stopped(folder)["tokens_in"] >= 2 * (16 + len(prompt))


def test_tags_are_the_names_in_a_servers_list_and_what_is_none_is_counted(tmp_path):
    words = (*FAKE, "--say", "The picture shows a dog, **Sofa** (red), Dog, a thing of which much can be said.")
    settings = ["tagger.served.model=m", f"tagger.served.command={command(words)}"]
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 3), "tagger=[caption,served]", *settings)
    assert work(folder) == EXIT_OK
    for record in records(folder).values():
        assert record.tags == ("dog", "red sofa", "sofa")
        assert record.dropped == {"vlm_long": 1, "vlm_repeated": 1}


# -- plans -----------------------------------------------------------------------------------------------------------


def config(**change: object) -> BoxCaptionerConfig:
    keys = {
        "kind": "served", "model": "m", "command": ("server", "{model}", "{port}"), "health": "/health", "start_timeout": 9.0,
        "restarts": 1,
        "max_seq_len": 512, "timeout": 9.0, "retries": 1, "prompt": "?", "max_tokens": 9, "rows": 4, "stop_when_empty": 0,
    }  # fmt: skip
    return BoxCaptionerConfig(**keys | change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "box_captioner.path=None, box_captioner.model=None: give one of them"),
        ({"path": "/x"}, "box_captioner.path=/x, box_captioner.model=m: give one of them"),
        ({"model": None, "path": "/nowhere"}, "box_captioner.path: /nowhere is not there"),
        ({"command": ("server",)}, "box_captioner.command: must hold {port}"),
        ({"command": ("server", "{port}", "{gpu}")}, "box_captioner.command: {gpu} is not known"),
        ({"command": ("server", "{port}", "{dtype}")}, "box_captioner.command={dtype}: {dtype} is not known here; write the value itself"),
        ({"timeout": 0.0}, "box_captioner.timeout=0.0: seconds, more than 0"),
        ({"health": "health"}, "box_captioner.health='health': a path of the server"),
        ({"body": ["a"]}, "box_captioner.body=[a]: a mapping of fields"),
    ],
)
def test_a_server_that_cannot_be_is_told_by_the_keys_of_its_group(change, said):
    with pytest.raises(InputError) as e:
        servers.planned("box_captioner", config(**change))
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-7]), "it is torn"),
        (lambda f: _drop(f, "vision_config", "image_token_id", "image_seq_length", "image_token_index", "vision_feature_layer",
                         "vision_feature_select_strategy"), "llava takes no pictures"),
    ],
    ids=["torn", "text alone"],
)  # fmt: skip
def test_what_a_server_is_to_load_is_judged_when_it_is_planned(llava, harm, said, tmp_path):
    folder = shutil.copytree(llava, tmp_path / "model")
    moved = shutil.copytree(folder, tmp_path / "moved")
    here, there = (servers.planned("box_captioner", config(model=None, path=str(path))) for path in (folder, moved))
    assert (here.server, here.file.identity) == (there.server, there.file.identity) and here.file.path == str(folder)
    harm(folder)
    with pytest.raises(InputError, match=said):
        servers.planned("box_captioner", config(model=None, path=str(folder)))


def _drop(folder, *names: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if name not in names}))


def test_requests_in_flight_and_flags_change_no_caption():
    first, second = (servers.planned("box_captioner", c) for c in (config(), config(rows=64, flags=("-x",), timeout=99.0)))
    assert first.server == second.server and first.settings != second.settings
    assert servers.planned("box_captioner", config(max_tokens=10)).server != first.server
    assert (first.server["temperature"], first.server["api"]) == (0.0, "chat")


def test_errors_of_the_engine_keep_their_kind_and_name_keys_of_their_group():
    for error, said in (
        (ServiceGone("captioner.longest_wait is over"), "tagger.served.longest_wait is over"),
        (WrongKey("max_batch_size", 0, "too few", group="captioner"), "tagger.served.rows=0: too few"),
    ):
        with pytest.raises(type(error)) as e, told_as("tagger.served"):
            raise error
        assert str(e.value) == said


def test_what_to_check_of_a_server_are_keys_that_its_group_has():
    engine = object.__new__(ServedEngine)
    engine.captioner, engine.model = SimpleNamespace(command=("server",)), "m"
    engine.endpoint = SimpleNamespace(api_key_env="", retries=0)
    with pytest.raises(InputError) as e, told_as("box_captioner"), engine._explained():
        raise WrongServer("HTTP 404", REFUSED)
    assert str(e.value).endswith("(box_captioner.model=m): HTTP 404; check box_captioner.model, box_captioner.command")
    assert not re.search(r"base_url|\.api\b", ServedEngine.api)
