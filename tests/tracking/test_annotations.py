"""annotations: the rules and ids of OVTrack's files, whatever is made of an image; the same bytes again, and after a kill."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.kinds import config_of
from synth.tracking.listing import HEAD, INDEX, NAME, AnnotatedListing, Head, ListingWriter, head_file
from synth.tracking.videos import Rules, Variant, VideosWriter, Warped
from tests.configs import AnnotationsConfig
from tests.export.test_image_folder import tree
from tests.faults.test_trouble import late
from tests.fixtures_images import child, work
from tests.stages import probe
from tests.tracking import mirrored_pairs as by_hand
from tests.tracking.mirrored_pairs import MIN_AREA, pairs_stage, quiet
from tests.tracking.ovtrack_rules import reference
from tests.tracking.scenes import make
from tests.verify.test_verify import problems

DEAD = ((1001, 0), (1022, 1), (1029, 0), (1029, 1))  # the first of two, the second of two, both
RULES = {"min_area": MIN_AREA, "min_variant_area": 64.0, "min_side": 8.0}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten images: with a crowd, without an object; one in a folder, one with a name that is not plain; not in the order of their ids."""
    found = make(tmp_path_factory.mktemp("set") / "set", 10)
    data = json.loads(found.annotations.read_text())
    (found.images / "sub").mkdir()
    for image, name in ((data["images"][4], "sub/000000001029.x.jpg"), (data["images"][5], "caf\u00e9 'a\" <b>.jpg")):
        (found.images / image["file_name"]).rename(found.images / name)
        image["file_name"] = name
    data["images"] = data["images"][5:] + data["images"][:5]
    data["annotations"][2]["area"] += 0.37  # numbers stay as they are written
    data["categories"][0]["synonyms"] = ["caf\u00e9", "\u2028"]
    found.annotations.write_text(json.dumps(data))
    return found


@pytest.fixture(scope="module")
def pairs(scenes, tmp_path_factory):
    return pairs_stage(tmp_path_factory.mktemp("runs") / "runs" / "s", scenes, 2, DEAD)


def plan(pairs, out="", **config):
    return child(pairs.path.parent, "annotations", AnnotationsConfig(str(out), **(RULES | config)), {"images": [pairs]})


def made_of(pairs, scenes) -> dict:
    """Name of a variant -> its objects, None if there is no sample; unchanged ones are left out."""
    found = {
        by_hand.variant_name(i["file_name"], v): None
        for i in json.loads(scenes.annotations.read_text())["images"]
        for v in range(config_of(pairs).variants)
    }
    for stored in pairs.samples():
        record = stored.json()
        if record["unchanged"]:
            del found[record["file_name"]]
        else:
            found[record["file_name"]] = record["objects"]
    return found


@pytest.mark.parametrize("segmentations", [False, True])
def test_images_annotations_videos_and_ids_are_those_of_the_rules_told_plainly(pairs, scenes, tmp_path, segmentations):
    folder = plan(pairs, tmp_path / "out", segmentations=segmentations)
    assert work(folder) == EXIT_OK
    base, found = json.loads(scenes.annotations.read_text()), json.loads((folder.out_dir / "annotations.json").read_text())
    expected = reference(base, made_of(pairs, scenes), 2, RULES | {"segmentations": segmentations})
    assert list(found) == ["images", "annotations", "videos", "categories"]
    for name in found:
        assert found[name] == expected[name], name
    assert len(base["images"]) == 10 and len(found["videos"]) == 18 and len(found["images"]) == 9 * 2 + 16


def test_counts_say_what_was_left_out_and_why(pairs, scenes, tmp_path):
    folder = plan(pairs, tmp_path / "out")
    assert work(folder) == EXIT_OK
    with folder.reader(0) as reader:
        counts = json.loads(reader.read(reader.index.samples[0], "json"))["counts"]
    found = json.loads((folder.out_dir / "annotations.json").read_text())
    single = {v["id"] for v in found["videos"] if v["id"] < 10}
    assert (
        counts["images"] == 9 and counts["images_left_out"] == 1 and counts["variants_missing"] == 4 and counts["variants_unchanged"] == 2
    )
    assert counts["variants"] == 16 - 2 and counts["single_annotations"] == sum(a["video_id"] in single for a in found["annotations"])
    assert counts["dropped_too_small"] > 0
    on_variants = {i["id"] for i in found["images"] if i["frame_id"] > 0}
    assert counts["variant_annotations"] == sum(a["image_id"] in on_variants for a in found["annotations"])
    card = (folder.out_dir / "README.md").read_text()
    assert f"that could not be made; their frames are left out, and their ids stay unused | {counts['variants_missing']} |" in card


def test_thresholds_are_themselves_on_the_side_that_the_rules_say(tmp_path):
    def of(number, area):
        return {"id": number, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": area, "iscrowd": 0}

    areas = {1: 100, 2: 101, 3: 102, 4: 103, 5: 104}  # of the originals; above 100 they are in frame 0
    warped = {
        2: Warped([0, 0, 4, 9], 50),
        3: Warped([0, 0, 4, 9], 49),
        4: Warped([0, 0, 3, 99], 60),
        5: Warped([0, 0, 99, 3], 60),
    }
    image = {"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}
    with VideosWriter(lambda name: tmp_path / f".{name}", Head(({"id": 1, "name": "x"},), 1, 5, 5), 1, Rules(100, 50, 4, False)) as writer:
        writer.add(image, [of(k, area) for k, area in areas.items()], [Variant("a_v0.jpg", warped)])
        writer.finish(tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert [a["ori_ann_id"] for a in found if a["image_id"] == 2] == [2, 3, 4, 5] and [
        a["ori_ann_id"] for a in found if a["image_id"] == 3
    ] == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_objects_that_left_the_frame_or_were_too_large_to_be_kept_are_told_apart(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(by_hand, "SHIFT", 60)
    areas: dict[int, list[float]] = {}
    for a in json.loads(scenes.annotations.read_text())["annotations"]:
        areas.setdefault(a["image_id"], []).append(a["area"] if not a["iscrowd"] else 0)
    largest = max(max(found) for found in areas.values() if sum(area > MIN_AREA for area in found) > 1)
    folder = plan(pairs_stage(tmp_path / "runs", scenes, 2, max_area=largest), min_variant_area=0.0, min_side=0.0)
    assert work(folder) == EXIT_OK
    counts = json.loads(next(line for line in folder.unit_path(0).read_text().splitlines() if "counts" in line))["counts"]
    assert counts["dropped_left_the_frame"] > 0 and counts["dropped_not_kept"] > 0 and "dropped_too_small" not in counts


def test_pycocotools_reads_it_and_kept_masks_have_the_area_and_box_that_is_told(pairs, tmp_path):
    folder = plan(pairs, tmp_path / "out", segmentations=True)
    assert work(folder) == EXIT_OK
    coco = quiet(folder.out_dir / "annotations.json")
    variants = [i for i in coco.loadImgs(coco.getImgIds()) if i["frame_id"] > 0]
    checked = 0
    for image in variants:
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            mask = coco.annToMask(annotation)
            assert mask.sum() == annotation["area"] and coco.loadAnns([annotation["id"]])[0]["track_id"] == annotation["instance_id"]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert annotation["bbox"] == [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            checked += 1
    assert checked > 8


def test_bytes_are_the_same_again_and_after_kills(pairs, tmp_path, monkeypatch):
    folder = plan(pairs, tmp_path / "one")
    assert work(folder) == work(folder) == EXIT_OK
    expected = {k: v for k, v in tree(folder.out_dir).items() if k != ".synthset.json"}
    killed = plan(pairs, tmp_path / "killed")
    for fault in ("before_json:kill", "before_link:kill", "before_finish:kill"):
        run = [sys.executable, "-m", "synth.worker", str(killed.path), "--trust"]
        assert subprocess.run(run, env={**os.environ, "SYNTHSET_FAULT": fault}, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / ".synthset.json").exists()
    assert work(killed) == EXIT_OK
    lost = plan(pairs, tmp_path / "lost")
    monkeypatch.setattr(os, "replace", late(os.replace))  # done, but its answer gets lost on the way
    assert work(lost) == EXIT_OK
    assert {k: v for k, v in tree(lost.out_dir).items() if k != ".synthset.json"} == expected
    assert {k: v for k, v in tree(killed.out_dir).items() if k != ".synthset.json"} == expected and set(expected) == {
        "annotations.json",
        "README.md",
    }


def test_a_file_that_vanished_or_was_edited_is_found_and_made_again(pairs, tmp_path):
    folder = plan(pairs, tmp_path / "out")
    assert work(folder) == EXIT_OK and not problems(folder.path, deep=True)
    path, expected = folder.out_dir / "annotations.json", tree(folder.out_dir)
    path.write_bytes(path.read_bytes().replace(b'"frame_id":1', b'"frame_id":7', 1))
    assert not problems(folder.path) and "was edited or torn" in str(problems(folder.path, deep=True)[0])
    problems(folder.path, deep=True, mend=True)
    assert work(folder) == EXIT_OK and tree(folder.out_dir) == expected
    (folder.out_dir / "README.md").unlink()
    assert "README.md: missing; --repair" in str(problems(folder.path)[0])
    shutil.rmtree(folder.out_dir)
    (folder.path / "done.json").unlink()
    assert work(folder) == EXIT_OK and tree(folder.out_dir) == expected


@pytest.mark.parametrize(
    ("file", "edit", "said"),
    [
        (HEAD, lambda data: b"{}", "another listing was planned"),
        (INDEX, lambda data: data[:-9], INDEX),
        (NAME, lambda data: data[:40], NAME),
    ],
)
def test_a_torn_listing_is_named(scenes, tmp_path, capsys, file, edit, said):
    pairs = pairs_stage(tmp_path / "runs", scenes)
    path = pairs.path / file
    path.write_bytes(edit(path.read_bytes()))
    assert work(plan(pairs)) == EXIT_BAD_INPUT
    err = capsys.readouterr().err
    assert said in err and "remove the stage's folder" in err


def test_a_block_of_the_listing_that_holds_other_lines_is_named(tmp_path):
    writer = ListingWriter()
    writer.add(b'{"image": 1}')
    files, identity = writer.finish()
    index = json.loads(files[INDEX])
    other = gzip.compress(b'{"image": 2}\n')
    index["blocks"][0]["size"] = len(other)
    for name, data in (files | {NAME: other, INDEX: json.dumps(index).encode()}).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match="block 0 is not what was planned"):
        list(AnnotatedListing(tmp_path, identity).lines([0]))


def test_a_head_that_counts_other_objects_than_there_are_is_named_before_ids_are_wrong(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(by_hand, "head_file", lambda c, i, a, tracks: head_file(c, i, a, tracks + 1))
    assert work(plan(pairs_stage(tmp_path / "runs", scenes))) == EXIT_BAD_INPUT
    assert "the head of the listing says 10 with" in capsys.readouterr().err


def test_a_set_without_annotations_has_videos_all_the_same(tmp_path):
    empty = make(tmp_path / "empty", 1)
    data = json.loads(empty.annotations.read_text())
    empty.annotations.write_text(json.dumps(data | {"annotations": []}))
    folder = plan(pairs_stage(tmp_path / "runs", empty, 1))
    assert work(folder) == EXIT_OK
    found = json.loads((folder.out_dir / "annotations.json").read_text())
    assert found["annotations"] == [] and len(found["images"]) == 3 and len(found["videos"]) == 2


def test_a_disk_that_takes_no_more_ends_in_try_again_and_nothing_under_the_name(pairs, tmp_path):
    expected = plan(pairs, tmp_path / "one")
    assert work(expected) == EXIT_OK
    folder, size = plan(pairs, tmp_path / "out"), (expected.out_dir / "annotations.json").stat().st_size
    for limit in (100, size - 1):  # while the lists grow, and when they are joined
        code = f"""
import resource, sys
from synth.run.loop import Worker
from synth.store.folder import StageFolder
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
sys.exit(Worker(StageFolder.open(sys.argv[1]), 0, 1).run())
"""
        run = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True)
        assert run.returncode == EXIT_AGAIN and "File too large" in run.stderr, run.stderr
        assert [p.name for p in folder.out_dir.rglob("*") if p.is_file() and p.name != ".synthset.claim.json"] == []
    assert work(folder) == EXIT_OK
    assert (folder.out_dir / "annotations.json").read_bytes() == (expected.out_dir / "annotations.json").read_bytes()


def test_pictures_of_classes_are_refused_by_the_kind_of_their_stage(tmp_path, capsys):
    assert work(plan(probe(tmp_path / "runs"))) == EXIT_BAD_INPUT
    assert "is of kind probe" in capsys.readouterr().err
