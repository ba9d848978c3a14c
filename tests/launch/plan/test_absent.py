"""A dry run needs no weights on this machine: counts are those of presets, what is missing is listed, and a real run refuses."""

import pytest

from launch.config.compose import Composer, typed
from launch.plan.absent import unknown
from launch.plan.graph import plan_point
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from tests.launch.plan.test_graph import stage

IMAGENET = ("dataset=imagenet", "dataset.classes=0..2")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    for name in ("SYNTHSET_MODELS", "LLAMA_FOLDER"):
        monkeypatch.delenv(name, raising=False)


def planned(tmp_path, *words):
    return plan_point(typed(Composer().compose([f"runs_dir={tmp_path}/runs", "cluster.n_jobs=2", *words])))


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("model=sdxl",), ["model.path"]),
        (("model=flux_dev", "images.per_caption=3"), ["model.path"]),
        (("captioner=llama3_8b",), ["captioner.ckpt_dir"]),
        (("captioner=hf", "captioner.repo=ORG/NAME", "model=sd15"), ["captioner.path", "model.path"]),
        (("features.repo=openai/clip-vit-base-patch32", "filter=[clip_score]"), ["features.model"]),
        (("features.model=/nowhere/clip", "filter=[clip_score]"), ["features.model"]),
    ],
)
def test_weights_that_are_not_here_are_listed_and_counts_are_known_all_the_same(tmp_path, words, keys):
    point = planned(tmp_path, *IMAGENET, *words, "dry_run=true")
    assert [text.partition(":")[0] for text in point.missing] == keys
    slots = stage(planned(tmp_path, *IMAGENET, *(w for w in words if w.startswith("images.")), "dry_run=true"), "images").spec.slots
    images, lost = stage(point, "images"), unknown(point.stages)
    assert images.spec.slots == slots and lost and (images.folder in lost) == ("features" not in keys[0])
    with pytest.raises(InputError, match=f"^{keys[0]}"):
        planned(tmp_path, *IMAGENET, *words)


@pytest.mark.parametrize(
    "words", [("detector=mm_grounding_dino",), ("segmenter=sam2",), ("box_captioner=blip2",), ("tagger=[vocabulary]",)]
)
def test_so_are_those_of_layout_labels(tmp_path, words):
    point = planned(tmp_path, "recipe=layout", *words, "dry_run=true")
    assert len(point.missing) == 1 and point.missing[0].startswith(words[0].partition("=")[0]) and unknown(point.stages)
    with pytest.raises(InputError):
        planned(tmp_path, "recipe=layout", *words)


def test_the_list_ends_with_the_command_that_fetches_them_and_a_real_run_refuses(world):
    words = (*IMAGENET, "model=sdxl", "captioner=llama3_8b")
    dry = world.run(*words, "dry_run=true")
    assert dry.returncode == EXIT_OK, dry.stderr
    out = " ".join(dry.stdout.split())
    assert "not known without weights" in out and "captioner.ckpt_dir: Llama3.1-8B is not here; set LLAMA_FOLDER" in out
    assert "prefetch" in out and out.count("model=sdxl") >= 1 and "images-.." in out and not world.runs.exists()
    real = world.run(*words)
    assert real.returncode == EXIT_BAD_INPUT and "captioner.ckpt_dir" in real.stdout + real.stderr and not list(world.runs.glob("*/*"))


def test_loras_of_a_model_that_is_not_here_are_counted_and_other_kinds_of_models_are_refused_all_the_same(tmp_path):
    from PIL import Image

    (tmp_path / "real" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "real" / "cat" / "a.png")
    words = ("dataset=pictures", f"lora.real={tmp_path}/real", "lora.missing=plain", "lora.steps=100", "lora.save_every=50", "dry_run=true")
    point = planned(tmp_path, *words, "model=sd15")
    assert stage(point, "lora").spec.slots == 2 and {stage(point, n).folder for n in ("lora", "images")} <= unknown(point.stages)
    with pytest.raises(InputError, match="LoRAs of StableDiffusion3Pipeline"):
        planned(tmp_path, *words, "model=sd3")


def test_a_real_dataset_with_the_models_that_ship_here_is_told_aloud_and_theirs_is_not(tmp_path):
    notes = planned(tmp_path, *IMAGENET, "dry_run=true").notes
    assert [note.partition(" ships")[0] for note in notes if "of dataset=imagenet" in note] == [
        "TOY MODEL: model=tiny_sd", "TOY MODEL: captioner=tiny_llama"
    ]  # fmt: skip
    assert not any("ships here" in note for note in planned(tmp_path, "dataset=pictures").notes)
    assert len([n for n in planned(tmp_path, *IMAGENET, "model=sd15", "dry_run=true").notes if "ships here" in n]) == 1
