"""webdataset and parquet: what their readers see, shuffled by seed, same files whoever wrote them, mended, safe to run twice."""

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.export.shuffle import MIX, Order
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical
from tests.configs import ParquetConfig, WebDatasetConfig
from tests.export.conftest import DEAD, NAMES, pictures, png
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, work
from tests.stages import events
from tests.verify.test_verify import problems, rewrite

N = 26


def export(images, kind="webdataset", config=None, shard=7, out="") -> StageFolder:
    config = config or {"webdataset": WebDatasetConfig, "parquet": ParquetConfig}[kind](out=str(out))
    return child(images.path.parent, kind, config, {"images": [images]}, N, shard, shard)


def files(folder) -> dict[str, str]:
    """Digests of all files of an export but its marker, which names its place, and its card, which names the stages."""
    return {n: d for n, d in tree(folder.out_dir).items() if n not in (".synthset.json", "README.md")}


def in_tars(out: Path) -> list[tuple[str, bytes]]:
    found = []
    for path in sorted(out.glob("shard-*.tar")):
        with tarfile.open(path) as tar:
            found += [(m.name, tar.extractfile(m).read()) for m in tar]
    return found


def test_shards_hold_every_picture_once_with_its_record_in_a_shuffled_order(images):
    folder = export(images)
    assert work(folder) == EXIT_OK
    members = in_tars(folder.out_dir)
    pictures = [n for n, _ in members if n.endswith(".png")]
    assert sorted(pictures) == [f"{s:09d}.png" for s in range(N) if s != DEAD] != pictures
    for (beside, record), (name, data), (text, caption) in zip(members[::3], members[1::3], members[2::3], strict=True):
        slot = int(name[:9])
        assert (beside, name, text) == (f"{slot:09d}.json", f"{slot:09d}.png", f"{slot:09d}.txt")
        assert data == png(slot) and json.loads(record)["caption"] == f"caption {slot}" == caption.decode()
    shards = json.loads((folder.out_dir / "shards.json").read_text())["shardlist"]
    assert [s["url"] for s in shards] == [f"shard-{k:06d}.tar" for k in range(4)] and sum(s["nsamples"] for s in shards) == N - 1


def test_hugging_face_reads_the_shards(images, tmp_path):
    import datasets

    folder = export(images)
    assert work(folder) == EXIT_OK
    data = datasets.load_dataset("webdataset", data_files=str(folder.out_dir / "shard-*.tar"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(data) == N - 1 and {"png", "json", "__key__"} <= set(data.features)


def test_hugging_face_reads_the_parquet_files_with_class_names(images, tmp_path):
    import datasets

    folder = export(images, "parquet", shard=10)
    assert work(folder) == EXIT_OK
    data = datasets.load_dataset(str(folder.out_dir), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(data) == N - 1 and data[0]["image"].size == (6, 4) and data[0]["caption"] == "caption 0"
    assert np.asarray(data[3]["image"])[0, 0, 0] == 3 * 5
    names = data.features["label"].names
    assert len(set(names)) == len(NAMES) and names[data[6]["label"]] == NAMES[7] and data[0]["seed"] == str((1 << 64) - 1)


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_the_same_files_whoever_wrote_them_and_again_after_a_kill(images, kind, monkeypatch):
    monkeypatch.setenv("SYNTHSET_BEAT_S", "1")
    monkeypatch.setenv("SYNTHSET_DEAD_AFTER_S", "2")  # a lease that was being written at the kill names nobody, so it is waited out
    folder = export(images, kind)
    assert work(folder) == EXIT_OK
    one = files(folder)
    shutil.rmtree(folder.path)
    shutil.rmtree(folder.out_dir)
    folder = export(images, kind)
    code = (
        "import sys; from pathlib import Path; from synth.store.folder import StageFolder; from synth.run.loop import Worker; "
        "Worker(StageFolder.open(Path(sys.argv[1])), 1, 3).run()"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, folder.path],
        env={"SYNTHSET_FAULT": "after_commit:kill", "PATH": "/usr/bin:/bin"},
        cwd=Path.cwd(),
    )
    assert killed.returncode == -signal.SIGKILL
    for job in (2, 0, 1):
        work(folder, job, 3)
    assert files(folder) == one
    before = {p: p.stat().st_mtime_ns for p in folder.out_dir.rglob("*")}
    assert work(folder) == EXIT_OK and {p: p.stat().st_mtime_ns for p in folder.out_dir.rglob("*")} == before


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_a_file_that_vanished_or_was_torn_is_found_and_written_again(images, kind):
    folder = export(images, kind)
    assert work(folder) == EXIT_OK and not problems(folder.path, deep=True)
    one = files(folder)
    name = sorted(n for n in one if n.endswith((".tar", ".parquet")) and "manifest" not in n)[2]
    path = folder.out_dir / name
    data = bytearray(path.read_bytes())
    data[600] ^= 255
    path.write_bytes(data)
    assert len(problems(folder.path)) == 0
    assert any(name in p for p in problems(folder.path, deep=True, mend=True)) and not path.exists()
    assert work(folder) == EXIT_OK and files(folder) == one and not problems(folder.path, deep=True)


@pytest.mark.parametrize(("name", "value"), [("label", 0), ("caption", "another"), ("seed", "1")])
def test_an_edited_column_of_a_parquet_file_is_found_deep(images, name, value):
    import pyarrow.parquet as pq

    folder = export(images, "parquet", shard=10)
    assert work(folder) == EXIT_OK
    path = folder.out_dir / "data" / "train-00001-of-00003.parquet"
    with pq.ParquetFile(path) as f:
        rows, schema = f.read().to_pylist(), f.schema_arrow
    rows[4][name] = value if rows[4][name] != value else 1
    pq.write_table(pq.read_table(path).from_pylist(rows, schema), path)
    size, unit = path.stat().st_size, folder.unit(1)
    said = {
        x.slot: Sample(x.slot, x.key, {"json": canonical({**x.json(), "file_bytes": size})}) for x in folder.samples(unit.start, unit.stop)
    }
    rewrite(folder, 1, [said.get(s) or Tombstone(s, "not finite") for s in range(unit.start, unit.stop)])
    found = problems(folder.path, deep=True)
    assert len(found) == 1 and f"{path}: row of {rows[4]['key']} is not as in its unit" in found[0]


@pytest.mark.parametrize("ext", ["png", "jpg", "webp"])
def test_shards_are_verified_whatever_place_pictures_have_among_their_files(tmp_path, ext):
    folder = child(tmp_path / "runs", "webdataset", WebDatasetConfig(), {"images": [pictures(tmp_path / "runs", ext=ext)]}, 24, 10, 10)
    assert work(folder) == EXIT_OK
    assert not [p for p in problems(folder.path, deep=True) if "shard-" in p]


def test_a_shard_without_any_picture_is_not_written(images):
    folder = export(images, config=WebDatasetConfig(shuffle_seed=-1), shard=1)
    assert work(folder) == EXIT_OK
    assert not (folder.out_dir / f"shard-{DEAD:06d}.tar").exists() and len(in_tars(folder.out_dir)) == 3 * (N - 1)
    with folder.reader(DEAD) as reader:
        assert reader.index.tombstones == {DEAD: "not finite"}


def test_an_order_is_a_permutation_that_mixes_many_blocks_and_can_be_cut_anywhere():
    for slots, block in ((1000, 10), (997, 10), (5, 10), (0, 4), (3000, 7)):
        order = Order(slots, block, seed=3)
        whole = order.at(0, slots)
        assert sorted(whole) == list(range(slots))
        assert [s for a in range(0, slots, 13) for s in order.at(a, a + 13)] == whole
    whole = Order(3200, 10, 3).at(0, 3200)
    assert len({s // 10 for s in whole[:64]}) > MIX / 2 and whole != Order(3200, 10, 4).at(0, 3200)
    assert Order(10, 3, None).at(4, 99) == [4, 5, 6, 7, 8, 9]


def test_shards_of_a_dataset_that_is_larger_than_the_open_units_are_read_right(images, monkeypatch):
    monkeypatch.setattr("synth.reading.stage.OPEN", 1)
    folder = export(images)
    assert work(folder) == EXIT_OK
    for name, data in in_tars(folder.out_dir):
        if name.endswith("png"):
            assert hashlib.sha256(data).digest() == hashlib.sha256(png(int(name[:9]))).digest()
            assert Image.open(io.BytesIO(data)).size == (6, 4)


def test_shards_that_an_earlier_version_planned_are_not_gone_on_with_and_whole_ones_are_read_as_they_were(images):
    stage = child(images.path.parent, "webdataset", WebDatasetConfig(shard=7, form=0), {"images": [images]}, 26, 7, 7)
    assert work(stage) == EXIT_BAD_INPUT and not stage.progress()
    assert "an earlier version planned it" in next(e["why"] for e in events(stage, "stop"))
    assert WebDatasetConfig(shard=7).settled().form == WebDatasetConfig(shard=7).newest == 1
