"""Tagger `vlm`: a tiny model of the true class is asked for a list of objects."""

import json
import shutil

import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.layout.answers import Said
from synth.layout.caption.qwen_vl import Qwen3Vl, Qwen25Vl
from synth.layout.vlm_tags import check_vlm, vlm_class
from tests.fixtures_images import digests, work
from tests.layout import tiny
from tests.layout.chains import done, records, tags
from tests.layout.sources import pictures


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
