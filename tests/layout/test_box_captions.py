"""Captioners of boxes: crops in windows that no caption depends on, their preparation against the library's, and the stage."""

import json
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from synth import numerics
from synth.errors import EXIT_OK, InputError
from synth.features.model_folder import normalised
from synth.layout.caption import CAPTIONERS, captioner_class
from synth.layout.caption.base import Settings
from synth.layout.caption.qwen_vl import of_area
from tests.faults.farm import Child
from tests.fixtures_images import digests, work
from tests.images.pictures import picture
from tests.layout import tiny
from tests.layout.chains import planned, records
from tests.layout.sources import write

MODELS = [*CAPTIONERS, "blip2_opt"]
KINDS = {"blip2_opt": "blip2"}  # of models whose name is not that of their captioner


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: getattr(tiny, name)(root / name) for name in (*MODELS, "owlv2")}


@pytest.fixture(scope="module")
def captioner(folders):
    """name -> a loaded captioner, two crops at once."""
    numerics.apply(numerics.PRESETS["exact"])
    loaded = {}

    def get(name):
        if name not in loaded:
            cls = captioner_class(KINDS.get(name, name))
            loaded[name] = cls(cls.check(folders[name]), Settings("a photo of", 6, 112**2, 2))
            loaded[name].open("float32")
        return loaded[name]

    return get


def noise(n):
    return Image.fromarray(np.random.default_rng(n).integers(0, 256, (20 + 9 * n, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", MODELS)
def test_a_caption_depends_on_its_own_crop_alone(captioner, name):
    crops = [captioner(name).prepare(noise(n)) for n in range(5)]
    together = captioner(name).captions(crops)
    assert together == [caption for crop in crops for caption in captioner(name).captions([crop])]
    assert captioner(name).captions([]) == []


@pytest.mark.parametrize("name", MODELS)
def test_numbers_that_are_not_finite_give_no_caption(folders, tmp_path, name):
    cls = captioner_class(KINDS.get(name, name))
    part = "visual" if name.startswith("qwen") else "vision"
    broken = cls(cls.check(tiny.spoiled(shutil.copytree(folders[name], tmp_path / "model"), part)), Settings("a photo of", 6, 112**2, 2))
    broken.open("float32")
    assert broken.captions([broken.prepare(noise(n)) for n in range(3)]) == [None] * 3


def test_blip_2_does_not_repeat_its_prompt(captioner, folders):
    blip, crop = captioner("blip2_opt"), noise(3)
    pixels = normalised(torch.from_numpy(blip.prepare(crop)[None]), *blip._colours, blip.model)
    with torch.no_grad():
        out = blip.model.generate(pixel_values=pixels, input_ids=torch.tensor([blip._ids]), max_new_tokens=6, do_sample=False)
    new = out[0, len(blip._ids) :] if out.shape[1] > 6 else out[0]
    assert blip.captions([blip.prepare(crop)]) == [" ".join(blip.tokenizer.decode(new, skip_special_tokens=True).split())]
    assert "photo" not in blip.captions([blip.prepare(crop)])[0]


def test_blip_2_sees_what_the_library_shows_it(captioner, folders):
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    blip, crop = captioner("blip2"), noise(3)
    inputs = BlipImageProcessorPil.from_pretrained(folders["blip2"])(images=[crop], return_tensors="pt")
    text = blip.tokenizer("<image>" * 4, add_special_tokens=False)["input_ids"] + blip.tokenizer("a photo of")["input_ids"]
    with torch.no_grad():
        out = blip.model.generate(**inputs, input_ids=torch.tensor([text]), max_new_tokens=6, num_beams=1, do_sample=False)
    assert blip.captions([blip.prepare(crop)]) == [" ".join(blip.tokenizer.decode(out[0], skip_special_tokens=True).split())]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_a_crops_patches_are_the_librarys(captioner, name):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    qwen = captioner(name)
    crop = qwen.prepare(noise(4))
    library = Qwen2VLImageProcessorPil(
        patch_size=qwen._patch,
        image_mean=qwen._colours[0],
        image_std=qwen._colours[1],
        do_resize=True,
        min_pixels=28 * 28,
        max_pixels=10**6,
    )
    inputs = library(images=[Image.fromarray(crop.transpose(1, 2, 0))], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, crop.shape[1] // qwen._patch, crop.shape[2] // qwen._patch]]
    assert torch.allclose(qwen._patches(crop), inputs["pixel_values"], atol=1e-5)


def test_crops_have_an_area_and_keep_their_shape():
    sizes = [of_area(w, h, 224**2, 32) for w, h in ((50, 50), (640, 480), (100, 900), (3000, 1), (1, 1))]
    assert sizes == [(224, 224), (256, 192), (64, 672), (1568, 32), (224, 224)]


def test_a_blip_2_that_does_not_say_where_its_picture_is_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["blip2"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["image_token_index"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="says no image_token_index"):
        captioner_class("blip2").check(folder)


def test_boxes_get_captions_and_small_ones_their_tags(folders, tmp_path):
    files = {f"{n}.png": picture(n, (60, 40 + n)) for n in range(3)} | {f"{n}.txt": "a dog and a cat" for n in range(2)}
    stages = planned(
        tmp_path / "runs", write(tmp_path / "src", files), "recipe=layout", "tagger=[caption]", "segmenter=none", "export=[]",
        "detector=owlv2", f"detector.path={folders['owlv2']}", "detector.box_threshold=0.3", "detector.template='{}'", "detector.nms=1",
        "box_captioner=qwen3_vl", f"box_captioner.path={folders['qwen3_vl']}", "box_captioner.min_box=10", "box_captioner.rows=2",
    )  # fmt: skip
    assert [*stages] == ["tags", "boxes", "box_captions"]
    assert [work(folder) for folder in stages.values()] == [EXIT_OK] * 3
    found = records(stages["box_captions"])
    assert found[2].annos == ()
    annos = [anno for n in (0, 1) for anno in found[n].annos]
    small = [anno for anno in annos if anno.area < 100]
    assert 0 < len(small) < len(annos)
    assert all(anno.caption == anno.label for anno in small)
    assert all(anno.caption is not None and anno.caption != anno.label for anno in annos if anno.area >= 100)


def test_a_box_whose_caption_is_not_finite_leaves_its_picture_out(folders, tmp_path):
    files = {f"{n}.png": picture(n, (60, 40)) for n in range(2)} | {"0.txt": "a dog and a cat", "1.txt": ""}
    broken = tiny.spoiled(shutil.copytree(folders["florence2"], tmp_path / "model"), "vision")
    stages = planned(
        tmp_path / "runs", write(tmp_path / "src", files), "recipe=layout", "tagger=[caption]", "segmenter=none", "export=[]",
        "detector=owlv2", f"detector.path={folders['owlv2']}", "detector.box_threshold=0.3", "detector.template='{}'",
        "box_captioner=florence2", f"box_captioner.path={broken}", "box_captioner.min_box=1",
    )  # fmt: skip
    assert [work(folder) for folder in stages.values()] == [EXIT_OK] * 3
    found = records(stages["box_captions"])
    assert found[0] == "the captioner's numbers for a box of it are not finite (0.png)"
    assert found[1].annos == ()


def test_captions_have_the_same_bytes_for_any_number_of_jobs_and_after_a_kill(folders, tmp_path):
    files = {f"{n}.png": picture(n, (60, 40)) for n in range(9)} | {f"{n}.txt": "a dog and a cat" for n in range(9)}
    source = write(tmp_path / "src", files)
    keys = [
        "recipe=layout", "tagger=[caption]", "segmenter=none", "export=[]", "detector=owlv2", f"detector.path={folders['owlv2']}",
        "detector.box_threshold=0.3", "detector.template='{}'", "box_captioner=blip2", f"box_captioner.path={folders['blip2']}",
        "box_captioner.min_box=1", "box_captioner.batch_size=2", "box_captioner.rows=3",
    ]  # fmt: skip
    once, other = (planned(tmp_path / name, source, *keys) for name in ("once", "other"))
    assert [work(folder) for folder in once.values()] == [EXIT_OK] * 3
    assert [work(other[name]) for name in ("tags", "boxes")] == [EXIT_OK] * 2
    assert Child(other["box_captions"], 1, 3, env={}, fault="after_batch:kill@1").wait(240) == -signal.SIGKILL
    assert [work(other["box_captions"], i, 3) for i in (2, 0)] == [EXIT_OK] * 2
    assert digests(other["box_captions"]) == digests(once["box_captions"])


@pytest.mark.parametrize(
    ("vision", "said"),
    [
        (None, ""),
        ({}, ""),
        ("x", "vision_config.patch_size is 'x'"),
        ({"patch_size": 0}, "vision_config.patch_size is 0, no whole number"),
        ({"patch_size": "a"}, "vision_config.patch_size is 'a'"),
        ({"spatial_merge_size": True}, "vision_config.spatial_merge_size is"),
    ],
)
def test_a_qwen_folder_whose_patches_are_none_is_told_when_it_is_planned(vision, said, folders, tmp_path):
    folder = shutil.copytree(folders["qwen2_5_vl"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vision_config": vision}))
    cls = captioner_class("qwen2_5_vl")
    with pytest.raises(InputError, match=said) if said else nullcontext():
        cls(cls.check(folder), Settings())
