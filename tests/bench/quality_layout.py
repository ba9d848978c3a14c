"""How good the embedded models that look at pictures are, measured through the classes of the stages that use them. See quality.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from synth.embedded.pictures import backgrounds
from synth.embedded.pictures.render import classes
from synth.embedded.train.picture_data import rendered_set
from synth.embedded.train.scenes import jpeg, made

FIRST = 1001  # number of the first new scene: those that ship are 1 to 200
SMALL = 14  # pixels of the longer side of a box, below which an object counts as small
PROMPT = "What does the image describe?"
TEMPLATE = "a photo of a {}"


@dataclass(frozen=True)
class Picture:
    """A new scene as a stage would read it, and the truth. boxes [N, 4]: left, top, width, height; masks [N, H, W]."""

    image: Image.Image
    classes: tuple[str, ...]
    background: str
    boxes: tuple[tuple[int, int, int, int], ...]
    masks: np.ndarray

    @property
    def tags(self) -> list[str]:
        return sorted(set(self.classes))

    def small(self, n: int) -> bool:
        return max(self.boxes[n][2:]) < SMALL


def new_scenes(count: int) -> list[Picture]:
    """Scenes as in synth/embedded/scenes (one to four objects, 64 to 96 pixels, JPEG) of numbers that do not ship."""
    import io

    pictures = []
    for number in range(FIRST, FIRST + count):
        scene = made(number)
        image = Image.open(io.BytesIO(jpeg(scene.rendered.image)))
        names = tuple(item.cls for item in scene.scene.items)
        pictures.append(Picture(image, names, scene.scene.background, scene.rendered.boxes, scene.rendered.masks))
    return pictures


def clip_model(folder: Path, batch: int = 64):
    from synth.features.encoders import encoder_of

    return encoder_of(folder)(folder, batch, "float32")


def features(model, pictures: Sequence[Image.Image]) -> np.ndarray:
    return model.pictures([model.preparation(image) for image in pictures])


def zero_shot(model, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy of (class, background) of uint8 [N, H, W, 3] pictures of one object; the word whose features are nearest."""
    seen = features(model, [Image.fromarray(image) for image in images])
    named = (seen @ model.classes(classes(), [TEMPLATE]).T).argmax(1), (seen @ model.texts(list(backgrounds.NAMES)).T).argmax(1)
    return tuple(float((said == labels[:, k]).mean()) for k, said in enumerate(named))


def zero_shot_rows(folder: Path, count: int, seed: int) -> list[list[str]]:
    model, rows = clip_model(folder), []
    for title, held_out in (("new renders, 32 x 32", False), ("other artists' drawings, 32 x 32", True)):
        images, labels, _ = rendered_set(count, seed, held_out)
        rows.append([title, *(f"{value:.3f}" for value in zero_shot(model, images, labels))])
    return rows


def tag_rows(folder: Path, pictures: list[Picture], words: Sequence[str], thresholds: Sequence[float]) -> list[list[str]]:
    """Recall of all tags and of those whose objects are not all small, and precision, by threshold."""
    model = clip_model(folder)
    odds = model.probabilities(features(model, [p.image for p in pictures]), model.classes(words, [TEMPLATE]))
    true = np.array([[word in p.tags for word in words] for p in pictures])
    large = np.array([[any(name == word and not p.small(n) for n, name in enumerate(p.classes)) for word in words] for p in pictures])
    rows = []
    for threshold in thresholds:
        said = odds >= threshold
        values = (said & true).sum() / true.sum(), (said & large).sum() / large.sum(), (said & true).sum() / max(said.sum(), 1)
        rows.append([f"{threshold:g}", *(f"{value:.3f}" for value in values)])
    return rows


def boxes_of(folder: Path, pictures: list[Picture], threshold: float = 0.0) -> list[list]:
    """The boxes that the detector finds in each picture, given its tags."""
    from synth.layout.detect.base import Settings
    from synth.layout.detect.boxes import Rules, chosen
    from synth.layout.detect.owlv2 import Owlv2

    model = Owlv2(Owlv2.check(folder), Settings(box_threshold=threshold, template=TEMPLATE, rows=16))
    model.open("float32")
    found = model.find([model.prepare(p.image) for p in pictures], [p.image.size for p in pictures], [p.tags for p in pictures])
    return [chosen(f, *p.image.size, Rules())[0] for f, p in zip(found, pictures, strict=True)]


def average_precision(pictures: list[Picture], found: list[list], keep: Callable[[Picture, int], bool] = lambda *_: True) -> float:
    """COCO's AP at IoU .5, mean over classes. keep: which objects count; the others are neither asked for nor held against it."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {name: n for n, name in enumerate(classes(), start=1)}
    rows: list[dict] = []
    for i, picture in enumerate(pictures, start=1):
        for n, (name, box) in enumerate(zip(picture.classes, picture.boxes, strict=True)):
            own = {"id": len(rows) + 1, "image_id": i, "category_id": numbers[name], "bbox": list(box), "area": box[2] * box[3]}
            rows.append(own | {"iscrowd": int(not keep(picture, n))})  # a crowd counts neither way
    results = [
        {"image_id": i, "category_id": numbers[picture.tags[box.label]], "bbox": list(box.bbox), "score": box.score}
        for i, (picture, own) in enumerate(zip(pictures, found, strict=True), start=1)
        for box in own
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": [{"id": i} for i in range(1, len(pictures) + 1)], "annotations": rows}
        truth.dataset["categories"] = [{"id": n, "name": name} for name, n in numbers.items()]
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][0, :, :, 0, -1]
    return float(precision[precision > -1].mean())


def chain_rows(models: Path, pictures: list[Picture], settings: Sequence[tuple[float, float]]) -> list[list[str]]:
    """Of tagger and detector together, by (min_probability, box_threshold): recall and precision of tags, and of objects, which are right
    where the label is and the box overlaps by half."""
    model = clip_model(models / "tiny_clip")
    odds = model.probabilities(features(model, [p.image for p in pictures]), model.classes(classes(), [TEMPLATE]))
    rows = []
    for least, threshold in settings:
        asked = [replace(p, classes=tuple(np.array(classes())[own >= least].tolist())) for p, own in zip(pictures, odds, strict=True)]
        found = boxes_of(models / "tiny_owlv2", asked, threshold)
        tags = sum(len({*a.tags} & {*p.tags}) for a, p in zip(asked, pictures, strict=True))
        objects = sum(right(p, a.tags, own) for p, a, own in zip(pictures, asked, found, strict=True))
        counts = (
            (sum(len(p.tags) for p in pictures), sum(len(a.tags) for a in asked)),
            (sum(len(p.boxes) for p in pictures), sum(map(len, found))),
        )
        shares = [hits / max(n, 1) for hits, pair in zip((tags, objects), counts, strict=True) for n in pair]
        rows.append([f"{least:g}", f"{threshold:g}", *(f"{share:.3f}" for share in shares)])
    return rows


def right(picture: Picture, tags: Sequence[str], found: list) -> int:
    """How many objects were found: each once, by a box of its class that overlaps it by half, the best boxes first."""
    from synth.layout.detect.boxes import iou as overlaps

    own, true = (np.array([(x, y, x + w, y + h) for x, y, w, h in b]).reshape(-1, 4) for b in ([b.bbox for b in found], picture.boxes))
    fits, left = overlaps(own, true) >= 0.5, set(range(len(true)))
    for row, box in zip(fits, found, strict=True):
        left -= set([n for n in sorted(left) if row[n] and picture.classes[n] == tags[box.label]][:1])
    return len(true) - len(left)


def masks_of(folder: Path, pictures: list[Picture], boxes: Sequence[Sequence[tuple[int, int, int, int]]]) -> list[list[np.ndarray]]:
    """The mask [H, W] that the segmenter gives for each box of each picture."""
    from synth.layout.segment.base import Settings
    from synth.layout.segment.sam import Sam

    model = Sam(Sam.check(folder), Settings(rows=16))
    model.open("float32")
    segmented = model.segment([model.prepare(p.image) for p in pictures], [p.image.size for p in pictures], boxes)
    return [[_mask(m, p.image.size) for m in own] for own, p in zip(segmented, pictures, strict=True)]


def _mask(mask, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    runs = [height * width] if mask is None else mask.runs
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def captions_of(folder: Path, pictures: list[Picture], margin: float = 0.0) -> list[list[str]]:
    """The caption that the captioner gives for each true box."""
    from synth.layout.caption.base import Settings, around
    from synth.layout.caption.florence2 import Florence2Captions

    model = Florence2Captions(Florence2Captions.check(folder), Settings(PROMPT, rows=32))
    model.open("float32")
    crops = [model.prepare(p.image.crop(around(box, margin, *p.image.size))) for p in pictures for box in p.boxes]
    captions = iter(model.answers(crops))
    return [[said.text if (said := next(captions)) else "" for _ in p.boxes] for p in pictures]


def layout_rows(models: Path, pictures: list[Picture]) -> list[list[str]]:
    """[what, of all objects, of those that are not small]"""
    objects = [(p, n) for p in pictures for n in range(len(p.boxes))]
    large = np.array([not p.small(n) for p, n in objects])

    def both(title: str, values: Sequence[float]) -> list[str]:
        return [title, f"{np.mean(values):.3f}", f"{np.mean(np.array(values)[large]):.3f}"]

    found = boxes_of(models / "tiny_owlv2", pictures)
    rows = [
        [
            "boxes: AP50, given the tags",
            f"{average_precision(pictures, found):.3f}",
            f"{average_precision(pictures, found, lambda p, n: not p.small(n)):.3f}",
        ]
    ]
    masks = masks_of(models / "tiny_sam", pictures, [p.boxes for p in pictures])
    rows.append(
        both("masks: IoU, given the boxes", [iou(masks[i][n], p.masks[n]) for i, p in enumerate(pictures) for n in range(len(p.boxes))])
    )
    captions = captions_of(models / "tiny_florence2", pictures)
    said = [(captions[i][n].lower(), p, n) for i, p in enumerate(pictures) for n in range(len(p.boxes))]
    rows.append(both("box captions: name their object", [p.classes[n] in text.replace(".", "").split() for text, p, n in said]))
    rows.append(both("box captions: name the background", [p.background in text.lower() for text, p, _ in said]))
    return rows


def sheet(models: Path, pictures: list[Picture], path: Path, scale: int = 4, columns: int = 6) -> None:
    """Pictures with the boxes that were found above .2, their tags, scores and captions, and their masks in colour."""
    from PIL import ImageDraw

    found = boxes_of(models / "tiny_owlv2", pictures, 0.2)
    boxes = [[box.bbox for box in own] for own in found]
    masks = masks_of(models / "tiny_sam", pictures, boxes)
    asked = [Picture(p.image, (), p.background, tuple(own), p.masks) for p, own in zip(pictures, boxes, strict=True)]
    captions = captions_of(models / "tiny_florence2", asked)
    side = 96 * scale
    page = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * (side + 60)), "white")
    colours = ((230, 30, 30), (30, 90, 230), (20, 160, 60), (230, 140, 0), (160, 40, 200), (0, 160, 170))
    for i, picture in enumerate(pictures):
        pixels = np.asarray(picture.image.convert("RGB")).astype(float)
        for n, mask in enumerate(masks[i]):
            pixels[mask] = pixels[mask] * 0.45 + np.array(colours[n % 6]) * 0.55
        large = Image.fromarray(pixels.astype(np.uint8)).resize([edge * scale for edge in picture.image.size], Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(large)
        for n, box in enumerate(found[i]):
            x, y, w, h = (v * scale for v in box.bbox)
            draw.rectangle((x, y, x + w - 1, y + h - 1), outline=colours[n % 6], width=2)
            draw.text((x + 3, y + 2), f"{picture.tags[box.label]} {box.score:.2f}", fill="white", stroke_width=2, stroke_fill="black")
        left, top = i % columns * side, i // columns * (side + 60)
        page.paste(large, (left, top))
        words = ImageDraw.Draw(page)
        for n, text in enumerate(captions[i]):
            words.text((left + 4, top + large.height + 2 + 11 * n), text, fill=colours[n % 6])
    page.save(path)
