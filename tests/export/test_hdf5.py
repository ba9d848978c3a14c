"""hdf5: partitions and the merged file have the same bytes whoever writes them, hold the units' bytes, and are whole or not there."""

import hashlib
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from launch.plan.exports import check_settings
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.export.hdf5.parts import partition
from synth.keys import check
from tests.configs import Hdf5Config, Hdf5PartsConfig
from tests.export.conftest import DEAD, NAMES, png
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, digests, work

ALIVE = [s for s in range(26) if s != DEAD]


def plan(images, out="", unit_size=6, **config):
    """(partitions stage, merge stage)."""
    parts = child(
        images.path.parent,
        "hdf5_parts",
        Hdf5PartsConfig(**config),
        {"images": [images]},
        images.spec.slots,
        unit_size,
        unit_size,
    )
    return parts, child(images.path.parent, "hdf5", Hdf5Config(str(out)), {"parts": [parts], "images": [images]})


def export(images, out="", **config):
    parts, merged = plan(images, out, **config)
    assert work(parts) == work(merged) == EXIT_OK
    return parts, merged


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shas(parts) -> list[str]:
    return [sha(partition(parts, n)) for n in range(parts.spec.n_units)]


def worker(folder, *words, **env) -> int:
    command = [sys.executable, "-m", "synth.worker", str(folder.path), "--trust", *words]
    return subprocess.run(command, env={**os.environ, **env}, stderr=subprocess.DEVNULL).returncode


def test_keyed_holds_each_file_s_bytes_under_its_name(images):
    before = tree(images.path)
    parts, merged = export(images)
    assert tree(images.path) == before
    with h5py.File(merged.out_dir / "images.h5") as f:
        assert list(f) == [f"{s:09d}.png" for s in ALIVE]
        for s in ALIVE:
            dataset = f[f"{s:09d}.png"]
            assert dataset.dtype == np.uint8 and dataset.ndim == 1
            assert io.BytesIO(np.array(dataset)).getvalue() == png(s)  # as mmcv's backend reads it
    assert [partition(parts, n).name for n in (0, 4)] == ["part_00000_of_00005.h5", "part_00004_of_00005.h5"]
    rows = pq.read_table(merged.out_dir / "manifest.parquet").to_pylist()
    assert [r["file"] for r in rows] == [f"images.h5/{s:09d}.png" for s in ALIVE]
    assert [r["sha256"] for r in rows] == [hashlib.sha256(png(s)).hexdigest() for s in ALIVE]
    assert sorted(p.name for p in merged.out_dir.iterdir()) == [
        ".synthset.json",
        "README.md",
        "classes.json",
        "images.h5",
        "manifest.parquet",
    ]
    assert '["000000000.png"]' in (merged.out_dir / "README.md").read_text()


def test_packed_bytes_are_found_by_offsets_beside_labels_captions_and_keys(images):
    _, merged = export(images, layout="packed")
    with h5py.File(merged.out_dir / "images.h5") as f:
        offsets, data = f["offsets"][:], f["images"][:]
        assert [data[a:b].tobytes() for a, b in itertools.pairwise(offsets)] == [png(s) for s in ALIVE]
        assert f["labels"][:].tolist() == [s % 13 for s in ALIVE]
        assert f["captions"].asstr()[:].tolist() == [f"caption {s}" for s in ALIVE]
        assert f["keys"].asstr()[:].tolist() == [f"{s:09d}" for s in ALIVE]
        assert dict(zip(f.attrs["class_indices"].tolist(), f.attrs["class_names"], strict=True)) == dict(enumerate(NAMES))
    rows = pq.read_table(merged.out_dir / "manifest.parquet").to_pylist()
    assert rows[7]["file"] == "images.h5/images/7" and rows[7]["key"] == f"{ALIVE[7]:09d}"


@pytest.mark.parametrize("gzip", [0, 4])
def test_packed_pixels_are_one_picture_a_chunk(images, gzip):
    _, merged = export(images, layout="packed", content="pixels", gzip=gzip)
    with h5py.File(merged.out_dir / "images.h5") as f:
        assert f["images"].shape == (25, 4, 6, 3) and f["images"].chunks == (1, 4, 6, 3)
        assert f["images"].compression == ("gzip" if gzip else None)
        for row, s in enumerate(ALIVE):
            assert (f["images"][row] == np.asarray(Image.open(io.BytesIO(png(s))))).all()


@pytest.mark.parametrize("config", [{}, {"layout": "packed"}, {"layout": "packed", "content": "pixels", "gzip": 4}])
def test_bytes_do_not_depend_on_who_writes_them_nor_on_where(images, tmp_path, config):
    first, merged = export(images, **config)
    units, files, whole = digests(first), shas(first), sha(merged.out_dir / "images.h5")
    shutil.rmtree(first.path)
    parts, _ = plan(images, **config)
    run = [sys.executable, "-m", "synth.worker", str(parts.path), "--n-jobs", "3", "--job-idx"]
    workers = [subprocess.Popen([*run, str(i)], stderr=subprocess.DEVNULL) for i in range(3)]
    assert [w.wait(240) for w in workers] == [EXIT_OK] * 3
    assert digests(parts) == units and shas(parts) == files
    export(images, tmp_path / "else", **config)
    assert sha(tmp_path / "else" / "images.h5") == whole


def test_a_killed_export_goes_on_and_leaves_no_half_file(images, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHSET_BEAT_S", "0.2")  # a worker killed while it makes a lease leaves one without a name in it
    monkeypatch.setenv("SYNTHSET_DEAD_AFTER_S", "1")
    first, merged = export(images)
    expected, files = sha(merged.out_dir / "images.h5"), shas(first)
    shutil.rmtree(first.path)
    parts, killed = plan(images, tmp_path / "killed")
    for fault in ("after_batch:kill", "before_link:kill@2"):
        assert worker(parts, SYNTHSET_FAULT=fault) == -signal.SIGKILL
    assert work(parts) == EXIT_OK and shas(parts) == files
    for fault in ("before_h5:kill", "before_link:kill", "before_finish:kill"):
        assert worker(killed, SYNTHSET_FAULT=fault) == -signal.SIGKILL
        assert (tmp_path / "killed" / "images.h5").exists() == (fault != "before_h5:kill")
        assert not (tmp_path / "killed" / ".synthset.json").exists()
    assert work(killed) == EXIT_OK
    assert sha(tmp_path / "killed" / "images.h5") == expected
    assert not [p for p in (tmp_path / "killed").iterdir() if p.name.endswith(".tmp")]
    before = (tmp_path / "killed" / "images.h5").stat().st_mtime_ns
    assert work(killed) == EXIT_OK and (tmp_path / "killed" / "images.h5").stat().st_mtime_ns == before


@pytest.mark.parametrize("config", [{}, {"layout": "packed"}, {"layout": "packed", "content": "pixels"}])
@pytest.mark.parametrize("limit", [2000, 4500])
def test_a_disk_that_takes_no_more_ends_in_try_again_and_nothing_under_the_name(images, tmp_path, config, limit):
    code = f"""
import resource, sys
from synth.run.loop import Worker
from synth.store.folder import StageFolder
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
sys.exit(Worker(StageFolder.open(sys.argv[1]), 0, 1).run())
"""
    parts, merged = plan(images, tmp_path / "out", **config)
    assert work(parts) == EXIT_OK
    assert sum(partition(parts, n).stat().st_size for n in range(5)) > limit
    run = subprocess.run([sys.executable, "-c", code, str(merged.path)], capture_output=True, text=True)
    assert run.returncode == EXIT_AGAIN and "File too large" in run.stderr, run.stderr
    assert not (tmp_path / "out" / "images.h5").exists()
    assert not [p.name for p in (tmp_path / "out").iterdir() if p.name.endswith(".tmp")]
    assert work(merged) == EXIT_OK and (tmp_path / "out" / "images.h5").exists()


def test_a_partition_or_a_merged_file_that_vanished_is_written_again(images):
    parts, merged = export(images, layout="packed")
    expected, files = sha(merged.out_dir / "images.h5"), shas(parts)
    partition(parts, 2).unlink()
    shutil.rmtree(merged.out_dir)
    (merged.path / "done.json").unlink()
    assert work(merged) == EXIT_OK
    assert sha(merged.out_dir / "images.h5") == expected and shas(parts) == files


def test_a_torn_partition_is_named(images, capsys):
    parts, merged = plan(images)
    assert work(parts) == EXIT_OK
    path = partition(parts, 3)
    os.truncate(path, path.stat().st_size // 2)
    assert work(merged) == EXIT_BAD_INPUT
    assert "part_00003_of_00005.h5" in capsys.readouterr().err and not (merged.out_dir / "images.h5").exists()


def test_a_set_without_any_picture_is_a_file_without_rows(images):
    from synth.store.folder import StageFolder
    from synth.store.samples import Tombstone
    from synth.store.spec import StageSpec
    from tests.fixtures_images import commit_units

    old = images.spec
    none = StageFolder.create(
        images.path.parent,
        StageSpec("images", "images", {**old.config, "seed": 8}, 26, 8, 4, old.numerics, old.upstream, old.inputs),
    )
    commit_units(none, [Tombstone(s, "not finite") for s in range(26)])
    for config in ({}, {"layout": "packed"}, {"layout": "packed", "content": "pixels"}):
        _, merged = export(none, **config)
        with h5py.File(merged.out_dir / "images.h5") as f:
            assert (len(f["labels"]) if config else len(f)) == 0
        assert pq.read_table(merged.out_dir / "manifest.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"layout": "flat"}, "export.hdf5.layout=flat"),
        ({"layout": "packed", "content": "jpeg"}, "export.hdf5.content=jpeg"),
        ({"content": "pixels"}, "needs export.hdf5.layout=packed"),
        ({"gzip": 4}, "export.hdf5.gzip=4"),
    ],
)
def test_settings_that_make_no_sense_are_named(config, said):
    config = {"layout": "keyed", "content": "bytes", "gzip": 0} | config

    def judge():
        check(Hdf5Config(**config, partition=1), "export.hdf5")
        check_settings(Hdf5PartsConfig(**config))

    with pytest.raises(InputError) as e:
        judge()
    assert said in str(e.value)


def test_classes_without_end_fit_into_the_attributes(tmp_path):
    from synth.export.hdf5.file import new_file
    from synth.export.hdf5.layouts import describe

    classes = {i: f"class {i} " + "\u00e9" * 20 for i in range(22_000)}
    with new_file(tmp_path / "x.h5") as new:
        describe(new.h5, classes, "bytes")
    with h5py.File(tmp_path / "x.h5") as f:
        assert f.attrs["class_names"][21_999] == classes[21_999]
