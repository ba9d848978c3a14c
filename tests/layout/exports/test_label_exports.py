"""Exports of layout labels: what others read of them, equal stems, pictures that are turned, kills, and verification."""

import ast
import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from launch.export import main
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.images.sources.base import Input
from synth.images.sources.listing import NAME, ListingWriter
from synth.layout.exports import reading
from synth.layout.exports.forms import label_file, layoutsam_row
from synth.layout.exports.layout_labels import beside
from synth.layout.records import Anno, Record
from synth.layout.schema import violations
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, Upstream
from tests.configs import CocoConfig, Hdf5Config, Hdf5PartsConfig, LayoutLabelsConfig, LayoutSamConfig, SacapConfig, WebDatasetConfig
from tests.export.conftest import pictures as images_of_ours
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, work
from tests.layout.exports.consumers import MOST, instance_diffusion, rich_context
from tests.layout.exports.labels import CAPTION, EVIL, TORN, committed, labels_stage, picture, pictures
from tests.verify.test_verify import edit, problems

N, TOMBSTONE, TURNED = 6, 2, 3  # slots, and two of them
SHARDED = ("layoutsam", "layout_webdataset")
CONFIGS = {
    "layout_labels": LayoutLabelsConfig(image=True),
    "coco": CocoConfig(),
    "sacap": SacapConfig(),
    "layoutsam": LayoutSamConfig(),
    "layout_webdataset": WebDatasetConfig(shuffle_seed=-1),
}


def export(labels: StageFolder, kind: str, config=None) -> StageFolder:
    return child(labels.path.parent, kind, config or CONFIGS[kind], {"images": [labels]}, labels.spec.slots, 4, 4 if kind in SHARDED else 2)


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> StageFolder:
    return labels_stage(tmp_path_factory.mktemp("labels"), pictures(boxes=25))


@pytest.fixture(scope="module")
def done(labels) -> dict[str, StageFolder]:
    made = {kind: export(labels, kind) for kind in CONFIGS}
    assert [work(stage) for stage in made.values()] == [EXIT_OK] * len(made)
    return made


def known(boxes: int = 25) -> dict[int, Record]:
    """slot -> record"""
    return {slot: record for slot, (_, record) in enumerate(pictures(boxes=boxes).values()) if record}


# -- as their readers read them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["caption", "category_name"])
def test_rich_context_s_loader_finds_every_picture_with_its_boxes(done, field):
    out = done["layout_labels"].out_dir
    samples = rich_context(out, out / "labels", field=field)
    assert len(samples) == len(known())
    for sample, record in zip(samples, known().values(), strict=True):
        assert sample["pixels"].shape == (record.height, record.width, 3) and sample["caption"] == record.caption
        assert sample["boxes"] == [[x, y, x + w, y + h] for x, y, w, h in (a.bbox for a in record.annos)][:MOST]
        names = [(a.caption or a.label) if field == "caption" else a.label for a in record.annos][:MOST]
        assert [label.removesuffix("_0") for label in sample["labels"]] == names
    assert len(samples[1]["labels"]) == MOST and (field == "caption" or samples[1]["labels"] == ["cup_0"] * (MOST - 1) + ["cup"])


def test_instance_diffusion_s_loader_reads_pictures_and_masks_out_of_the_files(done):
    items = instance_diffusion(done["layout_labels"].out_dir)
    assert len(items) == len(known())
    for item, record in zip(items, known().values(), strict=True):
        assert item["image"].size == (record.width, record.height) and len(item["segs"]) == len(record.annos)
        for mask, anno in zip(item["segs"], record.annos, strict=True):
            x, y, w, _ = anno.bbox
            assert mask.shape == (record.height, record.width) and mask.any() and not mask[:, x + w :].any() and not mask[:y].any()


def test_equal_stems_in_two_folders_are_two_files_that_tell_what_they_were(done, labels):
    out = done["layout_labels"].out_dir
    lines = (out / "train.txt").read_text().splitlines()
    assert lines == [f"labels/00000/label_{slot:09d}.json" for slot in known()]
    told = [json.loads((out / line).read_text()) for line in lines[:2]]
    schema = json.loads((out / "label.schema.json").read_text())
    assert [list(violations(json.loads((out / line).read_text()), schema)) for line in lines] == [[]] * len(lines)
    assert list(violations(told[0] | {"annos": [{**told[0]["annos"][0], "area": 0, "id": 1}]}, schema)) == [
        "annos[0].id is 1, expected 0", "annos[0].area is 0, below 1",
    ]  # fmt: skip
    assert [t["source"] for t in told] == ["00000/000000012.jpg", "00001/000000012.jpg"]
    for item in told:
        assert (out / item["file_name"]).read_bytes() == (labels.input_path("source") / item["source"]).read_bytes()


def test_names_of_img2dataset_are_kept_and_others_are_refused_by_name(tmp_path, capsys):
    given = pictures()
    record = given["00000/000000012.jpg"][1]
    ours = labels_stage(tmp_path / "a", {"00000/000000012.jpg": given["00000/000000012.jpg"]})
    config = LayoutLabelsConfig(pictures="none", names="stem")
    stage = export(ours, "layout_labels", config)
    assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
    source = ours.input_path("source")
    (tmp_path / "a" / "cc3m-images").symlink_to(source)
    (source / "00000" / "000000012.json").write_bytes(beside(record.width, record.height, ""))
    (sample,) = rich_context(tmp_path / "a", stage.out_dir / "labels")
    assert sample["image"].endswith("cc3m-images/00000/000000012.jpg") and len(sample["boxes"]) == 2
    assert [p.name for p in (stage.out_dir / "labels").rglob("*.json")] == ["label_000000012.json"]
    for name, why in (("00001/000000012.jpg", "in folder 00000"), ("deep/er/x.png", "is no picture of img2dataset's")):
        odd = labels_stage(tmp_path / name.replace("/", "_"), {name: given[name]})
        assert work(export(odd, "layout_labels", config)) == EXIT_BAD_INPUT
        told = capsys.readouterr().err
        assert name in told and why in told and "names=number" in told


def test_two_pictures_of_one_number_are_refused_and_nothing_is_called_whole(tmp_path, capsys):
    data, record = pictures()["00000/000000012.jpg"]
    twice = {name: (data, Record(name, 64, 48, "", record.tags, record.annos, {}, record.sha256)) for name in ("12.jpg", "00000/12.jpg")}
    stage = export(labels_stage(tmp_path, twice), "layout_labels", LayoutLabelsConfig(pictures="none", names="stem"))
    assert work(stage) == EXIT_BAD_INPUT and "two pictures are called labels/00000/label_12.json" in capsys.readouterr().err
    assert not (stage.out_dir / ".synthset.json").exists()


def test_pycocotools_loads_the_coco_form_with_scores_captions_and_masks(done):
    out = done["coco"].out_dir
    coco = COCO(str(out / "annotations.json"))
    assert coco.getImgIds() == [slot + 1 for slot in known()]
    names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == sorted({a.label for r in known().values() for a in r.annos})
    for slot, record in known().items():
        (image,) = coco.loadImgs([slot + 1])
        with Image.open(out / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"]) == (record.width, record.height)
        annotations = coco.loadAnns(coco.getAnnIds([slot + 1]))
        said = [(tuple(a["bbox"]), a["score"], names[a["category_id"]], a.get("caption")) for a in annotations]
        assert said == [(a.bbox, a.score, a.label, a.caption) for a in record.annos]
        assert [a["area"] for a in annotations] == [int(coco.annToMask(a).sum()) for a in annotations]
    assert len({a["id"] for a in coco.dataset["annotations"]}) == sum(len(r.annos) for r in known().values())


def test_sa_z_s_form_has_masks_and_captions_keyed_by_image(done):
    out = done["sacap"].out_dir
    entries = json.loads((out / "SA-Z.json").read_text())
    assert list(entries) == [f"sa_{slot:09d}" for slot in known()]
    for (key, entry), record in zip(entries.items(), known().values(), strict=True):
        assert (entry["image_id"], entry["folder_name"], entry["prompt"]) == (key, "sa_000000", record.caption)
        assert Image.open(out / entry["image_path"]).size == (record.width, record.height)
        for mask, anno in zip(entry["mask_annotation"], record.annos, strict=True):
            assert int(coco_masks.decode(mask["segmentation"]).sum()) == mask["area"] and tuple(mask["bbox"]) == anno.bbox
            assert mask["caption"] == (anno.caption or anno.label) and mask["predicted_iou"] == anno.iou


def test_datasets_loads_layoutsam_s_columns_and_its_lists_are_literals(done, tmp_path):
    from datasets import load_dataset

    rows = load_dataset(str(done["layoutsam"].out_dir / "data"), split="train", cache_dir=str(tmp_path))
    assert rows.column_names == [
        *("image", "image_id", "global_caption", "detail_region_captions", "region_captions", "bbox_list", "width", "height", "file_name")
    ]
    for row, record in zip(rows, known().values(), strict=True):
        assert row["image"].size == (row["width"], row["height"]) == (record.width, record.height)
        assert row["global_caption"] == record.caption and row["file_name"] == record.image
        assert ast.literal_eval(row["bbox_list"]) == [[x, y, x + w, y + h] for x, y, w, h in (a.bbox for a in record.annos)]
        assert ast.literal_eval(row["region_captions"]) == json.loads(row["region_captions"]) == [a.label for a in record.annos]
        assert ast.literal_eval(row["detail_region_captions"]) == [a.caption or a.label for a in record.annos]


def test_webdataset_has_the_record_beside_the_picture(done):
    samples: dict[str, dict[str, bytes]] = {}
    for path in sorted(done["layout_webdataset"].out_dir.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ext = member.name.partition(".")
                samples.setdefault(key, {})[ext] = tar.extractfile(member).read()
    assert list(samples) == [f"{slot:09d}" for slot in known()]
    for files, record in zip(samples.values(), known().values(), strict=True):
        told = json.loads(files.pop("json"))
        assert Record.of_json(told, "", "").annos == record.annos and told["source_sha256"] == record.sha256
        assert files.pop("txt", b"").decode() == record.caption
        (data,) = files.values()
        assert Image.open(io.BytesIO(data)).size == (record.width, record.height)


def test_hdf5_holds_each_picture_with_its_record(labels, done, capsys):
    parts = child(labels.path.parent, "hdf5_parts", Hdf5PartsConfig("keyed"), {"images": [labels]}, N, 4, 4)
    stage = child(labels.path.parent, "hdf5", Hdf5Config(), {"parts": [parts], "images": [labels]})
    assert (
        [work(s) for s in (parts, stage)] == [EXIT_OK] * 2 and not problems(parts.path, deep=True) and not problems(stage.path, deep=True)
    )
    with h5py.File(stage.out_dir / "images.h5") as h5:
        names = [n for n in h5 if n.endswith(".json")]
        assert names == [f"{slot:09d}.json" for slot in known()] and len(h5) == 2 * len(names)
        for name, record in zip(names, known().values(), strict=True):
            assert Record.of_json(json.loads(np.array(h5[name]).tobytes()), "", "").annos == record.annos
        for path in (done["coco"].out_dir / "images" / "00000").iterdir():
            assert np.array(h5[path.name]).tobytes() == path.read_bytes()
    assert "| cup | 25 |" in (stage.out_dir / "README.md").read_text() and not (stage.out_dir / "classes.json").exists()
    assert main([str(labels.path), "export=[hdf5]", "export.hdf5.layout=packed"]) == EXIT_BAD_INPUT
    assert "layout labels are many a picture, and no class; use export.hdf5.layout=keyed" in capsys.readouterr().out


# -- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_keep_their_bytes_unless_exif_turns_them_or_few_know_their_format(done, labels):
    source, out = labels.input_path("source"), done["coco"].out_dir / "images" / "00000"
    names = list(pictures())
    for slot, ext in ((0, "jpg"), (1, "jpg"), (4, "png")):
        assert (out / f"{slot:09d}.{ext}").read_bytes() == (source / names[slot]).read_bytes()
    for slot, ext in ((TURNED, "jpg"), (5, "png")):
        shown = Image.open(out / f"{slot:09d}.{ext}")
        assert shown.size == (known()[slot].width, known()[slot].height) and 0x0112 not in shown.getexif()
    assert np.array_equal(np.asarray(Image.open(out / "000000005.png")), np.asarray(Image.open(source / names[5])))
    assert "encoded anew: EXIF turned it, or few readers know its format | 2 |" in (done["coco"].out_dir / "README.md").read_text()


def test_one_that_was_encoded_anew_need_not_come_out_the_same_where_it_is_verified(done, monkeypatch):
    monkeypatch.setattr(reading, "encode_image", lambda *_: b"another version of Pillow")
    assert all(not problems(stage.path, deep=True) for stage in done.values())


def test_another_picture_than_the_labelled_one_ends_an_export_with_its_name(tmp_path, capsys):
    given = {"00000/000000012.jpg": pictures()["00000/000000012.jpg"]}
    labels = labels_stage(tmp_path, given)
    file = labels.input_path("source") / "00000" / "000000012.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] + b"abc")
    stage = export(labels, "coco")
    assert work(stage) == EXIT_BAD_INPUT and "000000012.jpg: is not the picture that was labelled" in capsys.readouterr().err
    file.write_bytes(whole)
    assert work(stage) == EXIT_OK


def test_pictures_of_a_stage_of_ours_and_of_tars_are_exported_as_those_of_folders_are(tmp_path):
    images = images_of_ours(tmp_path / "runs")
    records = []
    for stored in images.samples():
        sha256, name = hashlib.sha256(stored.read("png")).hexdigest(), stored.key
        records.append(Record(name, 6, 4, f"caption {stored.slot}", ("fox",), (Anno((1, 0, 3, 4), 0.5, "fox"),), {}, sha256))
    ours = committed(tmp_path / "runs", records, upstream={"images": (Upstream(f"../{images.path.name}", images.spec.fingerprint),)})
    (tmp_path / "tars").mkdir()
    listing = ListingWriter()
    with tarfile.open(tmp_path / "tars" / "00000.tar", "w") as tar:
        for stored in images.samples():
            info = tarfile.TarInfo(f"{stored.key}.png")
            info.size, at = len(stored.read("png")), tar.fileobj.tell() + tarfile.BLOCKSIZE
            tar.addfile(info, io.BytesIO(stored.read("png")))
            listing.add(Input(stored.key, "00000.tar", info.size, at))
    lines, identity = listing.finish()
    packed = committed(tmp_path / "tarred", records, inputs={"source": InputFile(str(tmp_path / "tars"), identity)}, files={NAME: lines})
    trees = []
    for labels in (ours, packed):
        stages = [export(labels, kind) for kind in ("coco", "layout_webdataset")]
        assert [work(s) for s in stages] == [EXIT_OK] * 2 and not [p for s in (*stages, labels) for p in problems(s.path, deep=True)]
        trees.append([{n: d for n, d in tree(s.out_dir).items() if n[0] != "." and n != "README.md"} for s in stages])
    assert trees[0] == trees[1] and len(trees[0][0]) == 24 + 2


# -- the promises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_three_workers_and_a_place_that_lost_files_have_the_bytes_of_one(labels, done, kind):
    stage = done[kind]
    one, units = tree(stage.out_dir), tree(stage.path / "units")
    shutil.rmtree(stage.path / "units")
    (stage.path / "done.json").unlink()
    os.rename(stage.out_dir / ".synthset.json", stage.out_dir / ".synthset.claim.json")
    for name in list(one)[::2]:
        (stage.out_dir / name).unlink(missing_ok=True)
    assert {work(StageFolder.open(stage.path), job, 3) for job in (2, 0, 1)} == {EXIT_OK}
    assert tree(stage.out_dir) == one and tree(stage.path / "units") == units
    for name in [n for n in one if n.endswith((".jpg", ".txt", ".tar", ".parquet"))]:  # the units stay, and write them anew
        (stage.out_dir / name).unlink()
    (stage.path / "done.json").unlink()
    assert work(StageFolder.open(stage.path)) == EXIT_OK and tree(stage.out_dir) == one


@pytest.mark.parametrize("kind", CONFIGS)
def test_whole_exports_are_whole_and_their_cards_count(done, kind):
    stage = done[kind]
    assert not problems(stage.path, deep=True)
    card = (stage.out_dir / "README.md").read_text()
    assert "5 pictures" in card and "| cup | 25 |" in card and "cannot be decoded" in card and "<script" not in card
    reasons = stage.reader(0).index.tombstones
    assert reasons == {TOMBSTONE: TORN}


def test_verification_names_edited_files_and_labels_that_changed(labels, tmp_path):
    stage = export(labels, "layout_labels", LayoutLabelsConfig(str(tmp_path / "out")))
    assert work(stage) == EXIT_OK
    edit(tmp_path / "out/labels/00000/label_000000000.json", b'"bbox":[4,', b'"bbox":[9,')
    edit(tmp_path / "out/train.txt", b"label_000000001", b"label_000000007")
    (tmp_path / "out/cc3m-images/00000/000000003.json").unlink()
    found = problems(stage.path, deep=True)
    assert [Path(p.split(": ")[0]).name for p in found] == ["label_000000000.json", "000000003.json", "train.txt"]
    assert [Path(p.split(": ")[0]).name for p in problems(stage.path)] == ["000000003.json", "train.txt"]


def test_a_picture_that_was_exchanged_after_an_export_is_named(tmp_path):
    given = {"00000/000000012.jpg": pictures()["00000/000000012.jpg"]}
    labels = labels_stage(tmp_path, given)
    stage = export(labels, "layoutsam")
    assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
    file = labels.input_path("source") / "00000" / "000000012.jpg"
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    assert any("is not the picture that was labelled" in p for p in problems(stage.path, deep=True))


def test_objects_without_a_mask_are_left_out_of_sa_z_and_counted(tmp_path):
    data, record = pictures()["00000/000000012.jpg"]
    bare = replace(record, annos=(record.annos[0], replace(record.annos[1], mask=None, iou=None)))
    stage = export(labels_stage(tmp_path, {record.image: (data, bare)}), "sacap")
    assert work(stage) == EXIT_OK
    (entry,) = json.loads((stage.out_dir / "SA-Z.json").read_text()).values()
    assert [m["id"] for m in entry["mask_annotation"]] == [0]
    assert "| objects without one | 1 |" in (stage.out_dir / "README.md").read_text()


def test_boxes_without_masks_and_captions_are_exported_as_far_as_they_go(tmp_path):
    labels = labels_stage(tmp_path, pictures(masks=False))
    stages = [export(labels, kind) for kind in ("layout_labels", "coco", "layoutsam", "layout_webdataset")]
    assert [work(s) for s in stages] == [EXIT_OK] * 4
    coco = json.loads((stages[1].out_dir / "annotations.json").read_text())
    assert all("segmentation" not in a and a["area"] == a["bbox"][2] * a["bbox"][3] for a in coco["annotations"])


# -- chosen by name --------------------------------------------------------------------------------------------------


def test_webdataset_of_labels_is_asked_for_by_its_one_name(labels, capsys):
    assert main([str(labels.path), "export=[webdataset]", "export.webdataset.shard=4", "plan_only=true"]) == EXIT_OK
    (planned,) = labels.path.parent.glob("webdataset-*")
    assert (StageFolder.open(planned).spec.kind, StageFolder.open(planned).spec.n_units) == ("layout_webdataset", 2)
    assert main([str(labels.path), "export=[annotations]"]) == EXIT_BAD_INPUT
    told = capsys.readouterr().out
    assert "is made of tracking pairs, and masks makes layout labels; its exports are" in told and "webdataset" in told and "coco" in told


def test_masks_that_nobody_made_are_told_before_anything_is_computed(tmp_path, capsys):
    labels = labels_stage(tmp_path, pictures(masks=False), segmenter=False)
    assert main([str(labels.path), "export=[sacap]"]) == EXIT_BAD_INPUT
    assert "export.sacap: needs the masks of objects, and tags makes none; choose segmenter=sam" in capsys.readouterr().out


# -- forms -----------------------------------------------------------------------------------------------------------


def test_a_label_file_has_every_field_of_its_makers():
    record = Record("a/b.jpg", 64, 48, "alt", ("fox",), (Anno((1, 2, 30, 40), 0.8712, "fox"),), {"nms": 2}, "")
    made = label_file(record, "images/b.jpg", "mine")
    assert made == {
        "caption": "alt", "width": 64, "height": 48, "file_name": "images/b.jpg", "is_det": 0, "dataset_name": "mine", "data_id": 1,
        "source": "a/b.jpg", "tags": ["fox"], "dropped": {"nms": 2},
        "annos": [{
            "id": 0, "isfake": 0, "isreflected": 0, "bbox": [1, 2, 30, 40], "mask_value": 1, "pred_score": 0.8712, "category_id": 0,
            "data_id": 0, "category_name": "fox", "text_embedding_before": "", "caption": "fox", "blip_clip_embeddings": "", "is_stuff": 0,
            "is_thing": 1, "area": 1200,
        }],
    }  # fmt: skip


def test_lists_in_text_are_python_s_and_json_s_whatever_a_caption_holds():
    texts = [CAPTION, EVIL, "\\u0041 \\", "\x00\x7f\u2028", "'", "\udcff half", "\U0001f98a" * 3]
    annos = tuple(Anno((0, 0, 1, 1), 1.0, "x", caption=t) for t in texts)
    told = layoutsam_row(Record("x", 1, 1, "", ("x",), annos), "k", "x")["detail_region_captions"]
    expected = [t.encode("utf-8", "replace").decode() for t in texts]
    assert ast.literal_eval(told) == json.loads(told) == expected


def test_a_square_of_the_larger_side_is_no_border_to_cut(tmp_path):
    (tmp_path / "cc3m-images" / "00000").mkdir(parents=True)
    (tmp_path / "cc3m-images" / "00000" / "7.jpg").write_bytes(picture(64, 32))
    (tmp_path / "cc3m-images" / "00000" / "7.json").write_bytes(beside(64, 32, "x"))
    (tmp_path / "labels" / "00000").mkdir(parents=True)
    label = label_file(Record("7.jpg", 64, 32, "", ("x",), (Anno((1, 2, 3, 4), 1.0, "x"),)), "7.jpg", "")
    (tmp_path / "labels" / "00000" / "label_7.json").write_text(json.dumps(label))
    (sample,) = rich_context(tmp_path, tmp_path / "labels")
    assert sample["pixels"].shape == (32, 64, 3) and sample["boxes"] == [[1, 2, 4, 6]]
