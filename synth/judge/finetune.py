"""A classifier trained on pictures by a fixed recipe, an epoch at a time, and asked about other pictures.

All that is random (the order of an epoch, how a picture is cut, dropout) follows from the seed, the epoch and the row, so an epoch that is
trained again, after a kill or elsewhere, gives the same weights: bit for bit on one kind of machine. Of a model that a user brings torch
may warn that it has an operation which it cannot repeat exactly.
"""

import contextlib
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synth import numerics, seeds
from synth.errors import InputError, OutOfDeviceMemory, not_trouble
from synth.host.gpu import device
from synth.images.decode import decode_whole
from synth.judge.classifiers import Classifier, open_classifier
from synth.judge.numbers.rows import Unmeasurable
from synth.run.ahead import BATCHES, Ahead
from synth.store.files import write_atomic

if TYPE_CHECKING:
    from PIL import Image

SHRUNK = 0.875  # a test picture's middle: 224 of 256 pixels
TRIES = 10  # at a random cut that lies inside
RATIO = (3 / 4, 4 / 3)  # of its sides


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW (1711.05101) on random cuts that are mirrored half of the time, one cycle of a cosine behind a linear warm-up. Every set of a
    comparison is trained by the same one."""

    epochs: int = 30
    batch: int = 64
    learning_rate: float = 1e-3  # its highest; 5e-5 suits a model that was trained before
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of all steps
    smallest_cut: float = 0.35  # share of a picture's area
    side: int | None = None  # pixels of the model's input; null: the model's own
    seed: int = 0


class Training:
    """A model on its way: `epoch` trains one more, `save` and `load` keep it between two.

    train: pictures' files, which threads read by row. labels [N] in 0..n_classes - 1. model: a folder (`classifiers`), or None for a
    ResNet-18 from nothing. settings: the stage's numerics. Unmeasurable where there is nothing to learn; InputError for what cannot be
    read.
    """

    def __init__(
        self,
        model: Path | None,
        train: Sequence[bytes],
        labels: np.ndarray,
        n_classes: int,
        recipe: Recipe,
        settings: Mapping[str, Any],
    ):
        import torch

        if len(np.unique(labels)) < 2:
            raise Unmeasurable("train: pictures of one class, or none, leave nothing to tell apart")
        if labels.shape != (len(train),) or labels.min() < 0 or labels.max() >= n_classes:
            raise InputError(f"train: {len(train)} pictures need as many labels in 0..{n_classes - 1}")
        numerics.apply(_plain_attention(settings))
        self.train, self.labels, self.recipe, self.on = train, labels, recipe, device()
        self.classifier: Classifier = open_classifier(model, n_classes, recipe.side, recipe.seed)
        self.model = self.classifier.model.to(self.on)
        self.done = 0  # epochs
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]  # biases and norms are not pulled to 0
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)

    @property
    def steps(self) -> int:
        """Of an epoch: whole batches, but for a set that is smaller than one."""
        return max(1, len(self.train) // self.recipe.batch)

    def epoch(self) -> float:
        """Train one more epoch: its mean cross entropy."""
        import torch

        epoch, batch = self.done, self.recipe.batch
        order = seeds.generator(seeds.derive(self.recipe.seed, "finetune", "order", epoch)).permutation(len(self.train))
        torch.manual_seed(seeds.derive(self.recipe.seed, "finetune", "dropout", epoch) >> 1)
        self.model.train()
        total = 0.0
        batches = [order[s * batch : (s + 1) * batch] for s in range(self.steps)]
        for step, (rows, pixels) in enumerate(_ready(batches, lambda row: self._cut(row, epoch))):
            for group in self._optimizer.param_groups:
                group["lr"] = self.rate(epoch * self.steps + step)
            target = torch.from_numpy(self.labels[rows]).to(self.on)
            with _memory():
                loss = torch.nn.functional.cross_entropy(self._logits(pixels), target)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
            total += loss.item()
            if not math.isfinite(total):
                raise InputError(f"training diverged in epoch {epoch} (the loss is no finite number): lower the learning rate")
        self.done += 1
        return total / self.steps

    def rate(self, step: int) -> float:
        """The learning rate of a step: up in a line, down in half a cosine."""
        steps = self.steps * self.recipe.epochs
        warm = max(1, round(steps * self.recipe.warm_up))
        if step < warm:
            return self.recipe.learning_rate * (step + 1) / warm
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def answers(self, test: Sequence[bytes]) -> np.ndarray:
        """[M, C] float32 probabilities. A short last batch is filled up, so that no answer depends on how many pictures there are."""
        import torch

        if not len(test):
            raise Unmeasurable("test: there are no pictures")
        self.model.eval()
        batch, found = self.recipe.batch, []
        rows = np.arange(math.ceil(len(test) / batch) * batch) % len(test)
        with torch.inference_mode(), _memory():
            for _, pixels in _ready(list(rows.reshape(-1, batch)), lambda row: self._middle(test, row)):
                found.append(torch.softmax(self._logits(pixels), 1).cpu().numpy())
        return np.concatenate(found)[: len(test)]

    def _logits(self, pixels: np.ndarray):
        import torch

        return self.model(pixel_values=torch.from_numpy(pixels).to(self.on)).logits.float()

    def _cut(self, row: int, epoch: int) -> np.ndarray:
        rng = seeds.generator(seeds.derive(self.recipe.seed, "finetune", "cut", epoch, row))
        image = _opened(self.train, row, "train")
        image = image.resize((self.classifier.side,) * 2, box=random_box(image.size, self.recipe.smallest_cut, rng), **_FILTER)
        pixels = self.classifier.prepared(np.asarray(image))
        return pixels[:, :, ::-1] if rng.random() < 0.5 else pixels

    def _middle(self, test: Sequence[bytes], row: int) -> np.ndarray:
        image = _opened(test, row, "test")
        image = image.resize((self.classifier.side,) * 2, box=middle_box(image.size), **_FILTER)
        return self.classifier.prepared(np.asarray(image))

    # -- between epochs --------------------------------------------------------------------------------------------------

    def save(self, path: Path, key: str) -> None:
        """Write what the next epoch needs, whole or not at all. key: of what is trained; another one's file is not taken for it."""
        import torch

        out = io.BytesIO()
        torch.save({"key": key, "done": self.done, "model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}, out)
        write_atomic(path, out.getvalue())

    def load(self, path: Path, key: str, done: int) -> bool:
        """Go on where `done` epochs were; whether the file has that. One that is torn, or of something else, is as none."""
        import torch

        try:
            state = torch.load(path, map_location=self.on, weights_only=True)
            if state["key"] != key or state["done"] != done:
                return False
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except FileNotFoundError:
            return False
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as e:
            not_trouble(path, e)
            return False
        self.done = done
        return True


def _plain_attention(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """On a GPU, for numerics that promise bytes: the backward passes of fused attention do not give the same bits twice, and torch, told to
    allow nothing of the kind (as LoRAs are trained), refuses max pooling too."""
    return {**settings, "cuda": {**settings.get("cuda", {}), "attention": "math"}} if settings.get("deterministic") else settings


_FILTER = {"resample": 2}  # Image.Resampling.BILINEAR, which Pillow antialiases: imported here it would cost every start


def _opened(pictures: Sequence[bytes], row: int, name: str) -> "Image.Image":
    from PIL import Image

    decoded = decode_whole(pictures[row])
    if decoded.pixels is None:
        raise InputError(f"{name}: picture {row}: {decoded.reason}; leave it out")
    return Image.fromarray(decoded.pixels)


def random_box(size: tuple[int, int], smallest: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A cut (left, top, right, bottom) of a picture of (width, height), as Inception's (1409.4842): of a random area and shape; where none
    fits in some tries the middle, as near to these shapes as it goes."""
    width, height = size
    for _ in range(TRIES):
        area = width * height * rng.uniform(smallest, 1)
        ratio = math.exp(rng.uniform(*np.log(RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, (width - w) // 2 + w, (height - h) // 2 + h


def middle_box(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The square in the middle of a picture, of SHRUNK of its shorter side."""
    side = min(size) * SHRUNK
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return left, top, left + side, top + side


def _ready(batches: Sequence[np.ndarray], prepare: Callable[[int], np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, [B, 3, S, S] float32) of each batch, made ready by threads while others are computed."""
    ahead, begun = Ahead("pictures"), dict[tuple[int, int], Future]()
    try:
        for at, rows in enumerate(batches):
            for coming in range(at, min(at + 1 + BATCHES, len(batches))):
                for place, row in enumerate(batches[coming]):
                    ahead.begin(begun, (coming, place), prepare, int(row))
            futures = [begun.pop((at, place)) for place in range(len(rows))]
            yield rows, np.stack([f.result() for f in futures])
    finally:
        ahead.close()


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Inside, a full device is told with what to lower."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as e:
        raise OutOfDeviceMemory(f"a batch does not fit on the device: lower the recipe's batch ({e})") from e
