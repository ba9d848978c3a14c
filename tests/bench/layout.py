"""How fast boxes, masks and captions of boxes are made, against the original's way, in one run with the same models.

    python -m tests.bench.layout [--images 64] [--rounds 3]          tiny models, one CPU thread or the GPU that is there
    python -m tests.bench.layout --shapes real --images 32           random weights in the shapes of published models: for a GPU

The original's way: a picture after the other, batch 1 everywhere, each box's crop through a JPEG file and one answer a box. Loading is left
out of both, reading and decoding of pictures is in both. Goal with the tiny models on one CPU thread: 5 times the boxes a second.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZES = ((128, 96), (96, 128), (112, 112), (128, 96))
TEXT = "a small dog beside a red car and a blue ball"
TOKENS = 16  # of a caption
STAGES = ("boxes", "masks", "box_captions")
REAL = {"sizes": ((640, 480), (480, 640), (640, 427), (640, 640)), "detector.rows": 8, "segmenter.rows": 4, "box_captioner.rows": 64}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", choices=("tiny", "real"), default="tiny")
    args = parser.parse_args()

    from synth.numerics import EXACT, apply, environment

    os.environ.update(environment(EXACT))
    import torch
    import transformers

    apply(EXACT)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU, 1 thread"
    print(f"{where}; torch {torch.__version__}, transformers {transformers.__version__}; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="synthset-bench-") as name:
        root = Path(name)
        stages = _stages(root, args.images, args.shapes)
        _table(stages, root, args.rounds)
    if args.shapes == "tiny":
        print("for the shapes of published models, on a GPU: python -m tests.bench.layout --shapes real --images 32")
    return 0


def _stages(root: Path, images: int, shapes: str) -> dict:
    """name -> opened stage, those before it whole."""
    from synth.kinds import stage_class
    from tests.bench.layout_models import build
    from tests.fixtures_images import work
    from tests.images.pictures import picture
    from tests.layout.chains import planned

    sizes = REAL["sizes"] if shapes == "real" else SIZES
    (root / "src").mkdir()
    for n in range(images):
        (root / "src" / f"{n:05d}.jpg").write_bytes(picture(n, sizes[n % len(sizes)], "jpg"))
        (root / "src" / f"{n:05d}.txt").write_text(TEXT)
    models = build(root / "models", shapes)
    keys = [f"{group}.rows={REAL[f'{group}.rows']}" for group in ("detector", "segmenter", "box_captioner")] if shapes == "real" else []
    stages = planned(
        root / "runs", root / "src", "recipe=layout", "tagger=[caption]", "export=[]", "layout.unit_size=64", *keys,
        "detector=mm_grounding_dino", f"detector.path={models['mm_grounding_dino']}", "detector.box_threshold=0.0001", "detector.nms=1",
        "detector.text_threshold=0", "detector.max_boxes=6", "segmenter=sam", f"segmenter.path={models['sam']}",
        "box_captioner=florence2", f"box_captioner.path={models['florence2']}", "box_captioner.min_box=1",
        f"box_captioner.max_tokens={TOKENS}",
    )  # fmt: skip
    opened = {}
    for name, folder in stages.items():
        assert work(folder) == 0
        if name in STAGES:
            opened[name] = stage_class(folder.spec.kind)(folder)
            opened[name].check()
            opened[name].open()
    return opened


def _run(stage) -> None:
    """All of a stage, as a worker computes it."""
    spec = stage.folder.spec
    for number in range(spec.n_units):
        unit = spec.unit(number)
        state = stage.begin(unit)
        for slots in spec.batches(unit):
            for item in stage.compute(state, slots):
                stage.encode(state, item)


def _table(stages: dict, root: Path, rounds: int) -> None:
    from tests.layout.chains import records

    found = [r for r in records(stages["box_captions"].folder).values() if not isinstance(r, str)]
    boxes = sum(len(r.annos) for r in found)
    print(f"{len(found)} pictures, {boxes} boxes; medians of {rounds} rounds, of CPU seconds where there is no GPU\n")
    print("| stage | original's way, pictures/s | here, pictures/s | boxes/s | times |\n| --- | --- | --- | --- | --- |")
    literal = _Literal(stages, root)
    totals = [0.0, 0.0]
    for name in STAGES:
        theirs = _seconds(lambda name=name: [getattr(literal, name)(root / "src" / r.image, r) for r in found], rounds)
        ours = _seconds(lambda name=name: _run(stages[name]), rounds)
        totals = [totals[0] + theirs, totals[1] + ours]
        print(f"| {name} | {len(found) / theirs:.1f} | {len(found) / ours:.1f} | {boxes / ours:.1f} | {theirs / ours:.1f} |")
    print(f"| all | {len(found) / totals[0]:.1f} | {len(found) / totals[1]:.1f} | {boxes / totals[1]:.1f} | {totals[0] / totals[1]:.1f} |")


def _seconds(work: Callable[[], object], rounds: int) -> float:
    import torch

    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    taken = []
    for _ in range(rounds):
        start = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(clock() - start)
    return statistics.median(taken)


class _Literal:
    """The original's way with the models that the stages have loaded, and the library's own preparation."""

    def __init__(self, stages: dict, root: Path):
        from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
        from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

        self.detector, self.segmenter = stages["boxes"].model, stages["masks"].model
        self.florence, self.file = stages["box_captions"].model, root / "crop.jpg"
        self.shown = GroundingDinoImageProcessorPil.from_pretrained(self.detector.folder.path)
        self.cut = SamImageProcessorPil.from_pretrained(self.segmenter.folder.path)

    def _open(self, path: Path):
        from PIL import Image

        return Image.open(path).convert("RGB")

    def boxes(self, path: Path, record) -> None:
        """One picture, one forward; boxes above the threshold."""
        import torch

        image, model = self._open(path), self.detector.model
        inputs = self.shown(images=[image], return_tensors="pt").to(model.device)
        text = self.detector.tokenizer(". ".join(record.tags) + ".", return_tensors="pt").to(model.device)
        with torch.no_grad():
            out = model(**inputs, **text)
        self.shown.post_process_object_detection(out, 0.0001, [image.size[::-1]])

    def masks(self, path: Path, record) -> None:
        """One picture, all of its boxes in one forward."""
        import torch
        from pycocotools import mask as coco

        image, model = self._open(path), self.segmenter.model
        inputs = self.cut(images=[image], return_tensors="pt")
        height, width = inputs["reshaped_input_sizes"][0].tolist()
        scale = np.array([width / image.width, height / image.height] * 2)
        corners = np.array([(x, y, x + w, y + h) for x, y, w, h in (a.bbox for a in record.annos)]) * scale
        boxes = torch.tensor(corners[None], dtype=torch.float32, device=model.device)
        with torch.no_grad():
            out = model(pixel_values=inputs["pixel_values"].to(model.device), input_boxes=boxes, multimask_output=False)
        masks = self.cut.post_process_masks(out.pred_masks.cpu(), inputs["original_sizes"], inputs["reshaped_input_sizes"])[0]
        for mask in masks[:, 0].numpy():
            coco.encode(np.asfortranarray(mask, np.uint8))

    def box_captions(self, path: Path, record) -> None:
        """One answer a box; its crop, of 512 pixels on its shorter side, goes through a file."""
        from PIL import Image

        image = self._open(path)
        for anno in record.annos:
            x, y, w, h = anno.bbox
            scale = 512 / min(w, h)
            crop = image.crop((x, y, x + w, y + h)).resize((min(2048, round(w * scale)), min(2048, round(h * scale))))
            crop.save(self.file)
            with Image.open(self.file) as again:
                self.florence.window([self.florence.prepare(again)])


if __name__ == "__main__":
    sys.exit(main())
