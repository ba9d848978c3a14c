"""The whole chain of recipe=layout, as a user starts it and as workers do that are killed: the same bytes, and labels at its end."""

import json
import signal

import pytest

from synth.errors import EXIT_OK
from tests.faults.farm import Child
from tests.fixtures_clip import build_tiny_clip
from tests.fixtures_images import digests
from tests.launch.conftest import command, environment
from tests.layout import tiny
from tests.layout.chains import SMALL, done, planned, records
from tests.layout.sources import jpeg, write

N = 9


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny model of each stage, of the true classes, with words that the detector's tokenizer knows."""
    folder = tmp_path_factory.mktemp("models")
    build_tiny_clip(folder / "clip")
    for name in ("mm_grounding_dino", "sam", "florence2"):
        getattr(tiny, name)(folder / name)
    write(folder, {"words.txt": "dog\ncar\nred ball\ntree\nfire\n"})
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Pictures of two sizes, one of them torn."""
    files: dict = {"00000/008.png": b"torn"}
    for n in range(N - 1):
        files |= {f"00000/{n:03d}.png": jpeg(n, (96 + 32 * (n % 2), 96)), f"00000/{n:03d}.txt": "a small dog near a red car"}
    return write(tmp_path_factory.mktemp("source") / "cc3m", files)


def settings(models, *more: str) -> list[str]:
    return [
        "recipe=layout", "tagger=[caption,vocabulary]", f"tagger.vocabulary.path={models}/clip",
        f"tagger.vocabulary.vocabulary={models}/words.txt", "tagger.vocabulary.top=2", "tagger.vocabulary.min_probability=0",
        "detector=mm_grounding_dino", f"detector.path={models}/mm_grounding_dino", "detector.box_threshold=0.01",
        "detector.text_threshold=0.01", "detector.rows=2", "detector.batch_size=3",
        "segmenter=sam", f"segmenter.path={models}/sam", "segmenter.rows=2", "segmenter.boxes=3", "segmenter.batch_size=2",
        "box_captioner=florence2", f"box_captioner.path={models}/florence2", "box_captioner.max_tokens=4", "box_captioner.batch_size=2",
        *more,
    ]  # fmt: skip


def test_a_run_ends_with_labels_and_a_page_and_workers_that_are_killed_at_each_stage_make_the_same_bytes(models, source, tmp_path):
    import subprocess

    argv = command(*settings(models), *SMALL, f"layout.source={source}", f"runs_dir={tmp_path}/runs", "cluster=debug")
    ran = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=580)
    assert ran.returncode == EXIT_OK, ran.stderr + ran.stdout
    exports = tmp_path / "runs/cc3m/exports"
    labels = [json.loads(p.read_text()) for p in sorted((exports / "layout_labels-latest").rglob("label_*.json"))]
    assert len(labels) == N - 1 and any(label["annos"] for label in labels)
    assert "00000/008.png" in (exports / "labels_page-latest/index.html").read_text() + ran.stdout + ran.stderr
    once = planned(tmp_path / "runs", source, *settings(models))
    assert all(folder.is_done() for folder in once.values())
    other = planned(tmp_path / "other", source, *settings(models, "export=[layout_labels]"))
    for name in ("tags", "boxes", "masks", "box_captions"):
        folder = other[name]
        assert folder.spec.n_units == 3
        assert Child(folder, 1, 3, env={}, fault="after_batch:kill@1").wait(240) == -signal.SIGKILL
        assert Child(folder, 2, 3, env={}).wait(240) == EXIT_OK
        assert folder.is_done() and digests(folder) == digests(once[name]), name
    assert digests(done(other["layout_labels"])) == digests(once["layout_labels"])
    last = records(once["box_captions"])
    assert [slot for slot, r in last.items() if isinstance(r, str)] == [8]
    assert all(r.tags[:2] == ("small dog", "red car") for r in last.values() if not isinstance(r, str))
    annos = [a for r in last.values() if not isinstance(r, str) for a in r.annos]
    assert any(a.mask for a in annos) and all(a.caption is not None for a in annos)


def test_stages_that_nobody_asked_for_are_left_out(models, source, tmp_path):
    settings = ["recipe=layout", "tagger=[caption]", f"detector.path={models}/mm_grounding_dino"]
    stages = planned(tmp_path, source, *settings, "segmenter=none", "box_captioner=none", "export=[coco]")
    assert list(stages) == ["tags", "boxes", "coco"]
    assert [f.path for f in stages["coco"].upstream("images")] == [stages["boxes"].path]
