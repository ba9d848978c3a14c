"""image_folder: what loaders read, bytes as in the units, safe to run twice, by two, and after a kill."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.keys import dump
from synth.kinds import config_of
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.out_folder import OutFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import StageSpec, Upstream, canonical
from tests.configs import ImageFolderConfig
from tests.export.conftest import DEAD, NAMES, pictures, png
from tests.fixtures_images import captions_stage, child, commit_units, work


def export(images, out="", unit_size=6, name="image_folder", **keys) -> StageFolder:
    spec = StageSpec(
        "image_folder", name, dump(ImageFolderConfig(str(out), **keys)), images.spec.slots, unit_size, 4, EXACT,
        {"images": (Upstream(f"../{images.path.name}", images.spec.fingerprint),)}, framing="jsonl",
    )  # fmt: skip
    return StageFolder.create(images.path.parent, spec)


def tree(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def metadata(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]


def contents(folder) -> list[tuple[str, str]]:
    """Keys and digests of all samples; not of units, whose index names the stage that they belong to."""
    return [(s.key, s.entry.sha256) for s in folder.samples()]


def torchvision_walk(root: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """torchvision.datasets.folder: find_classes and make_dataset, word for word, with is_valid_file by extension."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    class_to_idx = {cls_name: i for i, cls_name in enumerate(classes)}
    instances = []  # as torchvision has it
    for target_class in sorted(class_to_idx.keys()):
        for parent, _, fnames in sorted(os.walk(os.path.join(root, target_class), followlinks=True)):
            for fname in sorted(fnames):
                if fname.lower().endswith((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")):
                    instances.append((os.path.join(parent, fname), class_to_idx[target_class]))  # noqa: PERF401 (torchvision's own words)
    return classes, instances


def test_pictures_are_the_units_bytes_under_their_class_and_sources_stay(images):
    before = tree(images.path)
    folder = export(images)
    assert work(folder) == EXIT_OK
    assert tree(images.path) == before
    out = folder.out_dir
    lines = metadata(out)
    assert [int(Path(r["file_name"]).stem) for r in lines] == [s for s in range(26) if s != DEAD]
    for record in lines:
        slot = int(Path(record["file_name"]).stem)
        data = (out / record["file_name"]).read_bytes()
        assert data == png(slot) and hashlib.sha256(data).hexdigest() == record["sha256"]
        assert (record["class"], record["label"], record["caption"]) == (NAMES[slot % 13], slot % 13, f"caption {slot}")
        assert record["seed"] == str((1 << 64) - 1 - slot)
    with folder.reader(0) as reader:
        assert reader.index.tombstones == {DEAD: "not finite"}
    assert json.loads((out / ".synthset.json").read_text())["fingerprint"] == folder.spec.fingerprint
    assert os.readlink(out.with_name("image_folder-latest")) == out.name
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(".")) == [".synthset.json"]


def test_a_class_folder_loader_finds_each_picture_in_its_own_class(images):
    folder = export(images)
    assert work(folder) == EXIT_OK
    classes, instances = torchvision_walk(folder.out_dir)
    told = {c["folder"]: c for c in json.loads((folder.out_dir / "classes.json").read_text())["classes"]}
    assert set(classes) == set(told) and [told[c]["name"] for c in classes] != [] and len(instances) == 25
    for path, k in instances:
        index = told[classes[k]]["index"]
        assert int(Path(path).stem) % 13 == index and told[classes[k]]["name"] == NAMES[index]


def test_hugging_face_s_loader_reads_image_label_and_caption(images, tmp_path, monkeypatch):
    folder = export(images)
    assert work(folder) == EXIT_OK
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = """
import json, sys
from datasets import load_dataset
found = load_dataset("imagefolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
assert list(found) == ["train"], found
rows = found["train"]
print(json.dumps([[r["image"].size, r["image"].getpixel((0, 0))[0], r["label"], r["class"], r["caption"], r["seed"]] for r in rows]))
"""
    run = subprocess.run([sys.executable, "-c", code, str(folder.out_dir), str(tmp_path / "cache")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    expected = [[[6, 4], s * 5 % 256, s % 13, NAMES[s % 13], f"caption {s}", str((1 << 64) - 1 - s)] for s in range(26) if s != DEAD]
    assert sorted(json.loads(run.stdout.splitlines()[-1]), key=str) == sorted(expected, key=str)


def test_running_twice_by_two_and_after_a_kill_gives_the_same(images, tmp_path):
    first = export(images)
    assert work(first) == EXIT_OK
    assert work(first) == EXIT_OK
    expected = tree(first.out_dir)

    two = export(images, tmp_path / "two")
    run = [sys.executable, "-m", "synth.worker", str(two.path), "--trust", "--n-jobs", "3", "--job-idx"]
    workers = [subprocess.Popen([*run, str(i)], stderr=subprocess.DEVNULL) for i in range(3)]
    assert [w.wait(240) for w in workers] == [EXIT_OK] * 3

    killed = export(images, tmp_path / "killed")
    for fault in ("after_batch:kill@2", "before_link:kill", "before_finish:kill"):
        env = {**os.environ, "SYNTHSET_FAULT": fault}
        run = [sys.executable, "-m", "synth.worker", str(killed.path), "--trust"]
        assert subprocess.run(run, env=env, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / ".synthset.json").exists()
    assert work(killed) == EXIT_OK

    assert contents(two) == contents(killed) == contents(first)
    marker = ".synthset.json"
    for folder in (two, killed):
        assert {k: v for k, v in tree(folder.out_dir).items() if k != marker} == {k: v for k, v in expected.items() if k != marker}


def test_missing_and_short_files_are_made_again(images):
    folder = export(images)
    assert work(folder) == EXIT_OK
    expected = tree(folder.out_dir)
    first = metadata(folder.out_dir)
    (folder.out_dir / first[0]["file_name"]).unlink()
    (folder.out_dir / first[3]["file_name"]).write_bytes(b"torn")
    shutil.rmtree((folder.out_dir / first[7]["file_name"]).parent)
    (folder.out_dir / ".synthset.json").unlink()
    (folder.out_dir / "metadata.jsonl").unlink()
    (folder.path / "done.json").unlink()
    assert work(folder) == EXIT_BAD_INPUT  # nobody says any more whose folder it is
    (folder.out_dir / ".synthset.claim.json").write_text(json.dumps({"fingerprint": folder.spec.fingerprint}))
    assert work(folder) == EXIT_OK
    assert tree(folder.out_dir) == expected


def test_a_whole_folder_that_vanished_comes_back(images):
    folder = export(images)
    assert work(folder) == EXIT_OK
    expected = tree(folder.out_dir)
    shutil.rmtree(folder.out_dir)
    (folder.path / "done.json").unlink()
    assert work(folder) == EXIT_OK
    assert tree(folder.out_dir) == expected


def test_a_folder_that_holds_another_dataset_is_refused_by_name(images, tmp_path, capsys):
    a, b = export(images, tmp_path / "out"), export(images, tmp_path / "out", names="number")
    assert work(a) == EXIT_OK
    before = tree(tmp_path / "out")
    assert work(b) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert a.spec.fingerprint in said and str(tmp_path / "out") in said and "export.image_folder.out" in said
    assert tree(tmp_path / "out") == before


def test_a_folder_that_another_export_is_writing_is_refused(images, tmp_path):
    a, b = export(images, tmp_path / "out"), export(images, tmp_path / "out", unit_size=13)
    OutFolder(a).claim()
    OutFolder(a).claim()
    with pytest.raises(InputError, match=a.spec.fingerprint):
        OutFolder(b).claim()


def test_a_folder_with_somebody_s_files_is_refused_and_not_touched(images, tmp_path, capsys):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    assert work(export(images, out)) == EXIT_BAD_INPUT
    assert "not empty" in capsys.readouterr().err and list(tree(out)) == ["thesis.tex"]
    assert work(export(images, out / "thesis.tex")) == EXIT_BAD_INPUT


def test_exports_of_two_image_stages_share_nothing(images):
    stored = [(s.slot, s.key, dict(s.json()), s.read("png")) for s in images.samples()]
    spec = StageSpec("images", "images", images.spec.config | {"seed": 9}, 26, 8, 4, EXACT, images.spec.upstream, images.spec.inputs)
    other = StageFolder.create(images.path.parent, spec)
    found = {slot: Sample(slot, key, {"png": png(99), "json": canonical(record)}) for slot, key, record, _ in stored}
    commit_units(other, [found.get(s) or Tombstone(s, "x") for s in range(26)])
    a, b = export(images), export(other)
    assert work(a) == work(b) == EXIT_OK
    assert {(b.out_dir / r["file_name"]).read_bytes() for r in metadata(b.out_dir)} == {png(99)}
    assert {r["sha256"] for r in metadata(b.out_dir)} == {hashlib.sha256(png(99)).hexdigest()}


def test_two_datasets_with_other_classes_cannot_be_one_export(images, tmp_path):
    from synth.store.names import classes_of
    from tests.configs import CaptionsJsonConfig

    root = images.path.parent
    ups = [captions_stage(root, ["a"], seed=7), captions_stage(root, ["b"], seed=8, classes=("other",))]
    table = child(root, "captions_json", CaptionsJsonConfig(2), {"captions": ups})
    with pytest.raises(InputError, match="class 0 is 'red panda'"):
        classes_of(table)


# -- names, splits, links ---------------------------------------------------------------------------------------------------


def shaped(images, tmp_path, name, settings=None, **config) -> StageFolder:
    spec = StageSpec(
        "image_folder", name, dump(ImageFolderConfig(str(tmp_path / name), **config)), images.spec.slots, 6, 4, EXACT,
        {"images": (Upstream(f"../{images.path.name}", images.spec.fingerprint),)}, settings=settings or {}, framing="jsonl",
    )  # fmt: skip
    folder = StageFolder.create(images.path.parent, spec)
    assert work(folder) == EXIT_OK
    return folder


def test_pictures_can_have_the_names_of_the_originals(images, tmp_path):
    by_number = shaped(images, tmp_path, "by_number", names="number")
    assert (by_number.out_dir / "red_panda" / "00000000.png").read_bytes() == png(0)
    nested = shaped(images, tmp_path, "nested", names="nested")
    assert (nested.out_dir / "000000" / "000000" / "00025.png").read_bytes() == png(25) and not (nested.out_dir / "red_panda").exists()


def test_a_split_is_by_caption_and_loaders_find_both_sides(tmp_path):
    import datasets

    images = pictures(tmp_path / "runs")
    folder = shaped(images, tmp_path, "split", val_share=0.3)
    names = {r["file_name"] for r in (s.json() for s in folder.samples())}
    sides = {side: sum(n.startswith(side) for n in names) for side in ("train/", "val/")}
    assert sides["val/"] + sides["train/"] == len(names) and 0 < sides["val/"] < sides["train/"]
    data = datasets.load_dataset("imagefolder", data_dir=str(folder.out_dir), cache_dir=str(tmp_path / "cache"))
    assert len(data["train"]) == sides["train/"] and len(data["validation"]) == sides["val/"] and "caption" in data["train"].features
    assert config_of(shaped(images, tmp_path, "other", val_share=0.3, split_seed=1)) != config_of(folder)


def test_a_second_image_folder_can_be_links_to_the_first(tmp_path):
    images = pictures(tmp_path / "runs")
    first = shaped(images, tmp_path, "first")
    second = shaped(images, tmp_path, "second", {"link_from": str(first.out_dir)}, val_share=0.5)
    links = [p for p in second.out_dir.rglob("*.png") if p.stat().st_nlink == 2]
    assert len(links) == 24
    spoiled = next(first.out_dir.rglob("*.png"))
    spoiled.write_bytes(b"edited")  # what is not the same bytes is not linked
    third = shaped(images, tmp_path, "third", {"link_from": str(first.out_dir)}, names="number")
    assert sum(p.stat().st_nlink == 1 for p in third.out_dir.rglob("*.png")) == 1
