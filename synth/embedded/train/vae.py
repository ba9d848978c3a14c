"""Train the AutoencoderKL that belongs to the fixed latents of picture_data.py.

The decoder learns to invert the linear map (with a little noise on the latents, as the UNet's are not perfect either);
every fourth step the encoder is regressed to the map, so that the folder is an ordinary autoencoder. See training.py for --minutes.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from synth.embedded.train.training import Training


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def psnr(mse: float) -> float:
    """Decibels for pixels in -1..1."""
    return 10 * math.log10(4 / mse)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="scratch folder of picture_data.py")
    parser.add_argument("out", type=Path, help="checkpoint to write (.pt)")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pictures = np.load(args.data / "pictures.npy", mmap_mode="r")
    latents = np.load(args.data / "latents.npy", mmap_mode="r")
    vae = build_vae()
    run = Training(vae, args.out, args.minutes, args.lr, 100, 0.0, betas=(0.9, 0.99), weight_decay=1e-4)
    rng, total = np.random.default_rng(run.step), 0.0

    def batch_of(index):
        x = torch.from_numpy(pictures[index].astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        return x, torch.from_numpy(latents[index].astype(np.float32))

    @torch.no_grad()
    def validate() -> tuple[float, float]:
        x, z = batch_of(np.arange(len(pictures) - 400, len(pictures)))
        return (
            psnr(F.mse_loss(vae.decode(z).sample, x).item()),
            psnr(F.mse_loss(vae.decode(vae.encode(x).latent_dist.mode()).sample, x).item()),
        )

    for _ in run.running():
        x, z = batch_of(np.sort(rng.integers(0, len(pictures) - 400, 24)))
        noisy = z + 0.06 * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)
        out = vae.decode(noisy).sample
        mse = F.mse_loss(out, x)
        loss = F.l1_loss(out, x) + 2 * mse
        if run.step % 4 == 0:
            posterior = vae.encode(x).latent_dist
            loss = loss + F.mse_loss(posterior.mean, z) + 0.01 * (posterior.logvar + 8).square().mean()
        run.learn(loss)
        total += mse.item()
        if (run.step + 1) % 500 == 0:
            print(f"step {run.step + 1} {run.spent / 60:.1f} min  {psnr(total / 500):.2f} dB", flush=True)
            total = 0.0
    decoded, coded = validate()
    print(f"done: decoder {decoded:.2f} dB, encode and decode {coded:.2f} dB on held-out renders", flush=True)


if __name__ == "__main__":
    main()
