"""Train the tiny segmenter, a SamModel of transformers (Kirillov et al. 2023), on the scenes of scene_data.py: boxes in, masks out.

Boxes are moved a little, as a detector's are. Masks are compared at the pictures' own resolution, by the loss of SAM's paper (focal and
dice), and the model's own estimate of the overlap with the overlap. See training.py for --minutes; --export writes the folder.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import SamConfig, SamModel

from synth.embedded.train.folders import HALF, write_model
from synth.embedded.train.objects import Scenes
from synth.embedded.train.scene_data import LONG
from synth.embedded.train.training import Training, arguments, begin_anew

SIDE, PATCH = 128, 8  # pixels, of the model's input: finer than the pictures, so that masks have edges of less than two of their pixels
BOXES = 2  # objects of a picture a step
BEYOND = 0.0  # a picture: the stage normalizes colours first


def build(width: int = 96, decoder: int = 64) -> SamModel:
    vision = {"hidden_size": width, "output_channels": decoder, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_dim": 3 * width}
    vision |= {"image_size": SIDE, "patch_size": PATCH, "window_size": 8, "global_attn_indexes": [2], "num_pos_feats": decoder // 2}
    vision |= {"use_rel_pos": False}
    prompts = {"hidden_size": decoder, "image_size": SIDE, "patch_size": PATCH, "mask_input_channels": 4}
    masks = {"hidden_size": decoder, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_dim": 128, "iou_head_hidden_dim": 64}
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks))
    begin_anew(model)
    for embedding in (*model.prompt_encoder.point_embed, model.mask_decoder.iou_token, model.mask_decoder.mask_tokens):
        nn.init.normal_(embedding.weight)
    nn.init.normal_(model.vision_encoder.pos_embed, std=0.1)
    nn.init.normal_(model.shared_image_embedding.positional_embedding)  # of the published models; transformers' is finer than a patch
    model.shared_image_embedding.requires_grad_(False)
    model.prompt_encoder.mask_embed.requires_grad_(False)  # of prompts that are masks
    return model


def moved(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes [N, 4], each side moved by about a twentieth of the box, within the square."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.clip(boxes + rng.normal(0, 0.04, boxes.shape) * sides + rng.normal(0, 0.3, boxes.shape), 0, LONG)


def asked(scenes: Scenes, index: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """(numbers of the scenes that have an object, boxes [B, BOXES, 4], masks float32 [B, BOXES, LONG, LONG])"""
    kept, boxes, masks = [], [], []
    for i in index:
        objects = scenes.objects(i)
        if len(objects.boxes):
            chosen = rng.permutation(np.resize(rng.permutation(len(objects.boxes)), BOXES))
            kept.append(i)
            boxes.append(moved(objects.boxes[chosen], rng))
            masks.append(np.stack([objects.owner == n + 1 for n in chosen]))
    return np.array(kept), torch.from_numpy(np.stack(boxes)).float(), torch.from_numpy(np.stack(masks)).float()


def masks_of(model: SamModel, pixels: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits [B, N, LONG, LONG], foretold IoU [B, N])"""
    embeddings = model.vision_encoder(F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False))[0]
    out = model(image_embeddings=embeddings, input_boxes=boxes * SIDE / LONG, multimask_output=False)
    large = F.interpolate(out.pred_masks[:, :, 0], (LONG, LONG), mode="bilinear", align_corners=False)
    return large, out.iou_scores[:, :, 0]


def overlap(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """IoU [B, N] of masks."""
    said, true = logits > 0, masks > 0.5
    return (said & true).sum((2, 3)) / (said | true).sum((2, 3)).clamp(min=1)


def losses(model: SamModel, pixels: torch.Tensor, boxes: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(focal, dice, estimate) and the mean IoU"""
    logits, foretold = masks_of(model, pixels, boxes)
    chance, iou = logits.sigmoid(), overlap(logits, masks)
    wrong = (chance - masks).abs()
    # a share of the object, so that small ones count as much
    area = masks.sum((2, 3)).clamp(min=1)
    focal = ((wrong.detach() ** 2 * F.binary_cross_entropy_with_logits(logits, masks, reduction="none")).sum((2, 3)) / area).mean()
    dice = 1 - (2 * (chance * masks).sum((2, 3)) + 1) / (chance.sum((2, 3)) + masks.sum((2, 3)) + 1)
    return focal, dice.mean(), F.mse_loss(foretold, iou), iou.mean()


@torch.no_grad()
def validate(model: SamModel, scenes: Scenes, count: int = 256) -> str:
    rng, values = np.random.default_rng(1), []
    for index in scenes.held[:count].reshape(-1, 32):
        kept, boxes, masks = asked(scenes, index, rng)
        values.append(overlap(masks_of(model, scenes.pixels(kept, beyond=BEYOND), boxes)[0], masks).flatten())
    return f"IoU {torch.cat(values).mean():.3f}"


def export(checkpoint: Path, folder: Path, bits: int) -> None:
    model = build()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])
    prepared = {"image_processor_type": "SamImageProcessor", "size": {"longest_edge": SIDE}, "pad_size": {"height": SIDE, "width": SIDE}}
    write_model(model, None, prepared | {"image_mean": HALF, "image_std": HALF}, folder, bits)


def main() -> None:
    args = arguments(__doc__, minutes=47, batch=8)
    if args.export:
        export(args.out / "last.pt", args.export, args.mantissa_bits)
        return
    scenes, model = Scenes(args.data), build()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, {len(scenes)} scenes", flush=True)
    run = Training(model, args.out / "last.pt", args.minutes, args.lr, 200, 0.998, betas=(0.9, 0.98), weight_decay=0.02)
    rng, sums = np.random.default_rng([args.seed, run.step]), np.zeros(4)
    for _ in run.running():
        kept, boxes, masks = asked(scenes, scenes.drawn(rng, args.batch), rng)
        parts = losses(model, scenes.pixels(kept, rng, BEYOND), boxes, masks)
        run.learn(parts[0] + parts[1] + 0.2 * parts[2])
        sums += [part.item() for part in parts]
        if (run.step + 1) % 200 == 0:
            focal, dice, estimate, iou = sums / 200
            figures = f"  held-out {validate(run.ema, scenes)}" if (run.step + 1) % 1000 == 0 else ""
            spent = f"step {run.step + 1} {run.spent / 60:.1f} min"
            print(f"{spent}  focal {focal:.3f}  dice {dice:.3f}  estimate {estimate:.3f}  IoU {iou:.3f}{figures}", flush=True)
            sums[:] = 0
    print(f"done at step {run.step}, held-out {validate(run.ema, scenes, 1024)}", flush=True)


if __name__ == "__main__":
    main()
