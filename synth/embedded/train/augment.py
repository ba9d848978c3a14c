"""Pictures as they come out of other files: colours mixed, contrast and brightness shifted, noise. Torch."""

import numpy as np
import torch


def recoloured(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """[N, 3, H, W] in -1..1, each picture changed a little in its own way."""
    n = len(pixels)
    mix = np.eye(3) * np.exp(rng.normal(0, 0.1, (n, 1, 1))) + rng.normal(0, 0.05, (n, 3, 3))
    mixed = torch.einsum("ncd,ndhw->nchw", torch.from_numpy(mix).float(), pixels)
    shift = torch.from_numpy(rng.normal(0, 0.08, (n, 3, 1, 1))).float()
    noise = torch.from_numpy(np.abs(rng.normal(0, 0.03, (n, 1, 1, 1)))).float() * torch.randn_like(pixels)
    return (mixed + shift + noise).clamp(-1, 1)
