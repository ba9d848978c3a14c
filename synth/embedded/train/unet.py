"""Train the text-to-image UNet and its text encoder on the fixed latents of picture_data.py.

v-prediction without loss weights, captions dropped 10 % of the time, a share of the time steps drawn from the noisiest
fifth (there the caption decides the layout), and heads that read class, background, size and position back from the
pooled text as an auxiliary loss: without it the text encoder merged "left" and "right". The learning rate follows the
share of --minutes that has passed, so a run ends when it is told to. Checkpoints (weights, EMA, optimizer) every few
minutes; running the same command again goes on from the last one.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import nn

from synth.embedded.train import clip_text

BETAS = (0.00085, 0.012)  # scaled_linear, as Stable Diffusion


def build_unet(first: int, second: int, text_width: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(first, second),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def alphas_cumprod() -> torch.Tensor:
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)


class Model(nn.Module):
    """Everything that is trained, under one roof for EMA and checkpoints."""

    def __init__(self, tokenizer, first: int, second: int, text_width: int):
        super().__init__()
        self.text = clip_text.text_model(tokenizer, text_width)
        self.unet = build_unet(first, second, text_width)
        self.heads = nn.ModuleList(nn.Linear(text_width, n) for n in (20, 21, 3, 3))

    def losses(self, latents, tokens, labels, t, noise, abar, keep):
        """(v loss, caption-reading loss). latents [B, 16, 8, 8]; keep [B] is False where the caption was dropped."""
        out = self.text(tokens)
        a, s = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
        # the pipeline hands the same states to cross attention and to the added text embedding
        v = self.unet(a * latents + s * noise, t, encoder_hidden_states=out.last_hidden_state, return_dict=False)[0]
        v_loss = F.mse_loss(v, a * noise - s * latents)
        read = sum(F.cross_entropy(head(out.pooler_output)[keep], labels[keep, i]) for i, head in enumerate(self.heads))
        return v_loss, read


def noisy_times(batch: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Time steps 0..999, `share` of them from 800..999."""
    t = torch.randint(0, 1000, (batch,), generator=generator)
    late = torch.randint(800, 1000, (batch,), generator=generator)
    return torch.where(torch.rand(batch, generator=generator) < share, late, t)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="scratch folder of picture_data.py")
    parser.add_argument("out", type=Path, help="folder for checkpoints")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, nargs=2, default=(64, 104))
    parser.add_argument("--text-width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="60 steps, print steps/s, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    captions = json.loads((args.data / "captions.json").read_text())
    tokenizer = clip_text.train_tokenizer(clip_text.grammar_texts(), args.out / "tokenizer")
    tokens = torch.from_numpy(clip_text.encode(tokenizer, captions)).long()
    empty = torch.from_numpy(clip_text.encode(tokenizer, [""])).long()
    labels = torch.from_numpy(np.load(args.data / "labels.npy")).long()
    latents = np.load(args.data / "latents.npy", mmap_mode="r")
    held = 512  # the last ones are for the printed validation loss
    model = Model(tokenizer, *args.channels, args.text_width)
    model.unet.to(memory_format=torch.channels_last)
    print(
        f"vocabulary {len(tokenizer)}, longest caption {(tokens != tokenizer.pad_token_id).sum(1).max() + 1} tokens, "
        f"unet {sum(p.numel() for p in model.unet.parameters()) / 1e6:.2f} M, "
        f"text {sum(p.numel() for p in model.text.parameters()) / 1e6:.2f} M",
        flush=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    ema, step, spent = copy.deepcopy(model).requires_grad_(False), 0, 0.0
    checkpoint = args.out / "last.pt"
    if checkpoint.exists() and not args.profile:
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"]), ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        print(f"going on from step {step}, {spent / 60:.1f} min", flush=True)
    abar, generator = alphas_cumprod(), torch.Generator().manual_seed(args.seed + step)
    averaged, parameters = list(ema.parameters()), list(model.parameters())

    def batch_of(index):
        return torch.from_numpy(latents[index.numpy()].astype(np.float32)), tokens[index], labels[index]

    @torch.no_grad()
    def validate() -> float:
        g = torch.Generator().manual_seed(1)
        index = torch.arange(len(latents) - held, len(latents))
        x, w, y = batch_of(index)
        t, noise = torch.randint(0, 1000, (held,), generator=g), torch.randn(x.shape, generator=g)
        return float(ema.losses(x, w, y, t, noise, abar, torch.ones(held, dtype=torch.bool))[0])

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "spent": spent,
            "channels": list(args.channels),
            "text_width": args.text_width,
        }
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    started, saved, sums = time.monotonic() - spent, time.monotonic(), np.zeros(2)
    begun, order = step, torch.empty(0, dtype=torch.long)
    while spent < args.minutes * 60:
        progress = spent / (args.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        if len(order) < args.batch:
            order = torch.randperm(len(latents) - held, generator=generator)
        index, order = order[: args.batch].sort().values, order[args.batch :]
        x, w, y = batch_of(index)
        keep = torch.rand(args.batch, generator=generator) >= 0.1
        t = noisy_times(args.batch, 0.4 if progress < 0.5 else 0.2, generator)
        noise = torch.randn(x.shape, generator=generator)
        v_loss, read = model.losses(x, torch.where(keep[:, None], w, empty), y, t, noise, abar, keep)
        optimizer.zero_grad(set_to_none=True)
        (v_loss + 0.2 * read).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_lerp_(averaged, parameters, 1 - min(0.9995, (1 + step) / (10 + step)))
        step, spent = step + 1, time.monotonic() - started
        sums += (v_loss.item(), read.item())
        if args.profile and step == 60:
            print(f"{60 / (time.monotonic() - started):.2f} steps/s", flush=True)
            return
        if step % 500 == 0:
            print(
                f"step {step} {spent / 60:.1f} min  v {sums[0] / 500:.4f}  read {sums[1] / 500:.4f}  "
                f"held-out v (EMA) {validate():.4f}  {(step - begun) / (time.monotonic() - saved + 1e-9):.1f} steps/s "
                f"since save",
                flush=True,
            )
            sums[:] = 0
        if time.monotonic() - saved > 240:
            save()
            saved, begun = time.monotonic(), step
    save()
    print(f"done at step {step}, held-out v (EMA) {validate():.4f}", flush=True)


if __name__ == "__main__":
    main()
