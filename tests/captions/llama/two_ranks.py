"""Run by torchrun: logits of a checkpoint of several shards, from the whole prompts and token by token."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from synth.captions.llama import parallel
from synth.captions.llama.model import Ragged, decode_one_token, prefill
from tests.captions.llama import tiny

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    parallel.join(dist.get_world_size())
    rank = int(os.environ["RANK"])
    model, _ = tiny.load(Path(sys.argv[1]), rank=rank)
    prompts = torch.load(sys.argv[2])
    whole = prefill(model, Ragged.of(prompts, range(len(prompts)), model.device), every_token=True)
    last = decode_one_token(model, torch.full((len(prompts),), 7), torch.tensor([len(p) for p in prompts]), 60)
    torch.save([whole, last], f"{sys.argv[3]}.{rank}")
    dist.barrier()  # gloo aborts in a process whose peers leave first
    parallel.leave()
    dist.destroy_process_group()
