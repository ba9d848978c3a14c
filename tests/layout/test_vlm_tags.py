"""Tagger `vlm`: a tiny model of the true class is asked for a list of objects."""

import json
import shutil
import signal
from typing import ClassVar

import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.layout import tags as tags_stage
from synth.layout import vlm_tags
from synth.layout.answers import Said
from synth.layout.caption.qwen_vl import Qwen3Vl, Qwen25Vl
from synth.layout.tags import Tags
from synth.layout.vlm_tags import check_vlm, vlm_class
from tests.faults.farm import Child
from tests.fixtures_images import digests, work
from tests.layout import tiny
from tests.layout.chains import done, records, tags
from tests.layout.sources import pictures, png, write


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return tiny.qwen2_5_vl(tmp_path_factory.mktemp("models") / "qwen")


def asked(qwen, *more: str) -> list[str]:
    keys = {"path": qwen, "max_tokens": 6, "pixels": 3136, "rows": 2}
    return ["tagger=[vlm,caption]", *(f"tagger.vlm.{key}={value}" for key, value in keys.items()), *more]


def test_tags_of_a_model_have_the_same_bytes_for_any_number_of_jobs(qwen, tmp_path):
    source = pictures(tmp_path / "src", 7)
    once, other = (tags(tmp_path / name, source, *asked(qwen, "tagger.vlm.stop_when_empty=0")) for name in ("once", "other"))
    done(once)
    assert [work(other, i, 3) for i in (2, 0, 1)] == [EXIT_OK] * 3
    assert digests(once) == digests(other)
    for record in records(once).values():
        assert record.tags[-2:] == ("dog", "red sofa")
        assert len(record.tags) > 2 or any(why.startswith("vlm_") for why in record.dropped)


def test_what_the_model_lists_is_united_with_other_tags_and_what_is_cut_is_counted(qwen, tmp_path, monkeypatch):
    text = "<think>A sofa?</think>1. Window\n2. **A dog**\n3. window\n4. lam"
    monkeypatch.setattr(Qwen25Vl, "window", lambda self, crops: [Said(text, ended=False) for _ in crops])
    for record in records(done(tags(tmp_path / "runs", pictures(tmp_path / "src", 3), *asked(qwen)))).values():
        assert record.tags == ("window", "dog", "red sofa")
        assert record.dropped == {"vlm_repeated": 1, "vlm_unfinished": 1}


def test_a_model_that_never_answers_ends_the_worker(qwen, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Qwen25Vl, "window", lambda self, crops: [Said("<think>Well", ended=False) for _ in crops])
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 4), *asked(qwen, "tagger.vlm.stop_when_empty=4"))
    assert work(folder) == EXIT_BAD_INPUT
    assert "tagger.vlm: none of the first 4 pictures got a tag, mostly because of 'thinking'" in capfd.readouterr().err


class Stub:
    """A server that says of blue pictures alone what they show."""

    closed: ClassVar[list] = []
    fails = ""

    def __init__(self, *args): ...

    def open(self, dtype):
        if self.fails:
            raise InputError(self.fails)

    def prepare(self, image):
        return image.getpixel((0, 0))

    def answers(self, ready):
        return [Said("a dog" if pixel == (0, 90, 200) else "<think>Well") for pixel in ready]

    def usage(self):
        return {}

    def close(self):
        self.closed.append(self)


def served(runs, source, taggers: str = "served", **keys: object):
    own = ["tagger.served.model=m", "tagger.served.command=[server,'{port}']", *(f"tagger.served.{k}={v}" for k, v in keys.items())]
    return tags(runs, source, f"tagger=[{taggers}]", *own, "layout.unit_size=6")


def test_a_worker_that_hears_nothing_goes_on_where_something_was_heard_before(tmp_path, monkeypatch, capfd):
    """Which units a worker has, and in which order, is no matter of its exit code."""
    monkeypatch.setattr(vlm_tags, "served_captioner", Stub)
    source = write(tmp_path / "src", {f"{n:02d}.png": png(n // 6) for n in range(12)})
    folder = done(served(tmp_path, source, stop_when_empty=4))
    folder.unit_path(1).unlink()
    assert work(folder) == EXIT_OK and records(folder)[0].tags == ("dog",) and not records(folder)[7].tags
    # nor is whether the unit of another worker is through
    begun = served(tmp_path / "begun", source, stop_when_empty=4)
    assert Child(begun, 0, 2, env={}, fault="after_batch:kill@2").wait(240) == -signal.SIGKILL
    assert not begun.committed() and work(begun, 1, 2) == EXIT_OK
    # what another tagger found says nothing of it
    folder = served(tmp_path / "beside", write(source, {f"{n:02d}.txt": "a cat" for n in range(12)}), "caption,served", stop_when_empty=4)
    done(folder)
    for number in (0, 1):
        folder.unit_path(number).unlink()
    monkeypatch.setattr(Stub, "answers", lambda self, ready: [Said("<think>Well") for _ in ready])
    capfd.readouterr()
    assert work(folder) == EXIT_BAD_INPUT and f"remove {folder.path} first" in capfd.readouterr().err


def test_the_server_of_a_tagger_ends_where_it_or_a_later_tagger_does_not_open(tmp_path, monkeypatch):
    monkeypatch.setattr(vlm_tags, "served_captioner", Stub)
    stage = Tags(served(tmp_path, pictures(tmp_path / "src", 2), "served,caption"))
    made = tags_stage.tagger_of

    def failing(config, folder):
        if config.kind == "caption":
            raise InputError("no")
        return made(config, folder)

    monkeypatch.setattr(tags_stage, "tagger_of", failing)
    monkeypatch.setattr(Stub, "closed", [])
    with pytest.raises(InputError):
        stage.open()
    stage.close()
    assert len(Stub.closed) == 1
    monkeypatch.setattr(Stub, "fails", "does not start")
    with pytest.raises(InputError, match="does not start"):
        stage.open()
    stage.close()
    assert len(Stub.closed) == 2


def test_a_folder_is_judged_by_the_class_that_its_config_names(qwen, tmp_path):
    assert (vlm_class(qwen), check_vlm(qwen).type) == (Qwen25Vl, "qwen2_5_vl")
    folder = shutil.copytree(qwen, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"model_type": "qwen3_vl"}, ""),
        ({"model_type": "llama"}, "is a model of type 'llama'; give a folder of Qwen2.5-VL or Qwen3-VL"),
        ({"model_type": None}, "is a model of type None"),
        ({"vision_config": {"patch_size": 0}}, "vision_config.patch_size is 0"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        if not said:
            assert vlm_class(folder) is Qwen3Vl
            continue
        with pytest.raises(InputError, match=said):
            check_vlm(folder)
