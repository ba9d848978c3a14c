"""Segmenters: their preparation and masks against the library's, what company changes, and the run-length code against pycocotools."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from synth import numerics
from synth.errors import InputError
from synth.export.rle import mask_of, packed
from synth.layout.segment import SEGMENTERS, segmenter_class
from synth.layout.segment.base import NOT_FINITE, Settings, runs_in
from tests.layout import tiny

SIZES = [(60, 40), (100, 30), (60, 40), (1, 1), (400, 4), (97, 131)]
BOXES = [
    [(0, 0, 60, 40), (3, 4, 20, 20)],
    [(0, 0, 10, 10)],
    [],
    [(0, 0, 1, 1)],
    [(0, 0, 400, 4)],
    [(7 * k, 10 * k, 30, 40) for k in range(6)],
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: getattr(tiny, name)(root / name) for name in SEGMENTERS}


@pytest.fixture(scope="module")
def segmenter(folders):
    """name -> a loaded segmenter."""
    numerics.apply(numerics.PRESETS["exact"])
    loaded = {}

    def get(name):
        if name not in loaded:
            cls = segmenter_class(name)
            loaded[name] = cls(cls.check(folders[name]), Settings(rows=2, boxes=4))
            loaded[name].open("float32")
        return loaded[name]

    return get


def noise(size, n=0):
    return Image.fromarray(np.random.default_rng(n).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def masks_of(segmenter, pictures, boxes):
    return segmenter.segment([segmenter.prepare(p) for p in pictures], [p.size for p in pictures], boxes)


def pixels(mask, size):
    return mask_of(packed(mask.runs), size[1], size[0])


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_box_has_the_same_mask_alone_and_in_company(segmenter, name):
    pictures = [noise(size, n) for n, size in enumerate(SIZES)]
    together = masks_of(segmenter(name), pictures, BOXES)
    assert [len(own) for own in together] == [len(own) for own in BOXES]
    for picture, boxes, masks in zip(pictures, BOXES, together, strict=True):
        for box, mask in zip(boxes, masks, strict=True):
            ((alone,),) = masks_of(segmenter(name), [picture], [[box]])
            assert (alone is None) == (mask is None)
            if mask is not None:
                assert np.array_equal(alone.runs, mask.runs)
                assert alone.iou == pytest.approx(mask.iou, abs=1e-6)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_masks_are_the_librarys(segmenter, folders, name):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    made, picture, box = segmenter(name), noise((97, 131)), (7, 30, 60, 70)
    corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], float)
    if name == "sam2":  # the library's needs torchvision: stretched, by ImageNet's colours
        prepared = torch.from_numpy(made.prepare(picture)).float()[None] / 255
        given = (prepared - torch.tensor(made._colours[0]).view(1, 3, 1, 1)) / torch.tensor(made._colours[1]).view(1, 3, 1, 1)
        corners *= [128 / 97, 128 / 131] * 2
    else:
        library = SamImageProcessorPil.from_pretrained(folders[name])
        inputs = library(images=[picture], return_tensors="pt")
        given, (height, width) = inputs["pixel_values"], inputs["reshaped_input_sizes"][0].tolist()
        corners *= [width / 97, height / 131] * 2
    with torch.no_grad():
        out = made.model(pixel_values=given, input_boxes=torch.tensor(corners, dtype=torch.float32)[None, None], multimask_output=False)
    if name == "sam2":
        expected = torch.nn.functional.interpolate(out.pred_masks[0], (131, 97), mode="bilinear", align_corners=False)[0, 0] > 0
    else:
        expected = library.post_process_masks(out.pred_masks, [(131, 97)], [(height, width)])[0][0, 0]
    ((mask,),) = masks_of(made, [picture], [[box]])
    ours, inside = pixels(mask, picture.size), np.zeros((131, 97), bool)
    inside[30:100, 7:67] = True
    assert (ours != (expected.numpy() & inside)).mean() < 1e-3  # of random weights: many pixels lie near the threshold
    assert (expected.numpy() & ~inside).any()  # what is cut off
    assert mask.iou == pytest.approx(float(out.iou_scores[0, 0, 0]), abs=1e-5)
    assert 0 < ours.sum() < ours.size


def test_numbers_that_are_not_finite_are_told(segmenter):
    made = segmenter("sam")
    weight = made.model.vision_encoder.neck.layer_norm2.bias
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        assert masks_of(made, [noise((60, 40))], [[(0, 0, 9, 9)]]) == [NOT_FINITE]
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_a_folder_whose_two_configs_do_not_agree_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["sam"], tmp_path / "model")
    (folder / "preprocessor_config.json").write_text('{"size": {"longest_edge": 1024}}')
    with pytest.raises(InputError, match=r"make pictures of 1024 pixels, prompt_encoder_config\.image_size in config\.json is 64"):
        segmenter_class("sam").check(folder)


def test_a_published_sam_2_is_taken(tmp_path):
    cls = segmenter_class("sam2")
    made = cls(cls.check(tiny.sam2(tmp_path / "model", "Sam2Video")), Settings())
    made.open("float32")
    assert type(made.model).__name__ == "Sam2Model"


def test_runs_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for n in range(200):
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.random()
        if n % 5 == 0:
            mask[:] = n % 2
        left, top = rng.integers(0, width), rng.integers(0, height)
        box = (left, top, rng.integers(1, width - left + 1), rng.integers(1, height - top + 1))
        cut = np.zeros((height, width), np.uint8)
        cut[top : top + box[3], left : left + box[2]] = mask[top : top + box[3], left : left + box[2]]
        runs = runs_in(torch.from_numpy(mask), box)
        assert (runs is None) == (not cut.any())
        if runs is not None:
            assert packed(runs) == coco.encode(np.asfortranarray(cut))["counts"].decode()


def test_long_runs_and_differences_are_packed_as_pycocotools_does():
    for runs in ([0, 1], [5_000_000, 3, 2, 4_999_995], [1, 700, 2, 20, 900, 3]):
        code = coco.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))
        assert packed(runs) == code["counts"].decode()
