"""Exports of layout labels: pictures that are turned, kills, verification, and how they are chosen."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from launch.export import main
from launch.plan import exports
from launch.plan.node import Node
from launch.plan.planned import PlannedStage
from launch.verify import verify
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.images.sources.base import Input
from synth.images.sources.listing import NAME, ListingWriter
from synth.images.sources.read import ListedSource
from synth.layout.config import BoxCaptionerConfig, BoxCaptionsConfig
from synth.layout.exports import reading
from synth.layout.records import Anno, Record
from synth.layout.source import PictureSource
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, Upstream, canonical
from tests.configs import Hdf5PartsConfig, LabelsPageConfig, LayoutLabelsConfig
from tests.export.conftest import pictures as images_of_ours
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, commit_units, work
from tests.layout.exports.conftest import CONFIGS, TOMBSTONE, TURNED, N, export, known
from tests.layout.exports.labels import TORN, committed, labels_stage, pictures
from tests.verify.test_verify import edit, problems, rewrite

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


def test_a_card_begins_its_limits_with_the_toy_models_that_made_the_labels(tmp_path):
    labels = labels_stage(tmp_path, pictures())
    told = json.loads((labels.path / "inputs.json").read_bytes())
    told["settings"] = {**told.get("settings", {}), "notes": ["TOY MODEL: detector is tiny_owlv2", "2 pictures are not read"]}
    (labels.path / "inputs.json").write_text(json.dumps(told))
    stage = export(StageFolder.open(labels.path), "coco")
    assert work(stage) == EXIT_OK
    limits = (stage.out_dir / "README.md").read_text().split("## Known limits\n")[1]
    assert limits.startswith("- **TOY MODEL: detector is tiny\\_owlv2**\n- Tags, boxes") and "not read" not in limits


def test_verification_names_edited_files_and_labels_that_changed(labels, tmp_path):
    stage = export(labels, "layout_labels", LayoutLabelsConfig(str(tmp_path / "out")))
    assert work(stage) == EXIT_OK
    edit(tmp_path / "out/labels/00000/label_000000000.json", b'"bbox":[4,', b'"bbox":[9,')
    edit(tmp_path / "out/train.txt", b"label_000000001", b"label_000000007")
    (tmp_path / "out/cc3m-images/00000/000000003.json").unlink()
    found = problems(stage.path, deep=True)
    assert [Path(p.split(": ")[0]).name for p in found] == ["label_000000000.json", "000000003.json", "train.txt"]
    assert [Path(p.split(": ")[0]).name for p in problems(stage.path)] == ["000000003.json", "train.txt"]


@pytest.mark.parametrize("facts", [{"files": {}}, {"files": {"../x": [1, "0" * 64]}}, {"width": -1}, {"annos": [{"bbox": "x"}]}])
def test_units_of_others_end_in_words(tmp_path, facts):
    given = {"00000/000000012.jpg": pictures()["00000/000000012.jpg"]}
    for kind in ("layout_labels", "coco")[: 1 if facts == {"files": {}} else 2]:  # COCO's form may have no file a picture
        stage = export(labels_stage(tmp_path / kind, given), kind)
        assert work(stage) == EXIT_OK
        ((slot, key, record),) = [(s.slot, s.key, s.json()) for s in stage.samples()]
        rewrite(stage, 0, [Sample(slot, key, {"json": canonical(record | facts)})])
        assert problems(stage.path, deep=True)
        (stage.path / "done.json").unlink()
        assert work(StageFolder.open(stage.path)) == EXIT_BAD_INPUT


def test_a_picture_that_was_exchanged_after_an_export_is_named(tmp_path):
    given = {"00000/000000012.jpg": pictures()["00000/000000012.jpg"]}
    labels = labels_stage(tmp_path, given)
    stage = export(labels, "layoutsam")
    assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
    file = labels.input_path("source") / "00000" / "000000012.jpg"
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    assert any("is not the picture that was labelled" in p for p in problems(stage.path, deep=True))


def test_exports_are_whole_where_pictures_are_gone_which_is_noted(tmp_path):
    labels = labels_stage(tmp_path, pictures(boxes=25))
    stages = [export(labels, kind) for kind in CONFIGS]
    stages += [child(labels.path.parent, "labels_page", LabelsPageConfig(), {"images": [labels]})]
    stages += [child(labels.path.parent, "hdf5_parts", Hdf5PartsConfig("keyed"), {"images": [labels]}, N, 4, 4)]
    assert [work(stage) for stage in stages] == [EXIT_OK] * len(stages)
    source = labels.input_path("source")
    (source / "00000" / "000000012.jpg").unlink()
    for place, said in ((source, "with their labels: 1; the first"), (tmp_path / "elsewhere", "is not there; mount it")):
        if place != source:
            source.rename(place)
        for stage in stages:
            ((found, _),) = verify(stage.path, True, False, lambda *_: None)
            assert not found.problems and [said in n for n in found.notes if "compared" in n] == [True], stage.path
    edit(stages[0].out_dir / "labels/00000/label_000000000.json", b'"bbox":[4,', b'"bbox":[9,')
    assert len(problems(stages[0].path, deep=True)) == 1


def test_pictures_are_looked_up_many_at_once_and_one_that_cannot_be_is_no_fault_of_those_beside_it(labels, monkeypatch):
    rows, asked = ListedSource.rows, []

    def noted(self, start, stop):
        asked.append((start, stop))
        if start <= 4 < stop:
            raise InputError("slot 4 is odd")
        return rows(self, start, stop)

    source, every = PictureSource(labels), PictureSource(labels).rows(0, N)
    assert [source.at(slot) for slot in (5, 0, 3)] == [every[slot] for slot in (5, 0, 3)]
    monkeypatch.setattr(ListedSource, "rows", noted)
    assert source.at(4) == every[4] and asked == []
    assert PictureSource(labels).at(3) == every[3] and asked == [(0, N), (3, 4)]
    with pytest.raises(InputError, match="slot 4 is odd"):
        PictureSource(labels).at(4)


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


def test_masks_that_nobody_made_are_told_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "plan", lambda node: ["planned"])
    captioner = BoxCaptionerConfig(kind="blip2", path="", repo="", revision="", batch_size=2)
    for segmenter in (False, True):
        labels = labels_stage(tmp_path / str(segmenter), pictures(masks=segmenter), segmenter)
        config, inputs = BoxCaptionsConfig(box_captioner=captioner), {"source": labels.input("source")}
        captions = child(labels.path.parent, "box_captions", config, {"layout": [labels]}, N, 4, 2, inputs)
        samples = {s.slot: Sample(s.slot, s.key, {"json": s.read("json")}) for s in labels.samples()}
        commit_units(captions, [samples.get(slot) or Tombstone(slot, TORN) for slot in range(N)])
        for stage in (labels, captions):
            node = Node("sacap", "sacap", None, stage.path.parent, {"images": (PlannedStage(stage.spec, stage.path.parent),)})
            if segmenter:
                assert exports.sacap(node) == ["planned"]
            else:
                with pytest.raises(
                    InputError, match=r"export\.sacap: needs the masks of objects, and tags makes none; choose segmenter=sam"
                ):
                    exports.sacap(node)


def test_a_chain_that_leaves_masks_out_is_known_before_it_is_there():
    def node(segmenter: str, *stages: str, detector: str = "owlv2") -> Node:
        kinds = {kind: SimpleNamespace(kind=kind) for kind in stages}
        chosen = {name: SimpleNamespace(kind=kind) for name, kind in (("segmenter", segmenter), ("detector", detector))}
        config = SimpleNamespace(recipe=SimpleNamespace(stages=kinds), **chosen)
        return Node("sacap", "sacap", config, Path("/nowhere"))

    assert exports._unmasked(node("none", "boxes", "masks")) and exports._unmasked(node("sam", "boxes"))
    assert not exports._unmasked(node("sam", "boxes", "masks"))
    assert not exports._unmasked(node("none", "boxes", "masks", detector="sam3"))
