"""Verification of HDF5 files: whole, of another size, with another picture in them, without a file beside them."""

import h5py
import numpy as np
import pytest

from synth.errors import EXIT_OK
from synth.export.hdf5.parts import partition
from tests.configs import Hdf5Config, Hdf5PartsConfig
from tests.fixtures_images import child, work
from tests.verify.conftest import N
from tests.verify.test_verify import problems


def exported(run, **layout):
    parts = child(run.root, "hdf5_parts", Hdf5PartsConfig(**layout), {"images": [run.images]}, N, 10, 10)
    folder = child(run.root, "hdf5", Hdf5Config(), {"images": [run.images], "parts": [parts]})
    assert work(parts) == work(folder) == EXIT_OK
    return folder


@pytest.mark.parametrize("layout", [{"layout": "keyed"}, {"layout": "packed"}, {"layout": "packed", "content": "pixels"}])
def test_a_picture_that_was_exchanged_inside_an_hdf5_file_is_found_deep(run, layout):
    folder = exported(run, **layout)
    path = folder.out_dir / "images.h5"
    assert not problems(folder.path, deep=True)
    with h5py.File(path, "r+") as f:
        if layout["layout"] == "keyed":
            data = f["000000003.png"]
            data[20] = data[20] ^ 1
        elif "content" in layout:
            f["images"][3] = np.zeros_like(f["images"][3])
        else:
            f["images"][int(f["offsets"][3]) + 20] ^= 1
    assert not problems(folder.path)
    assert any("000000003" in p or "row 3" in p for p in problems(folder.path, deep=True, mend=True)) and not path.exists()
    assert work(folder) == EXIT_OK and not problems(folder.path, deep=True)
    if layout["layout"] == "keyed":
        return
    before = path.read_bytes()
    for name, row, value in (("labels", 4, 1), ("captions", 5, "another"), ("keys", 6, "000000099")):
        with h5py.File(path, "r+") as f:
            f[name][row] = value
        assert any(f"of row {row}" in p for p in problems(folder.path, deep=True)), name
        path.write_bytes(before)
    with h5py.File(path, "r+") as f:
        f.attrs["class_names"] = f.attrs["class_names"][::-1]
    path.write_bytes(path.read_bytes()[: len(before)].ljust(len(before), b"\0"))
    assert any("class names" in p or "cannot be read" in p for p in problems(folder.path, deep=True))


@pytest.mark.parametrize("layout", ["keyed", "packed"])
def test_damage_anywhere_in_the_structure_of_a_file_is_told_and_never_raised(run, layout):
    folder = exported(run, layout=layout)
    path = folder.out_dir / "images.h5"
    whole = path.read_bytes()
    for at in range(8, min(len(whole), 4000), 400):
        path.write_bytes(whole[:at] + bytes(b ^ 255 for b in whole[at : at + 40]) + whole[at + 40 :])
        problems(folder.path)
        problems(folder.path, deep=True)
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    assert problems(folder.path, deep=True)


def test_a_cut_file_and_a_missing_manifest_are_found_without_reading(run):
    folder = exported(run)
    path = folder.out_dir / "images.h5"
    path.write_bytes(path.read_bytes()[:-9])
    assert "not of the size" in problems(folder.path)[0]
    other = exported(run, layout="packed")
    (other.out_dir / "manifest.parquet").unlink()
    assert "is missing" in problems(other.path)[0]


@pytest.mark.parametrize("layout", ["keyed", "packed"])
def test_a_damaged_partition_is_found_and_written_again(run, layout):
    folder = exported(run, layout=layout)
    parts = folder.upstream("parts")[0]
    path = partition(parts, 1)
    whole = path.read_bytes()
    at = whole.index(b"IDAT")
    path.write_bytes(whole[:at] + b"IDAX" + whole[at + 4 :])
    assert not problems(parts.path)
    assert str(path) in problems(parts.path, deep=True, mend=True)[0]
    assert work(parts) == EXIT_OK and path.read_bytes() == whole and not problems(run.root, deep=True)
    path.write_bytes(whole[:200])
    assert "cannot be read" in problems(parts.path)[0]
    path.unlink()  # they may be removed once they are merged
    assert not problems(run.root, deep=True)
