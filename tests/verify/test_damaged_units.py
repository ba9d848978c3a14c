"""One flipped byte in a committed unit: whoever reads it ends with 65, names it and says how to mend it; nothing is made of it."""

import contextlib
import hashlib
import shutil
import subprocess
from collections import Counter

import pytest

import synth
from launch.verify import main
from synth.captions import table as captions_table
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.export.prompts_json import prompts_json
from synth.export.sources import OTHER_BYTES
from synth.store import large, units
from synth.store.damage import Damaged, repair_line
from synth.store.parts import PartWriter
from tests.configs import (
    BalanceConfig,
    CaptionsTxtConfig,
    ContactSheetConfig,
    Hdf5Config,
    Hdf5PartsConfig,
    ImageFolderConfig,
    LabelAgreementConfig,
    NearDuplicatesConfig,
    ParquetConfig,
    PerceptualHashConfig,
    WebDatasetConfig,
)
from tests.earlier_units import earlier
from tests.fixtures_images import CLASSES, child, work
from tests.launch.conftest import environment
from tests.stages import events, probe
from tests.verify.conftest import DEAD, N, png
from tests.verify.flips import flip, forget, made, mended, refused, refused_and_resumed, trusting
from tests.verify.test_verify import problems

COUNTS = {str(i): 2 for i in range(len(CLASSES))}
READERS = {
    "image_folder": lambda: ImageFolderConfig(),
    "webdataset": lambda: WebDatasetConfig(),
    "parquet": lambda: ParquetConfig(),
    "hdf5_parts": lambda: Hdf5PartsConfig("keyed"),
    "hdf5_parts packed": lambda: Hdf5PartsConfig("packed"),
    "hdf5_parts pixels": lambda: Hdf5PartsConfig("packed", "pixels"),
    "contact_sheet": lambda: ContactSheetConfig(),
    "perceptual_hash": lambda: PerceptualHashConfig("phash"),
    "balance": lambda: BalanceConfig(1, COUNTS),
}


@pytest.mark.parametrize(("kind", "ext"), [(k, e) for k in READERS for e in ("png", "json") if (k, e) != ("balance", "png")])
def test_a_damaged_picture_or_record_ends_its_reader_until_it_is_mended(run, kind, ext):
    stage = child(run.root, kind.partition(" ")[0], READERS[kind](), {"images": [run.images]}, N if kind != "contact_sheet" else 1, 8, 8)
    refused_and_resumed(stage, run.images, ext=ext)


def test_a_damaged_score_ends_the_filters_that_read_it(run):
    scores = child(run.root, "perceptual_hash", PerceptualHashConfig("phash"), {"images": [run.images]}, N, 8, 8)
    assert work(scores) == EXIT_OK
    for kind, config in (("near_duplicates", NearDuplicatesConfig()), ("label_agreement", LabelAgreementConfig())):
        refused_and_resumed(child(run.root, kind, config, {"images": [run.images], "scores": [scores]}, N, 8, 8), scores, ext="json")


def test_a_damaged_caption_ends_the_table_and_prompts_json(run):
    refused_and_resumed(run.table, run.captions, ext="json")
    flip(run.captions, ext="json")
    with pytest.raises(Damaged, match=r"000001\.jsonl"):
        prompts_json(run.captions)


def test_a_damaged_table_ends_who_reads_captions(run):
    before, whole = captions_table.rows(run.table, 0, 99), run.table.unit_path(0).read_bytes()
    stage = child(run.root, "captions_txt", CaptionsTxtConfig(), {"captions": [run.table]}, 1, 1, 1)
    for ext in ("json", "parquet"):  # a digest is of all files of a sample
        with run.table.reader(0) as reader:
            offset, size = reader.index.samples[0].files[ext]
        data = bytearray(whole)
        data[offset + size // 2] ^= 1
        run.table.unit_path(0).write_bytes(data)
        large._KNOWN.clear()  # another process
        with pytest.raises(Damaged, match=repair_line(run.table.path)):
            captions_table.rows(run.table, 0, 99)
        refused(stage, run.table.unit_path(0))
    run.table.unit_path(0).write_bytes(whole)
    assert captions_table.rows(run.table, 0, 99) == before and work(stage) == EXIT_OK
    run.table.unit_path(0).write_bytes(data)  # behind the back of a process that read it before
    with pytest.raises(Damaged, match="changed since"):
        captions_table.rows(run.table, 0, 99)


def test_a_damaged_partition_is_not_merged(run):
    for layout in ("keyed", "packed"):
        parts = child(run.root, "hdf5_parts", Hdf5PartsConfig(layout), {"images": [run.images]}, N, 8, 8)
        stage = child(run.root, "hdf5", Hdf5Config(), {"parts": [parts], "images": [run.images]})
        assert work(parts) == work(stage) == EXIT_OK
        before = made(stage)
        forget(stage)
        path = parts.path / "partitions" / "part_00001_of_00003.h5"
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"IDAT", b"IDAX", 1))
        refused(stage, parts.unit_path(1), path)
        assert problems(parts.path, deep=True, mend=True) and work(parts) == EXIT_OK and path.read_bytes() == whole
        assert work(stage) == EXIT_OK and made(stage) == before


def test_open_stage_and_datasets_of_torch_refuse_damage_and_reading_on_trust_is_asked_for(run):
    for ext in ("png", "json"):
        whole, path = run.images.unit_path(1).read_bytes(), flip(run.images, ext=ext)
        with synth.open_stage(run.images.path) as stage:
            asked = {"png": (lambda s: s["png"], lambda s: s.image()), "json": (lambda s: s.metadata, lambda s: s.label)}
            for of in asked:
                for ask in asked[of]:
                    with pytest.raises(Damaged, match=f"{path}: sample 000000010") if of == ext else contextlib.nullcontext():
                        ask(stage[10])
                    ask(stage[9])
            with pytest.raises(Damaged, match=str(path)):
                stage.torch()[9]  # slot 5 has no picture
        with synth.open_stage(run.images.path, check=False) as stage:
            assert len(stage[10]["png"]) == stage[10].size and "label" in stage[10].metadata
        path.write_bytes(whole)


def test_a_picture_and_its_record_are_read_once(run, monkeypatch):
    read, pread = [], units.pread
    monkeypatch.setattr(units, "pread", lambda fd, size, at: (read.append(size), pread(fd, size, at))[1])
    with synth.open_stage(run.images.path) as stage:
        for sample in stage:
            assert sample.metadata["width"] == sample.image().width
        entries = [e for s in stage.sources for u in range(s.spec.n_units) for e in s.reader(u).index.samples]
    assert sorted(read) == sorted(size for e in entries for _, size in e.files.values())


def test_metadata_alone_reads_no_picture(run, monkeypatch):
    read, pread = [], units.pread
    monkeypatch.setattr(units, "pread", lambda fd, size, at: (read.append(size), pread(fd, size, at))[1])
    with synth.open_stage(run.images.path) as stage:
        assert len([sample.metadata for sample in stage]) == N - 1
        entries = [e for u in range(run.images.spec.n_units) for e in run.images.reader(u).index.samples]
    assert sorted(read) == sorted(e.files["json"][1] for e in entries)


@pytest.mark.parametrize("kind", ["image_folder", "webdataset", "parquet", "hdf5_parts"])
def test_an_export_hashes_a_picture_once(run, kind, monkeypatch):
    stage = child(run.root, kind, READERS[kind](), {"images": [run.images]}, N, 8, 8)
    hashed, sha256, pictures = Counter(), hashlib.sha256, {png(slot) for slot in range(N)}

    class Counted:
        def __init__(self, data=b""):
            self._sha, self.digest_size = sha256(), 32
            self.update(data)
            self.digest, self.hexdigest = self._sha.digest, self._sha.hexdigest

        def update(self, data):
            hashed[bytes(data)] += 1
            self._sha.update(data)

    monkeypatch.setattr(hashlib, "sha256", Counted)
    assert work(stage) == EXIT_OK
    assert {data: n for data, n in hashed.items() if data in pictures} == {png(s): 1 for s in range(N) if s != DEAD}


def test_units_without_digests_of_files_are_read_proved_and_exported_alike(run):
    exports = [child(run.root, k, READERS[k](), {"images": [run.images]}, N, 8, 8) for k in ("image_folder", "webdataset", "hdf5_parts")]
    assert [work(stage) for stage in exports] == [EXIT_OK] * 3
    before = [made(stage) for stage in exports]
    for number in range(run.images.spec.n_units):
        path = run.images.unit_path(number)
        path.write_bytes(earlier(path.read_bytes()))
    assert not problems(run.images.path, deep=True) and not any(problems(stage.path, deep=True) for stage in exports)
    for stage in exports:
        forget(stage)
    assert [work(stage) for stage in exports] == [EXIT_OK] * 3
    assert [made(stage) for stage in exports] == before
    balance = child(run.root, "balance", READERS["balance"](), {"images": [run.images]}, N, 8, 8)
    for stage, ext in ((exports[0], "png"), (exports[1], "json"), (balance, "png")):  # the record is proved by the whole sample
        forget(stage)
        whole, unit = run.images.unit_path(1).read_bytes(), flip(run.images, ext=ext)
        refused(stage, unit)
        unit.write_bytes(whole)


def test_what_a_part_gives_back_is_what_was_written(tmp_path, run):
    from synth.errors import StoreError
    from synth.store.framing import frame
    from tests.verify.conftest import picture

    part = PartWriter(tmp_path / "part.tar", "tar")
    part.append(frame("tar", [picture(0), picture(1)]))
    first, second = part.stored(0)
    data = bytearray((tmp_path / "part.tar").read_bytes())
    data[second.entry.files["png"][0] + 9] ^= 1
    (tmp_path / "part.tar").write_bytes(data)
    assert first.read("png") == picture(0).files["png"]
    with pytest.raises(StoreError, match="read back otherwise"):
        second.read("json")
    part.close()


def test_the_repair_line_works_in_a_shell(run, tmp_path):
    unit = flip(run.images)
    with pytest.raises(InputError) as error:
        synth.open_stage(run.images.path)[10].read()
    line = str(error.value).partition("`")[2].partition("`")[0]
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == EXIT_BAD_INPUT and f"set aside {unit}" in done.stdout and not unit.exists()


def test_a_unit_that_was_set_aside_is_not_linked_again_from_where_its_damage_came(tmp_path):
    first = probe(tmp_path, slots=8)
    assert work(first) == EXIT_OK
    flip(first, 1, next(iter(first.reader(1).index.samples[2].files)), at=5)
    second = probe(tmp_path, slots=12)
    assert work(second) == EXIT_OK and len(events(second, "linked")) == 2
    assert problems(second.path, deep=True, mend=True)
    assert work(second) == EXIT_OK and not problems(second.path, deep=True)


# -- exports against the units behind them ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in READERS if k not in ("perceptual_hash", "balance")])
def test_an_export_is_not_proved_by_itself(run, kind):
    """Made of a unit that holds other pictures than were committed: file and record of the export agree with each other."""
    stage = child(run.root, kind.partition(" ")[0], READERS[kind](), {"images": [run.images]}, N if kind != "contact_sheet" else 1, 8, 8)
    assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
    good, unit = run.images.unit_path(1).read_bytes(), flip(run.images)
    found = "\n".join(problems(stage.path, deep=True))
    assert f"{unit}: sample 000000010" in found and repair_line(run.images.path) in found
    assert not problems(stage.path)  # the ends of units are whole
    unit.write_bytes(good)
    assert not problems(stage.path, deep=True)


def made_of_damage(run, kind, ext="png"):
    """A whole export whose bytes and records are those of a damaged unit."""
    unit, good = run.images.unit_path(1), run.images.unit_path(1).read_bytes()
    flip(run.images, ext=ext)
    stage = child(run.root, kind, READERS[kind](), {"images": [run.images]}, N, 8, 8)
    with trusting():
        assert work(stage) == EXIT_OK
    return stage, unit, good


@pytest.mark.parametrize("ext", ["png", "json"])
@pytest.mark.parametrize("kind", ["image_folder", "webdataset", "parquet", "hdf5_parts"])
def test_an_export_of_damaged_pictures_is_told_with_its_unit_and_made_again(run, kind, ext):
    stage, unit, good = made_of_damage(run, kind, ext)
    found = "\n".join(problems(stage.path, deep=True))
    assert f"{unit}: sample 000000010" in found and "cannot be compared" in found  # both
    mended(run.images, unit, good)
    found = "\n".join(problems(stage.path, deep=True, mend=True))
    assert "000000010" in found and (OTHER_BYTES if ext == "png" else "than its unit does") in found
    assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
    after = made(stage)
    forget(stage)
    assert work(stage) == EXIT_OK and {n: d for n, d in made(stage).items() if "README" not in n}.items() <= after.items()


@pytest.mark.parametrize("kind", [k for k in READERS if k not in ("perceptual_hash", "balance")])
def test_an_export_whose_pictures_are_gone_is_compared_with_its_own_records_and_says_so(run, kind, capsys):
    stage = child(run.root, kind.partition(" ")[0], READERS[kind](), {"images": [run.images]}, N if kind != "contact_sheet" else 1, 8, 8)
    assert work(stage) == EXIT_OK
    shutil.rmtree(run.images.path)
    assert main([str(stage.path), "--deep"]) == EXIT_OK
    said = capsys.readouterr().out
    assert f"note: {run.images.path} is gone" in said and "records of this stage alone" in said
    place = stage.out_dir if "out" in stage.spec.config else stage.path / "partitions"
    for target in [p for p in place.rglob("*") if p.is_file() and b"IHDR" in p.read_bytes()][:1]:  # pixels have none
        data = bytearray(target.read_bytes())
        data[data.find(b"IHDR") + 6] ^= 1
        target.write_bytes(data)
        assert target.name in "\n".join(problems(stage.path, deep=True))
