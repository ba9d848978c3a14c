"""Exports of layout labels as others read them, and the forms themselves."""

import ast
import io
import json
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from launch.export import main
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.layout.exports.forms import label_file, layoutsam_row
from synth.layout.exports.layout_labels import LayoutLabels, beside
from synth.layout.records import Anno, Record
from synth.schema import violations
from tests.configs import Hdf5Config, Hdf5PartsConfig, LayoutLabelsConfig
from tests.fixtures_images import child, work
from tests.layout.exports.conftest import N, export, known
from tests.layout.exports.consumers import MOST, instance_diffusion, rich_context
from tests.layout.exports.labels import CAPTION, EVIL, labels_stage, picture, pictures
from tests.verify.test_verify import problems

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


def test_an_object_without_a_mask_has_an_empty_one_beside_those_of_others(tmp_path):
    data, record = pictures(boxes=3)["00001/000000012.jpg"]
    first, second, third = record.annos
    stage = export(
        labels_stage(tmp_path, {record.image: (data, replace(record, annos=(first, replace(second, mask=None, iou=None), third)))}),
        "layout_labels",
        LayoutLabelsConfig(image=True),
    )
    assert work(stage) == EXIT_OK
    (item,) = instance_diffusion(stage.out_dir)
    masks = [coco_masks.decode({"size": list(a.mask.size), "counts": a.mask.counts}).astype(bool) for a in (first, third)]
    assert [int(mask.sum()) for mask in item["segs"]] == [int(masks[0].sum()), 0, int(masks[1].sum())]
    assert np.array_equal(item["segs"][2], masks[1])
    schema = json.loads((stage.out_dir / "label.schema.json").read_text())
    label = json.loads(next(stage.out_dir.rglob("label_*.json")).read_text())
    computed = [anno | {"text_embedding_before": "AAAA", "blip_clip_embeddings": "AAAA"} for anno in label["annos"]]
    assert list(violations(label | {"annos": computed}, schema)) == []


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


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("00000.tar/000000012", "000000012"), ("00012.tar/000120034", "000120034"), ("000120034", "000120034"),
        ("00001.tar/000000012", "loaders look for 000000012 in folder 00000"), ("a.tar/000000012", "is no picture of img2dataset's"),
    ],
)  # fmt: skip
def test_names_of_members_of_img2dataset_s_tars_are_kept_by_the_same_rule(done, name, stem):
    layout_labels = LayoutLabels(done["layout_labels"])
    layout_labels.config = replace(layout_labels.config, names="stem")
    item = SimpleNamespace(record=Record(name, 64, 48))
    if stem.isdigit():
        assert layout_labels.stem_of(item) == stem
    else:
        with pytest.raises(InputError, match=stem):
            layout_labels.stem_of(item)


def test_the_card_tells_of_img2dataset_s_borders(done):
    assert "`resize_mode=border`" in (done["layout_labels"].out_dir / "README.md").read_text()


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
