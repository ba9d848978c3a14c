"""The program that torchrun starts, once a rank: loads its shard and serves windows of requests.

Rank 0 speaks JSON lines over the parent's unix socket: {"op": "generate", "prompts": [..], "seeds": [..]} in,
{"completions": [..], ...} or {"error": .., "kind": .., "traceback": ..} out; {"op": "close"} ends all. The other ranks get
each request by broadcast. stdout and stderr are the log: fairscale prints when it starts.

Bad input is noticed by all ranks alike, so they answer and go on. Any other exception may be one rank's alone while the
rest wait for it, so that rank ends, and torchrun ends the others.
"""

import argparse
import datetime
import json
import os
import socket
import sys
import time
import traceback
from dataclasses import asdict
from typing import Any, TextIO

from synth import numerics
from synth.captions.llama.checkpoint import check_checkpoint
from synth.captions.llama.config import EngineConfig
from synth.errors import InputError
from synth.host import gpu
from synth.host.children import die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", required=True, help="unix socket of the parent, which rank 0 connects to")
    parser.add_argument("--config", required=True, help="EngineConfig as JSON")
    args = parser.parse_args()
    if not die_with_parent():
        sys.exit(1)
    config = EngineConfig(**json.loads(args.config))
    numerics.apply(config.numerics)
    if int(os.environ["RANK"]) == 0:
        lead(args.socket, config)
    else:
        follow(config)


def lead(path: str, config: EngineConfig) -> None:
    """Rank 0: from the parent's requests to answers, until it closes."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
        try:
            served = Ranks(config)
            send(stream, {"op": "ready"} | served.facts)
            for line in stream:  # the end of the stream: the parent is gone
                request = served.share(json.loads(line))
                if request["op"] == "close":
                    break
                send(stream, served.answer(request))
            else:
                served.share({"op": "close"})
            served.close()
        except Exception as err:
            send(stream, failure(err))
            raise


def follow(config: EngineConfig) -> None:
    """Another rank: the same computation for each request, without an answer."""
    served = Ranks(config)
    while (request := served.share(None))["op"] != "close":
        served.answer(request)
    served.close()


class Ranks:
    """This rank's share of the model."""

    def __init__(self, config: EngineConfig):
        import torch.distributed as dist
        from fairscale.nn.model_parallel import initialize as groups

        from synth.captions.llama.generate import Generator, Sampling
        from synth.captions.llama.model import load_model
        from synth.captions.llama.tokenizer import Tokenizer

        start = time.monotonic()
        rank, size = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
        device = pick_device(config.device, rank, size)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        # requests may be far apart: a group of their own that does not time out, and does not keep a GPU spinning
        self._requests = dist.new_group(backend="gloo", timeout=datetime.timedelta(days=365))
        groups.initialize_model_parallel(size)
        tokenizer = Tokenizer(config.tokenizer)
        checkpoint = check_checkpoint(config.ckpt_dir, tokenizer.n_words, size, config.tokenizer)
        dtype = gpu.dtype_on(config.torch_dtype, device)
        model = load_model(checkpoint, rank, dtype, device, config.max_batch_size, config.max_seq_len)
        sampling = Sampling(config.temperature, config.top_p, config.max_gen_len, tuple(config.stop))
        self._generator = Generator(model, tokenizer, sampling)
        pids: list[Any] = [None] * size
        dist.all_gather_object(pids, os.getpid(), group=self._requests)
        self.facts = {"pids": pids, "device": device_name(device), "load_s": round(time.monotonic() - start, 3)}

    def share(self, request: dict | None) -> dict:
        """The request that rank 0 passes, on every rank."""
        import torch.distributed as dist

        box = [request]
        dist.broadcast_object_list(box, src=0, group=self._requests)
        return box[0]

    def answer(self, request: dict) -> dict:
        """Serve {"op": "generate", prompts, seeds, margins?}; InputError becomes an answer, all else is raised."""
        try:
            if request["op"] != "generate":
                raise ValueError(f"unknown op {request['op']!r}")
            self._generator.margins = bool(request.get("margins"))
            window = self._generator.window(request["prompts"], request["seeds"])
        except InputError as err:
            return failure(err)
        return asdict(window)

    def close(self) -> None:
        """Leave the groups together: gloo aborts in a process whose peers leave first."""
        import torch.distributed as dist
        from fairscale.nn.model_parallel import initialize as groups

        dist.barrier(group=self._requests)
        groups.destroy_model_parallel()
        dist.destroy_process_group()


def pick_device(asked: str, rank: int, size: int):
    """The torch.device of a rank: its own GPU or the CPU. InputError if there are fewer GPUs than ranks."""
    import torch

    if asked == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count < size and (count or asked == "cuda"):
        fix = "ask for more GPUs a worker, or merge the shards (python -m synth.captions.llama.reshard)"
        raise InputError(f"{size} *.pth shards need {size} GPUs, {count} visible: {fix}")
    on = gpu.device(rank)
    if on.type == "cuda":
        torch.cuda.set_device(on)
    return on


def device_name(device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def failure(err: Exception) -> dict:
    return {"error": str(err) or repr(err), "kind": type(err).__name__, "traceback": traceback.format_exc()}


def send(stream: TextIO, message: dict) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
