"""Merging foreign partitions, and HDF5 files of plain folders: what is copied, what is refused and how it is said."""

import io
import os

import h5py
import numpy as np
import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.export.keyed_hdf5 import main as keyed
from synth.export.merge_hdf5 import main as merge

JPEG = b"\xff\xd8 a picture that ends in zeros \x00\x00"


def partition(folder, k, of=2, names=("a",), scalar=True):
    path = folder / f"pairs_total_p_{of}_split_{k}.h5"
    with h5py.File(path, "w", libver="latest" if k else None) as f:
        for name in names:
            data = JPEG + name.encode("utf-8", "replace")[:1] + b"\0"
            f[f"{name}_{k}.jpg"] = np.asarray(data) if scalar else np.frombuffer(data, np.uint8)
    return path


def test_keyed_partitions_are_joined_and_text_of_fixed_length_stays_text_with_its_trailing_zeros(tmp_path, capsys):
    partition(tmp_path, 0, names=("a", 'say "hi"', "caf\u00e9", "..", "a b\nc"))
    partition(tmp_path, 1, names=("b", "sub/dir"), scalar=False)
    out = tmp_path / "out.h5"
    assert merge(["--inputs", str(tmp_path / "*_split_*.h5"), "--output", str(out), "--total_p", "2"]) == EXIT_OK
    assert "7 datasets of 2 keyed files" in capsys.readouterr().out
    with h5py.File(out) as f:
        for name, first in (
            ("a_0", b"a"),
            ('say "hi"_0', b"s"),
            ("b_1", b"b"),
            ("sub/dir_1", b"s"),
            ("a b\nc_0", b"a"),
            (".._0", b"."),
        ):
            assert f[f"{name}.jpg"].dtype.kind == ("u" if name.endswith("_1") else "S")
            assert io.BytesIO(np.array(f[f"{name}.jpg"])).getvalue() == JPEG + first + b"\0"


def test_merging_the_same_files_again_does_nothing_and_other_files_are_never_replaced(tmp_path, capsys):
    partition(tmp_path, 0)
    partition(tmp_path, 1)
    out = tmp_path / "out.h5"
    words = ["--inputs", str(tmp_path / "*_split_*.h5"), "--output", str(out)]
    assert merge(words) == EXIT_OK
    before = (out.read_bytes(), out.stat().st_mtime_ns)
    assert merge(words) == EXIT_OK and "already" in capsys.readouterr().out
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before
    partition(tmp_path, 1, names=("a", "b"))
    assert merge(words) == EXIT_BAD_INPUT and "remove it" in capsys.readouterr().err
    assert out.read_bytes() == before[0]


def test_partitions_that_were_made_anew_with_equal_names_and_sizes_are_not_merged_already(tmp_path, capsys):
    file, out = partition(tmp_path, 0, of=1), tmp_path / "out.h5"
    words = ["--inputs", str(file), "--output", str(out)]
    assert merge(words) == EXIT_OK
    size, status = file.stat().st_size, file.stat()
    with h5py.File(file, "r+") as f:
        f["a_0.jpg"][()] = np.asarray(JPEG + b"b\0")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == size
    assert merge(words) == EXIT_BAD_INPUT and "was not merged from these files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "of", "words", "said"),
    [
        ((0, 2), 4, [], "missing: 1, 3"),
        ((0, 1), 2, ["--total_p", "3"], "different totals (2, 3)"),
        ((1, 2), 2, [], ""),  # counted from one
        ((0, 1, 5), 2, [], "beyond the last"),
    ],
)
def test_missing_partitions_are_named(tmp_path, capsys, there, of, words, said):
    for k in there:
        partition(tmp_path, k, of)
    out = tmp_path / "out.h5"
    code = merge(["--inputs", str(tmp_path / "*_split_*.h5"), "--output", str(out), *words])
    assert code == (EXIT_BAD_INPUT if said else EXIT_OK) and said in capsys.readouterr().err and out.exists() == (not said)


def test_torn_files_are_all_named_before_anything_is_written(tmp_path, capsys):
    paths = [partition(tmp_path, k, 3) for k in range(3)]
    os.truncate(paths[0], 100)
    paths[2].write_text("not HDF5")
    assert merge(["--inputs", *map(str, paths), "--output", str(tmp_path / "out.h5")]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "split_0.h5" in said and "split_2.h5" in said and "split_1.h5" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)


def test_names_that_are_there_twice_are_told_with_both_files(tmp_path, capsys):
    for k in (0, 1):
        with h5py.File(tmp_path / f"x_split_{k}.h5", "w") as f:
            f["same.jpg"], f[f"own_{k}.jpg"] = np.asarray(b"x"), np.asarray(b"y")
    assert merge(["--inputs", str(tmp_path / "*.h5"), "--output", str(tmp_path / "out.h5")]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "'same.jpg'" in said and "x_split_0.h5" in said and "x_split_1.h5" in said and "own" not in said
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_foreign_arrays_are_concatenated_whatever_their_chunks(tmp_path, chunk, libver):
    rng, parts = np.random.default_rng(0), []
    for k, n in enumerate((8, 6, 3)):
        parts.append(rng.integers(0, 255, (n, 4, 4, 3), dtype=np.uint8))
        with h5py.File(tmp_path / f"part_{k}_of_3.h5", "w", libver=libver) as f:
            more = {"chunks": (min(chunk, n), 4, 4, 3), "compression": "gzip", "fletcher32": True} if chunk else {}
            f.create_dataset("images", data=parts[-1], **more)
            f.create_dataset("labels", data=np.arange(n))
            f["captions"] = np.array([f"{k}:{i}" for i in range(n)], h5py.string_dtype())
    assert merge(["--inputs", str(tmp_path / "part_*.h5"), "--output", str(tmp_path / "out.h5")]) == EXIT_OK
    with h5py.File(tmp_path / "out.h5") as f:
        assert (f["images"][:] == np.concatenate(parts)).all()
        assert f["labels"][:].tolist() == [*range(8), *range(6), *range(3)]
        assert f["captions"].asstr()[8] == "1:0" and len(f["captions"]) == 17


def test_arrays_that_do_not_fit_together_are_named(tmp_path, capsys):
    for k, size in enumerate((4, 5)):
        with h5py.File(tmp_path / f"part_{k}_of_2.h5", "w") as f:
            f["images"] = np.zeros((2, size, size, 3), np.uint8)
    assert merge(["--inputs", str(tmp_path / "part_*.h5"), "--output", str(tmp_path / "out.h5")]) == EXIT_BAD_INPUT
    assert "part_1_of_2.h5" in capsys.readouterr().err and not (tmp_path / "out.h5").exists()


def test_no_such_input_is_named(tmp_path, capsys):
    assert merge(["--inputs", str(tmp_path / "*.h5"), "--output", str(tmp_path / "out.h5")]) == EXIT_BAD_INPUT
    assert "no such file" in capsys.readouterr().err


def test_a_plain_folder_becomes_a_keyed_file_and_stays(tmp_path, capsys):
    folder = tmp_path / "pictures"
    (folder / "cats").mkdir(parents=True)
    (folder / "a b.jpg").write_bytes(JPEG)
    (folder / "cats" / "c.png").write_bytes(b"png")
    (folder / "notes.txt").write_text("x")
    assert keyed([str(folder), str(tmp_path / "out.h5")]) == EXIT_OK
    with h5py.File(tmp_path / "out.h5") as f:
        assert list(f) == ["a b.jpg", "c.png"] and np.array(f["a b.jpg"]).tobytes() == JPEG
    assert (folder / "a b.jpg").read_bytes() == JPEG
    (folder / "c.png").write_bytes(b"other")
    assert keyed([str(folder), str(tmp_path / "two.h5")]) == EXIT_BAD_INPUT and "one name" in capsys.readouterr().err
    assert keyed([str(folder), str(tmp_path / "two.h5"), "--names", "path"]) == EXIT_OK
    with h5py.File(tmp_path / "two.h5") as f:
        assert np.array(f["cats/c.png"]).tobytes() == b"png"
    assert keyed([str(folder), str(tmp_path / "two.h5")]) == EXIT_BAD_INPUT and keyed([str(tmp_path / "no"), "x.h5"]) == EXIT_BAD_INPUT
