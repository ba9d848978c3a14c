"""Train the text-to-image UNet and its text encoder on the fixed latents of picture_data.py.

v-prediction without loss weights, captions dropped 10 % of the time, a share of the time steps drawn from the noisiest
fifth (there the caption decides the layout), and heads that read class, background, size and position back from the
pooled text as an auxiliary loss: without it the text encoder merged "left" and "right". See training.py for --minutes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import nn

from synth.embedded.train import clip_text
from synth.embedded.train.training import Training

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
    run = Training(model, args.out / "last.pt", args.minutes, args.lr, 200, 0.9995, betas=(0.9, 0.99), weight_decay=1e-3)
    abar, generator = alphas_cumprod(), torch.Generator().manual_seed(args.seed + run.step)

    def batch_of(index):
        return torch.from_numpy(latents[index.numpy()].astype(np.float32)), tokens[index], labels[index]

    @torch.no_grad()
    def validate() -> float:
        g = torch.Generator().manual_seed(1)
        index = torch.arange(len(latents) - held, len(latents))
        x, w, y = batch_of(index)
        t, noise = torch.randint(0, 1000, (held,), generator=g), torch.randn(x.shape, generator=g)
        return float(run.ema.losses(x, w, y, t, noise, abar, torch.ones(held, dtype=torch.bool))[0])

    sums, order = np.zeros(2), torch.empty(0, dtype=torch.long)
    for progress in run.running(channels=list(args.channels), text_width=args.text_width):
        if len(order) < args.batch:
            order = torch.randperm(len(latents) - held, generator=generator)
        index, order = order[: args.batch].sort().values, order[args.batch :]
        x, w, y = batch_of(index)
        keep = torch.rand(args.batch, generator=generator) >= 0.1
        t = noisy_times(args.batch, 0.4 if progress < 0.5 else 0.2, generator)
        noise = torch.randn(x.shape, generator=generator)
        v_loss, read = model.losses(x, torch.where(keep[:, None], w, empty), y, t, noise, abar, keep)
        run.learn(v_loss + 0.2 * read)
        sums += (v_loss.item(), read.item())
        if (run.step + 1) % 500 == 0:
            v, read = sums / 500
            print(
                f"step {run.step + 1} {run.spent / 60:.1f} min  v {v:.4f}  read {read:.4f}  held-out v (EMA) {validate():.4f}", flush=True
            )
            sums[:] = 0
    print(f"done at step {run.step}, held-out v (EMA) {validate():.4f}", flush=True)


if __name__ == "__main__":
    main()
