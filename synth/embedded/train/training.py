"""What all training runs have in common: a learning rate that follows the time, averaged weights, a checkpoint to go on from."""

import argparse
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

SAVE_EVERY = 180.0  # seconds


def arguments(doc: str, minutes: float, batch: int, begin: bool = False) -> argparse.Namespace:
    """Of a model that looks at pictures, with defaults for its minutes and its batch; torch's threads and seed are set by them. begin: it
    can begin with the weights of another."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="scratch folder of scene_data.py")
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=minutes, help="of training, in all runs together (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=batch, help="pictures a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="largest learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    if begin:
        parser.add_argument("--begin", type=Path, metavar="FOLDER", help="model whose weights it begins with, where there is no checkpoint")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the model of the checkpoint, and do not train")
    parser.add_argument("--mantissa-bits", type=int, default=6, help="of 10, see rounding.py (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def begin_anew(model: nn.Module) -> None:
    """Linear and convolution layers begin as torch begins them: the deviation of .02 that transformers gives all of them suits wide models,
    and leaves narrow ones without a signal for hundreds of steps."""
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            layer.reset_parameters()


class Training:
    """A run of so many minutes. The learning rate follows the share of them that has passed, so a run ends when it is told to.

    path: of the checkpoint (weights, averaged weights, optimizer); running the same command again goes on from it, one with more minutes
    goes on longer. average: how much of the averaged weights stays at a step; 0: they are the weights themselves.
    """

    def __init__(self, model: nn.Module, path: Path, minutes: float, lr: float, warmup: int, average: float, **optimizer):
        self.model, self.path, self.seconds, self.lr, self.warmup, self.average = model, path, minutes * 60, lr, warmup, average
        self.ema, self.step, self.spent = copy.deepcopy(model).requires_grad_(False), 0, 0.0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True, **optimizer)
        self._averaged, self._parameters = list(self.ema.parameters()), list(model.parameters())
        if path.exists():
            state = torch.load(path, weights_only=True)
            model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.spent = state["step"], state["spent"]
            print(f"going on from step {self.step}, {self.spent / 60:.1f} min", flush=True)

    def running(self, **facts: object) -> Iterator[float]:
        """The share of the time that has passed, once for each step until it is over. facts: to stand in the checkpoint too."""
        started, saved = time.monotonic() - self.spent, time.monotonic()
        while self.spent < self.seconds:
            progress = self.spent / self.seconds
            falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * min(1, (self.step + 1) / self.warmup) * falling
            yield progress
            self.step, self.spent = self.step + 1, time.monotonic() - started
            if time.monotonic() - saved > SAVE_EVERY:
                self._save(facts)
                saved = time.monotonic()
        self._save(facts)

    def learn(self, loss: torch.Tensor) -> None:
        """One step down this loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.optimizer.step()
        torch._foreach_lerp_(self._averaged, self._parameters, 1 - min(self.average, (1 + self.step) / (10 + self.step)))

    def _save(self, facts: dict) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        parts = {"model": self.model.state_dict(), "ema": self.ema.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**parts, "step": self.step, "spent": self.spent, **facts}, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").replace(self.path)
