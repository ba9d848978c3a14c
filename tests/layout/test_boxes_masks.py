"""Stages `boxes` and `masks`, planned as a run plans them: all classes of models, and folders that are judged."""

import json
import shutil

import numpy as np
import pytest

from launch import prefetch
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.export.rle import mask_of
from synth.layout.masks import with_masks
from synth.layout.records import Anno, Mask, Record
from synth.layout.segment.base import Mask as Found
from synth.layout.source import PictureSource
from tests.fixtures_images import work
from tests.images.pictures import picture
from tests.layout import tiny
from tests.layout.chains import planned, records

SIZES = [(60, 40), (100, 30), (60, 40), (1, 1), (400, 4), (97, 131), (60, 40)]
# detector, segmenter, threshold; test_chain.py has the others, test_detect.py and test_segment.py all models by themselves
CHOICES = [("owlv2", "sam2", 0.4), ("florence2", "none", 0.0), ("sam3", "none", 0.2)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """name -> folder of a tiny model, built when it is first asked for."""
    root = tmp_path_factory.mktemp("models")

    def folder(name):
        return root / name if (root / name).is_dir() else getattr(tiny, name)(root / name)

    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    for n, size in enumerate(SIZES):
        (root / f"{n}.png").write_bytes(picture(n, size))
        (root / f"{n}.txt").write_text("" if n == 2 else "a red car beside a small dog and a blue ball")
    (root / "7.png").write_bytes(b"no picture")
    return root


def chain(runs, source, *overrides):
    """name -> stage of a run without exports, planned."""
    return planned(runs, source, "recipe=layout", "tagger=[caption]", "export=[]", "layout.batch_size=4", *overrides)


def keys(models, detector, segmenter, threshold):
    line = [f"detector={detector}", f"detector.path={models(detector)}", f"detector.box_threshold={threshold}", "detector.batch_size=3"]
    line += [f"segmenter={segmenter}", "detector.template='{}'"]
    return line if segmenter == "none" else [*line, f"segmenter.path={models(segmenter)}", "segmenter.batch_size=3", "segmenter.boxes=4"]


@pytest.mark.parametrize(("detector", "segmenter", "threshold"), CHOICES)
def test_models_give_records_that_hold(models, source, tmp_path, detector, segmenter, threshold):
    stages = chain(tmp_path, source, *keys(models, detector, segmenter, threshold))
    assert [*stages] == (["tags", "boxes"] if segmenter == "none" else ["tags", "boxes", "masks"])
    for folder in stages.values():
        assert work(folder) == EXIT_OK
    found = records(folder)  # reading judges boxes, scores and the sizes of masks
    assert found[7] == "7.png: not a picture"
    assert found[2].annos == ()  # without tags nothing is looked for
    annos = [(record, anno) for slot, record in found.items() if slot != 7 for anno in record.annos]
    assert annos or detector == "florence2"
    assert all(anno.label in record.tags for record, anno in annos)
    for record, anno in annos if segmenter != "none" or detector == "sam3" else ():
        if anno.mask is None:
            assert record.dropped["empty_mask"]
            continue
        mask, (x, y, w, h) = mask_of(anno.mask.counts, record.height, record.width), anno.bbox
        assert mask[y : y + h, x : x + w].sum() == mask.sum() > 0
        assert anno.iou is None if detector == "sam3" else 0 <= anno.iou <= 1


def test_a_segmenter_replaces_the_masks_of_a_detector():
    boxed = Record("a.png", 4, 2, tags=("dog",), annos=tuple(Anno((0, 0, 4, 2), 0.5, "dog", Mask((2, 4), "08")) for _ in range(2)))
    first, second = with_masks(boxed, [Found(np.array([0, 2, 6]), 0.75), None]).annos
    assert (first.mask.counts, first.iou) == ("026", 0.75)
    assert (second.mask, second.iou) == (None, None)  # its own segmenter found none: it must not keep another's


def test_a_picture_that_changed_between_two_stages_stops_the_second_until_it_is_back(models, source, tmp_path, capfd):
    source = shutil.copytree(source, tmp_path / "source")
    boxes = chain(tmp_path / "runs", source, *keys(models, "owlv2", "none", 0.4))
    assert work(boxes["tags"]) == EXIT_OK
    whole = (source / "0.png").read_bytes()
    for other in (whole[:-9], whole[:-9] + bytes(9)):
        (source / "0.png").write_bytes(other)
        assert work(boxes["boxes"]) == EXIT_BAD_INPUT
        assert "0.png: changed since the stage was planned" in (told := capfd.readouterr().err) and "put it back as it was" in told
    (source / "0.png").write_bytes(whole)
    assert work(boxes["boxes"]) == EXIT_OK and records(boxes["boxes"])[0].image == "0.png"


def test_pictures_in_which_nothing_is_looked_for_are_not_read(models, source, tmp_path, monkeypatch):
    stages = chain(tmp_path, source, *keys(models, "owlv2", "sam2", 1.0))  # no box has such a score
    read, seen = PictureSource.read, []
    monkeypatch.setattr(PictureSource, "read", lambda self, picture: seen.append(picture.key) or read(self, picture))
    keys_read = []
    for folder in stages.values():
        seen.clear()
        assert work(folder) == EXIT_OK
        keys_read.append(sorted(seen))
    every = [f"{n}.png" for n in range(8)]
    assert keys_read == [every, [key for key in every if key not in ("2.png", "7.png")], []]
    assert all(record.annos == () for slot, record in records(folder).items() if slot != 7)


def test_numbers_that_are_not_finite_are_a_reason_and_no_empty_picture(models, source, tmp_path):
    from safetensors.numpy import load_file, save_file

    broken = shutil.copytree(models("owlv2"), tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["box_head.dense2.bias"] = np.full_like(weights["box_head.dense2.bias"], np.nan)
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    stages = chain(tmp_path / "runs", source, "detector=owlv2", f"detector.path={broken}", "detector.template='{}'", "segmenter=none")
    assert [work(folder) for folder in stages.values()] == [EXIT_OK] * 2
    found = records(stages["boxes"])
    assert found[0] == "the detector's numbers for it are not finite (0.png)"
    assert found[2].annos == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["detector=owlv2", "detector.path={owlv2}", "detector.template=a photo"], "detector.template=a photo: has no {} for the tag"),
        (["detector=owlv2", "detector.path={sam}"], "is a model of type"),
        (["detector=owlv2"], "detector.path: not set"),
        (["detector=owlv2", "detector.path={owlv2}", "segmenter=sam2", "segmenter.path={owlv2}"], "is a model of type"),
        (["detector=owlv2", "detector.path=/nowhere"], "detector.path: /nowhere is not there"),
        (["detector=owlv2", "detector.path={owlv2}", "detector.nms=1.5"], "detector.nms=1.5: must be from 0 to 1"),
    ],
)
def test_what_cannot_be_is_said_when_it_is_planned(models, source, tmp_path, overrides, message, monkeypatch):
    monkeypatch.delenv("SYNTHSET_MODELS", raising=False)
    line = [o.replace("{owlv2}", str(models("owlv2"))).replace("{sam}", str(models("sam"))) for o in overrides]
    with pytest.raises(InputError) as e:
        chain(tmp_path, source, "segmenter=none", *line)
    assert message in str(e.value)


def test_a_damaged_model_ends_the_worker_and_not_the_pictures(models, source, tmp_path, capfd):
    model = shutil.copytree(models("owlv2"), tmp_path / "model")
    stages = chain(tmp_path / "runs", source, "detector=owlv2", f"detector.path={model}", "segmenter=none")
    assert work(stages["tags"]) == EXIT_OK
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    assert work(stages["boxes"]) == 65
    assert "it is torn" in capfd.readouterr().err
    assert stages["boxes"].missing() == [0, 1]


def test_a_model_of_other_content_is_another_stage(models, source, tmp_path):
    other = shutil.copytree(models("owlv2"), tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"initializer_factor": 0.5}))
    line = ["detector=owlv2", "segmenter=none"]
    first, second = (chain(tmp_path, source, *line, f"detector.path={path}")["boxes"] for path in (models("owlv2"), other))
    assert first.spec.fingerprint != second.spec.fingerprint


def test_prefetch_fetches_the_models_that_are_named():
    wanted = prefetch.planned(["detector=llmdet", "segmenter=sam2"], True)
    assert [(f.key, f.name) for f in wanted] == [("detector.path", "llmdet_large"), ("segmenter.path", "sam2.1-hiera-large")]
    assert [f.key for f in prefetch.planned(["segmenter=sam"], True)] == ["segmenter.path"]
    wanted = prefetch.planned(["tagger=[vlm]", "detector=sam3"], True)
    assert [(f.key, f.repo) for f in wanted] == [("tagger.vlm.path", "Qwen/Qwen3-VL-2B-Instruct"), ("detector.path", "facebook/sam3")]
    for overrides, repo in (
        (["tagger=[caption]", "segmenter=none"], "tagger.NAME.repo"),
        (["box_captioner=none"], "box_captioner.repo"),
        (["box_captioner=served"], "box_captioner.repo"),
    ):
        with pytest.raises(InputError, match=f"names no repository; give {repo}=ORG/NAME"):
            prefetch.planned(overrides, True)
