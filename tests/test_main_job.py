"""The main job, end to end, as a newcomer runs it: run.py in a process of its own, the models that ship here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("captions.total=20", "captions.oversample=1", "captions.allow_short=true", "images.steps=6")


def run(cwd: Path, *args: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SYNTHSET_"))}
    return subprocess.run(
        [sys.executable, ROOT / "launch" / "run.py", *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=400
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("newcomer")


@pytest.fixture(scope="module")
def whole(place):
    done = run(place, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def export(place: Path, name: str) -> Path:
    return place / "runs" / "pictures" / "exports" / f"{name}-latest"


def images(place: Path, name: str = "image_folder") -> dict[int, dict]:
    """caption seed -> metadata line with its pixels."""
    folder = export(place, name)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    return {int(r["caption_seed"]): r | {"pixels": np.asarray(Image.open(folder / r["file_name"]), int)} for r in lines}


def test_last_line_is_the_path_of_a_contact_sheet(whole):
    sheet = Path(whole.stdout.rstrip().splitlines()[-1])
    assert sheet.name == "contact_sheet.png" and Image.open(sheet).size[0] > 200


def test_captions_json_names_each_class(whole, place):
    rows = json.loads((export(place, "captions_json") / "captions.json").read_text())["captions_single_labeled"]
    assert len(rows) >= 19  # twenty less a possible duplicate
    assert all(label in caption for caption, [label] in rows)


def test_every_caption_has_a_picture_in_the_folder_of_its_class(whole, place):
    found = images(place)
    assert len(found) >= 19
    for record in found.values():
        assert record["file_name"].startswith(f"{record['class']}/") and record["class"] in record["caption"]
        assert record["pixels"].shape == (32, 32, 3) and record["pixels"].std() > 5


def test_the_same_command_again_finds_everything_done_and_writes_nothing(whole, place):
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()}
    again = run(place, *SMALL)
    assert again.returncode == 0 and "done already" in again.stdout
    assert again.stdout.rstrip().splitlines()[-1] == whole.stdout.rstrip().splitlines()[-1]
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()} == before


def test_nothing_but_the_run_folder_is_written(whole, place):
    assert [p.name for p in place.iterdir()] == ["runs"]


def test_a_range_of_classes_gives_the_captions_and_pictures_of_the_same_seeds(whole, place):
    """Other neighbours in a window change logits by 1e-5 and pixels by less than a grey level."""
    everything = images(place)
    some = run(place, *SMALL, "dataset.classes=0..4", "captions.total=5", "export=[image_folder]", "cluster.n_jobs=1")
    assert some.returncode == 0, some.stdout + some.stderr
    few = images(place)
    assert {r["label"] for r in few.values()} <= set(range(5)) and len(few) == 5
    shared = set(few) & set(everything)
    assert len(shared) == 5
    for seed in shared:
        assert few[seed]["caption"] == everything[seed]["caption"] and few[seed]["seed"] == everything[seed]["seed"]
        assert abs(few[seed]["pixels"] - everything[seed]["pixels"]).max() <= 1
