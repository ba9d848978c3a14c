"""Exports read back as sources of pictures: the same pictures, labels, names and captions, whichever export they come from."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from launch.plan.datasets import dataset_of
from synth.captions.config import DatasetConfig
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.images.decode import decode_whole
from synth.images.sources import layout_of, reader
from synth.images.sources.listing import Listing, ListingWriter
from synth.images.sources.pictures import Pictures
from synth.images.sources.read import ListedSource, digested
from synth.layout import readers
from synth.store.folder import StageFolder
from tests.configs import ImageFolderConfig, ParquetConfig
from tests.export.conftest import DEAD, NAMES, ORDERED, pictures, png
from tests.export.test_hdf5 import export as to_hdf5
from tests.fixtures_images import child, digests, work
from tests.images.test_img2img import done, planned
from tests.images.test_packed_sources import images as packed_pictures
from tests.images.test_packed_sources import parquet

N = 26


def to_parquet(images) -> StageFolder:
    folder = child(images.path.parent, "parquet", ParquetConfig(), {"images": [images]}, images.spec.slots, 7, 7)
    assert work(folder) == EXIT_OK
    return folder


def to_folder(images) -> StageFolder:
    folder = child(images.path.parent, "image_folder", ImageFolderConfig(), {"images": [images]}, images.spec.slots, 8, 8)
    assert work(folder) == EXIT_OK
    return folder


KINDS = {
    "parquet": to_parquet,
    "keyed": lambda images: to_hdf5(images, layout="keyed")[1],
    "packed": lambda images: to_hdf5(images, layout="packed")[1],
    "pixels": lambda images: to_hdf5(images, layout="packed", content="pixels")[1],
    "gzip": lambda images: to_hdf5(images, layout="packed", content="pixels", gzip=4)[1],
}


def read_back(root: Path, tmp: Path, captions: bool = True) -> Iterator[tuple[int, str, str, bytes]]:
    """(label, class, caption, picture's bytes) of each picture, as a stage that lists the source reads it."""
    listed, writer = reader(layout_of(root), root, captions), ListingWriter()
    for item in digested(listed, root):
        assert not item.reason
        writer.add(item)
    data, identity = writer.finish()
    (tmp / "listing").write_bytes(data)
    source = ListedSource(
        root, Listing(tmp / "listing", identity), [c.index for c in listed.classes], {c.index: c.name for c in listed.classes}
    )
    opened = Pictures(source, writer.n, "img2img.source")
    opened.check()
    for picture in opened.rows(0, writer.n):
        data, reason = opened.read(picture)
        assert not reason
        yield picture.labels[0], picture.names[0], picture.caption, data


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_reads_back_whole(images, kind, tmp_path):
    """Hostile class names, several files, several row groups, a slot without a picture."""
    out = KINDS[kind](images).out_dir
    assert layout_of(out) == ("parquet" if kind == "parquet" else "hdf5")
    there = sorted(read_back(out, tmp_path), key=lambda row: int(row[2].removeprefix("caption ")))
    slots = [s for s in range(N) if s != DEAD]
    assert [(label, caption) for label, _, caption, _ in there] == [(s % 13, f"caption {s}") for s in slots]
    assert [name for _, name, _, _ in there] == [NAMES[s % 13] for s in slots]
    if kind in ("pixels", "gzip"):
        assert all(np.array_equal(decode_whole(row[3]).pixels, decode_whole(png(s)).pixels) for row, s in zip(there, slots, strict=True))
    else:
        assert [row[3] for row in there] == [png(s) for s in slots]


def test_all_exports_of_a_stage_are_one_set_and_a_class_without_a_picture_is_a_class(tmp_path):
    """As the ImageFolder has it, whose folders stand in another order than the classes."""
    images = pictures(tmp_path / "runs", dead=range(8))  # all of the first class
    exports = {"image_folder": to_folder(images).out_dir} | {kind: KINDS[kind](images).out_dir for kind in ("parquet", "keyed", "packed")}
    for out in exports.values():
        classes = reader(layout_of(out), out, False)
        list(classes)
        assert sorted((c.index, c.name) for c in classes.classes) == list(enumerate(ORDERED))
    sets = {kind: sorted(read_back(out, tmp_path)) for kind, out in exports.items()}
    assert all(rows == sets["image_folder"] and len(rows) == 16 for rows in sets.values())


@pytest.mark.parametrize("kind", ["parquet", "keyed", "packed"])
def test_captions_of_an_export_are_alt_texts(images, kind):
    out = KINDS[kind](images).out_dir
    layout = readers.layout_of(out)
    assert layout == ("parquet" if kind == "parquet" else "hdf5")
    assert sorted(i.caption for i in readers.reader(layout, out)) == sorted(f"caption {s}" for s in range(N) if s != DEAD)


@pytest.mark.parametrize("kind", ["parquet", "packed"])
def test_one_file_of_an_export_is_a_source_and_a_list_of_classes(tmp_path, kind):
    out = KINDS[kind](pictures(tmp_path / "runs")).out_dir
    file = next(out.glob("data/*.parquet" if kind == "parquet" else "*.h5"))
    assert layout_of(file) == ("parquet" if kind == "parquet" else "hdf5")
    assert {row[:2] for row in read_back(file, tmp_path)} <= set(enumerate(ORDERED))
    for source in (out, file):
        config = DatasetConfig(name="mine", classes="all", n_classes=0, kind="object", suffix="", source=str(source))
        assert [(c.index, c.name) for c in dataset_of(config).classes] == list(enumerate(ORDERED))


def test_a_file_of_an_export_without_its_lists_says_what_is_not_known(tmp_path):
    images = pictures(tmp_path / "runs")
    keyed, parquet = (KINDS[kind](images).out_dir for kind in ("keyed", "parquet"))
    (keyed / "manifest.parquet").unlink()
    (parquet / "classes.json").unlink()
    found = reader("hdf5", keyed, True)
    assert all(not i.labels and not i.caption for i in found) and "has classes and captions: its pictures have none" in found.notes[0]
    found = reader("parquet", parquet, True)
    assert len(list(found)) == 24 and "classes are counted from 0, in official order" in found.notes[0]


def test_classes_of_another_export_beside_the_pictures_are_an_error(tmp_path):
    out = KINDS["parquet"](pictures(tmp_path / "runs")).out_dir
    classes = json.loads((out / "classes.json").read_text())
    classes["classes"][0]["name"] = "lion"
    (out / "classes.json").write_text(json.dumps(classes))
    with pytest.raises(InputError, match="its classes are not those of"):
        list(reader("parquet", out, False))


def test_img2img_of_an_export_is_that_of_the_image_folder_whoever_computes_it(tmp_path, tiny_sd):
    """Pixels, labels and names through the planner and the worker; units of the same bytes for any number of workers in any order."""
    images = pictures(tmp_path / "runs", dead=[3])
    exports = {"image_folder": to_folder(images).out_dir} | {kind: KINDS[kind](images).out_dir for kind in ("parquet", "keyed")}
    seen = {}
    for kind, out in exports.items():
        folder = planned(tmp_path / kind, tiny_sd, f"img2img.source={out}", "img2img.noise_strength=0")
        assert [work(folder, job, 2) for job in (1, 0)] == [EXIT_OK] * 2
        records = [(s.json(), s.read("png")) for s in folder.samples()]
        seen[kind] = sorted((r["source_sha256"], r["label"], r["class"], png) for r, png in records)
    assert len(seen["image_folder"]) == 23 and all(rows == seen["image_folder"] for rows in seen.values())
    alone = done(tmp_path / "alone", tiny_sd, f"img2img.source={exports['parquet']}", "img2img.noise_strength=0")
    assert digests(alone) == digests(StageFolder.open(tmp_path / "parquet" / "pictures" / alone.path.name))


def test_a_file_that_changed_or_is_gone_ends_the_worker_and_leaves_no_tombstone(tmp_path, tiny_sd):
    files = [parquet(tmp_path / "s" / f"{n}.parquet", {"image": packed_pictures(2), "label": [0, 1]}) for n in range(2)]
    folder = planned(tmp_path / "runs", tiny_sd, f"img2img.source={tmp_path / 's'}", "img2img.noise_strength=0")
    whole = files[0].read_bytes()
    files[0].unlink()
    assert work(folder) == EXIT_AGAIN
    files[0].write_bytes(whole.replace(b"IEND", b"IENE"))
    assert work(folder) == EXIT_BAD_INPUT and not list((folder.path / "units").rglob("*.tar"))
    files[0].write_bytes(whole)
    assert work(folder) == EXIT_OK and len(list(folder.samples())) == 4
