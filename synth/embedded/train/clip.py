"""Train the tiny CLIP (Radford et al. 2021; here with the sigmoid loss of SigLIP, Zhai et al. 2023) on the scenes of scene_data.py.

A SiglipModel of transformers: it says of each word by itself whether a picture shows it, so that scenes of several objects have several
tags, and it sees the whole of pictures that are no squares. It learns from

  tags      the 20 classes and 21 backgrounds in sentences, and words for what no picture shows
  captions  which of the batch's captions belongs to which picture
  patches   what each patch shows
  reading   what a picture shows, and what a text of the tags names

The last two by linear heads that are not exported. Most of what a small tower learns early it learns from patches; and without the
reading of texts those of all classes stayed one vector.

See training.py for --minutes; --export writes the folder.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTokenizer, SiglipConfig, SiglipModel

from synth.embedded.pictures import backgrounds
from synth.embedded.pictures.render import classes
from synth.embedded.train import clip_text, phrases
from synth.embedded.train.augment import recoloured
from synth.embedded.train.clip_text import LENGTH
from synth.embedded.train.folders import HALF, write_model
from synth.embedded.train.scene_data import SIDE
from synth.embedded.train.training import Training, arguments

PATCH, HELD = 8, 1024  # pixels; scenes at the end that are for the printed figures
ABSENT, CAPTIONS = 16, 24  # texts a step


def build(vocabulary: int, width: int = 96) -> SiglipModel:
    tower = {"num_attention_heads": 4, "hidden_act": "gelu"}
    vision = tower | {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 4, "image_size": SIDE, "patch_size": PATCH}
    text = tower | {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "projection_size": width}
    text |= {"vocab_size": vocabulary, "max_position_embeddings": LENGTH, "pad_token_id": vocabulary - 1}
    text |= {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    nn.init.constant_(model.logit_scale, np.log(10))
    nn.init.constant_(model.logit_bias, -4.0)
    return model


class Model(nn.Module):
    """All that is trained: the model and the heads."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.siglip = build(vocabulary)
        width, names = self.siglip.config.vision_config.hidden_size, len(classes()) + len(backgrounds.NAMES)
        self.patches, self.shown, self.named = nn.Linear(width, 1 + len(classes())), nn.Linear(width, names), nn.Linear(width, names)

    def forward(self, pixels, tokens):
        """(logits [B, T], class of patches [B, P, 21], what pictures show [B, 41], what texts name [T, 41])

        of pixels [B, 3, S, S] and tokens [T, L].
        """
        seen = self.siglip.vision_model(pixel_values=pixels)
        read = self.siglip.text_model(input_ids=tokens).pooler_output
        similar = F.normalize(seen.pooler_output, dim=-1) @ F.normalize(read, dim=-1).T
        logits = similar * self.siglip.logit_scale.exp() + self.siglip.logit_bias
        return logits, self.patches(seen.last_hidden_state), self.shown(seen.pooler_output), self.named(read)


@dataclass
class Batch:
    pixels: torch.Tensor  # float32 [B, 3, S, S] in -1..1
    shown: torch.Tensor  # bool [B, 41]: classes, backgrounds
    patches: torch.Tensor  # int64 [B, P]: class + 1, 0: none
    captions: list[str]  # of the first CAPTIONS pictures


class Scenes:
    def __init__(self, folder: Path):
        self.squares, self.owners = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("squares", "owners"))
        self.labels = np.load(folder / "labels.npy").astype(np.int64)
        self.captions = json.loads((folder / "captions.json").read_text())

    def __len__(self) -> int:
        return len(self.squares)

    def batch(self, index: np.ndarray, rng: np.random.Generator, changed: bool = True) -> Batch:
        """changed: pictures moved and recoloured a little."""
        pixels = torch.from_numpy(self.squares[index].astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        maps = torch.from_numpy(np.stack([self._map(i) for i in index]))
        if changed:
            pixels, maps = altered(pixels, maps, rng)
        shown = torch.zeros(len(index), len(classes()) + len(backgrounds.NAMES), dtype=torch.bool)
        for row, i in enumerate(index):
            shown[row, self.labels[i, 3:][self.labels[i, 3:] >= 0]] = True
            shown[row, len(classes()) + self.labels[i, 2]] = True
        middle = maps[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
        captions = [str(rng.choice(self.captions[i])) for i in index[:CAPTIONS]]
        return Batch(pixels, shown, middle.flatten(1), captions)

    def _map(self, i: int) -> np.ndarray:
        """int64 [S, S]: class + 1 of each pixel of a square, 0 where there is none."""
        height, width = self.labels[i, :2]
        rows, columns = ((np.arange(SIDE) + 0.5) * edge // SIDE for edge in (height, width))
        owner = self.owners[i][rows.astype(int)[:, None], columns.astype(int)]
        return np.concatenate([[0], self.labels[i, 3:] + 1])[owner]


def altered(pixels: torch.Tensor, maps: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and their maps scaled, turned and moved a little; colours mixed, contrast and brightness shifted."""
    n = len(pixels)
    turn, scale, move = rng.normal(0, 0.08, n), np.exp(rng.normal(0.03, 0.07, (n, 2))), rng.normal(0, 0.04, (n, 2))
    matrix = np.stack([np.cos(turn), -np.sin(turn), move[:, 0], np.sin(turn), np.cos(turn), move[:, 1]], 1).reshape(n, 2, 3)
    matrix[:, :, :2] /= scale[:, :, None]
    grid = F.affine_grid(torch.from_numpy(matrix).float(), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    maps = F.grid_sample(maps[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0].long()
    return recoloured(pixels, rng), maps


class Texts:
    """Tokens of texts as the stages make them, cached."""

    def __init__(self, tokenizer: CLIPTokenizer):
        self._tokenizer, self._known, self._absent = tokenizer, {}, phrases.absent()

    def tokens(self, texts: list[str]) -> torch.Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, torch.from_numpy(clip_text.encode(self._tokenizer, new)).long(), strict=True))
        return torch.stack([self._known[text] for text in texts])

    def step(self, rng: np.random.Generator) -> list[str]:
        """A text a class and background, and ABSENT others."""
        own = [phrases.of_class(cls, rng) for cls in classes()] + [phrases.of_background(name, rng) for name in backgrounds.NAMES]
        return own + [str(rng.choice(phrases.TEMPLATES)).replace("{}", word) for word in rng.choice(self._absent, ABSENT)]


def losses(model: Model, batch: Batch, texts: Texts, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """(tags, captions, patches, reading)"""
    words = texts.step(rng)
    logits, patches, shown, named = model(batch.pixels, texts.tokens(words + batch.captions))
    n, most, names = len(words), len(batch.captions), batch.shown.shape[1]
    true = batch.shown.float()
    tags = F.binary_cross_entropy_with_logits(logits[:, :n], F.pad(true, (0, ABSENT)), reduction="none").sum(1).mean()
    # two pictures of the batch may have the same caption
    same = torch.tensor([[a == b for a in batch.captions] for b in batch.captions]).float()
    paired = F.binary_cross_entropy_with_logits(logits[:most, n:], same, reduction="none").sum(1).mean()
    read = F.cross_entropy(named[:names], torch.arange(names))
    read = read + 0.2 * F.binary_cross_entropy_with_logits(shown, true, reduction="none").sum(1).mean()
    return tags, paired, F.cross_entropy(patches.flatten(0, 1), batch.patches.flatten()), read


def corpus(scenes: Scenes) -> list[str]:
    rng = np.random.default_rng(0)
    texts = [text for i in range(0, len(scenes), 8) for text in scenes.captions[i]]
    for _ in range(40):
        texts += [phrases.of_class(cls, rng) for cls in classes()] + [phrases.of_background(name, rng) for name in backgrounds.NAMES]
    return texts + phrases.absent()


def tokenizer_of(scenes: Scenes, folder: Path) -> CLIPTokenizer:
    return clip_text.train_tokenizer(corpus(scenes), folder, size=1000)


@torch.no_grad()
def validate(model: Model, scenes: Scenes, texts: Texts) -> str:
    rng = np.random.default_rng(1)
    words = [f"a photo of a {cls}" for cls in classes()] + list(backgrounds.NAMES)
    hits = right = objects = told = 0
    for start in range(len(scenes) - HELD, len(scenes), 128):
        batch = scenes.batch(np.arange(start, start + 128), rng, changed=False)
        logits = model(batch.pixels, texts.tokens(words))[0]
        said, shown = logits[:, : len(classes())] > 0, batch.shown[:, : len(classes())]
        hits, objects, told = hits + int((said & shown).sum()), objects + int(shown.sum()), told + int(said.sum())
        place = logits[:, len(classes()) :].argmax(1)
        right += int(batch.shown[:, len(classes()) :].gather(1, place[:, None]).sum())
    return f"tags: recall {hits / objects:.3f} precision {hits / max(told, 1):.3f}, background {right / HELD:.3f}"


def export(checkpoint: Path, folder: Path, bits: int) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(checkpoint.parent / "tokenizer", model_max_length=LENGTH)
    model = Model(len(tokenizer))
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])
    prepared = {"image_processor_type": "SiglipImageProcessor", "size": {"height": SIDE, "width": SIDE}, "resample": 3}
    write_model(model.siglip, tokenizer, prepared | {"image_mean": HALF, "image_std": HALF}, folder, bits)


def main() -> None:
    args = arguments(__doc__, minutes=68, batch=48)
    if args.export:
        export(args.out / "last.pt", args.export, args.mantissa_bits)
        return
    scenes = Scenes(args.data)
    tokenizer = tokenizer_of(scenes, args.out / "tokenizer")
    texts, model = Texts(tokenizer), Model(len(tokenizer))
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.siglip.vision_model, model.siglip.text_model)]
    print(f"vocabulary {len(tokenizer)}, vision {sizes[0]:.2f} M, text {sizes[1]:.2f} M, {len(scenes)} scenes", flush=True)
    run = Training(model, args.out / "last.pt", args.minutes, args.lr, 200, 0.998, betas=(0.9, 0.98), weight_decay=0.02)
    rng, sums = np.random.default_rng([args.seed, run.step]), np.zeros(4)
    for _ in run.running():
        index = np.sort(rng.integers(0, len(scenes) - HELD, args.batch))
        rng.shuffle(index)
        parts = losses(model, scenes.batch(index, rng), texts, rng)
        run.learn(parts[0] + 0.5 * parts[1] + 2 * parts[2] + parts[3])
        sums += [part.item() for part in parts]
        if (run.step + 1) % 200 == 0:
            tags, paired, patches, read = sums / 200
            figures = f"  {validate(run.ema, scenes, texts)}" if (run.step + 1) % 600 == 0 else ""
            spent = f"step {run.step + 1} {run.spent / 60:.1f} min"
            print(f"{spent}  tags {tags:.3f}  captions {paired:.3f}  patches {patches:.3f}  reading {read:.3f}{figures}", flush=True)
            sums[:] = 0
    print(f"done at step {run.step}, {validate(run.ema, scenes, texts)}", flush=True)


if __name__ == "__main__":
    main()
