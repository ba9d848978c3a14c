"""Train the tiny detector, an Owlv2ForObjectDetection of transformers (Minderer et al. 2023), on the scenes of scene_data.py.

Targets are dense: every patch whose middle shows an object, and the one in the middle of its box, is to give the object's box, and for
its class a score as high as the box is good (Zhang et al. 2021, VarifocalNet), so that the best box comes first. Texts are classes in
sentences; backgrounds and words for what no picture shows have no box.

--begin FOLDER goes on from the weights of a model of this script, of larger patches too: 256 patches take twice the time of 144, and
most of what a small tower has to learn it learns from 144. See training.py for --minutes; --export writes the folder.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection

from synth.embedded.pictures import backgrounds
from synth.embedded.pictures.render import classes
from synth.embedded.train import clip_text, phrases
from synth.embedded.train.folders import HALF, write_model
from synth.embedded.train.objects import Objects, Scenes
from synth.embedded.train.scene_data import LONG
from synth.embedded.train.training import Training, arguments, begin_anew

PATCH, LENGTH = 6, 16  # pixels; tokens. A patch has little more values (108) than its feature has, so that it says where borders are
GRID = LONG // PATCH
PLACES, ABSENT = 6, 12  # texts a step that have no box


def build(vocabulary: int, width: int = 96, text_width: int = 64) -> Owlv2ForObjectDetection:
    layers = {"num_attention_heads": 4, "hidden_act": "quick_gelu"}
    vision = layers | {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 4}
    vision |= {"image_size": LONG, "patch_size": PATCH, "hidden_act": "gelu"}  # torch has it in one piece
    text = layers | {"hidden_size": text_width, "intermediate_size": 4 * text_width, "num_hidden_layers": 2, "vocab_size": vocabulary}
    text |= {"max_position_embeddings": LENGTH, "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    text |= {"pad_token_id": vocabulary - 1}
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=text_width))
    for head in (model.class_head, model.box_head):
        begin_anew(head)
    # chances of .002 to begin with, whatever a patch shows
    for head, bias in ((model.class_head.logit_scale, 8.0), (model.class_head.logit_shift, -0.7)):
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, bias)
    for unused in (model.owlv2.visual_projection, model.objectness_head, model.owlv2.logit_scale):
        unused.requires_grad_(False)  # of queries that are pictures
    return model


def begin(model: Owlv2ForObjectDetection, folder: Path) -> None:
    """Take the weights of a folder's model of as many layers. Its patches and places are resized to the model's, which then sees what that
    one would see of the picture enlarged (Beyer et al. 2023, FlexiViT)."""
    state = Owlv2ForObjectDetection.from_pretrained(folder, dtype=torch.float32).state_dict()
    patches, places = (f"owlv2.vision_model.embeddings.{name}.weight" for name in ("patch_embedding", "position_embedding"))
    side = state[patches].shape[-1]
    if side != PATCH:
        unit = torch.eye(PATCH * PATCH).reshape(-1, 1, PATCH, PATCH)
        enlarged = F.interpolate(unit, (side, side), mode="bilinear").reshape(-1, side * side)  # [PATCH * PATCH, side * side]
        state[patches] = (state[patches].flatten(2) @ enlarged.T).unflatten(2, (PATCH, PATCH))
        first, others = state[places][:1], state[places][1:]
        old = round(len(others) ** 0.5)
        grid = F.interpolate(others.T.reshape(1, -1, old, old), (GRID, GRID), mode="bicubic").flatten(2)[0].T
        state[places] = torch.cat([first, grid])
    own = model.state_dict()
    model.load_state_dict({name: weights if weights.shape == own[name].shape else own[name] for name, weights in state.items()})


class Texts:
    """Tokens of tags as the stage makes them."""

    def __init__(self, tokenizer: CLIPTokenizer):
        self._tokenizer, self._absent = tokenizer, phrases.absent()

    def step(self, rng: np.random.Generator) -> list[str]:
        """A text a class, then those that have no box."""
        none = [phrases.of_background(str(rng.choice(backgrounds.NAMES)), rng) for _ in range(PLACES)]
        none += [str(rng.choice(phrases.TEMPLATES)).replace("{}", word) for word in rng.choice(self._absent, ABSENT)]
        return [phrases.of_class(cls, rng) for cls in classes()] + none

    def features(self, model: Owlv2ForObjectDetection, texts: list[str]) -> torch.Tensor:
        ids = self._tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
        return model.owlv2.get_text_features(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).pooler_output


def targets(objects: Objects) -> np.ndarray:
    """int64 [GRID * GRID]: which object a patch is to find, from 1; 0: none."""
    middle = objects.owner[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].copy()
    centres = ((objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2 // PATCH).astype(int)
    for n, (x, y) in enumerate(centres.clip(0, GRID - 1), start=1):
        if not (middle == n).any() or middle[y, x] == 0:
            middle[y, x] = n
    return middle.reshape(-1)


def overlap(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(IoU, generalized IoU) of pairs of boxes [N, 4]: left, top, right, bottom."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    around = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = shared / union.clamp(min=1e-9)
    return iou, iou - (around - union) / around.clamp(min=1e-9)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def losses(model: Owlv2ForObjectDetection, pixels: torch.Tensor, own: list[Objects], features: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(classes, boxes) and the mean IoU of patches with their objects."""
    seen = model.image_embedder(pixels)[0]
    patches = seen.flatten(1, 2)
    logits = model.class_predictor(patches, features)[0]
    found = corners(model.box_predictor(patches, seen))
    assigned = np.stack([targets(objects) for objects in own])
    rows, columns = map(torch.from_numpy, np.nonzero(assigned))
    which = [(own[r], assigned[r, c] - 1) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]
    true = torch.from_numpy(np.stack([objects.boxes[n] for objects, n in which])) / LONG
    labels = torch.from_numpy(np.stack([objects.classes[n] for objects, n in which]))
    share = torch.tensor([float((assigned[r] == n + 1).sum()) ** -0.75 for r, (_, n) in zip(rows.tolist(), which, strict=True)])
    share = share / share.sum()
    mine = found[rows, columns]
    iou, generalized = overlap(mine, true)
    quality = torch.zeros_like(logits)
    quality[rows, columns, labels] = iou.detach().clamp(min=0.05)
    chance = logits.detach().sigmoid()
    weight = torch.where(quality > 0, quality, 0.75 * chance**2)
    classed = (F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * weight).sum() / len(which)
    boxed = (share * (5 * (mine - true).abs().sum(1) + 2 * (1 - generalized))).sum()
    return classed, boxed, (share * iou.detach()).sum()


def corpus(scenes: Scenes) -> list[str]:
    rng = np.random.default_rng(0)
    texts = [phrases.of_class(cls, rng) for _ in range(60) for cls in classes()]
    return texts + [phrases.of_background(name, rng) for _ in range(30) for name in backgrounds.NAMES] + phrases.absent()


def tokenizer_of(scenes: Scenes, folder: Path, begin: Path | None) -> CLIPTokenizer:
    """Kept in `folder`: a new one, or that of the model whose weights the text tower begins with."""
    if begin is None:
        return clip_text.train_tokenizer(corpus(scenes), folder, size=1000)
    tokenizer = CLIPTokenizer.from_pretrained(begin, model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


@torch.no_grad()
def validate(model: Owlv2ForObjectDetection, scenes: Scenes, texts: Texts, count: int = 256) -> str:
    """How many objects the best box of their class finds, as a quick figure; tests/bench/quality.py measures AP."""
    features = texts.features(model, [f"a photo of a {cls}" for cls in classes()])
    hits = total = 0
    for index in scenes.held[:count].reshape(-1, 32):
        seen = model.image_embedder(scenes.pixels(index))[0]
        patches = seen.flatten(1, 2)
        scores, boxes = model.class_predictor(patches, features)[0].sigmoid(), corners(model.box_predictor(patches, seen)) * LONG
        for row, i in enumerate(index):
            objects = scenes.objects(i)
            for box, cls in zip(objects.boxes, objects.classes, strict=True):
                good = scores[row, :, cls] > 0.3
                iou = overlap(boxes[row][good], torch.from_numpy(box).expand(int(good.sum()), 4))[0]
                hits, total = hits + bool((iou > 0.5).any()), total + 1
    return f"recall at IoU .5 and score .3: {hits / total:.3f}"


def export(checkpoint: Path, folder: Path, bits: int) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(checkpoint.parent / "tokenizer", model_max_length=LENGTH)
    model = build(len(tokenizer))
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])
    for unused in (model.owlv2.visual_projection, model.objectness_head):
        for weights in unused.parameters():
            weights.data.zero_()
    prepared = {"image_processor_type": "Owlv2ImageProcessor", "size": {"height": LONG, "width": LONG}}
    write_model(model, tokenizer, prepared | {"image_mean": HALF, "image_std": HALF}, folder, bits)


def main() -> None:
    args = arguments(__doc__, minutes=59, batch=24, begin=True)
    if args.export:
        export(args.out / "last.pt", args.export, args.mantissa_bits)
        return
    scenes = Scenes(args.data)
    tokenizer = tokenizer_of(scenes, args.out / "tokenizer", args.begin)
    texts, model = Texts(tokenizer), build(len(tokenizer))
    if args.begin:
        begin(model, args.begin)
    print(f"vocabulary {len(tokenizer)}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, {len(scenes)} scenes", flush=True)
    run = Training(model, args.out / "last.pt", args.minutes, args.lr, 200, 0.998, betas=(0.9, 0.98), weight_decay=0.02)
    rng, sums = np.random.default_rng([args.seed, run.step]), np.zeros(3)
    for _ in run.running():
        index = scenes.drawn(rng, args.batch)
        parts = losses(model, scenes.pixels(index, rng), [scenes.objects(i) for i in index], texts.features(model, texts.step(rng)))
        run.learn(parts[0] + parts[1])
        sums += [part.item() for part in parts]
        if (run.step + 1) % 200 == 0:
            classed, boxed, iou = sums / 200
            figures = f"  {validate(run.ema, scenes, texts)}" if (run.step + 1) % 1000 == 0 else ""
            spent = f"step {run.step + 1} {run.spent / 60:.1f} min"
            print(f"{spent}  classes {classed:.3f}  boxes {boxed:.3f}  IoU {iou:.3f}{figures}", flush=True)
            sums[:] = 0
    print(f"done at step {run.step}, {validate(run.ema, scenes, texts, 1024)}", flush=True)


if __name__ == "__main__":
    main()
