"""The program that torchrun starts, once a rank: loads its shard and serves windows of requests.

Rank 0 speaks JSON lines over the parent's unix socket. {"op": "generate", "prompts": [..], "seeds": [..]} comes in; each
{"ended": [[number, completion], ..]} that goes out is answered by {"prompts": [..], "seeds": [..]}, which join the window; in
the end the window's cost goes out, or {"error": .., "kind": .., "traceback": ..}; {"op": "close"} ends all. The other ranks get
each message by broadcast. stdout and stderr are the log: fairscale prints when it starts.

Bad input is noticed by all ranks alike, so they answer and go on. Any other exception may be one rank's alone while the
rest wait for it, so that rank ends, and torchrun ends the others. Exit code 75: the disk refused, be it for the log.
"""

import argparse
import contextlib
import datetime
import gc
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from synth import numerics
from synth.captions.llama.checkpoint import check_checkpoint
from synth.captions.llama.config import SPENT, Completion, EngineConfig
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, refused
from synth.host import gpu
from synth.host.children import die_with_parent
from synth.host.leaving import leave
from synth.host.source import as_module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", required=True, help="private folder with the parent's unix socket, in which the ranks meet")
    parser.add_argument("--config", required=True, help="EngineConfig as JSON")
    args = parser.parse_args()
    if not die_with_parent():
        sys.exit(1)
    config = EngineConfig(**json.loads(args.config))
    numerics.apply_to_text(config.numerics)
    try:
        if int(os.environ["RANK"]) == 0:
            lead(args.place, config)
        else:
            Ranks(config, args.place, None).run()
    except Exception as err:
        if not refused(err):
            raise
        with contextlib.suppress(OSError):  # the log is what finds no room
            traceback.print_exc()
        leave(EXIT_AGAIN)


def lead(place: str, config: EngineConfig) -> None:
    """Rank 0: from the parent's requests to answers, until it closes."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.path.join(place, "socket"))
    with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
        try:
            served = Ranks(config, place, stream)
            send(stream, {"op": "ready"} | served.facts)
            served.run()
        except Exception as err:
            send(stream, failure(err))
            raise


class Ranks:
    """This rank's share of the model; rank 0's has the stream of the parent, the others compute along without an answer.

    The ranks meet by a file in `place`: whoever could write there is this user.
    """

    def __init__(self, config: EngineConfig, place: str, stream: TextIO | None):
        import torch
        import torch.distributed as dist

        from synth.captions.llama import parallel
        from synth.captions.llama.generate import Generator, Sampling
        from synth.captions.llama.model import load_model
        from synth.captions.llama.tokenizer import Tokenizer

        start = time.monotonic()
        self._stream = stream
        rank, size = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
        device = pick_device(config.device, rank, size)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{place}/ranks", rank=rank, world_size=size)
        # requests may be far apart: a group of their own that does not time out, and does not keep a GPU spinning
        self._requests = dist.new_group(backend="gloo", timeout=datetime.timedelta(days=365))
        parallel.join(size)
        tokenizer = Tokenizer(config.tokenizer)
        checkpoint = check_checkpoint(config.ckpt_dir, tokenizer.n_words, size, config.tokenizer)
        dtype = gpu.dtype_on(config.torch_dtype, device)
        model = load_model(checkpoint, rank, dtype, device, config.max_batch_size, config.max_seq_len)
        sampling = Sampling(config.temperature, config.top_p, config.max_gen_len, tuple(config.stop))
        self._generator: Generator | None = Generator(model, tokenizer, sampling)
        pids = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
        dist.all_gather(pids, torch.tensor([os.getpid()]), group=self._requests)
        self.facts = {"pids": [int(p) for p in pids], "device": device_name(device), "load_s": round(time.monotonic() - start, 3)}

    def run(self) -> None:
        """Serve windows until the parent closes, or is gone."""
        while (request := self.next())["op"] != "close":
            answer = self.answer(request)
            if self._stream is not None:
                send(self._stream, answer)
        self.close()

    def next(self) -> dict:
        """The parent's next message, on every rank; the end of the stream says that the parent is gone."""
        line = b""
        if self._stream is not None:
            line = (self._stream.readline() or '{"op": "close"}').encode()
        return json.loads(self.share(line))

    def share(self, data: bytes) -> bytes:
        """Rank 0's bytes, on every rank: bytes, because what is pickled can run code."""
        import torch
        import torch.distributed as dist

        length = torch.tensor([len(data)])
        dist.broadcast(length, src=0, group=self._requests)
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(buffer, src=0, group=self._requests)
        return buffer.numpy().tobytes()

    def answer(self, request: dict) -> dict:
        """Serve {"op": "generate", prompts, seeds, margins?}; InputError becomes an answer, all else is raised."""
        try:
            if request["op"] != "generate":
                raise ValueError(f"unknown op {request['op']!r}")
            self._generator.margins = bool(request.get("margins"))
            window = self._generator.window(request["prompts"], request["seeds"], self.more)
        except InputError as err:
            return failure(err)
        spent = {name: getattr(window, name) for name in SPENT}
        return spent | {"tokens": window.tokens, "margins": window.margins}

    def more(self, ended: Sequence[tuple[int, Completion]]) -> tuple[list[str], list[int]]:
        """What the parent asks next, once it knows what ended."""
        if self._stream is not None:
            send(self._stream, {"ended": [(number, asdict(completion)) for number, completion in ended]})
        message = self.next()
        if message.get("op") == "close":
            raise ConnectionError("the parent is gone in the middle of a window")
        return message["prompts"], message["seeds"]

    def close(self) -> None:
        """Leave the groups together: gloo aborts in a process whose peers leave first, and NCCL hangs (pytorch issue 115388) where
        a CUDA graph that holds its work is still there."""
        import torch
        import torch.distributed as dist

        from synth.captions.llama import parallel

        self._generator = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        dist.barrier(group=self._requests)
        parallel.leave()
        dist.destroy_process_group()


def pick_device(asked: str, rank: int, size: int):
    """The torch.device of a rank: its own GPU or the CPU. InputError if there are fewer GPUs than ranks."""
    import torch

    if asked == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count < size and (count or asked == "cuda"):
        fix = f"ask for more GPUs a worker, or merge the shards ({as_module('synth.captions.llama.reshard')})"
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
    leave(EXIT_OK)
