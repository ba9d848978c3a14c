"""Merging HDF5 files keeps what they mean: what stands beside pictures is carried, or refused by name, and never left out in silence."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.export.merge_hdf5 import main
from synth.store.hdf5 import Hdf5File

BYTES = np.arange(6, dtype=np.uint8)


@pytest.fixture
def merge(tmp_path, capsys):
    """Merge two files, each filled by fill(f, k): (exit code, what it said)."""

    def call(fill, *words, libver=(None, None)):
        for k in (0, 1):
            with h5py.File(tmp_path / f"p_split_{k}.h5", "w", libver=libver[k]) as f:
                fill(f, k)
        code = main(["--inputs", str(tmp_path / "p_split_*.h5"), "--output", str(tmp_path / "out.h5"), *words])
        assert (tmp_path / "out.h5").exists() == (code == EXIT_OK)
        return code, "".join(capsys.readouterr())

    return call


@pytest.fixture
def merged(tmp_path):
    return lambda: h5py.File(tmp_path / "out.h5")


def keyed(f, k):
    f[f"{k}.jpg"] = BYTES + k


def packed(f, k):
    f["images"], f["labels"] = np.full((2, 6), k, np.uint8), [0, 1]


def with_everything(f, k):
    """What carries over from keyed and packed files alike: the same in both."""
    f.attrs["class_names"], f.attrs["matrix"] = ["cat", "caf\u00e9"], np.eye(2)
    f.attrs["fixed"], f.attrs["nothing"] = np.array(b"ab\0", "S3"), h5py.Empty("f4")
    f.attrs.create("nested", np.zeros((2,), "(3,)i4"), dtype=np.dtype("(3,)i4"))
    f.create_group("empty/inside").attrs["unit"] = "metres"


@pytest.mark.parametrize("libver", [(None, None), ("latest", None), (None, "latest")])
@pytest.mark.parametrize("kind", [keyed, packed])
def test_what_the_files_agree_on_is_carried(merge, merged, kind, libver):
    def fill(f, k):
        kind(f, k)
        with_everything(f, k)
        if kind is packed:
            f["note"], f["meta/mean"] = "drawn by hand", np.arange(3.0)
            f["labels"].attrs["unit"] = f["meta/mean"].attrs["unit"] = "class"
        else:
            f[f"{k}.jpg"].attrs["unit"] = "byte"

    code, said = merge(fill, libver=libver)
    assert code == EXIT_OK, said
    with merged() as f:
        assert list(f.attrs["class_names"]) == ["cat", "caf\u00e9"] and f.attrs["matrix"].tolist() == [[1, 0], [0, 1]]
        assert f.attrs.get_id("fixed").dtype == "S3" and f.attrs["nothing"].shape is None and f.attrs["nested"].shape == (2, 3)
        assert f["empty/inside"].attrs["unit"] == "metres"
        if kind is packed:
            assert f["note"].asstr()[()] == "drawn by hand" and f["meta/mean"][:].tolist() == [0, 1, 2]
            assert f["labels"].attrs["unit"] == f["meta/mean"].attrs["unit"] == "class" and f["images"].shape == (4, 6)
        else:
            assert f["1.jpg"].attrs["unit"] == "byte" and f["1.jpg"][:].tolist() == (BYTES + 1).tolist()


def other_names(f, k):
    f.attrs["class_names"] = ["cat", "dog"] if k else ["dog", "cat"]


def names_of_one_alone(f, k):
    if k:
        f.attrs["class_names"] = ["cat"]


def attribute_of_a_group(f, k):
    f.create_group("meta").attrs["unit"] = k


@pytest.mark.parametrize(
    ("fill", "name", "say"),
    [
        (other_names, "@class_names", r"is 'dog' in {0} and 'cat' in {1} (entry 0)"),
        (names_of_one_alone, "@class_names", "is an attribute in {1} and not in {0}"),
        (attribute_of_a_group, "meta@unit", "is 0 in {0} and 1 in {1}"),
    ],
)
@pytest.mark.parametrize("kind", [keyed, packed])
def test_what_the_files_do_not_agree_on_is_named_with_both_and_left_out_on_request_alone(merge, merged, tmp_path, kind, fill, name, say):
    def both(f, k):
        kind(f, k)
        fill(f, k)

    code, said = merge(both)
    assert code == EXIT_BAD_INPUT and f"{name!r} {say.format(*(tmp_path / f'p_split_{k}.h5' for k in (0, 1)))}" in said
    assert f"--leave-out '{name}'" in said
    code, said = merge(both, "--leave-out", name)
    assert code == EXIT_OK and f"of {name}" in said
    with merged() as f:
        assert "class_names" not in f.attrs and all("unit" not in g.attrs for g in f.values())


def scalar(f, k):
    f["seed"] = 7 + k


def group_of_one(f, k):
    if k:
        f["meta/x"] = [1]


def other_length(f, k):
    f["class_names"] = np.array(["a", "b", "c"], h5py.string_dtype())


def enumeration(f, k):
    f["split"] = np.array([0, 1], h5py.enum_dtype({"train": k, "val": 1 - k}, np.int8))


def row_references(f, k):
    f.create_dataset("origin", data=[f["images"].ref] * 2, dtype=h5py.ref_dtype)


@pytest.mark.parametrize(
    ("fill", "say"),
    [
        (scalar, "'seed' is 7 in "),
        (group_of_one, "'meta' is in "),
        (other_length, "'class_names' has 3 rows, others 2; leave it out: --leave-out 'class_names'"),
        (enumeration, "a row of 'split' has other names of values"),
        (row_references, "'origin' refers to other things in its file"),
    ],
)
def test_what_rows_cannot_hold_is_refused_by_name(merge, fill, say):
    def both(f, k):
        packed(f, k)
        fill(f, k)

    code, said = merge(both)
    assert code == EXIT_BAD_INPUT and say in said
    if "leave" in said:
        name = said.rpartition("--leave-out '")[2].rstrip("'\n")
        assert merge(both, "--leave-out", name)[0] == EXIT_OK


def reference(f, k):
    f[f"r{k}"] = f[f"{k}.jpg"].ref


def reference_in_a_row(f, k):
    f.create_dataset(f"r{k}", shape=(2,), dtype=[("n", "i4"), ("to", h5py.ref_dtype)])


def region(f, k):
    f.create_dataset(f"r{k}", data=[f[f"{k}.jpg"].regionref[:2]], dtype=h5py.regionref_dtype)


def list_of_references(f, k):
    f.create_dataset(f"r{k}", (1,), h5py.vlen_dtype(h5py.ref_dtype))


def circle(f, k):
    f[f"g{k}/r{k}"] = f["/"]


def circle_by_a_soft_link(f, k):
    f[f"r{k}"] = h5py.SoftLink(f"/r{k}")


def dead_link(f, k):
    f[f"r{k}"] = h5py.SoftLink("/nowhere")


def other_file(f, k):
    f[f"r{k}"] = h5py.ExternalLink("p_split_0.h5", "/0.jpg")


REFUSED = [reference, reference_in_a_row, region, list_of_references, circle, circle_by_a_soft_link, dead_link, other_file]


@pytest.mark.parametrize("fill", REFUSED, ids=[f.__name__ for f in REFUSED])
def test_what_would_mean_nothing_in_the_merged_file_is_refused_by_name_and_left_out_on_request_alone(merge, merged, fill):
    def both(f, k):
        keyed(f, k)
        fill(f, k)

    code, said = merge(both)
    assert code == EXIT_BAD_INPUT and "r0'" in said
    code, said = merge(both, "--leave-out", "*r?", "nix")
    assert code == EXIT_BAD_INPUT and "--leave-out nix: nothing in the files is called so" in said
    code, said = merge(both, "--leave-out", "*r?")
    assert code == EXIT_OK and "left out: 2 of " in said
    with merged() as f:
        assert f["1.jpg"][:].tolist() == (BYTES + 1).tolist() and not any(n.startswith("r") for n in f)


def test_references_in_attributes_are_refused_and_the_dataset_is_carried_without_them_on_request(merge, merged):
    def fill(f, k):
        keyed(f, k)
        f[f"scale{k}"] = np.arange(6)
        f[f"scale{k}"].make_scale()
        f[f"{k}.jpg"].dims[0].attach_scale(f[f"scale{k}"])
        f[f"{k}.jpg"].attrs["unit"] = "byte"

    code, said = merge(fill)
    assert code == EXIT_BAD_INPUT and "'0.jpg@DIMENSION_LIST' refers to other things in its file" in said
    code, said = merge(fill, "--leave-out", "*@DIMENSION_LIST", "*@REFERENCE_LIST")
    assert code == EXIT_OK and "2 of *@DIMENSION_LIST, 2 of *@REFERENCE_LIST" in said
    with merged() as f:
        assert list(f["1.jpg"].attrs) == ["unit"] and f["1.jpg"][:].tolist() == (BYTES + 1).tolist()


def of_many_types(f, k):
    f[f"{k}.jpg"], f[f"caption{k}"], f[f"text{k}"] = np.asarray(b"jpeg\0"), np.bytes_(b"a cat"), "un caf\u00e9"
    f[f"row{k}"], f[f"big{k}"], f[f"type{k}"] = np.array([b"ab", b"c"], "S4"), np.arange(3, dtype=">i2"), np.dtype([("a", "i4")])
    f[f"struct{k}"] = np.array([(1, b"ab"), (2, b"")], np.dtype([("n", "i4"), ("s", "S3")], align=True))
    f[f"enum{k}"] = np.array([1, 0, 1], h5py.enum_dtype({"no": 0, "yes": 1}))
    f[f"bool{k}"], f[f"none{k}"], f[f"texts{k}"] = np.array([True, False]), h5py.Empty("f4"), np.array(["x", ""], h5py.string_dtype())
    f.create_dataset(f"nested{k}", (2,), np.dtype("(3,)i4"))[...] = np.arange(6).reshape(2, 3)
    f.create_dataset(f"ragged{k}", (2,), h5py.vlen_dtype("i4"))[1] = [4, 5]
    f.create_dataset(f"filled{k}", (9,), "i4", chunks=(2,), compression="gzip", fillvalue=7, maxshape=(None,))[:3] = 1
    f.create_dataset(f"packed{k}", data=np.arange(20.0).reshape(5, 4), chunks=(2, 2), compression="gzip", shuffle=True, maxshape=(None, 4))
    f.create_dataset(f"void{k}", data=np.array([b"x", b"yz"], "V4"))


@pytest.mark.parametrize("libver", [None, "latest"])
def test_types_shapes_and_values_stay_as_they_are(merge, merged, tmp_path, libver):
    code, said = merge(of_many_types, libver=(libver, libver))
    assert code == EXIT_OK, said
    with merged() as f, h5py.File(tmp_path / "p_split_1.h5") as old:
        assert len(f) == 2 * len(old) and np.array(f["1.jpg"]).tobytes() == b"jpeg\0"
        for name in set(old) - {"type1"}:
            ours, theirs = f[name], old[name]
            assert ours.id.get_type() == theirs.id.get_type() and ours.shape == theirs.shape, name
            assert repr(ours.fillvalue) == repr(theirs.fillvalue), name
            assert (ours.maxshape, ours.chunks, ours.compression) == (theirs.maxshape, theirs.chunks, theirs.compression), name
            assert repr(ours[()]) == repr(theirs[()]), name
        assert f["type1"].dtype == old["type1"].dtype


def test_columns_that_were_made_to_grow_still_do(merge, merged):
    def fill(f, k):
        f.create_dataset("images", data=np.full((2, 6), k, np.uint8), maxshape=(None, 6))
        f["labels"] = [0, 1]

    assert merge(fill)[0] == EXIT_OK
    with merged() as f:
        assert f["images"].maxshape == (None, 6) and f["images"][:, 0].tolist() == [0, 0, 1, 1] and f["labels"].maxshape == (4,)


@pytest.mark.parametrize(
    ("dtype", "values", "say"), [("u1", [0, 150, 200], "does not reach 400 bytes"), ("u8", [5, 150, 200], "begin at 5")]
)
def test_offsets_that_cannot_lead_through_all_images_are_refused(merge, dtype, values, say):
    def fill(f, k):
        f["images"], f["labels"], f["offsets"] = np.zeros(200, np.uint8), [0, 1], np.array(values, dtype)

    code, said = merge(fill)
    assert code == EXIT_BAD_INPUT and say in said


def test_a_name_that_is_a_group_in_one_file_and_a_dataset_in_another_is_named(merge):
    def fill(f, k):
        f["a/b" if k else "a"] = BYTES

    code, said = merge(fill)
    assert code == EXIT_BAD_INPUT and "'a' is a group in " in said and "rename one of them" in said


WRITER = """
import sys, h5py
f = h5py.File(sys.argv[1], "r+")
f["late.jpg"] = b"x"
f.flush()
print(flush=True)
sys.stdin.readline()
"""


def test_a_file_that_a_program_has_open_to_write_is_not_merged_as_far_as_it_got(merge, merged, tmp_path, capsys):
    assert merge(keyed)[0] == EXIT_OK
    (tmp_path / "out.h5").unlink()
    words = ["--inputs", str(tmp_path / "p_split_*.h5"), "--output", str(tmp_path / "out.h5")]
    command = [sys.executable, "-c", WRITER, str(tmp_path / "p_split_1.h5")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        writer.stdout.readline()
        with Hdf5File(tmp_path / "p_split_0.h5"), Hdf5File(tmp_path / "p_split_0.h5"):  # readers do not exclude each other
            code = main(words)
        assert code == EXIT_AGAIN and "p_split_1.h5 is open in a program that writes it" in capsys.readouterr().err
        assert not (tmp_path / "out.h5").exists()
        writer.communicate("\n")
    assert main(words) == EXIT_OK
    with merged() as f:
        assert set(f) == {"0.jpg", "1.jpg", "late.jpg"}


def test_a_file_that_changes_while_it_is_merged_is_told(merge, tmp_path, monkeypatch):
    from synth.export.hdf5 import merge as module

    states = iter([[(1, 2, 3), (4, 5, 6)], [(1, 2, 3), (4, 5, 7)]])
    monkeypatch.setattr(module, "_states", lambda paths: next(states))
    code, said = merge(keyed)
    assert code == EXIT_AGAIN and "p_split_1.h5: changed while it was merged" in said


def test_file_systems_without_locks_are_read_all_the_same(tmp_path, monkeypatch):
    import errno
    import fcntl

    def none(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    with h5py.File(tmp_path / "f.h5", "w") as f:
        keyed(f, 0)
    monkeypatch.setattr(fcntl, "flock", none)
    with Hdf5File(tmp_path / "f.h5") as f:
        assert list(f.names()) == [b"0.jpg"]
