"""Tracking pairs the slow and literal way: one image after another, every loop written out. For tests and benchmarks.

Latent diffusion models with one text encoder that predict noise or velocity; the scheduler's `step`, the denoiser and the VAE are
called, nothing else of diffusers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image

from synth.images.strength import steps_run
from synth.seeds import derive, generator, torch_generator
from synth.tracking.masks import mask_of
from synth.tracking.warp import draw
from tests.configs import PairsConfig


@dataclass(frozen=True)
class Variant:
    """pixels [H, W, 3] uint8; canvas: as drawn, padding cut off; original: the warped one; boxes [x, y, w, h], areas and masks
    of the objects; kept: what was put back."""

    pixels: np.ndarray
    canvas: np.ndarray
    original: np.ndarray
    boxes: list
    areas: list
    masks: list
    kept: np.ndarray


def variant(pipe, image: np.ndarray, name: str, number: int, objects: Sequence[Mapping], caption: str, config: PairsConfig) -> Variant:
    """One variant. image: [H, W, 3] uint8; objects: the annotations that are kept, largest first."""
    height, width = image.shape[:2]
    drawn = draw(config.warp, generator(derive(config.seed, "pairs", name, number, "warp")))
    matrix = drawn.homography(width, height)
    masks, boxes, areas = [], [], []
    for annotation in objects:
        mask = mask_of(annotation["segmentation"], height, width)
        mask = cv2.warpPerspective(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1] if len(xs) else [0, 0, 0, 0]
        masks.append(mask)
        boxes.append([int(v) for v in box])
        areas.append(int(mask.sum()))
    moved = cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones((height, width), np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST)
    filled = image.copy()
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                for c in range(3):
                    value = moved[y, x, c] * (1 + drawn.contrast) + 255 * drawn.brightness
                    filled[y, x, c] = np.uint8(min(max(np.rint(value), 0), 255))
    kept = np.zeros((height, width), np.uint8)
    d = config.dilate
    for mask in masks:
        for y, x in zip(*np.nonzero(mask), strict=True):
            kept[max(y - d, 0) : y + d + 1, max(x - d, 0) : x + d + 1] = 1
    scale = min(config.long_side / max(width, height), config.short_side / min(width, height))
    w, h = (max(1, int(np.floor(side * scale + 0.5))) for side in (width, height))
    canvas = np.asarray(Image.fromarray(filled).resize((w, h), Image.Resampling.BICUBIC)) if (w, h) != (width, height) else filled
    step = config.bucket
    right, below = -w % step, -h % step
    canvas = np.pad(canvas, ((0, below), (0, right), (0, 0)), mode="edge")
    keep = np.pad(cv2.resize(kept * 255, (w, h), interpolation=cv2.INTER_AREA) > 0, ((0, below), (0, right)))
    seed = derive(config.seed, "pairs", name, number, "noise")
    found = made = painted(pipe, canvas, keep, caption, seed, config)[:h, :w]
    if (w, h) != (width, height):
        made = np.asarray(Image.fromarray(made).resize((width, height), Image.Resampling.BICUBIC))
    return Variant(made, found, filled, boxes, areas, masks, kept)


@torch.no_grad()
def painted(pipe, canvas: np.ndarray, keep: np.ndarray, caption: str, seed: int, config: PairsConfig) -> np.ndarray:
    """[h, w, 3] uint8: `canvas` with everything painted anew but what is kept."""
    noises, scaling = torch_generator(seed), pipe.vae.config.scaling_factor
    pixels = torch.from_numpy(canvas.astype(np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1
    original = pipe.vae.encode(pixels).latent_dist.sample(noises) * scaling
    noise = torch.randn(original.shape, generator=noises)
    size = canvas.shape[0] // original.shape[2]
    mask = torch.zeros(original.shape[2:], dtype=torch.bool)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            mask[y, x] = bool(keep[y * size : (y + 1) * size, x * size : (x + 1) * size].any())
    scheduler, run = pipe.scheduler, steps_run(config.steps, config.noise_strength)
    scheduler.set_timesteps(config.steps)
    times = scheduler.timesteps[config.steps - run :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(config.steps - run)
    embedded, nothing = _text(pipe, caption), _text(pipe, config.negative_prompt)
    latents = _noised(scheduler, original, noise, times[0])
    for i, t in enumerate(times):
        given = scheduler.scale_model_input(latents, t)
        if config.guidance_scale > 1:
            both = pipe.unet(torch.cat([given, given]), t, encoder_hidden_states=torch.cat([nothing, embedded])).sample
            guess = both[:1] + config.guidance_scale * (both[1:] - both[:1])
        else:
            guess = pipe.unet(given, t, encoder_hidden_states=embedded).sample
        latents = scheduler.step(guess, t, latents).prev_sample
        if i < run - config.harmonize:
            known = _noised(scheduler, original, noise, times[i + 1]) if i + 1 < run else original
            for y in range(mask.shape[0]):
                for x in range(mask.shape[1]):
                    if mask[y, x]:
                        latents[:, :, y, x] = known[:, :, y, x]
    found = pipe.vae.decode(latents / scaling).sample[0].permute(1, 2, 0) / 2 + 0.5
    return (found.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _noised(scheduler, original, noise, t):
    """Noise of a timestep: cos and sin of an angle, over the cosine where the scheduler lets variances explode."""
    signal = scheduler.alphas_cumprod[int(t)]
    made = signal**0.5 * original + (1 - signal) ** 0.5 * noise
    return made / signal**0.5 if type(scheduler).__name__.startswith("Euler") else made


def _text(pipe, caption: str):
    tokens = pipe.tokenizer(
        [caption], padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return pipe.text_encoder(tokens.input_ids)[0]
