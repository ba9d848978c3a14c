"""HDF5 files that others wrote: nothing in them leads out, circles end, and what is not read is named."""

import os

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from synth.errors import EXIT_BAD_INPUT, InputError, StoreError
from synth.export.merge_hdf5 import main as merge
from synth.store.hdf5 import Hdf5File, NoFilter, Refused
from synth.tracking.sources import open_source

BYTES = np.arange(6, dtype=np.uint8)


def linked_to_a_file(f, tmp_path):
    f["x"] = h5py.ExternalLink("other.h5", "/x")


def linked_to_a_pipe(f, tmp_path):
    f["x"] = h5py.ExternalLink("pipe", "/x")


def softly_linked_to_a_pipe(f, tmp_path):
    f["a"], f["x"] = h5py.ExternalLink("pipe", "/x"), h5py.SoftLink("/a")


def raw_bytes_of_a_file(f, tmp_path):
    f.create_dataset("x", (6,), np.uint8, external=[(str(tmp_path / "secret"), 0, 6)])


def raw_bytes_of_a_pipe(f, tmp_path):
    f.create_dataset("x", (6,), np.uint8, external=[(str(tmp_path / "pipe"), 0, 6)])


def view_of_a_file(f, tmp_path):
    layout = h5py.VirtualLayout((6,), np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (6,))
    f.create_virtual_dataset("x", layout)


def endless_view_of_a_pipe(f, tmp_path):
    """Of a size that only the other file tells: HDF5 opens that when it is asked for the shape."""
    space, source = h5s.create_simple((6,), (h5s.UNLIMITED,)), h5s.create_simple((6,), (h5s.UNLIMITED,))
    for s in (space, source):
        s.select_hyperslab((0,), (h5s.UNLIMITED,), stride=(1,), block=(1,))
    made = h5p.create(h5p.DATASET_CREATE)
    made.set_virtual(space, str(tmp_path / "pipe").encode(), b"x", source)
    h5d.create(f.id, b"x", h5t.STD_U8LE, h5s.create_simple((6,), (h5s.UNLIMITED,)), made)


ELSEWHERE = [
    linked_to_a_file, linked_to_a_pipe, softly_linked_to_a_pipe, raw_bytes_of_a_file, raw_bytes_of_a_pipe, view_of_a_file,
    endless_view_of_a_pipe,
]  # fmt: skip


@pytest.fixture(params=ELSEWHERE, ids=[f.__name__ for f in ELSEWHERE])
def leading_out(request, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(tmp_path / "pipe")  # opening it would never end
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = BYTES
    path = tmp_path / "f_split_0.h5"
    with h5py.File(path, "w") as f:
        f["good"] = BYTES
        request.param(f, tmp_path)
    return path


def test_what_lies_in_another_file_is_refused_by_name_and_the_rest_is_read(leading_out):
    with Hdf5File(leading_out) as f:
        with pytest.raises(Refused, match=r"f_split_0.h5: 'x' lies in another file") as e:
            f.dataset("x")
        assert e.value.reason.startswith("lies in another file")
        assert h5py.Dataset(f.dataset("good"))[:].tolist() == BYTES.tolist()
        with pytest.raises(Refused):
            list(f.items())
        with pytest.raises(Refused):
            f.columns()


@pytest.mark.parametrize("layout", ["auto", "keyed", "packed"])
def test_no_merge_takes_what_lies_in_another_file(leading_out, capsys, layout):
    out = leading_out.with_name("out.h5")
    assert merge(["--inputs", str(leading_out), "--output", str(out), "--layout", layout]) == EXIT_BAD_INPUT
    assert "f_split_0.h5: " in (said := capsys.readouterr().err) and "lies in another file" in said
    assert sorted(p.name for p in out.parent.iterdir()) == ["f_split_0.h5", "other.h5", "pipe", "secret"]


def test_no_annotated_image_lies_in_another_file(leading_out):
    source = open_source(leading_out)
    found = source.find(["x", "good", "sub/x"])
    assert "lies in another file" in found["x"].reason and "lies in another file" in found["sub/x"].reason
    assert source.read("good", 6) == BYTES.tobytes() and "lies in another file" in source.read("x", 6)
    source.close()


def test_a_group_in_another_file_is_not_entered(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["group"], f["own/y"] = h5py.ExternalLink("pipe", "/"), BYTES
    with Hdf5File(tmp_path / "f.h5") as f:
        with pytest.raises(Refused, match="'group/x' lies in another file"):
            f.dataset("group/x")
        assert list(f.names(once=True)) == [b"own/y"]
        with pytest.raises(Refused, match="'group' lies in another file"):
            list(f.names())
    source = open_source(tmp_path / "f.h5")
    assert source.find(["group/x", "y"])["y"].path == "own/y"
    source.close()


def test_bytes_that_nothing_here_unpacks_are_refused_by_the_name_of_the_filter(tmp_path, capsys):
    path = tmp_path / "f_split_0.h5"
    with h5py.File(path, "w") as f:
        f["good"] = BYTES
        made = h5p.create(h5p.DATASET_CREATE)
        made.set_chunk((6,))
        made.set_filter(32123, 1, (5,))
        h5d.create(f.id, b"x", h5t.STD_U8LE, h5s.create_simple((6,)), made)
        f.create_dataset("gzip", data=BYTES, compression="gzip", shuffle=True)
        f.create_dataset("lzf", data=BYTES, compression="lzf")
    with Hdf5File(path) as f:
        with pytest.raises(
            NoFilter, match=r"'x' is packed by filter 32123, which is not here: pip install hdf5plugin, .*, or pack the file by gzip"
        ):
            f.dataset("x")
        assert f.dataset("gzip") is not None and f.dataset("lzf") is not None
    for layout in ("keyed", "packed"):
        words = ["--inputs", str(path), "--output", str(tmp_path / "out.h5"), "--layout", layout]
        assert merge(words) == EXIT_BAD_INPUT and "filter 32123" in capsys.readouterr().err
    source = open_source(path)
    for call in (lambda: source.find(["good", "x"]), lambda: source.check("x"), lambda: source.read("x", 6)):
        with pytest.raises(NoFilter):  # a fact about this machine, which is stored nowhere
            call()
    source.check("good")
    source.close()


def test_names_are_followed_inside_the_file_and_circles_end(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["a/x"], f["a/.."], f["b/x y"] = BYTES, BYTES, BYTES
        f["hard"], f["soft"], f["relative"] = f["a/x"], h5py.SoftLink("/a/x"), h5py.SoftLink("./b/./x y")
        f["a/up"], f["b/root"], f["groups"] = f["/"], h5py.SoftLink("/"), h5py.SoftLink("/b")
    with Hdf5File(tmp_path / "f.h5") as f:
        for name in ("a/x", "/a/x", "hard", "soft", "relative", "a/up/a/up/soft", "groups/root/hard", b"a//x", "a/.."):
            assert h5py.Dataset(f.dataset(name))[:].tolist() == BYTES.tolist()
        for name in ("", "a", "nix", "nix/x", "a/x/y", "groups/nix", "\udcff", "x" * 5000):
            assert f.dataset(name) is None
        assert list(f.names()) == [b"a/..", b"a/x", b"b/x y", b"groups/x y", b"hard", b"relative", b"soft"]
        assert [n for n, _ in f.items()] == list(f.names())
        assert list(f.names(once=True)) == [b"a/..", b"a/x", b"b/x y"]


def test_links_that_lead_nowhere_or_multiply_are_named(tmp_path, capsys):
    with h5py.File(tmp_path / "dead_split_0.h5", "w") as f:
        f["x"], f["dead"], f["one"], f["two"] = BYTES, h5py.SoftLink("/nowhere"), h5py.SoftLink("/two"), h5py.SoftLink("/one")
    with Hdf5File(tmp_path / "dead_split_0.h5") as f:
        assert f.dataset("dead") is None is f.dataset("one")
        with pytest.raises(Refused, match="'dead' is a link that leads nowhere"):
            list(f.names())
    assert merge(["--inputs", str(tmp_path / "dead_split_0.h5"), "--output", str(tmp_path / "out.h5")]) == EXIT_BAD_INPUT
    assert "'dead' is a link that leads nowhere" in capsys.readouterr().err
    with h5py.File(tmp_path / "bomb.h5", "w") as f:
        for k in range(40):  # 2^40 names
            f.create_group(f"{k:02d}")
        for k in range(39):
            f[f"{k:02d}/a"] = f[f"{k:02d}/b"] = f[f"{k + 1:02d}"]
    with Hdf5File(tmp_path / "bomb.h5") as f:
        with pytest.raises(Refused, match="links lead 1,000 times"):
            list(f.names())
        assert list(f.names(once=True)) == []


def test_files_that_are_none_or_torn_or_gone_are_named(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        f["x"] = BYTES
    whole = path.read_bytes()
    path.write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"key: .*f.h5 is a torn HDF5 file, one that is still being written"):
        Hdf5File(path, "key")
    path.write_text("hello")
    with pytest.raises(InputError, match="or none at all"):
        Hdf5File(path)
    path.unlink()
    with pytest.raises(InputError, match="is not there"):
        Hdf5File(path)
    os.mkfifo(path)
    for place in (path, tmp_path):
        with pytest.raises(InputError, match="is not a regular file"):
            Hdf5File(place)
    path.unlink()
    path.write_bytes(whole)

    def stale(*args, **more):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(h5py, "File", stale)
    with pytest.raises(StoreError, match="Stale file handle"):
        Hdf5File(path)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_end_in_an_error_that_names_the_file(tmp_path, seed, capsys):
    path, rng = tmp_path / "f_split_0.h5", np.random.default_rng(seed)
    with h5py.File(path, "w") as f:
        for k in range(20):
            f[f"g{k % 3}/{k}"] = BYTES
        f.create_dataset("images", data=np.zeros((50, 4), np.uint8), chunks=(5, 4), compression="gzip")
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, len(data), 60):
        data[at] ^= int(rng.integers(1, 256))
    data[:8] = b"\x89HDF\r\n\x1a\n"
    path.write_bytes(data)
    for layout in ("auto", "packed", "keyed"):
        code = merge(["--inputs", str(path), "--output", str(tmp_path / f"{layout}.h5"), "--layout", layout])
        err = capsys.readouterr().err
        assert (code, "") == (0, err) or (code == EXIT_BAD_INPUT and str(path) in err)
