"""Reading a stage by slot: what is there, what is not, and that files stay few, whoever reads."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import synth
from synth.errors import InputError
from synth.kinds import KINDS, chosen_by, makes_files
from synth.reading import NoSample, StageReader
from synth.store.folder import StageFolder
from synth.store.framing import BLOCK, UnitIndex, frame, seal
from synth.store.samples import Sample
from synth.store.spec import canonical
from tests.configs import BalanceConfig, EnsembleConfig, Hdf5PartsConfig
from tests.fixtures_images import CLASSES, child, commit_units, work
from tests.reading.conftest import COUNTS, chosen
from tests.stages import probe
from tests.verify.conftest import DEAD, N, images_of, picture, png


def open_files(below) -> list[str]:
    """Files below a folder that this process has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # of the listing itself
            continue
    return [link for link in links if link.startswith(f"{below}/")]


def counted(monkeypatch) -> list[tuple[str, int]]:
    """(stage, unit) of every unit that is opened from here on."""
    opened, reader = [], StageFolder.reader
    monkeypatch.setattr(StageFolder, "reader", lambda self, n: (opened.append((self.spec.kind, n)), reader(self, n))[1])
    return opened


# -- by slot ---------------------------------------------------------------------------------------------------------


def test_a_stage_is_read_by_slot_from_both_ends_and_in_slices(images):
    stage = synth.open_stage(str(images.path))
    assert (len(stage), stage.slots) == (N - 1, N) and stage.tombstones == {DEAD: "not finite"}
    assert stage[0].slot == stage[-N].slot == 0 and stage[-1].slot == stage[np.int64(N - 1)].slot == N - 1
    assert [s.slot for s in stage[3:8]] == [3, 4, 6, 7] and [s.slot for s in stage[-3:]] == [21, 22, 23]
    assert [s.slot for s in stage[::-6]] == [23, 17, 11] and stage[5:6] == [] and len(stage[:999]) == N - 1  # 5 is the tombstone
    assert [s.slot for s in stage] == [s.slot for s in reversed(list(reversed(stage)))] == [s for s in range(N) if s != DEAD]
    assert 4 in stage and DEAD not in stage and N not in stage and -1 not in stage
    assert [s.slot for s in stage.samples(6, 9)] == [6, 7, 8] and list(stage.samples(9, 9)) == []
    for beyond in (N, -N - 1):
        with pytest.raises(IndexError, match=f"slot {beyond}: images-.* has {N} slots"):
            stage[beyond]
    with pytest.raises(TypeError):
        stage["png"]


def test_a_tombstone_is_no_sample_and_says_why(images):
    with pytest.raises(NoSample, match=rf"^slot {DEAD} of images-\w+ has no sample: not finite$") as caught:
        synth.open_stage(images.path)[DEAD - N]
    assert isinstance(caught.value, KeyError) and (caught.value.slot, caught.value.reason) == (DEAD, "not finite")
    assert str(copy.copy(caught.value)) == str(caught.value)  # as pickle would


def test_a_sample_has_key_class_metadata_bytes_and_a_picture(images):
    sample = synth.open_stage(images.path)[7]
    assert (sample.key, sample.slot, sample.unit, sample.exts, sample.ext) == ("000000007", 7, 0, ("json", "png"), "png")
    assert (sample.label, sample.class_name, sample.metadata["caption"]) == (2, CLASSES[2], "caption 7")
    assert sample["png"] == sample.read() == png(7) and len(png(7)) == sample.size and json.loads(sample["json"]) == sample.metadata
    assert sample.sha256 == hashlib.sha256(sample["json"] + sample["png"]).hexdigest()
    image = sample.image()
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (16, 16), (63, 63, 63))
    with pytest.raises(KeyError, match="sample 000000007 has no 'gif'; it has json, png"):
        sample["gif"]


def test_nothing_is_read_before_it_is_asked_for(images, filtered, monkeypatch):
    opened = counted(monkeypatch)
    stage = synth.open_stage(images.path)
    assert stage.classes == dict(enumerate(CLASSES)) and "24 slots" in repr(stage) and not opened
    sample = stage[17]
    assert opened == [("images", 2)]
    opened.clear()
    assert sample.metadata and sample.image() and stage[18].read() and not opened
    chosen_ones = synth.open_stage(filtered.path)
    assert not opened and chosen_ones[9].key and opened == [("near_duplicates", 1), ("images", 1)]


def test_captions_scores_and_probes_are_read_too(run):
    (captions,) = run.table.upstream("captions")
    stage = synth.open_stage(captions.path)
    assert len(stage) == N and stage[3].metadata["caption"] == "caption 3" and stage[3].class_name == CLASSES[3]
    with pytest.raises(InputError, match=r"000000\.jsonl: sample 000000003: holds no picture"):
        stage[3].image()


# -- what a filter left ----------------------------------------------------------------------------------------------


def test_a_filter_is_read_as_the_pictures_behind_it(images, filtered):
    stage = synth.open_stage(filtered.path)
    assert (len(stage), stage.slots, [s.slot for s in stage]) == (4, N, [0, 1, 9, 17]) and images.path.name in repr(stage)
    assert stage[9].read() == png(9) and stage[9].metadata["caption"] == "caption 9" and stage[9].unit == 1
    assert stage.classes == dict(enumerate(CLASSES)) and len(stage.tombstones) == N - 4
    # the first reason counts: of the images, of the first filter, of the second
    assert [stage.tombstones[s] for s in (DEAD, 2, 23)] == [
        "not finite",
        "balance: slot 2 is out",
        "near_duplicates: slot 23 is out",
    ]
    with pytest.raises(NoSample, match="balance: slot 2 is out"):
        stage[2]
    assert [s.slot for s in stage[8:18]] == [9, 17] and [s.slot for s in stage.picked([17, 2, 0])] == [17, 0]


def test_a_filter_that_chose_a_slot_without_a_picture_counts_it_nowhere(images):
    stage = StageReader(chosen("balance", BalanceConfig(1, COUNTS), [images], {DEAD, 6}))
    assert len(stage) == len(list(stage)) == 1 and DEAD in stage.tombstones
    with pytest.raises(NoSample, match="not finite"):
        stage[DEAD]


def test_several_stages_are_one_with_keys_of_its_own(ensemble):
    stage = synth.open_stage(ensemble.folder.path)
    assert (len(stage), stage.slots) == (4, N + 6)
    assert [(s.slot, s.key, s.source) for s in stage] == [
        (3, "0-000000003", 0),
        (10, "0-000000010", 0),
        (N, "1-000000000", 1),
        (N + 5, "1-000000005", 1),
    ]
    assert stage[-1].metadata["caption"] == "second 5" and stage[-1].read() == png(5) and stage[-1].unit == 1
    with pytest.raises(InputError, match="reads several stages of which one is a filter"):
        StageReader(chosen("ensemble", EnsembleConfig(1, COUNTS), [ensemble.folder, ensemble.two], set()))


# -- what is not there -----------------------------------------------------------------------------------------------


def test_a_stage_in_progress_is_read_as_far_as_it_is_there(images):
    images.unit_path(1).unlink()
    stage = synth.open_stage(images.path)
    assert stage.missing() == [range(8, 16)] and stage[7].read() == png(7) and stage[-1].read() == png(N - 1)
    said = r"units/000/000001\.tar: is not there \(yet\): slots 8\.\.15 of images-\w+; run the command"
    for ask in (lambda: stage[8], lambda: len(stage), lambda: list(stage), lambda: stage[5:9], lambda: stage.tombstones, stage.torch):
        with pytest.raises(InputError, match=said):
            ask()
    commit_units(images, list(map(picture, range(N))))
    assert stage.missing() == [] and stage[8].read() == png(8) and len(stage) == N - 1  # unit 0 is open: DEAD stays what it was


def test_what_is_missing_counts_filters_and_all_stages_behind(ensemble):
    ensemble.one.unit_path(2).unlink()  # slots 16..23
    ensemble.two.unit_path(0).unlink()  # slots 24..27
    ensemble.folder.unit_path(0).unlink()  # slots 0..4
    assert synth.open_stage(ensemble.folder.path).missing() == [range(5), range(16, 28)]


def test_exports_and_tables_say_what_to_open_instead(run, images):
    assert work(run.folder) == 0
    with pytest.raises(InputError, match=rf"kind image_folder, which makes files, which lie in .*exports.*: {images.path}$"):
        synth.open_stage(run.folder.path)
    with pytest.raises(InputError, match=r"is an export.*open the stage that it was made of"):
        synth.open_stage(run.folder.out_dir)
    (captions,) = run.table.upstream("captions")
    with pytest.raises(InputError, match=rf"kind captions_json.* open what it was made of: {captions.path}"):
        synth.open_stage(run.table.path)
    parts = child(run.root, "hdf5_parts", Hdf5PartsConfig(), {"images": [images]}, N, 8, 8)
    with pytest.raises(InputError, match=rf"kind hdf5_parts, which makes files, and holds no samples of its own; .*{images.path}"):
        synth.open_stage(parts.path)
    with pytest.raises(InputError, match=r"no stage\.json here"):
        synth.open_stage(run.root)


# -- damage ----------------------------------------------------------------------------------------------------------


def crafted(folder: StageFolder, files: dict | None = None, record: bytes | None = None, slots: int = 8, first: int = 0) -> None:
    """Unit 0 anew, its index as given, all digests right."""
    batch = frame("tar", [picture(s) if record is None else Sample(s, f"{s:09d}", {"png": png(s), "json": record}) for s in range(slots)])
    entries = [e if files is None else e._replace(files=files) for e in batch.entries]
    end, _ = seal("tar", UnitIndex(0, first, 8, tuple(entries), {}, ""), len(batch.data))
    folder.unit_path(0).write_bytes(batch.data + end)


@pytest.mark.parametrize(
    "place", [(0, 10**15), (10**9, 4), (-5, 4), (2**70, 1), (0, -1), ("a", 1), (0.5, 1.5), (None, None), ([], {})], ids=repr
)
def test_an_index_that_points_anywhere_is_refused_by_name(images, place):
    crafted(images, {"png": place, "json": place})
    for ask in (lambda s: s.read(), lambda s: s.metadata, lambda s: s.image()):
        with pytest.raises(InputError, match=r"000000\.tar: sample 000000000: .*(json|png)"):
            ask(synth.open_stage(images.path)[3])


@pytest.mark.parametrize("record", [b"{", b"\xff\xfe", b"[" * 100_000, b""], ids=["cut", "no text", "deep", "empty"])
def test_metadata_that_is_no_json_names_unit_and_sample(images, record):
    crafted(images, record=record)
    with pytest.raises(InputError, match=r"000000\.tar: sample 000000002: its json cannot be read"):
        _ = synth.open_stage(images.path)[2].metadata


def test_torn_and_foreign_units_are_named(images):
    path = images.unit_path(0)
    whole = path.read_bytes()
    end = json.dumps({"magic": "synthset-unit-1", "offset": 0, "size": 10**15, "sha256": "0"}).encode().ljust(BLOCK)
    deep = b'{"samples": ' + b"[" * 100_000
    deep_end = canonical({"magic": "synthset-unit-1", "offset": 0, "size": len(deep), "sha256": hashlib.sha256(deep).hexdigest()})
    for data in (
        b"",
        b"x" * 5000,
        whole[:-1],
        whole[: len(whole) // 2],
        end + bytes(2 * BLOCK),
        deep + deep_end.ljust(BLOCK) + bytes(2 * BLOCK),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"000000\.tar: not a whole unit"):
            synth.open_stage(images.path)[0]
    path.write_bytes(images.unit_path(1).read_bytes())
    with pytest.raises(InputError, match=r"000000\.tar: is not the unit of slots 0\.\.7"):
        synth.open_stage(images.path)[0]
    crafted(images, first=3)
    with pytest.raises(InputError, match=r"000000\.tar: sample 0 is in slot 0, which is none of 3\.\.10"):
        list(synth.open_stage(images.path))
    crafted(images, slots=9)  # a slot of its neighbour
    with pytest.raises(InputError, match=r"000000\.tar: sample 8 is in slot 8, which is none of 0\.\.7"):
        len(synth.open_stage(images.path))


def test_a_file_that_shrinks_while_it_is_open_is_no_short_picture(images):
    stage = synth.open_stage(images.path)
    sample = stage[7]
    os.truncate(images.unit_path(0), 600)
    with pytest.raises(InputError, match=r"000000\.tar: sample 000000007: its png is torn"):
        sample.read()


def test_a_picture_that_does_not_decode_names_unit_and_sample(images):
    for data in (b"", b"no picture", png(0)[:45]):
        commit_units(images, [Sample(s, f"{s:09d}", {"png": data, "json": b"{}"}) for s in range(N)])
        with pytest.raises(InputError, match=r"000000\.tar: sample 000000001: its png does not decode"):
            synth.open_stage(images.path)[1].image()


# -- files, processes, threads ---------------------------------------------------------------------------------------


def many(tmp_path, n: int) -> StageFolder:
    """A probe stage of n units of one slot."""
    folder = probe(tmp_path / "many", n, 1, 1)
    commit_units(folder, [Sample(s, f"{s:09d}", {"json": b'{"slot": %d}' % s}) for s in range(n)])
    return folder


def test_many_units_keep_few_files_open(tmp_path):
    folder = many(tmp_path, 1500)
    with synth.open_stage(folder.path, max_open=7) as stage:
        held = list(stage)
        assert len(stage) == 1500 and len(open_files(folder.path)) == 7
        order = np.random.default_rng(0).permutation(1500)[:300]
        assert [held[n].metadata["slot"] for n in order] == order.tolist() and len(open_files(folder.path)) == 7
    assert open_files(folder.path) == []
    assert held[1499].metadata["slot"] == 1499 and len(open_files(folder.path)) == 1  # closed is not spent
    del stage, held
    assert open_files(folder.path) == []
    assert sum(1 for _ in synth.open_stage(folder.path)) == 1500


def test_threads_share_one_reader(tmp_path):
    folder = many(tmp_path, 64)
    stage = synth.open_stage(folder.path, max_open=2)
    order = np.random.default_rng(1).integers(0, 64, 4000).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: stage[n].metadata["slot"], order)) == order
    assert len(open_files(folder.path)) == 2


def test_what_is_pickled_in_mid_use_takes_no_file_along_and_reads_elsewhere(images, filtered, tmp_path):
    stage = synth.open_stage(filtered.path)
    walk = iter(stage)
    sample = [next(walk), next(walk)][1]
    assert len(stage) == 4 and open_files(images.path)
    data = pickle.dumps((stage, sample, list(stage)))
    stage.close()
    again, one, rest = pickle.loads(data)  # noqa: S301 (our own)
    assert open_files(images.path) == open_files(filtered.path) == []
    assert one.read() == png(1) and rest[3].read() == png(17) and again[9].read() == png(9) and len(again) == 4
    assert next(walk).read() == png(9)  # the one that was pickled goes on
    assert copy.deepcopy(again)[0].read() == png(0)
    (tmp_path / "reader").write_bytes(data)
    code = (
        "import pickle, sys\nstage, one, rest = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print([s.slot for s in stage], len(one.read()), 'numpy' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "reader")], capture_output=True, text=True)
    assert run.stdout.split() == ["[0,", "1,", "9,", "17]", str(len(png(1))), "False", "False"], run.stderr


def test_a_forked_child_opens_files_of_its_own(images):
    stage = synth.open_stage(images.path)
    sample = stage[3]
    mine = stage._units.get(images_in(stage), 0)
    stage._units._lock.acquire()  # another thread of the parent is in the middle of it
    child = os.fork()
    if not child:
        ok = sample.read() == png(3) and stage._units.get(images_in(stage), 0) is not mine and len(open_files(images.path)) == 2
        os._exit(0 if ok else 1)  # `mine` is held by this test alone
    stage._units._lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert stage._units.get(images_in(stage), 0) is mine and sample.read() == png(3)


def images_in(stage: StageReader) -> StageFolder:
    return stage.sources[0]


def test_import_synth_stays_light_and_reading_pulls_no_torch_and_no_numpy(images):
    code = (
        "import sys, synth\nassert 'synth.reading' not in sys.modules and 'synth.store' not in sys.modules\n"
        f"stage = synth.open_stage({str(images.path)!r})\nstage[0].read(), len(stage), list(stage), stage.tombstones, stage.classes\n"
        "print([m for m in ('numpy', 'torch', 'PIL', 'hydra', 'pyarrow') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
    with pytest.raises(AttributeError, match="no attribute 'close_stage'"):
        _ = synth.close_stage


def test_exports_and_tables_make_files_and_all_other_kinds_samples():
    files = {k for k in KINDS if makes_files(k)}
    assert (
        {"captions_json", "hdf5_parts", "hdf5", "image_folder", "pairs_page"}
        < files
        == {"captions_json", "hdf5_parts", "layout_webdataset", *chosen_by("export")}
    )


def test_labels_are_those_of_the_dataset(run):
    images = images_of(run.table, [picture(k, label=99) for k in range(4)])
    stage = StageReader(images)
    with pytest.raises(InputError, match="picture 000000002 has label 99, which is not a class of the dataset"):
        stage.label_of(stage[2].key, stage[2].metadata)
