"""Parquet and HDF5 files as sources of pictures: Hugging Face's form, hostile files and names, and what is a fact about the machine."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from h5py import h5d, h5p, h5s, h5t

from synth.errors import InputError, PictureGone, StoreError
from synth.images.sources import Input, SourceClass, layout_of, reader
from synth.images.sources.base import Packed
from synth.images.sources.read import Picture, read_bytes
from synth.images.sources.row_groups import RowGroups
from synth.store.hdf5 import NoFilter
from tests.images.pictures import image_folder, picture

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASSES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "sea lion", "dog"]}}


def parquet(path: Path, columns: dict, features: object = CLASSES, group: int = 2, **settings) -> Path:
    """A file as Hugging Face datasets writes it, with so many rows a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    note = (
        {} if features is None else {"huggingface": features if isinstance(features, str) else json.dumps({"info": {"features": features}})}
    )
    table = pa.table(columns).replace_schema_metadata(note)
    pq.write_table(table, path, row_group_size=group, **settings)
    return path


def images(n: int, paths=None, **other) -> pa.Array:
    rows = [{"bytes": picture(k), "path": paths[k] if paths else f"{k}.png"} for k in range(n)]
    return pa.array([other.get(f"row{k}", row) for k, row in enumerate(rows)], IMAGE)


def listed(root: Path, captions: bool = True):
    found = reader(layout_of(root), root, captions)
    return list(found), found


def read(root: Path, item: Input) -> bytes | str:
    return read_bytes(Picture(0, item.key, item.place(root), item.offset, item.size, packed=item.packed), root)


def h5(path: Path, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        for name, values in columns.items():
            f[name] = values
    return path


def packed(path: Path, attributes=(), **columns) -> Path:
    """A file in the packed layout of export.hdf5 with two pictures, some columns of it others."""
    data = [picture(0), picture(1)]
    there = {
        "images": np.frombuffer(b"".join(data), np.uint8),
        "offsets": np.cumsum([0, *map(len, data)]).astype(np.uint64),
        "labels": np.array([3, 5]),
        "captions": ["a cat", "<b>\n"],
        "keys": ["../0", "a\nb"],
    } | columns
    h5(path, **{k: v for k, v in there.items() if v is not None})
    with h5py.File(path, "a") as f:
        f.attrs["layout"] = "packed"
        for name, value in ({"class_indices": np.array([3, 5]), "class_names": ["cat", "<b>"]} | dict(attributes)).items():
            f.attrs.create(name, value) if isinstance(value, np.ndarray) else f.attrs.create(name, value, dtype=h5py.string_dtype())
    return path


# -- Parquet -----------------------------------------------------------------------------------------------------------


def test_hugging_faces_form_is_read_with_its_classes_captions_and_splits(tmp_path):
    data = tmp_path / "data"
    parquet(data / "train-00000-of-00001.parquet", {"image": images(3), "label": [1, 0, -1], "text": [" a lion\n", "a cat", None]})
    parquet(data / "test-00000-of-00001.parquet", {"image": images(2), "label": pa.array([2, None], pa.int8()), "text": ["dog", "none"]})
    (tmp_path / "README.md").write_text("a card")
    items, found = listed(tmp_path)
    assert [c.name for c in found.classes] == ["cat", "sea lion", "dog"] and [c.index for c in found.classes] == [0, 1, 2]
    assert [(i.labels, i.caption, i.reason) for i in items] == [
        ((2,), "dog", ""),
        ((), "none", ""),
        ((1,), "a lion", ""),
        ((0,), "a cat", ""),
        ((), "", ""),
    ]
    assert [read(tmp_path, i) for i in items] == [picture(k) for k in (0, 1, 0, 1, 2)]
    assert "'test', 'train' are splits" in found.notes[0] and not found.unread
    assert all(not i.caption for i in listed(tmp_path, captions=False)[0])
    assert [Input.from_list(i.to_list()) for i in items] == items


HOSTILE = ["../../x.png", "/etc/passwd", "a/b.png", "a\nb.png", "<b>.png", "caf\u00e9.png", "\u202eabc.png", "..", "", None]


def test_hostile_names_and_equal_ones_are_keys_apart_and_no_paths(tmp_path):
    root = parquet(tmp_path / "a.parquet", {"image": images(len(HOSTILE), HOSTILE)})
    items, _ = listed(root)
    names = [i.key.removeprefix("a.parquet/") for i in items]
    assert names[:3] == ["000000/x.png", "000001/passwd", "000002/b.png"] and names[3] == "000003" and names[4] == "000004/<b>.png"
    assert names[6:] == ["000006", "000007", "000008", "000009"]
    assert {i.path for i in items} == {"a.parquet"} and len(set(names)) == len(names)
    assert [read(root, i) for i in items] == [picture(k) for k in range(len(HOSTILE))]


def test_pictures_of_joined_exports_that_are_called_alike_are_keys_apart(tmp_path):
    """Their random numbers would be the same."""
    rest = {"label": [0, 1], "caption": ["", ""], "key": ["0", "0"], "seed": [0, 0]}
    items, _ = listed(parquet(tmp_path / "a.parquet", {"image": images(2, ["0.png", "0.png"]), **rest}, features=None))
    assert [i.key for i in items] == ["a.parquet/0.png", "a.parquet/000001/0.png"]
    items, _ = listed(packed(tmp_path / "a.h5", keys=["0", "0"]))
    assert [i.key for i in items] == ["a.h5/0", "a.h5/000001/0"]


def test_labels_without_names_and_names_as_labels_are_classes(tmp_path):
    numbers = parquet(tmp_path / "a.parquet", {"image": images(2), "label": [7, 2]}, features=None)
    assert listed(numbers)[1].classes == [SourceClass(7, "7"), SourceClass(2, "2")]
    texts = parquet(tmp_path / "b.parquet", {"img": images(2), "label": pa.array(["x", "y"]).dictionary_encode()}, features=None)
    assert listed(texts)[1].classes == [SourceClass(None, "x"), SourceClass(None, "y")]


def test_what_a_row_does_not_hold_is_its_reason(tmp_path):
    there = {"image": images(3, row1=None, row2={"bytes": None, "path": "/data/2.png"}), "label": [0, 0, 3]}
    root = parquet(tmp_path / "a.parquet", there, group=3)
    items, _ = listed(root)
    assert [i.reason for i in items] == ["", "is null", "has label 3, and the file names 3 classes"]
    assert read(root, items[2]) == "has no bytes in the file, but names a file elsewhere"
    only_paths = pa.array([{"bytes": None, "path": "/data/2.png"}] * 2, IMAGE)
    with pytest.raises(
        InputError, match=r"b\.parquet: column 'image' has no bytes in the file, but names a file elsewhere; give the folder"
    ):
        listed(parquet(tmp_path / "b.parquet", {"image": only_paths}))


def test_pictures_without_names_and_labels_are_one_class(tmp_path):
    struct = pa.array([{"bytes": picture(k)} for k in range(40)], pa.struct([("bytes", pa.large_binary())]))
    items, found = listed(parquet(tmp_path / "a.parquet", {"image": struct}, features=None, group=40))
    assert [i.key for i in items] == [f"a.parquet/{k:06d}" for k in range(40)] and not found.classes
    assert read(tmp_path, items[39]) == picture(39)


def test_a_file_without_rows_holds_no_picture(tmp_path):
    items, found = listed(parquet(tmp_path / "a.parquet", {"image": images(0), "label": pa.array([], pa.int64())}))
    assert items == [] and len(found.classes) == 3


@pytest.mark.parametrize(
    ("columns", "features", "wrong"),
    [
        ({"x": [1], "y": ["a"]}, None, r"has the columns x: int64, y: string; wanted: image, a struct of bytes and path"),
        ({"image": pa.array([b"png"])}, None, "has the columns image: binary; wanted"),
        ({"image": pa.array([{"bytes": 3}])}, None, r"has the columns image: struct<bytes: int64>; wanted"),
        ({"a": images(1), "b": images(1)}, None, r"has several columns of pictures \(a, b\), none called image"),
        ({"image": images(1), "label": [0]}, {"label": {"_type": "ClassLabel", "names": [1]}}, "the names of the classes of"),
        ({"image": images(1)}, "{", "the note of Hugging Face in it: is not JSON"),
    ],
)  # fmt: skip
def test_another_table_is_refused_with_the_columns_that_it_has(tmp_path, columns, features, wrong):
    file = parquet(tmp_path / "a.parquet", columns, features)
    with pytest.raises(InputError, match=f"img2img.source: {file}: {wrong}"):
        listed(tmp_path)


def test_columns_of_classes_that_cannot_be_used_are_told(tmp_path):
    several = {"fine": {"_type": "ClassLabel", "names": ["a"]}, "coarse": {"_type": "ClassLabel", "names": ["b"]}}
    items, found = listed(parquet(tmp_path / "a.parquet", {"image": images(1), "fine": [0], "coarse": [0]}, several))
    assert not items[0].labels and found.notes == [
        "the columns fine, coarse hold classes, and none is called label: pictures have no class"
    ]
    items, found = listed(parquet(tmp_path / "b.parquet", {"image": images(1), "label": [[0, 1]]}, None))
    assert not items[0].labels and "the column label is of type list<element: int64>" in found.notes[0].replace("item", "element")


@pytest.mark.parametrize("damage", ["cut", "text", "lfs", "empty"])
def test_a_torn_file_or_one_that_only_stands_in_its_place_is_named(tmp_path, damage):
    file = parquet(tmp_path / "a.parquet", {"image": images(4)})
    whole = file.read_bytes()
    data = {"cut": whole[:-9], "text": b"x" * 99, "lfs": b"version https://git-lfs.github.com/spec/v1\n", "empty": b""}[damage]
    file.write_bytes(data)
    why = "is a pointer of Git LFS" if damage == "lfs" else "is a torn Parquet file, or none at all"
    with pytest.raises(InputError, match=f"{file}: {why}"):
        listed(tmp_path)


def test_a_torn_row_group_is_a_reason_of_its_pictures_and_the_others_are_read(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"image": images(4), "label": [0, 1, 2, 0]}, compression="zstd")
    chunk = pq.read_metadata(file).row_group(1).column(0)
    data = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    file.write_bytes(data)
    items, _ = listed(file)
    answers = [read(file, i) for i in items]
    assert answers[:2] == [picture(0), picture(1)] and all(a.startswith("its row group is torn (") for a in answers[2:])


def test_a_row_group_that_no_memory_takes_is_refused_when_it_is_listed(tmp_path, monkeypatch):
    from synth.images.sources import row_groups

    file = parquet(tmp_path / "a.parquet", {"image": images(4)}, group=4)
    monkeypatch.setattr(row_groups, "MAX_GROUP", 1000)
    with pytest.raises(InputError, match=r"row group 0 has [\d,]+ bytes, at most 1,000 are read at once; write it anew"):
        listed(file)


def test_a_footer_that_miscounts_the_rows_of_a_group_is_a_reason_and_no_other_picture(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"image": images(4)})
    data, two_rows = file.read_bytes(), b"\x16\x04\x26"  # of a row group: its number of rows, before its place in the file
    first, second, last = data.rsplit(two_rows, 2)
    file.write_bytes(first + b"\x16\x06\x26" + second + b"\x16\x02\x26" + last)  # 3 and 1
    items, _ = listed(file)
    answers = [read(file, i) for i in items]
    assert len(items) == 4 and all(a.startswith("its row group is torn (") for a in answers[:3])


def test_a_row_group_whose_equal_pictures_fill_the_memory_is_refused_when_it_is_read(tmp_path, monkeypatch):
    from synth.images.sources import row_groups

    one = {"bytes": picture(0), "path": "0.png"}
    file = parquet(tmp_path / "a.parquet", {"image": pa.array([one] * 1000, IMAGE)}, group=1000)
    items, _ = listed(file)
    monkeypatch.setattr(row_groups, "MAX_GROUP", 500 * len(picture(0)))
    assert pq.ParquetFile(file).metadata.row_group(0).total_byte_size < row_groups.MAX_GROUP, "no fault of the listing"
    monkeypatch.setattr(row_groups, "read_row", RowGroups().read)
    with pytest.raises(InputError, match=r"row group 0 needs more than [\d,]+ bytes of memory; write it anew"):
        read(file, items[0])


def test_threads_read_rows_in_any_order_and_few_row_groups_are_kept(tmp_path, monkeypatch):
    from synth.images.sources import row_groups

    file = parquet(tmp_path / "a.parquet", {"image": images(40)}, group=3)
    items, _ = listed(file)
    groups = RowGroups()
    monkeypatch.setattr(row_groups, "read_row", groups.read)
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 9000)
    order = np.random.default_rng(0).permutation(40).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: read(file, items[n]), order)) == [picture(n) for n in order]
    assert sum(g.nbytes for g in groups._groups.values()) <= 9000 and len(groups._groups) > 1


# -- what changes after it was listed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "hdf5"])
def test_a_file_that_changed_or_went_is_no_fact_about_a_picture(tmp_path, kind):
    make = {
        "parquet": lambda n: parquet(tmp_path / "a.parquet", {"image": images(n)}),
        "hdf5": lambda n: h5(tmp_path / "a.h5", **{f"{k}.png": np.frombuffer(picture(k), np.uint8) for k in range(n)}),
    }[kind]
    file = make(2)
    items, _ = listed(tmp_path)
    assert read(tmp_path, items[0]) == picture(0)
    make(3)
    with pytest.raises(InputError, match=f"img2img.source: {file}: changed since the stage was planned; put it back"):
        read(tmp_path, items[0])
    file.unlink()
    with pytest.raises(PictureGone, match=f"{file}: is not there any more: it was there when the stage was planned"):
        read(tmp_path, items[0])


@pytest.mark.parametrize("kind", ["parquet", "hdf5"])
def test_trouble_of_the_disk_is_told_as_such(tmp_path, kind, monkeypatch):
    file = (
        parquet(tmp_path / "a.parquet", {"image": images(2)})
        if kind == "parquet"
        else h5(tmp_path / "a.h5", **{"0.png": np.frombuffer(picture(0), np.uint8)})
    )
    (item, *_), _ = listed(file)

    def refuse(*args, **more):
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdopen" if kind == "parquet" else "pread", refuse)
        with pytest.raises(StoreError):
            read(file, item)
    assert read(file, item) == picture(0)


# -- HDF5 --------------------------------------------------------------------------------------------------------------


def test_a_keyed_file_of_others_gives_its_pictures_and_names_what_it_cannot(tmp_path):
    data = np.frombuffer(picture(0), np.uint8)
    root = h5(tmp_path / "a.h5", **{"d/0.png": data, "<b>\n.png": data, "2.png": data.astype(np.int32), "notes": [1], "3.png": data[:0]})
    with h5py.File(root, "a") as f:
        f.create_dataset("1.png", data=data, chunks=True, compression="gzip")
    items, found = listed(root)
    assert {i.key.removeprefix("a.h5/"): i.reason for i in items} == {
        "<b>\n.png": "",
        "1.png": "does not lie in the file in one piece, as bytes: h5repack -l CONTI -f NONE makes it so",
        "2.png": "is no row of bytes (uint8)",
        "3.png": "empty file",
        "d/0.png": "",
    }
    assert found.unread.others.total() == 1 and [read(root, i) for i in items if not i.reason] == [picture(0)] * 2
    assert [Input.from_list(i.to_list()) for i in items] == items


def test_what_lies_in_another_hdf5_file_is_refused_by_name(tmp_path):
    h5(tmp_path / "secret.h5", **{"0.png": np.frombuffer(picture(0), np.uint8)})
    (tmp_path / "s").mkdir()
    with h5py.File(tmp_path / "s" / "a.h5", "w") as f:
        f["0.png"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "0.png")
    with pytest.raises(InputError, match=r"a\.h5: '0.png' lies in another file, to which this one links"):
        listed(tmp_path / "s")


def test_a_packed_file_is_read_with_hostile_keys_and_values_in_one_piece(tmp_path):
    items, found = listed(packed(tmp_path / "a.h5", labels=np.array([5, -1])))
    assert [(i.key, i.labels, i.caption) for i in items] == [("a.h5/../0", (1,), "a cat"), ("a.h5/a\nb", (), "<b>")]
    assert found.classes == [SourceClass(3, "cat"), SourceClass(5, "<b>")]
    assert [read(tmp_path / "a.h5", i) for i in items] == [picture(0), picture(1)]
    values = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    root = packed(tmp_path / "b.h5", images=values, offsets=None)
    assert [read(root, i) for i in listed(root)[0]] == [b"P6\n5 4\n255\n" + v.tobytes() for v in values]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"offsets": np.array([0, 9, 10**9])}, "offsets leads from 9 to 1000000000 in"),
        ({"offsets": np.array([0, 9, 3])}, "offsets leads from 9 to 3 in"),
        ({"offsets": np.array([0, 9])}, r"offsets is int64 \(2,\) for 2 pictures, expected 3 numbers"),
        ({"labels": np.array([0.5, 1])}, r"labels is float64 \(2,\), expected one number a picture"),
        ({"captions": np.array([1, 2])}, r"captions is int64 \(2,\), expected one text a picture"),
        ({"keys": ["a"]}, r"keys is object \(1,\), expected one text a picture"),
        ({"labels": None}, "has the columns captions, images, keys, offsets, and no labels"),
        ({"images": np.zeros(9)}, "images is of float64, expected uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "offsets": None}, r"images has the shape \(2, 4, 4\) for 2 pictures"),
        ({"attributes": {"class_names": ["cat"]}}, "class_indices and class_names do not belong together"),
        ({"attributes": {"class_indices": np.array([3, 3])}}, "class_indices holds an index twice"),
        ({"attributes": {"class_indices": np.array([0.5, 1])}}, "class_indices and class_names list no classes"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(tmp_path, change, wrong):
    file = packed(tmp_path / "a.h5", **change)
    with pytest.raises(InputError, match=f"img2img.source: {file}: .*{wrong}"):
        listed(file)


def test_rows_that_were_only_declared_are_refused_and_not_listed_one_by_one(tmp_path):
    file, n = packed(tmp_path / "a.h5", images=None, offsets=None, labels=None, captions=None, keys=None), 1 << 33
    with h5py.File(file, "a") as f:
        f.create_dataset("images", (n, 4, 4, 3), np.uint8, chunks=(1, 4, 4, 3))
        f.create_dataset("labels", (n,), np.int64, chunks=(1024,))
        for name in ("captions", "keys"):
            f.create_dataset(name, (n,), h5py.string_dtype(), chunks=(1024,))
    with pytest.raises(InputError, match=r"a\.h5: tells of 8,589,934,592 pictures in [\d,]+ bytes"):
        listed(file)


def test_a_label_that_is_no_class_of_its_file_is_a_reason(tmp_path):
    items, _ = listed(packed(tmp_path / "a.h5", labels=np.array([3, 4])))
    assert [i.reason for i in items] == ["", "has label 4, which is no class of its file"]


def test_hdf5_files_of_something_else_and_torn_ones_are_named(tmp_path):
    other = h5(tmp_path / "a.h5", weights=np.zeros(3), bias=np.zeros(1))
    with pytest.raises(InputError, match=r"a\.h5: holds bias, weights, and no picture; wanted: a dataset of uint8 a picture"):
        listed(other)
    other.write_bytes(other.read_bytes()[:700])
    with pytest.raises(InputError, match=r"a\.h5 is a torn HDF5 file, one that is still being written, or none at all"):
        listed(other)


def test_a_filter_that_is_not_here_is_a_fact_about_the_machine(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        made = h5p.create(h5p.DATASET_CREATE)
        made.set_chunk((6,))
        made.set_filter(32123, 1, (5,))
        h5d.create(f.id, b"x.png", h5t.STD_U8LE, h5s.create_simple((6,)), made)
    with pytest.raises(NoFilter, match=r"'x\.png' is packed by filter 32123, which is not here"):
        listed(tmp_path)


def test_a_manifest_of_something_else_beside_a_keyed_file_is_named(tmp_path):
    h5(tmp_path / "a.h5", **{"0.png": np.frombuffer(picture(0), np.uint8)})
    pq.write_table(pa.table({"file": ["a.h5/0.png"]}), tmp_path / "manifest.parquet")
    with pytest.raises(InputError, match=r"manifest\.parquet: has no column 'label', so it is of no export"):
        listed(tmp_path)
    row = {"file": ["a.h5/0.png"], "label": ["x"], "class": ["cat"], "caption": ["a cat"]}
    pq.write_table(pa.table(row), tmp_path / "manifest.parquet")
    with pytest.raises(InputError, match=r"manifest\.parquet: label, class or caption of 'a\.h5/0\.png' is none"):
        listed(tmp_path)


# -- which layout ------------------------------------------------------------------------------------------------------


def test_tables_beside_pictures_are_no_source(tmp_path):
    root = image_folder(tmp_path / "s")
    parquet(root / "labels.parquet", {"x": [1]})
    assert layout_of(root) == "class_folders"
    parquet(tmp_path / "h" / "data" / "a.parquet", {"image": images(1)})
    assert layout_of(tmp_path / "h") == "parquet"


def test_a_listing_with_a_form_that_is_none_is_refused():
    line = Input("a", "a.h5", 3, 0, packed=Packed("0" * 64, "bytes")).to_list()
    assert Input.from_list(line).packed == Packed("0" * 64, "bytes")
    for form in ("pixels 3x", "pixels 3x3\n", "row 1", 3, ""):
        with pytest.raises(InputError, match="no picture of a source"):
            Input.from_list([*line[:-1], form])
    with pytest.raises(InputError, match="no picture of a source"):
        Input.from_list(line[:-1])
