"""Verification of HDF5 files: whole, of another size, with another picture in them, without a file beside them."""

import h5py
import numpy as np
import pytest

from synth.config import Hdf5Config, Hdf5PartsConfig
from synth.errors import EXIT_OK
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


def test_a_cut_file_and_a_missing_manifest_are_found_without_reading(run):
    folder = exported(run)
    path = folder.out_dir / "images.h5"
    path.write_bytes(path.read_bytes()[:-9])
    assert "not of the size" in problems(folder.path)[0]
    other = exported(run, layout="packed")
    (other.out_dir / "manifest.parquet").unlink()
    assert "is missing" in problems(other.path)[0]
