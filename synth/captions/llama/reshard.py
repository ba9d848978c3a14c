"""Merge and split shards between model-parallel degrees.

python -m synth.captions.llama.reshard SRC DST --shards 2
"""

import argparse
import shutil
from pathlib import Path

import torch

from synth.captions.llama.checkpoint import EXTRA, check_checkpoint, layout, load_shard
from synth.captions.llama.params import ModelParams
from synth.captions.llama.tokenizer import Tokenizer

State = dict[str, torch.Tensor]


def merge(shards: list[State], params: ModelParams) -> State:
    """The whole weights from one state a rank, in rank order. Bit-exact: parts are laid side by side."""
    table = layout(params)
    whole = {}
    for name, (_, axis) in table.items():
        whole[name] = shards[0][name] if axis is None else torch.cat([s[name] for s in shards], dim=axis)
    if EXTRA in shards[0]:
        whole[EXTRA] = shards[0][EXTRA]
    return whole


def split(whole: State, params: ModelParams, degree: int) -> list[State]:
    """One state a rank from the whole weights. Bit-exact; InputError if the degree does not divide the model."""
    params.check_degree(degree)
    shards: list[State] = [{} for _ in range(degree)]
    for name, (_, axis) in layout(params).items():
        parts = [whole[name]] * degree if axis is None else whole[name].chunk(degree, dim=axis)
        for shard, part in zip(shards, parts, strict=True):
            shard[name] = part.clone()  # torch.save would write the whole storage behind a view
    if EXTRA in whole:
        for shard in shards:
            shard[EXTRA] = whole[EXTRA].clone()
    return shards


def save_shards(shards: list[State], folder: Path) -> None:
    """consolidated.NN.pth, one a state, in `folder` (made if need be)."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank, shard in enumerate(shards):
        torch.save(shard, folder / f"consolidated.{rank:02d}.pth")


def reshard(src: Path, dst: Path, degree: int) -> None:
    """Write the checkpoint in `src` to the new folder `dst` with `degree` shards."""
    tokenizer = src / "tokenizer.model"
    checkpoint = check_checkpoint(src, Tokenizer(tokenizer).n_words, tokenizer_path=tokenizer)
    checkpoint.params.check_degree(degree, src)
    whole = merge([load_shard(path) for path in checkpoint.shards], checkpoint.params)
    dst.mkdir(parents=True)  # never into a folder that is there: stale shards would be read along
    save_shards(split(whole, checkpoint.params, degree), dst)
    for name in ("params.json", "tokenizer.model"):
        shutil.copyfile(src / name, dst / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="checkpoint folder in Meta's layout, tokenizer.model inside")
    parser.add_argument("dst", type=Path, help="new folder")
    parser.add_argument("--shards", type=int, required=True, help="model-parallel degree of the new checkpoint")
    args = parser.parse_args()
    reshard(args.src, args.dst, args.shards)
