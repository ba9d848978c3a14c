"""Render the training set of the image model once: pictures, fixed PCA latents, captions and what they say.

Writes into a scratch folder
  pictures.npy  uint8   [N, 32, 32, 3]
  latents.npy   float16 [N, 16, 8, 8]
  labels.npy    int16   [N, 4]          class, background, size, position (indices)
  captions.json list of N texts
  pca.npz       mean [48], components [48, 16], scale [16], total

The latents are a fixed linear map (no autoencoder has to be trained before the UNet): the 16 strongest principal
components of 4x4x3 patches, half-whitened (divided by the square root of their deviation) and scaled to deviation 1.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import classes, render

SIDE, PATCH, CHANNELS = 32, 4, 16
SIZES, POSITIONS = ("small", "medium", "large"), ("left", "centre", "right")


def to_patches(pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, 32, 32, 3] -> float32 [N, 8, 8, 48] in -1..1."""
    n, grid = len(pictures), SIDE // PATCH
    x = pictures.astype(np.float32) / 127.5 - 1
    return x.reshape(n, grid, PATCH, grid, PATCH, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, grid, grid, -1)


def fit_pca(pictures: np.ndarray) -> dict[str, np.ndarray]:
    flat = to_patches(pictures).reshape(-1, PATCH * PATCH * 3)
    mean = flat.mean(0)
    values, vectors = np.linalg.eigh(np.cov((flat - mean).T))
    components = vectors[:, ::-1][:, :CHANNELS]
    scale = np.sqrt(values[::-1][:CHANNELS]) ** -0.5
    total = 1.0 / ((flat - mean) @ components * scale).std()
    return {"mean": mean, "components": components, "scale": scale, "total": np.float32(total)}


def to_latents(pictures: np.ndarray, pca: dict[str, np.ndarray]) -> np.ndarray:
    """uint8 [N, 32, 32, 3] -> float32 [N, 16, 8, 8], deviation about 1."""
    z = (to_patches(pictures) - pca["mean"]) @ pca["components"] * pca["scale"] * pca["total"]
    return z.transpose(0, 3, 1, 2).astype(np.float32)


def labels_of(captioned: grammar.Captioned) -> tuple[int, int, int, int]:
    item = captioned.scene.items[0]
    return (
        classes().index(item.cls),
        backgrounds.NAMES.index(captioned.scene.background),
        SIZES.index(item.size),
        POSITIONS.index(item.position),
    )


def rendered_set(count: int, seed: int, held_out: bool = False) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(pictures [N, 32, 32, 3], labels [N, 4], captions), classes in turn so that they are balanced."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    labels = np.empty((count, 4), np.int16)
    captions = []
    for index in range(count):
        captioned = grammar.sample(rng, cls=classes()[index % len(classes())], held_out=held_out)
        pictures[index] = render(captioned.scene, SIDE, SIDE).image
        labels[index] = labels_of(captioned)
        captions.append(captioned.caption)
    return pictures, labels, captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--count", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    pictures, labels, captions = rendered_set(args.count, args.seed)
    pca = fit_pca(pictures[:8000])
    latents = np.concatenate([to_latents(pictures[i : i + 4000], pca) for i in range(0, args.count, 4000)])
    np.save(args.scratch / "pictures.npy", pictures)
    np.save(args.scratch / "labels.npy", labels)
    np.save(args.scratch / "latents.npy", latents.astype(np.float16))
    np.savez(args.scratch / "pca.npz", **pca)
    (args.scratch / "captions.json").write_text(json.dumps(captions))
    print(f"{args.count} pictures, latents {latents.mean():+.3f} +- {latents.std():.3f}, in {args.scratch}")


if __name__ == "__main__":
    main()
