"""Merge and split shards between model-parallel degrees.

python -m synth.captions.llama.reshard SRC DST --shards 2
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from synth import foreign
from synth.captions.llama.checkpoint import EXTRA, check_checkpoint, find_shards, layout, load_shard
from synth.captions.llama.params import ModelParams
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import InputError, tool

TOKENIZER = "tokenizer.model"

State = dict[str, torch.Tensor]


def merge(shards: list[State], params: ModelParams) -> State:
    """The whole weights from one state a rank, in rank order. Bit-exact: parts are laid side by side."""
    table = layout(params)
    whole = {}
    for name, (_, axis) in table.items():
        whole[name] = shards[0][name] if axis is None else torch.cat([s[name] for s in shards], dim=axis)
    return whole | {name: tensor for name, tensor in shards[0].items() if EXTRA.fullmatch(name)}


def split(whole: State, params: ModelParams, degree: int) -> list[State]:
    """One state a rank from the whole weights. Bit-exact; InputError if the degree does not divide the model."""
    params.check_degree(degree)
    shards: list[State] = [{} for _ in range(degree)]
    for name, (_, axis) in layout(params).items():
        parts = [whole[name]] * degree if axis is None else whole[name].chunk(degree, dim=axis)
        for shard, part in zip(shards, parts, strict=True):
            shard[name] = part.clone()  # torch.save would write the whole storage behind a view
    for name in filter(EXTRA.fullmatch, whole):
        for shard in shards:
            shard[name] = whole[name].clone()
    return shards


def save_shards(shards: list[State], folder: Path) -> None:
    """consolidated.NN.pth, one a state, in `folder` (made if need be)."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank, shard in enumerate(shards):
        with open(folder / f"consolidated.{rank:02d}.pth", "wb") as file:  # by its name torch would say of a full disk: unexpected pos
            torch.save(shard, file)


def find_tokenizer(src: Path) -> Path:
    """The tokenizer.model of a checkpoint: in its folder, or beside it, where Meta's download of LLaMA 1 and 2 has one for all sizes."""
    places = (src / TOKENIZER, src.absolute().parent / TOKENIZER)
    if (found := next(filter(Path.is_file, places), None)) is None:
        raise InputError(f"{places[0]}: {foreign.absent(places[0])}, and none beside the folder; give it by --tokenizer FILE")
    return found


def reshard(src: Path, dst: Path, degree: int, tokenizer: Path | None = None) -> None:
    """Write the checkpoint in `src` to the new folder `dst` with `degree` shards. `dst` appears when it is whole."""
    if dst.exists() or dst.is_symlink():  # never into a folder that is there: stale shards would be read along
        raise InputError(f"{dst}: is there already; give a new folder, or remove it")
    find_shards(src)  # first: a wrong SRC is no matter of its tokenizer
    tokenizer = tokenizer or find_tokenizer(src)
    checkpoint = check_checkpoint(src, Tokenizer(tokenizer).n_words, tokenizer_path=tokenizer)
    checkpoint.params.check_degree(degree, src)
    whole = merge([load_shard(path) for path in checkpoint.shards], checkpoint.params)
    made = dst.with_name(f"{dst.name}.part")
    if made.exists():
        raise InputError(f"{made}: was left by a run that did not end; remove it")
    made.mkdir(parents=True)
    try:
        save_shards(split(whole, checkpoint.params, degree), made)
        shutil.copyfile(src / "params.json", made / "params.json")
        shutil.copyfile(tokenizer, made / TOKENIZER)
        made.rename(dst)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="checkpoint folder in Meta's layout")
    parser.add_argument("dst", type=Path, help="new folder")
    parser.add_argument("--shards", type=int, required=True, help="model-parallel degree of the new checkpoint")
    parser.add_argument("--tokenizer", type=Path, help="its tokenizer.model; default: the one in SRC, or beside it")
    args = parser.parse_args(argv)

    def work() -> str:
        reshard(args.src, args.dst, args.shards, args.tokenizer)
        return f"{args.dst}: {args.shards} shards; run with captioner.ckpt_dir={args.dst} captioner.tokenizer_path={args.dst / TOKENIZER}"

    return tool(work)


if __name__ == "__main__":
    sys.exit(main())
