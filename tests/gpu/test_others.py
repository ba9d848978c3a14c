"""The other users of a GPU, each through the real worker: captions by transformers, CLIP, pairs, stories, image to image; then
launch/run.py from names to pictures.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from launch.plan.devices import uses_gpu, visible_gpus
from synth.errors import EXIT_OK
from synth.features.reading import load
from synth.kinds import CORES, KINDS
from synth.numerics import REFERENCE
from synth.store.events import read_events
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.captions.embedded_hf import save
from tests.captions.hf.test_stage import planned as hf_stage
from tests.configs import FeaturesConfig
from tests.fixtures_clip import build_tiny_clip
from tests.fixtures_images import CLASSES, child, work
from tests.gpu.conftest import CUDA
from tests.gpu.second import Second
from tests.images.pictures import image_folder, picture
from tests.images.test_img2img import planned as img2img_stage
from tests.layout import tiny
from tests.layout.chains import planned
from tests.layout.sources import write
from tests.stages import digests
from tests.story.stories import planned as story_stages
from tests.tracking import scenes
from tests.tracking.pairs_stages import pairs_stage
from tests.verify.conftest import run  # noqa: F401 (a fixture)

REPO = Path(__file__).resolve().parents[2]


def opened_on(*folders: StageFolder) -> set[str]:
    """What workers of stages said that they opened them on."""
    return {e["device"] for folder in folders for e in read_events(folder.path) if e["event"] == "open"}


def named(on: torch.device) -> str:
    return torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu"


def twice(planned: Callable[[Path], StageFolder], second: Second, root: Path, on: torch.device) -> StageFolder:
    """A stage that was made here and, with the same bytes, in another process as another job."""
    here, there = planned(root / "here"), planned(root / "there")
    assert work(here) == EXIT_OK and second.work(there) == EXIT_OK
    assert digests(here) == digests(there)
    assert opened_on(here, there) == {named(on)}
    assert next(here.samples(), None) is not None, "nothing but empty slots"
    return here


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.cuda_only)])
def test_captions_of_transformers(dtype, on, second, tmp_path):
    model = save(tmp_path / "model")
    twice(lambda root: hf_stage(root, model, f"captioner.dtype={dtype}"), second, tmp_path, on)


def test_image_to_image(on, second, tiny_sd, tmp_path):
    source = image_folder(tmp_path / "pictures", {"cat": 3, "dog": 2})
    twice(lambda root: img2img_stage(root, tiny_sd, f"img2img.source={source}"), second, tmp_path, on)


def test_stories(on, second, tiny_sd, tmp_path):
    twice(lambda root: story_stages(root, tiny_sd)[0], second, tmp_path, on)


def test_pairs_of_tracking(on, second, tmp_path):
    annotated = scenes.make(tmp_path / "scenes", 4)
    twice(lambda root: pairs_stage(root, annotated), second, tmp_path, on)


def test_features_of_clip_have_the_same_bytes_in_another_process_and_are_those_of_a_cpu(on, second, cpu, run, tmp_path):  # noqa: F811
    clip = build_tiny_clip(tmp_path / "clip")
    inputs = {"model": InputFile(str(clip), identity(clip))}

    def planned() -> StageFolder:
        config, images = FeaturesConfig("tiny", len(CLASSES)), run.images
        slots = images.spec.slots + len(CLASSES)
        return child(images.path.parent, "features", config, {"images": [images]}, slots, 8, 4, inputs, REFERENCE)

    def features(folder: StageFolder) -> dict:
        found = load(folder)
        return dict(zip(found.slots.tolist(), found.features, strict=True))

    folder = planned()
    assert work(folder) == EXIT_OK and opened_on(folder) == {named(on)}
    bits, ours = digests(folder), features(folder)
    shutil.rmtree(folder.path)
    assert second.work(planned()) == EXIT_OK and digests(folder) == bits
    shutil.rmtree(folder.path)
    assert cpu.work(planned()) == EXIT_OK and opened_on(folder) == {"cpu"}
    theirs = features(folder)
    assert ours.keys() == theirs.keys() and min((ours[s] * theirs[s]).sum() for s in ours) > 0.999  # features of unit length


@pytest.mark.cuda_only
def test_boxes_masks_and_captions_of_layout_labels(on, second, tmp_path):
    """Each model's class once; the stages before the last one are made in its folder first."""
    for n in range(6):
        write(tmp_path / "src", {f"{n}.png": picture(n, (120, 90 + 30 * (n % 2))), f"{n}.txt": "a red car and a small dog"})
    chains = (
        ("mm_grounding_dino", 0.1, "sam", "florence2"),
        ("grounding_dino", 0.3, "sam_hq", "blip2"),
        ("owlv2", 0.3, "sam2", "qwen3_vl"),
        ("owlv2", 0.3, "none", "qwen2_5_vl"),
    )
    for detector, threshold, segmenter, captioner in chains:
        paths = {name: tmp_path / name for name in (detector, segmenter, captioner) if name != "none"}
        for name, path in paths.items():
            if not path.exists():
                getattr(tiny, name)(path)
        keys = [f"detector={detector}", f"detector.path={paths[detector]}", f"detector.box_threshold={threshold}", "detector.template='{}'"]
        keys += [f"segmenter={segmenter}"] + ([f"segmenter.path={paths[segmenter]}"] if segmenter in paths else [])
        keys += [f"box_captioner={captioner}", f"box_captioner.path={paths[captioner]}", "box_captioner.min_box=1", "export=[]"]

        def last(root: Path, keys=keys) -> StageFolder:
            *before, folder = planned(root, tmp_path / "src", "recipe=layout", "tagger=[caption]", *keys).values()
            assert [work(stage) for stage in before] == [EXIT_OK] * len(before)
            return folder

        twice(last, second, tmp_path / "runs" / captioner, on)


def test_every_kind_that_runs_a_model_asks_for_a_gpu():
    config = {"captioner": {"engine": "llama", "model_parallel": 1}}
    on_gpu = {kind for kind in KINDS if uses_gpu(kind, config)}
    assert on_gpu == {kind for kind, row in KINDS.items() if row.device != CORES}
    assert {"captions", "images", "img2img", "story", "pairs", "features"} <= on_gpu


@pytest.mark.cuda_only
def test_gpus_are_counted_as_torch_counts_them():
    assert len(visible_gpus()) == torch.cuda.device_count()


def test_the_embedded_run_goes_from_names_to_pictures(on, tmp_path):
    small = ["captions.total=8", "captions.unit_size=8", "captions.allow_short=true", "images.steps=2", "cluster.n_jobs=1", "export=[]"]
    dry = [] if CUDA else ["dry_run=true"]  # tests/test_main_job.py runs it on a CPU
    command = [sys.executable, "launch/run.py", *small, *dry, f"runs_dir={tmp_path}/runs"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if dry:
        return
    stages = {f.spec.kind: f for f in map(StageFolder.open, (p.parent for p in (tmp_path / "runs" / "pictures").glob("*/stage.json")))}
    assert {"captions", "images"} <= stages.keys() and all(stage.is_done() for stage in stages.values())
    assert opened_on(stages["images"]) == {named(on)}
