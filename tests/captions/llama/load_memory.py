"""Run by a test in a process of its own: peak of the host's own memory while a checkpoint goes to a device that is not the host.

python -m tests.captions.llama.load_memory FOLDER SCRATCH
Prints the MB of anonymous memory that loading added at its peak, and the MB of weights. The device's memory is a file below
SCRATCH, mapped: what is written there is no memory of this process.
"""

import itertools
import sys
import threading
import time
from pathlib import Path

import torch

from synth.captions.llama import model
from synth.captions.llama.checkpoint import check_checkpoint
from tests.captions.llama import tiny

WORDS = 400


def anonymous() -> int:
    """Bytes of memory that no file stands behind."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def device_of(folder: Path):
    """In the place of model.room."""
    count = itertools.count()

    def room(shape, dtype, device):
        return torch.from_file(str(folder / str(next(count))), shared=True, size=torch.Size(shape).numel(), dtype=dtype).view(shape)

    return room


def main() -> None:
    folder, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    tiny.one_process()
    checkpoint = check_checkpoint(folder, WORDS)
    model.room = device_of(scratch)
    before, peak, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    loaded = model.load_model(checkpoint, 0, torch.bfloat16, torch.device("cpu"), rows=1, columns=8)  # float16 on disk: all is cast
    done.set()
    watcher.join()
    weights = sum(p.numel() * p.element_size() for p in loaded.parameters())
    print((max(peak[0], anonymous()) - before) / 1e6, weights / 1e6)


if __name__ == "__main__":
    main()
