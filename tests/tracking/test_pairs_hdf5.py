"""hdf5 of tracking pairs: variants by their names and each original once, as it was; a reader of pairs opens it with the annotations."""

import hashlib
import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from launch.config.compose import Composer, typed
from launch.export import main as export_main
from launch.plan.exports import check_settings, partition_of_pairs
from launch.plan.graph import plan_point
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.export.hdf5.parts import partition
from synth.store.folder import StageFolder
from synth.tracking.h5_items import PairItems
from tests.configs import AnnotationsConfig, Hdf5Config, Hdf5PartsConfig
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, digests, work
from tests.launch.conftest import REPO
from tests.tracking.mirrored_pairs import MIN_AREA, pairs_stage, quiet
from tests.tracking.pairs_stages import SETTINGS
from tests.tracking.reader import PairsReader
from tests.tracking.scenes import make
from tests.verify.test_verify import problems

DEAD = ((1001, 0), (1022, 1), (1029, 0), (1029, 1))  # the first of two, the second of two, both


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten images, one in a folder, one with a name that is not plain."""
    found = make(tmp_path_factory.mktemp("set") / "set", 10)
    data = json.loads(found.annotations.read_text())
    (found.images / "sub").mkdir()
    for image, name in ((data["images"][1], "sub/a.b.jpg"), (data["images"][5], "caf\u00e9 'a\" <b>\n.jpg")):
        (found.images / image["file_name"]).rename(found.images / name)
        image["file_name"] = name
    found.annotations.write_text(json.dumps(data))
    return found


@pytest.fixture
def pairs(scenes, tmp_path):
    return pairs_stage(tmp_path / "runs" / "s", scenes, 2, DEAD)


def plan(pairs, out="", unit_size=6, **config):
    parts = child(pairs.path.parent, "hdf5_parts", Hdf5PartsConfig(**config), {"images": [pairs]}, pairs.spec.slots, unit_size, unit_size)
    return parts, child(pairs.path.parent, "hdf5", Hdf5Config(str(out)), {"parts": [parts], "images": [pairs]})


def export(pairs, out="", **config):
    parts, merged = plan(pairs, out, **config)
    assert work(parts) == work(merged) == EXIT_OK
    return parts, merged


def expected(pairs, scenes) -> dict[str, bytes]:
    """What has to be in the file: name of each dataset and its bytes."""
    found = {}
    for stored in pairs.samples():
        record = stored.json()
        found[record["file_name"]] = stored.read("jpg")
        found[record["source"].rpartition("/")[2]] = (scenes.images / record["source"]).read_bytes()
    return found


def test_variants_and_each_original_once_are_there_byte_by_byte(pairs, scenes):
    before = tree(pairs.path), tree(scenes.images)
    parts, merged = export(pairs)
    assert (tree(pairs.path), tree(scenes.images)) == before
    wanted = expected(pairs, scenes)
    with h5py.File(merged.out_dir / "images.h5") as f:
        assert {name: np.array(f[name]).tobytes() for name in f} == wanted
        assert {f[name].dtype for name in f} == {np.dtype(np.uint8)}
    assert len(wanted) == 16 + 9 and "a.b.jpg" in wanted and "a.b_v1.jpg" in wanted
    for number in range(parts.spec.n_units):
        with h5py.File(partition(parts, number)) as f:
            stems = {n.rpartition("_v")[0] or n.rpartition(".")[0] for n in f}
            assert stems == {n.rpartition(".")[0] for n in f if "_v" not in n}  # an original lies with all of its variants


def test_what_lies_beside_it_tells_originals_and_variants(pairs, scenes):
    _, merged = export(pairs)
    wanted = expected(pairs, scenes)
    rows = pq.read_table(merged.out_dir / "manifest.parquet").to_pylist()
    assert {r["file"].removeprefix("images.h5/"): (r["size"], r["sha256"]) for r in rows} == {
        n: (len(d), hashlib.sha256(d).hexdigest()) for n, d in wanted.items()
    }
    assert all((r["class"], r["label"]) == (None, None) for r in rows)
    row = {r["file"]: r for r in rows}
    original, variant = row["images.h5/000000001022.jpg"], row["images.h5/000000001022_v0.jpg"]
    assert (original["caption"], original["seed"]) == (None, None) and variant["caption"] == "caption of 1022" and variant["seed"] > 0
    assert original["width"] == variant["width"] and original["unit"] == variant["unit"]
    card = (merged.out_dir / "README.md").read_text()
    assert "9 original images and 16 new ones" in card and "object-detection" in card
    assert len(json.loads((merged.out_dir / "classes.json").read_text())["classes"]) == 20


def test_bytes_do_not_depend_on_who_writes_them(pairs):
    parts, merged = export(pairs)
    units, whole = digests(parts), tree(merged.out_dir)
    files = [hashlib.sha256(partition(parts, n).read_bytes()).hexdigest() for n in range(parts.spec.n_units)]
    shutil.rmtree(parts.path)
    parts, _ = plan(pairs)
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "synth.worker", str(parts.path), "--n-jobs", "2", "--job-idx", str(i)],
            stderr=subprocess.DEVNULL,
        )
        for i in range(2)
    ]
    assert [w.wait(240) for w in workers] == [EXIT_OK] * 2
    assert (
        digests(parts) == units
        and [hashlib.sha256(partition(parts, n).read_bytes()).hexdigest() for n in range(parts.spec.n_units)] == files
    )
    shutil.rmtree(merged.out_dir)
    (merged.path / "done.json").unlink()
    partition(parts, 1).unlink()
    assert work(merged) == EXIT_OK and tree(merged.out_dir) == whole


def test_verify_finds_a_spoiled_original_and_a_lost_one_and_repair_makes_them_again(pairs):
    parts, merged = export(pairs)
    assert not problems(parts.path, deep=True) and not problems(merged.path, deep=True) and not problems(merged.path)
    path, whole = merged.out_dir / "images.h5", tree(merged.out_dir)
    with h5py.File(path, "r+") as f:
        f["000000001022.jpg"][100] ^= 1
    assert any("000000001022.jpg is not the picture of its unit" in p for p in problems(merged.path, deep=True, mend=True))
    assert work(merged) == EXIT_OK and tree(merged.out_dir) == whole
    with h5py.File(partition(parts, 0), "r+") as f:
        n = len(f)
        del f[next(name for name in f if "_v" not in name)]
    assert any(f"holds {n - 1} pictures, its units {n}" in p for p in problems(parts.path, mend=True))
    assert work(parts) == EXIT_OK and not problems(parts.path, deep=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "000000001022.jpg"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "has changed"),
        (lambda path: path.write_bytes(b"short"), "changed"),
    ],
)
def test_an_original_that_changed_since_is_named_with_what_to_do(tmp_path, capsys, spoil, said):
    scenes = make(tmp_path / "set", 6)
    pairs = pairs_stage(tmp_path / "runs", scenes, 2)
    spoil(scenes.images / "000000001022.jpg")
    parts, _ = plan(pairs)
    assert work(parts) == EXIT_BAD_INPUT
    err = capsys.readouterr().err
    assert said in err and "000000001022.jpg" in err and "put the file back as it was" in err


def test_originals_may_come_from_an_hdf5_file_of_either_form(tmp_path):
    scenes = make(tmp_path / "set", 4)
    pairs = pairs_stage(tmp_path / "runs", scenes, 2)
    data = {p.name: p.read_bytes() for p in scenes.images.iterdir()}
    place = tmp_path / "train_imgs.hdf5"
    with h5py.File(place, "w") as f:
        for n, (name, its) in enumerate(sorted(data.items())):
            f.create_dataset(name, data=np.frombuffer(its, np.uint8) if n % 2 else np.asarray(its))
    inputs = json.loads((pairs.path / "inputs.json").read_text())
    inputs["paths"]["images"] = str(place)
    (pairs.path / "inputs.json").write_text(json.dumps(inputs))
    _, merged = export(pairs)
    with h5py.File(merged.out_dir / "images.h5") as f:
        assert {name: np.array(f[name]).tobytes() for name in data} == data


def test_a_set_of_which_nothing_could_be_made_is_a_file_without_datasets(tmp_path):
    scenes = make(tmp_path / "set", 2)
    pairs = pairs_stage(tmp_path / "runs", scenes, 1, tuple((i["id"], 0) for i in json.loads(scenes.annotations.read_text())["images"]))
    _, merged = export(pairs)
    with h5py.File(merged.out_dir / "images.h5") as f:
        assert len(f) == 0
    assert not problems(merged.path, deep=True)


def test_packed_files_and_partitions_that_part_an_image_are_refused(pairs, capsys):
    with pytest.raises(InputError, match=r"export\.hdf5\.layout=packed"):
        check_settings(Hdf5PartsConfig("packed"), PairItems.keyed_only)
    assert work(plan(pairs, unit_size=5)[0]) == EXIT_BAD_INPUT
    assert "2 variants an image" in capsys.readouterr().err
    assert [partition_of_pairs(p, 3, 300) for p in (1, 3, 4, 100, 4096)] == [3, 3, 3, 99, 300]


@pytest.mark.parametrize("segmentations", [False, True])
def test_a_reader_of_pairs_opens_all_frames_and_finds_the_same_objects_in_two_of_them(pairs, tmp_path, segmentations):
    _, merged = export(pairs)
    config = AnnotationsConfig(str(tmp_path / "json"), MIN_AREA, 64.0, 1.0, segmentations)
    annotations = child(pairs.path.parent, "annotations", config, {"images": [pairs]})
    assert work(annotations) == EXIT_OK
    reader = PairsReader(tmp_path / "json" / "annotations.json", merged.out_dir / "images.h5")
    linked = alone = 0
    for i in range(len(reader)):
        key, ref, same = reader.pair(i)
        for frame in (key, ref):
            height, width = frame.image.shape[:2]
            assert (frame.boxes >= 0).all() and (frame.boxes[:, 2] <= width).all() and (frame.boxes[:, 3] <= height).all()
            assert len(set(frame.instances)) == len(frame.instances)
        assert all(key.labels[a] == ref.labels[b] for a, b in same)
        if key.name == ref.name:
            assert len(same) == len(key.instances)
            alone += 1
        elif "_v0" in key.name + ref.name and "_v1" not in key.name + ref.name:  # mirrored: its box too
            width = key.image.shape[1]
            for a, b in same:
                assert abs(key.boxes[a][0] - (width - ref.boxes[b][2])) <= 1.5 and abs(key.boxes[a][2] - (width - ref.boxes[b][0])) <= 1.5
            linked += len(same)
    assert linked > 5 and alone > 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The stages of a run of the recipe with the embedded model, by kind; drawn, not made by hand."""
    keys = [f"tracking.{k}={v}" for k, v in (SETTINGS | {"variants": 2, "steps": 3}).items()]
    exports = [
        "export=[hdf5,annotations]",
        "export.hdf5.partition=5",
        "export.annotations.min_variant_area=64",
        "export.annotations.segmentations=true",
    ]
    overrides = [
        *make(tmp_path_factory.mktemp("drawn") / "set", 4).overrides,
        *keys,
        *exports,
        f"runs_dir={tmp_path_factory.mktemp('runs')}",
    ]
    found = {}
    for stage in plan_point(typed(Composer().compose(overrides))).stages:
        found[stage.spec.kind] = StageFolder.create(stage.dataset_root, stage.spec)
        assert work(found[stage.spec.kind]) == EXIT_OK
    return found


def test_drawn_pairs_become_a_file_and_annotations_that_fit_each_other(whole):
    pairs, merged, annotations = whole["pairs"], whole["hdf5"], whole["annotations"]
    assert whole["hdf5_parts"].spec.unit_size == 4
    for folder in whole.values():
        assert not problems(folder.path, deep=True)
    coco = quiet(annotations.out_dir / "annotations.json")
    with h5py.File(merged.out_dir / "images.h5") as f:
        assert set(f) == {i["file_name"] for i in coco.dataset["images"]} and len(f) == 4 * 3
    reader = PairsReader(annotations.out_dir / "annotations.json", merged.out_dir / "images.h5")
    linked = sum(len(same) for key, ref, same in map(reader.pair, range(len(reader))) if key.name != ref.name)
    records = {s.json()["file_name"]: s.json() for s in pairs.samples()}
    checked = 0
    for annotation in coco.dataset["annotations"]:
        record = records.get(coco.imgs[annotation["image_id"]]["file_name"])
        if record is not None and not record["unchanged"]:
            mine = next(o for o in record["objects"] if o["id"] == annotation["ori_ann_id"])
            assert (mine["bbox"], mine["area"]) == (annotation["bbox"], annotation["area"]) and coco.annToMask(annotation).sum() == mine[
                "area"
            ]
            checked += 1
    assert linked > 2 and checked > 2


def test_what_cannot_be_is_refused_when_it_is_planned(tmp_path):
    overrides = [*make(tmp_path / "set", 2).overrides, "export=[hdf5]", "export.hdf5.layout=packed", f"runs_dir={tmp_path}"]
    with pytest.raises(InputError, match=r"export\.hdf5\.layout=packed: .*use "):
        plan_point(typed(Composer().compose(overrides)))


def test_exports_are_made_later_from_the_stage_alone(whole, tmp_path, capsys):
    path = str(whole["pairs"].path)
    assert export_main([path, "export=[annotations]", "dry_run=true"]) == EXIT_BAD_INPUT
    assert "export.annotations.min_variant_area: not set" in capsys.readouterr().out
    words = [
        "export=[annotations]",
        "export.annotations.min_variant_area=64",
        f"export.annotations.out={tmp_path / 'later'}",
        "export.annotations.segmentations=true",
    ]
    assert subprocess.run([sys.executable, "launch/export.py", path, *words], cwd=REPO, capture_output=True).returncode == EXIT_OK
    assert (tmp_path / "later" / "annotations.json").read_bytes() == (whole["annotations"].out_dir / "annotations.json").read_bytes()
