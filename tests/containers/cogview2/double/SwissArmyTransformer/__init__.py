"""A double of SwissArmyTransformer 0.2.8 as far as CogView2 calls it: its habits, none of its computing. For tests of the adapter."""

import argparse
import os
import random
import socket

import torch

from SwissArmyTransformer.resources import auto_create

# as deepspeed, which it imports, does
os.makedirs(os.environ.get("TRITON_CACHE_DIR", os.path.expanduser("~/.triton/cache")), exist_ok=True)

_rank = []  # the socket of the process group: two processes at one port collide


def get_args(args_list=None):
    """Opens the process group and, for a seed above 0, switches cuDNN off, as the original does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--fp16", action="store_true")
    for name in ("--batch-size", "--max-inference-batch-size"):
        parser.add_argument(name, type=int)
    args = parser.parse_args(args_list)
    args.rank, args.device = int(os.getenv("RANK", "0")), int(os.getenv("LOCAL_RANK", "0"))
    if args.rank or os.getenv("WORLD_SIZE", "1") != "1":
        raise RuntimeError("other ranks are waited for")
    _rank.append(socket.socket())
    _rank[0].bind((os.getenv("MASTER_ADDR", "localhost"), int(os.getenv("MASTER_PORT", "6000"))))
    if args.seed > 0:
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        torch.backends.cudnn.enabled = False
    return args


class Model:
    @classmethod
    def from_pretrained(cls, args, name):
        auto_create(name)
        return cls(), args
