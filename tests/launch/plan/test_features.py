"""Planning of features: of stages, of what filters left, of folders and tars with their classes; what is refused before anything runs."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from launch.plan import sources
from launch.plan.features import EMBEDDED, features_of
from launch.plan.img2img import source_layout
from launch.plan.inputs import identity_of
from launch.plan.node import Node
from launch.plan.sources import Given, of_given, of_stage
from synth.errors import InputError
from synth.store.spec import InputFile
from tests.features.tiny import build_tiny_dinov2
from tests.images.pictures import image_folder, picture, sample, write_tar
from tests.images.test_packed_sources import h5, images, parquet
from tests.launch.plan.test_graph import stage

NOTE = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def node_of(world, *overrides: str) -> Node:
    from launch.config.compose import Composer, typed

    return Node("real_features", "features", typed(Composer().compose([*world.overrides, *overrides])), world.runs / "tiny")


def hugging_face(root: Path) -> Path:
    return parquet(root / "data" / "train-00000-of-00001.parquet", {"image": images(2), "label": [1, 0]}, NOTE).parent.parent


def keyed(root: Path) -> Path:
    """As export.hdf5 writes it: labels stand in the manifest."""
    h5(root / "images.h5", **{f"{n}.png": np.frombuffer(picture(n), np.uint8) for n in range(2)})
    rows = {"file": ["images.h5/0.png", "images.h5/1.png"], "label": [1, 0], "class": ["dog", "cat"], "caption": ["a dog", "a cat"]}
    pq.write_table(pa.table(rows), root / "manifest.parquet")
    return root


def test_the_small_clip_that_ships_is_the_default_and_told_where_it_looks_at_other_pictures(world):
    point = world.point("filter=[clip_score]")
    spec = stage(point, "features").spec
    assert spec.inputs["model"].path == str(EMBEDDED) and spec.slots == stage(point, "images").spec.slots + 6
    (note,) = spec.settings["notes"]
    assert note.startswith("features.model: the small CLIP that ships here knows drawings of 20 things")
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    point = plan_point(typed(Composer().compose([f"runs_dir={world.runs}", "filter=[clip_score]"])))
    assert "notes" not in stage(point, "features").spec.settings


def test_a_stage_that_is_given_does_not_ship_because_the_dataset_of_the_run_does(world, monkeypatch):
    from launch.config.compose import Composer, typed

    node = Node("real_features", "features", typed(Composer().compose([f"runs_dir={world.runs}"])), world.runs / "tiny")
    images = stage(world.point(), "images")
    assert of_stage(node, images).embedded
    monkeypatch.setattr(sources, "given_stage", lambda path, filters: images)
    given = Given(str(world.path), "judge.real", layout="stage")
    assert not of_given(node, given).embedded
    model = InputFile(str(sources.PACKAGE / "models" / "tiny"), "0" * 64)
    images = replace(images, spec=replace(images.spec, inputs={"model": model}))
    assert of_given(node, given).embedded


def test_classes_of_a_stage_have_a_slot_each_unless_the_model_reads_no_texts(world):
    model = build_tiny_dinov2(world.path / "dinov2")
    point = world.point("filter=[near_duplicates]", "filter.near_duplicates.method=embedding", f"features.model={model}")
    spec = stage(point, "features").spec
    assert spec.config["texts"] == 0 and spec.config["templates"] == [] and spec.slots == stage(point, "images").spec.slots


def test_a_filter_that_reads_texts_refuses_a_model_that_does_not(world):
    model = build_tiny_dinov2(world.path / "dinov2")
    with pytest.raises(InputError, match=r"filter=label_agreement: .* reads no texts"):
        world.point("filter=[label_agreement]", f"features.model={model}")


def test_a_source_has_the_classes_of_its_folders_or_tars(world):
    node = node_of(world)
    root = image_folder(world.path / "real", {"zebra": 3, "cat": 2})
    spec = features_of(node, Given(str(root), "judge.real"))
    assert spec.name == "real_features" and spec.slots == 5 + 2 and spec.config["texts"] == 2
    assert [c["name"] for c in spec.config["dataset"]["classes"]] == ["cat", "zebra"] and spec.config["source_classes"] == [0, 1]
    tars = world.path / "tars"
    write_tar(tars / "0.tar", sample("a", 0, {"label": 7, "class": "dog"}) + sample("b", 1, {"label": 3, "class": "cat"}))
    spec = features_of(node, Given(str(tars), "judge.real"))
    assert spec.slots == 2 + 2 and spec.config["source_classes"] == [7, 3]
    assert [(c["index"], c["name"]) for c in spec.config["dataset"]["classes"]] == [(3, "cat"), (7, "dog")]
    spec = features_of(node, Given(str(root), "filter.near_duplicates.against", labelled=False))
    assert spec.slots == 5 and spec.config["texts"] == 0 and spec.config["dataset"] == {"classes": []}


def test_a_file_that_only_a_link_names_is_read_by_that_name(world):
    """So a hub's cache keeps files."""
    real = next(hugging_face(world.path / "real").rglob("*.parquet")).rename(world.path / "0abc")
    (link := world.path / "train.parquet").symlink_to(real)
    assert features_of(node_of(world), Given(str(link), "judge.real")).slots == 4
    assert source_layout(SimpleNamespace(source=str(link), layout="auto")) == (real, "parquet")


@pytest.mark.parametrize("make", [hugging_face, keyed])
def test_parquet_and_hdf5_files_are_sources_whose_every_byte_counts(world, make):
    """Also of pictures without labels, in a folder that may have any name."""
    node, root = node_of(world), make(world.path / "real")
    spec = features_of(node, Given(str(root), "judge.real", whole=True))
    assert spec.slots == 2 + 2 and [(c["index"], c["name"]) for c in spec.config["dataset"]["classes"]] == [(0, "cat"), (1, "dog")]
    bare = features_of(node, Given(str(root), "filter.near_duplicates.against", labelled=False, whole=True))
    assert bare.slots == 2 and bare.config["texts"] == 0
    assert not [note for note in features_of(node, Given(str(root), "judge.real")).settings["notes"] if "known by name" in note]
    other = root.rename(world.path / "elsewhere")
    assert features_of(node, Given(str(other), "judge.real", whole=True)).fingerprint == spec.fingerprint
    changed = next(p for p in sorted(other.rglob("*")) if p.suffix in (".parquet", ".h5") and p.name != "manifest.parquet")
    changed.write_bytes(changed.read_bytes().replace(b"IEND", b"IENE"))
    sources._listed.cache_clear()
    identity_of.cache_clear()
    assert features_of(node, Given(str(other), "judge.real", whole=True)).fingerprint != spec.fingerprint


def test_the_key_of_a_source_is_in_no_fingerprint(world):
    root = image_folder(world.path / "real")
    one, two = (features_of(node_of(world), Given(str(root), key)) for key in ("judge.real", "judge.test"))
    assert one.fingerprint == two.fingerprint and one.settings["key"] != two.settings["key"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p / "nowhere", "judge.real: .*nowhere is not there"),
        (lambda p: p, "judge.real=.*: holds no picture"),
        (
            lambda p: [(p / "a").mkdir(), (p / "a" / "x.png").write_bytes(b"")] and p,
            "none of its 1 pictures can be used: a/x.png: empty file",
        ),
        (lambda p: [(p / "x.zip").write_bytes(b"PK")] and p, "judge.real: .*pictures in x.zip cannot be read"),
        (
            lambda p: [(p / n).mkdir() or image_folder(p / n / "c") for n in ("raw", "b")] and p,
            "judge.real: .*name the folder that they lie in",
        ),
        (lambda p: image_folder(p / "runs" / "tiny").parent, "the stages of this run would lie in it"),
    ],
)
def test_a_source_that_cannot_be_is_refused_by_the_key_that_names_it(world, make, said, tmp_path):
    folder = world.path / "source"
    folder.mkdir()
    node = node_of(world)
    node = replace(node, dataset_root=folder / "runs" / "tiny") if "lie in it" in said else node
    with pytest.raises(InputError) as e:
        features_of(node, Given(str(make(folder)), "judge.real"))
    assert re.search(said, str(e.value)), str(e.value)


def test_a_stage_that_is_given_must_be_of_pictures_and_whole(world):
    from synth.store.folder import StageFolder

    point = world.point()
    for name, said in (("captions_json", "is of kind captions_json"), ("images", "is not whole")):
        made = stage(point, name)
        StageFolder.create(made.dataset_root, made.spec)
        with pytest.raises(InputError, match=f"judge.source=.*{said}"):
            features_of(node_of(world), Given(str(made.folder), "judge.source"))
