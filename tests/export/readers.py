"""Opens exports by the readers that docs/exports.md names, whichever process that takes; prints what each found, as JSON.

    PYTHONPATH=.venv/readers python -m tests.export.readers FOLDER

FOLDER holds image_folder, split, webdataset, parquet and merged.json. The readers are listed in readers.txt.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def torchvision_loads(root: Path) -> object:
    from torchvision.datasets import ImageFolder

    whole, train, val = (ImageFolder(str(root / part)) for part in ("image_folder", "split/train", "split/val"))
    official = {c["folder"]: c["index"] for c in json.loads((root / "image_folder" / "classes.json").read_text())["classes"]}
    labelled = ImageFolder(str(root / "image_folder"), target_transform=lambda i: official[whole.classes[i]])
    names = [Path(path).stem for path, _ in whole.samples]
    return {
        "labels": {name: labelled[n][1] for n, name in enumerate(names)},
        "classes": [whole.classes == train.classes == val.classes, len(whole.classes)],
        "halves": len(train) + len(val),
    }


def timm_loads(root: Path) -> object:
    from timm.data import create_dataset

    return len(create_dataset("", root=str(root / "image_folder")))


def datasets_load(root: Path) -> object:
    from datasets import load_dataset

    cache = {"cache_dir": str(root / "cache")}
    where = {"path": "imagefolder", "data_dir": str(root / "image_folder"), "split": "train"}
    plain = load_dataset(**where, **cache)
    streamed = sum(1 for _ in load_dataset(**where, streaming=True))
    plain.remove_columns("image").to_parquet(str(root / "again.parquet"))
    shards = load_dataset("webdataset", data_files=str(root / "webdataset" / "*.tar"), split="train", **cache)
    shards.remove_columns("png").to_parquet(str(root / "shards.parquet"))
    table = load_dataset(str(root / "parquet"), split="train", **cache)
    return [len(plain), streamed, len(shards), len(table), sorted(table.features["label"].names)]


def webdataset_loads(root: Path) -> object:
    import webdataset

    urls = [str(p) for p in sorted((root / "webdataset").glob("*.tar"))]
    data = webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "json", "txt")
    return [[image.size, record["caption"] == text] for image, record, text in data]


def open_clip_takes(root: Path) -> object:
    import webdataset
    from open_clip_train.data import filter_no_caption_or_no_image

    urls = [str(p) for p in sorted((root / "webdataset").glob("*.tar"))]
    steps = webdataset.SimpleShardList(urls), webdataset.tarfile_to_samples(), webdataset.select(filter_no_caption_or_no_image)
    pipe = webdataset.DataPipeline(*steps)
    return sum(1 for _ in pipe)


def tables_read(root: Path) -> object:
    import duckdb
    import pandas
    import polars

    lines, manifest = str(root / "image_folder" / "metadata.jsonl"), str(root / "image_folder" / "manifest.parquet")
    rows = str(root / "parquet" / "data" / "*.parquet")
    pandas.read_json(lines, lines=True).to_parquet(str(root / "pandas.parquet"))
    polars.read_ndjson(lines).write_parquet(str(root / "polars.parquet"))
    return {
        "pandas": [len(pandas.read_parquet(root / "pandas.parquet")), len(pandas.read_parquet(manifest))],
        "polars": [len(polars.read_parquet(root / "polars.parquet")), len(polars.read_parquet(rows))],
        "duckdb": [duckdb.sql(f"select count(*) from '{file}'").fetchall()[0][0] for file in (lines, manifest, rows)],
    }


def annotations_read(root: Path) -> object:
    from lvis import LVIS
    from pycocotools.coco import COCO

    found = {}
    for name in ("merged", "tracking"):
        lvis, coco = LVIS(str(root / f"{name}.json")), COCO(str(root / f"{name}.json"))
        ids = lvis.get_ann_ids()
        masks = sum(int(lvis.ann_to_mask(ann).any()) for ann in lvis.load_anns(ids))
        found[name] = [len(ids), len(coco.getAnnIds()), len(lvis.get_cat_ids()), len(lvis.get_img_ids()), masks]
    return found


READERS: tuple[Callable[[Path], object], ...] = (
    *(torchvision_loads, timm_loads, datasets_load, webdataset_loads, open_clip_takes, tables_read, annotations_read),
)


def main(folder: str) -> None:
    # torchvision's wheel may be built for another torch; what it compiles is not needed to read folders, but must have names
    compiled = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        compiled.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    found = {}
    with contextlib.redirect_stdout(sys.stderr):
        for call in READERS:
            try:
                found[call.__name__] = call(Path(folder))
            except Exception as e:  # noqa: BLE001 (each reader has its own errors, and the others go on)
                found[call.__name__] = f"{type(e).__name__}: {e}"
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
