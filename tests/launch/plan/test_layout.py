"""Layout labels as they are planned: what is told of a source and of taggers before a worker is started."""

from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from launch.plan.layout_models import model_input
from launch.plan.mounts import mounts_of
from synth.errors import InputError
from synth.images.sources.listing import NAME, Listing
from synth.layout.detect import detector_class
from synth.layout.source import PictureSource
from tests.images.pictures import picture
from tests.images.test_packed_sources import images, parquet
from tests.layout.chains import planned, tags
from tests.layout.sources import pictures, png, tar, write
from tests.verify.conftest import run  # noqa: F401 (a fixture)


@pytest.fixture
def source(tmp_path):
    return pictures(tmp_path / "src", 3)


def test_a_source_is_known_by_what_is_in_it_and_not_by_its_place(source, tmp_path):
    first = tags(tmp_path / "runs", source)
    source.rename(tmp_path / "moved")
    assert tags(tmp_path / "runs", tmp_path / "moved").path == first.path
    (tmp_path / "moved/001.txt").write_text("another text")
    assert tags(tmp_path / "runs", tmp_path / "moved").path != first.path


@pytest.mark.parametrize("given", ["hub", "hub/data/train-0.parquet"])
def test_parquet_files_with_captions_are_a_source_of_alt_texts(tmp_path, given):
    """A hub's cache keeps each file under another name, and links to it."""
    columns = {"image": images(3), "text": ["a cat", "a dog", None]}
    (link := tmp_path / "hub" / "data" / "train-0.parquet").parent.mkdir(parents=True)
    link.symlink_to(parquet(tmp_path / "blobs" / "0abc", columns, features=None))
    folder = tags(tmp_path / "runs", tmp_path / given)
    listed = Listing(folder.path / NAME, folder.input("source").identity).rows(0, 3)
    assert folder.spec.slots == 3 and [item.caption for item in listed] == ["a cat", "a dog", ""]
    assert [PictureSource(folder).read(PictureSource(folder).at(n))[0] for n in range(3)] == [picture(n) for n in range(3)]


def test_a_stage_of_pictures_is_a_source(run, tmp_path):  # noqa: F811 (the fixture)
    folder = tags(tmp_path / "runs", run.images.path)
    assert folder.spec.slots == run.images.spec.slots and [f.path for f in folder.upstream("images")] == [run.images.path]


def test_a_file_of_tags_is_held_against_a_stage_of_pictures_too(run, tmp_path):  # noqa: F811 (the fixture)
    keys = [stored.key for stored in run.images.samples()]
    file = write(tmp_path, {"tags.json": {keys[0]: ["dog"], "x.png": ["cat"]}, "none.json": {"x.png": ["cat"]}}) / "tags.json"
    folder = tags(tmp_path / "runs", run.images.path, "tagger=[file]", f"tagger.file.file={file}")
    assert folder.spec.settings["notes"] == ["tagger.file.file: 1 of 2 names in it are of no picture; the first: x.png"]
    with pytest.raises(InputError, match=rf"none.json: names no picture of .*, the first one there '{keys[0]}'"):
        tags(tmp_path / "runs", run.images.path, "tagger=[file]", f"tagger.file.file={tmp_path}/none.json")


def test_missing_pictures_of_meta_files_are_counted_in_the_plan(source, tmp_path):
    entries = [{"image": f"src/{n:03d}.png", "caption": "a dog"} for n in range(5)]
    folder = tags(tmp_path / "runs", write(tmp_path, {"m.json": entries}) / "m.json")
    assert folder.spec.slots == 5
    assert any("2 pictures of meta files are not there" in note for note in folder.spec.settings["notes"])


def test_a_container_shows_the_pictures_to_each_stage_of_the_chain_and_to_its_exports(source, tmp_path):
    recipe = "recipe.exports_of=tags"
    stages = planned(tmp_path / "runs", source, "recipe=layout_tags", recipe, "export=[coco]")
    for folder in stages.values():
        assert str(source) in {mount.source for mount in mounts_of(folder.path, folder.spec)}, folder.spec.name


def test_names_of_a_file_of_tags_that_are_no_pictures_are_counted_in_the_plan(source, tmp_path):
    file = write(tmp_path, {"tags.json": {"000.png": ["dog"], "x/001.png": ["dog"], "7.png": []}}) / "tags.json"
    folder = tags(tmp_path / "runs", source, "tagger=[file]", f"tagger.file.file={file}")
    assert "tagger.file.file: 2 of 3 names in it are of no picture; the first: x/001.png" in folder.spec.settings["notes"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["layout.source=null"], "layout.source=null: not set; it must name"),
        (["layout.source=HERE/nothing"], "layout.source=.*nothing: is missing"),
        (["layout.source=HERE/empty"], "holds no picture"),
        (["layout.source=HERE/bad"], "none of the 1 pictures of it can be used: a.png: empty file"),
        (["layout.source=HERE/m.json"], "none of the 1 pictures .* is not there; say where they lie: layout.image_folder"),
        (["layout.source=HERE/m.json", "layout.image_folder=HERE/nothing"], "layout.image_folder=.*is no folder that is there"),
        (["layout.image_folder=HERE/src"], "is for meta files"),
        (["runs_dir=HERE/src", "dataset.name=x"], "the stages of this run would lie in it"),
        (["layout.source=HERE/tars", "runs_dir=HERE/tars", "dataset.name=x"], "the stages of this run would lie in it"),
        (["layout.layout=lmdb"], "use one of auto, files"),
        (["layout.unit_size=0"], "must be 1 or more"),
        (["tagger=[]"], "names no way to find tags"),
        (["tagger=[file]"], "tagger.file.file: not set"),
        (["tagger=[file]", "tagger.file.file=HERE/m.json"], "is no object of lists of tags"),
        (
            ["tagger=[file]", "tagger.file.file=HERE/tags.txt"],
            "tagger.file.file=.*names no picture of .*first one is '000.jpg', .* '000.png'",
        ),
        (["tagger=[vocabulary]", "tagger.vocabulary.path=HERE/siglip"], "size.height is .*'big'"),
        (["tagger=[vocabulary]"], "tagger.vocabulary.path: not set"),
        (["tagger=[vocabulary]", "tagger.vocabulary.path=HERE/src"], "config.json: missing"),
        (["tagger=[vocabulary]", "tagger.vocabulary.path=HERE/bert"], "is a model of type 'bert'"),
    ],
)
def test_what_cannot_be_is_told_when_it_is_planned(overrides, said, source, tmp_path, monkeypatch):
    monkeypatch.delenv("SYNTHSET_MODELS", raising=False)
    write(tmp_path, {"empty/readme.md": "", "bad/a.png": b"", "m.json": [{"image": "/gone/a.png", "caption": "x"}]})
    write(tmp_path, {"bert/config.json": {"model_type": "bert"}, "x.png": png()})
    write(tmp_path, {"tags.txt": "000.jpg\tdog\n001.jpg\tcat", "siglip/config.json": {"model_type": "siglip"}})
    write(tmp_path, {"siglip/preprocessor_config.json": {"size": {"height": "big"}}, "siglip/tokenizer.json": {}})
    write(tmp_path, {"siglip/model.safetensors": save({"x": np.zeros(1)})})
    tar(tmp_path / "tars/00000.tar", {"a.png": png()})
    with pytest.raises(InputError, match=said):
        tags(tmp_path / "runs", source, *[o.replace("HERE", str(tmp_path)) for o in overrides])


def test_a_path_of_another_type_is_told_that_the_option_is_still_the_toy(tmp_path):
    write(tmp_path, {"dino/config.json": {"model_type": "grounding-dino"}})
    config = SimpleNamespace(kind="owlv2", path=str(tmp_path / "dino"), repo=None)
    said = "of type 'grounding-dino'.*; or choose detector=..., which is tiny_owlv2 now unless you chose another$"
    with pytest.raises(InputError, match=said):
        model_input("detector", config, detector_class("owlv2").check)
    config.kind = "mm_grounding_dino"  # of which none ships
    with pytest.raises(InputError, match="is a model of type 'grounding-dino'") as e:
        model_input("detector", config, detector_class(config.kind).check)
    assert "or choose" not in str(e.value)
