"""Detectors: their preparation against the library's, what a batch changes, and whose tag a box gets."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from synth import numerics
from synth.errors import InputError
from synth.export.rle import mask_of, packed
from synth.features.model_folder import normalised
from synth.layout.detect import DETECTORS, detector_class
from synth.layout.detect.base import NOT_FINITE, Settings
from synth.layout.detect.boxes import Candidates, Rules, chosen, iou, suppressed
from synth.layout.detect.florence2 import grounded
from synth.layout.detect.grounding_dino import labelled, passes, scaled
from synth.layout.detect.owlv2 import squared
from tests.layout import tiny

SIZES = [(60, 40), (100, 30), (60, 40), (1, 1), (400, 4), (97, 131)]
TAGS = [
    ["red car", "dog"],
    ["a small tree", "blue ball", "fire hydrants", "car", "dog", "tree", "red dog"],
    ["ball"],
    [],
    ["", "x" * 4000, "dog"],
    ["dog", "blue car"],
]
SETTINGS = {
    "mm_grounding_dino": Settings(box_threshold=0.1, text_threshold=0.05, rows=4),
    "grounding_dino": Settings(box_threshold=0.3, rows=4),
    "owlv2": Settings(box_threshold=0.4, rows=4),
    "florence2": Settings(box_threshold=0.0, rows=4),
    "sam3": Settings(box_threshold=0.2, rows=4),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """name -> folder of a tiny model, built when it is first asked for."""
    built = {}

    def folder(name):
        if name not in built:
            built[name] = getattr(tiny, name)(tmp_path_factory.mktemp("models") / name)
        return built[name]

    return folder


@pytest.fixture(scope="module")
def detector(folders):
    """name -> a loaded detector."""
    numerics.apply(numerics.PRESETS["exact"])
    loaded = {}

    def get(name):
        if name not in loaded:
            cls = detector_class(name)
            loaded[name] = cls(cls.check(folders(name)), SETTINGS[name])
            loaded[name].open("float32")
        return loaded[name]

    return get


def noise(size, n=0):
    return Image.fromarray(np.random.default_rng(n).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def found(detector, pictures, tags):
    return detector.find([detector.prepare(p) for p in pictures], [p.size for p in pictures], tags)


# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
def test_a_picture_has_the_same_boxes_alone_and_in_a_batch(detector, name):
    pictures = [noise(size, n) for n, size in enumerate(SIZES)]
    together = found(detector(name), pictures, TAGS)
    for picture, tags, one in zip(pictures, TAGS, together, strict=True):
        (alone,) = found(detector(name), [picture], [tags])
        assert len(alone.scores) == len(one.scores)
        assert np.allclose(alone.boxes, one.boxes, atol=1e-3)
        assert np.allclose(alone.scores, one.scores, atol=1e-5)
        assert chosen(alone, *picture.size, Rules()) == chosen(one, *picture.size, Rules())
    if name != "florence2":  # which writes no places where its weights are random
        assert sum(len(one.scores) for one in together) > 3


@pytest.mark.parametrize("name", DETECTORS)
def test_tags_that_no_text_encoder_takes_are_counted(detector, name):
    (one,) = found(detector(name), [noise((60, 40))], [["", "word " * 400, "dog"]])
    assert dict(one.dropped) == {"empty_tag": 1, "long_tag": 1}


@pytest.mark.parametrize("name", [n for n in DETECTORS if n != "florence2"])
def test_numbers_that_are_not_finite_are_told(detector, name):
    import torch

    loaded = detector(name)
    ends = (".dense2.bias", ".layers.2.bias", "box_head.layer3.bias")
    heads = [n for n, _ in loaded.model.named_parameters() if "box" in n and n.endswith(ends)]
    weight = loaded.model.get_parameter(next(n for n in heads if "objectness" not in n and "encoder" not in n))
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        assert found(loaded, [noise((60, 40))], [["dog"]])[0].reason == NOT_FINITE
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_words_of_florence_that_are_not_finite_are_told(folders, tmp_path):
    cls = detector_class("florence2")
    broken = tiny.spoiled(shutil.copytree(folders("florence2"), tmp_path / "model"), "vision")
    loaded = cls(cls.check(broken), SETTINGS["florence2"])
    loaded.open("float32")
    one, untagged = found(loaded, [noise((60, 40))] * 2, [["dog"], []])
    assert (one.reason, untagged.reason) == (NOT_FINITE, "")


def test_grounding_dino_sees_what_the_library_shows_it(detector, folders):
    import torch
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    loaded, tags = detector("mm_grounding_dino"), ["red car", "Fire hydrants", "dog"]
    picture = noise((97, 131))
    theirs = GroundingDinoImageProcessorPil.from_pretrained(folders("mm_grounding_dino"))(images=[picture], return_tensors="pt")
    text = loaded.tokenizer("red car. fire hydrants. dog.", return_tensors="pt")
    (one,), _ = passes([loaded._ids(t) for t in tags], 24)
    assert list(one.ids) == text.input_ids[0].tolist()
    with torch.no_grad():
        out = loaded.model(**theirs, **text)
    scores, boxes = loaded._forward(loaded.prepare(picture)[None], [one.ids])
    assert np.abs(boxes - out.pred_boxes.numpy()).max() < 1e-5
    assert np.abs(scores - out.logits.sigmoid()[..., : len(one.ids)].numpy()).max() < 1e-5


def test_owlv2_sees_what_the_library_shows_it(detector, folders):
    import torch

    loaded, tags = detector("owlv2"), ["red car", "dog"]
    picture = noise((97, 131))
    text = loaded.tokenizer(tags, padding="max_length", max_length=16, return_tensors="pt")
    pixels = torch.from_numpy(loaded.prepare(picture)[None])
    centre, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in loaded._colours)
    with torch.no_grad():
        out = loaded.model(pixel_values=(pixels - centre) / spread, **text)
    loaded_text = loaded._features([loaded._tokens(t) for t in tags])
    scores, boxes = loaded._forward(pixels.numpy(), loaded_text)
    assert np.abs(boxes - out.pred_boxes.numpy()).max() < 1e-5
    assert np.abs(scores - out.logits.sigmoid().numpy()).max() < 1e-5


@pytest.mark.parametrize("size", [(97, 131), (300, 40), (20, 33), (1, 1), (64, 64), (700, 9)])
def test_owlv2s_preparation_is_the_librarys(size):
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    picture = noise(size)
    theirs = Owlv2ImageProcessorPil(size={"height": 64, "width": 64}, do_normalize=False)(images=[picture])["pixel_values"][0]
    assert np.abs(squared(np.asarray(picture), 64).transpose(2, 0, 1) - theirs).max() < 2e-5


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (2000, 500), (500, 3000), (800, 800), (800, 1000), (333, 71), (1, 1)])
def test_grounding_dinos_size_is_the_librarys(size):
    from transformers.image_transforms import get_size_with_aspect_ratio

    assert scaled(*size, 800, 1333)[::-1] == get_size_with_aspect_ratio(size[::-1], 800, 1333)


def test_a_thin_picture_keeps_a_pixel():
    assert scaled(10_000, 1, 800, 1333) == (1333, 1)


def test_florences_preparation_is_the_librarys(detector):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = noise((97, 131))
    library = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False, do_normalize=False, do_rescale=False)
    assert np.array_equal(detector("florence2").prepare(picture), library(images=[picture])["pixel_values"][0])


def test_florences_probabilities_are_those_of_its_tokens(detector):
    import torch

    florence = detector("florence2")._florence
    pixels, prompts = np.stack([florence.prepare(noise((60, 40)))] * 2), [florence.tokens("a dog"), florence.tokens("a long red car")]
    answers, chances = florence.answer(pixels, prompts, 6)
    ids = [florence.model.config.image_token_id] * florence.seen + [0, *prompts[0], 2]
    with torch.no_grad():
        logits = florence.model(
            input_ids=torch.tensor([ids]), pixel_values=florence._pixels(pixels[:1]), decoder_input_ids=torch.tensor([[2, *answers[0]]])
        ).logits
    expected = logits[0].softmax(-1)[torch.arange(len(answers[0])), answers[0]]
    assert len(answers[0]) > 1
    assert np.allclose(chances[0][1:], expected[1:], atol=1e-6)  # the first token is always <s>


# -- SAM 3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(97, 131), (300, 40), (1, 1), (112, 112), (700, 9)])
def test_sam_3s_preparation_is_the_librarys(detector, size):
    """Its own needs torchvision, which enlarges and shrinks by this function, with these colours."""
    import torch

    loaded, picture = detector("sam3"), noise(size)
    pixels = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())[None].float()
    theirs = torch.nn.functional.interpolate(pixels, (112, 112), mode="bilinear", antialias=True).round().clamp(0, 255) / 127.5 - 1
    ours = normalised(torch.from_numpy(loaded.prepare(picture)[None]), *loaded._colours, loaded.model)
    assert (ours - theirs).abs().max() < 1.01 / 127.5  # Pillow rounds once more, between its two passes


def test_sam_3_finds_what_one_pass_of_the_library_finds(detector):
    import torch

    loaded, picture, tags = detector("sam3"), noise((97, 131)), ["red car", "dog"]
    pixels = normalised(torch.from_numpy(loaded.prepare(picture)[None]), *loaded._colours, loaded.model)
    (found_,) = found(loaded, [picture], [tags])
    for label, tag in enumerate(tags):
        text = loaded.tokenizer(tag, padding="max_length", max_length=32, return_tensors="pt")
        with torch.no_grad():
            out = loaded.model(pixel_values=pixels, **text)
        scores = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0].numpy()
        own = found_.labels == label
        assert own.sum() == (scores > 0.2).sum() > 0
        assert np.allclose(found_.scores[own], scores[scores > 0.2], atol=1e-6)
        assert np.allclose(found_.boxes[own], out.pred_boxes[0, scores > 0.2].numpy() * [97, 131, 97, 131], atol=1e-3)
        masks = [mask for mask, mine in zip(found_.masks, own, strict=True) if mine]
        assert np.allclose(masks, out.pred_masks[0, scores > 0.2].numpy(), atol=1e-5)


def test_sam_3s_masks_are_those_of_the_boxes_that_stay(detector):
    import torch

    loaded, picture = detector("sam3"), noise((97, 131))
    (candidates_,) = found(loaded, [picture], [["dog", "red car"]])
    boxes, _ = chosen(candidates_, *picture.size, Rules(nms=1, max_boxes=7))
    masks = loaded.masks(candidates_, boxes, picture.size)
    assert len(masks) == len(boxes) == 7
    assert [candidates_.scores[box.number] for box in boxes] == sorted(candidates_.scores, reverse=True)[:7]
    for mask, box in zip(masks, boxes, strict=True):
        logits = torch.from_numpy(candidates_.masks[box.number])[None, None]
        whole = torch.nn.functional.interpolate(logits, (131, 97), mode="bilinear", align_corners=False)[0, 0] > 0
        x, y, w, h = box.bbox
        inside = np.zeros((131, 97), bool)
        inside[y : y + h, x : x + w] = whole[y : y + h, x : x + w]
        ours = np.zeros((131, 97), np.uint8) if mask is None else mask_of(packed(mask.runs), 131, 97)
        assert np.array_equal(ours.astype(bool), inside)


def test_a_tags_features_are_its_own_whatever_was_asked_before(folders):
    cls = detector_class("sam3")
    fresh, busy = (cls(cls.check(folders("sam3")), SETTINGS["sam3"]) for _ in range(2))
    fresh.open("float32")
    busy.open("float32")
    found(busy, [noise((60, 40))] * 3, [[f"word {n}" for n in range(9)], ["dog", "cat"], ["a <|endoftext|> tree"]])
    (one,), (other,) = (found(loaded, [noise((60, 40), 5)], [["dog", "red car"]]) for loaded in (fresh, busy))
    assert np.array_equal(one.scores, other.scores) and np.array_equal(one.boxes, other.boxes)
    assert {*busy._tokens("a <|endoftext|> tree")} == {*busy._tokens("a tree")}
    assert busy._tokens("<|endoftext|>") == "empty_tag"


def test_the_published_folder_of_sam_3_is_taken_and_one_of_another_size_is_not(folders, detector, tmp_path):
    folder = tiny.sam3(tmp_path / "model", video=True)
    cls = detector_class("sam3")
    loaded = cls(cls.check(folder), SETTINGS["sam3"])
    loaded.open("float32")
    (one,), (other,) = (found(made, [noise((60, 40))], [["dog"]]) for made in (loaded, detector("sam3")))
    assert np.array_equal(one.boxes, other.boxes)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 1008, "width": 1008}}')
    with pytest.raises(InputError, match=r"make pictures of 1008 pixels, detector_config\.vision_config\.backbone_config\.image_size"):
        cls.check(folder)


# -- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
def test_a_folder_of_another_model_is_refused(folders, name):
    other = folders("owlv2" if name != "owlv2" else "florence2")
    with pytest.raises(InputError, match="is a model of type"):
        detector_class(name).check(other)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-7]), "it is torn"),
        (lambda f: [p.unlink() for p in f.glob("*token*")] + [p.unlink() for p in f.glob("vocab*")], "holds no tokenizer"),
        (lambda f: (f / "preprocessor_config.json").write_text('{"size": {"height": 32}}'), "make pictures of 32 pixels"),
        (lambda f: (f / "preprocessor_config.json").write_text('{"size": {"height": true}}'), "no number of pixels"),
    ],
    ids=["torn", "no tokenizer", "another size", "no size"],
)
def test_a_damaged_folder_is_refused_before_it_is_loaded(folders, tmp_path, harm, message):
    folder = shutil.copytree(folders("owlv2"), tmp_path / "model")
    harm(folder)
    with pytest.raises(InputError, match=message):
        detector_class("owlv2").check(folder)


def test_a_folder_whose_colours_are_none_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders("owlv2"), tmp_path / "model")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"image_std": [1, 0, 1]}))
    cls = detector_class("owlv2")
    with pytest.raises(InputError, match="image_std has a zero"):
        cls(cls.check(folder), Settings())


def test_a_tokenizer_that_numbers_full_stops_otherwise_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders("grounding_dino"), tmp_path / "model")
    tokens = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokens["model"]["vocab"]
    vocab["."], vocab["?"] = vocab["?"], vocab["."]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    cls = detector_class("grounding_dino")
    with pytest.raises(InputError, match="tags would run together"):
        cls(cls.check(folder), Settings()).open("float32")


# -- tags ------------------------------------------------------------------------------------------------------------


def test_more_tags_than_a_text_takes_are_several_texts():
    texts, dropped = passes([(7, 7)] * 9 + [(), (7,) * 22], 24)
    assert dropped == {"empty_tag": 1, "long_tag": 1}
    assert [len(t.spans) for t in texts] == [7, 2]
    assert max(len(t.ids) for t in texts) <= 24
    assert [n for t in texts for n, _, _ in t.spans] == list(range(9))
    assert all(t.ids[a:b] == (7, 7) for t in texts for _, a, b in t.spans)


def test_special_tokens_in_a_tag_end_nothing(detector):
    loaded = detector("mm_grounding_dino")
    assert loaded._ids("dog.tree?") == loaded._ids("dog tree")
    assert not {0, 101, 102, 1012, 1029} & {*loaded._ids("dog [SEP] [PAD] car.")}
    assert loaded._ids("\N{PARTY POPPER}") == ()  # no word that it knows: it would look for anything


def test_a_box_gets_the_tag_of_its_best_span():
    # red car: 1, 2; blue car: 4, 5; a full stop that scores highest of all
    spans = [(0, 1, 3), (1, 4, 6)]
    scores = np.array([[0.9, 0.5, 0.60, 0.95, 0.1, 0.62, 0.9, 0.9], [0.9, 0.05, 0.1, 0.8, 0.1, 0.1, 0.9, 0.9]])
    best, labels = labelled(scores, spans, 0.25, 0.2)
    assert labels[0] == 0  # though blue car's car is the likeliest token
    assert best.tolist() == [0.6, 0.1]  # the full stop's score is no object's


def test_a_tag_of_which_one_word_is_seen_does_not_lose_to_one_that_is_not_seen():
    best, labels = labelled(np.array([[0, 0.1, 0.35, 0, 0.23, 0]]), [(0, 1, 3), (1, 4, 5)], 0.25, 0.2)  # fire hydrant; dog
    assert (labels[0], best[0]) == (0, 0.35)


def test_words_of_a_phrase_that_lost_their_box_go_on_with_none():
    places = {n: n - 100 for n in range(100, 200)}
    tokens = [1, 101, 102, 103, 104, 105, 106, 107, 108, 2, 3, 110, 111, 4, 112, 113, 114, 115]
    boxes = [*grounded(tokens, [0.5] * len(tokens), places, lambda ids: " ".join(map(str, ids)))]
    assert [(phrase, place) for phrase, place, _ in boxes] == [("1", [1, 2, 3, 4]), ("1", [5, 6, 7, 8]), ("4", [12, 13, 14, 15])]


# -- boxes -----------------------------------------------------------------------------------------------------------


def candidates(boxes, scores=None):
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else np.array(scores)
    return Candidates(np.array(boxes, float).reshape(-1, 4), scores, np.arange(len(boxes)), {"long_tag": 1})


def test_boxes_end_inside_of_the_picture_in_whole_pixels():
    boxes, dropped = chosen(candidates([[-5, 2.9, 10.7, 400], [3, 3, 3.9, 8], [60, 0, 70, 9]]), 50, 40, Rules())
    assert [b.bbox for b in boxes] == [(0, 2, 10, 38)]
    assert dropped == {"empty_box": 2, "long_tag": 1}


def test_the_weaker_of_two_boxes_goes_whatever_their_tags():
    overlapping = [[0, 0, 20, 20], [0, 0, 20, 11], [0, 0, 20, 9]]  # 0.55 and 0.45 of the first
    boxes, dropped = chosen(candidates(overlapping, [0.3, 0.2, 0.25]), 50, 40, Rules())
    assert [b.label for b in boxes] == [0, 2]
    assert dropped["nms"] == 1
    assert len(chosen(candidates(overlapping), 50, 40, Rules(nms=1))[0]) == 3


def test_small_boxes_and_those_beyond_the_most_are_counted():
    boxes, dropped = chosen(candidates([[0, 0, 9, 9], [20, 0, 30, 20], [35, 0, 48, 30], [0, 20, 15, 40]]), 50, 40, Rules(0.5, 10, 2))
    assert [b.label for b in boxes] == [1, 2]
    assert dropped == {"min_box": 1, "max_boxes": 1, "long_tag": 1}


def test_suppression_is_the_one_that_everybody_has():
    rng = np.random.default_rng(0)
    low = rng.random((60, 2)) * 60
    boxes = np.concatenate([low, low + 5 + rng.random((60, 2)) * 40], 1)
    kept, alive = [], list(range(60))
    while alive:  # the definition
        first = alive.pop(0)
        kept.append(first)
        alive = [i for i in alive if iou(boxes[[first]], boxes[[i]])[0, 0] <= 0.5]
    assert suppressed(boxes, 0.5).tolist() == kept
    assert 5 < len(kept) < 60
