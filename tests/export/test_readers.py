"""Exports are opened by the readers that docs/exports.md names: the real ones, in a process that has them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.export.image_folder import drawn
from synth.store.folder import StageFolder
from synth.tracking import lvis
from tests.configs import AnnotationsConfig, ImageFolderConfig, ParquetConfig, WebDatasetConfig
from tests.export.conftest import EVERY as N
from tests.export.conftest import ORDERED as CLASSES
from tests.export.conftest import pictures
from tests.fixtures_images import child, work
from tests.tracking.annotated_sets import square, write
from tests.tracking.mirrored_pairs import MIN_AREA, pairs_stage
from tests.tracking.scenes import make
from tests.tracking.test_lvis import CAT, LVIS, OF_COCO, at, coco_image, lvis_image

ROOT = Path(__file__).parents[2]
# where `make .venv/.readers` puts what readers.txt lists
READERS = Path(os.environ.get("SYNTHSET_READERS", Path(sys.prefix, "readers")))


def image_folder(images: StageFolder, out: Path, **config) -> StageFolder:
    return child(images.path.parent, "image_folder", ImageFolderConfig(str(out), **config), {"images": [images]}, N, 8, 4)


def tracked(root: Path) -> Path:
    """The annotations export of two variants each of three scenes."""
    pairs = pairs_stage(root / "tracking" / "runs" / "s", make(root / "tracking" / "set", 3), 2)
    config = AnnotationsConfig(str(root / "tracking" / "out"), min_area=MIN_AREA, min_variant_area=64.0, min_side=8.0, segmentations=True)
    export = child(pairs.path.parent, "annotations", config, {"images": [pairs]})
    assert work(export) == EXIT_OK
    return export.out_dir / "annotations.json"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    if not READERS.is_dir():
        assert not os.environ.get("CI"), f"{READERS} is missing: make .venv/.readers"
        pytest.skip(f"{READERS} is missing: make .venv/.readers")
    root = tmp_path_factory.mktemp("readers")
    images, out = pictures(root / "runs"), root / "out"
    exports = [image_folder(images, out / "image_folder"), image_folder(images, out / "split", val_share=0.1)]
    for kind, config in (("webdataset", WebDatasetConfig), ("parquet", ParquetConfig)):
        exports.append(child(images.path.parent, kind, config(out=str(out / kind)), {"images": [images]}, N, 10, 10))
    assert [work(e) for e in exports] == [EXIT_OK] * len(exports)
    write(root / "lvis", {"images": [lvis_image(1)], "annotations": [at(1, 1, 3, 70)], "categories": LVIS})
    write(root / "coco", {"images": [coco_image(1)], "annotations": [square(1, 1, CAT)], "categories": OF_COCO})
    assert lvis.main(["merge", *(str(root / n / "annotations.json") for n in ("lvis", "coco")), str(out / "merged.json")]) == EXIT_OK
    shutil.copyfile(tracked(root), out / "tracking.json")
    env = os.environ | {"PYTHONPATH": f"{READERS}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    run = [sys.executable, "-m", "tests.export.readers", str(out)]
    return json.loads(subprocess.run(run, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, timeout=300).stdout)


def test_torchvision_loads_folders_and_halves_and_the_card_s_lines_give_official_labels(found):
    labels = {f"{slot:09d}": slot * 3 // N for slot in range(N)}
    assert found["torchvision_loads"] == {"labels": labels, "classes": [True, 3], "halves": N}


def test_timm_loads_the_folder(found):
    assert found["timm_loads"] == N


def test_hugging_face_s_datasets_load_all_forms_whole_streamed_and_back_to_parquet(found):
    assert found["datasets_load"] == [N, N, N, N, sorted(CLASSES)]


def test_webdataset_gives_pictures_records_and_captions(found):
    assert found["webdataset_loads"] == [[[6, 4], True]] * N


def test_open_clip_s_filter_takes_every_sample(found):
    assert found["open_clip_takes"] == N


def test_readers_of_tables_take_metadata_manifest_and_rows(found):
    assert found["tables_read"] == {"pandas": [N, N], "polars": [N, N], "duckdb": [N, N, N]}


def test_lvis_and_pycocotools_read_a_merge_and_annotations_of_tracking(found):
    read = found["annotations_read"]
    assert read["merged"][:3] == [2, 2, 3]
    annotations, same, classes, images, masks = read["tracking"]
    assert annotations == same == masks > 0 and classes > 0 and images == 12  # both frames of each


# -- halves, and classes without a picture -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "share", "val"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.1, 1), (10, 0.25, 3), (10, 0.999, 9)])
def test_each_class_gives_its_share_and_keeps_one_on_either_side(n, share, val):
    captions = range(100, 100 + n)
    half = drawn(captions, share, 0)
    assert len(half) == val and set(half) < set(captions) and drawn(reversed(captions), share, 0) == half
    assert n < 10 or any(drawn(captions, share, seed) != half for seed in range(1, 5))


def test_a_class_that_cannot_be_split_is_refused_by_name_before_anything_is_written(tmp_path, capsys):
    folder = image_folder(pictures(tmp_path / "runs", dead=range(9, 16)), tmp_path / "out", val_share=0.1)
    assert work(folder) == EXIT_BAD_INPUT
    assert "1 classes have pictures of one caption alone ('ant')" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_card_says_which_classes_have_no_picture_and_what_loads_them(tmp_path):
    folder = image_folder(pictures(tmp_path / "runs", dead=range(8, 16)), tmp_path / "out")
    assert work(folder) == EXIT_OK and (tmp_path / "out" / "ant").is_dir()
    assert "Classes without a picture have an empty folder: ant." in (card := (tmp_path / "out" / "README.md").read_text())
    assert "ImageFolder(root, allow_empty=True)" in card and "number the classes anew" in card
