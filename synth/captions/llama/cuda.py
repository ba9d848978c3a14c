"""What keeps a GPU busy while captions are decoded: decode steps as CUDA graphs, and notes to the host that come late.

A decode step of a 7B launches about a thousand small kernels; a graph launches them as one. The host learns which captions
ended from a note that it reads while the next step runs, so the device never waits for it.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from synth.captions.llama.model import Transformer, decode_one_token

SPAN_STEP = 64  # a graph's number of cache columns is fixed: spans are rounded up to a multiple of this


class Notes:
    """Copies of `tensor` for the host, each read `lag` calls after it was made."""

    def __init__(self, tensor: torch.Tensor, lag: int):
        self.tensor, self._lag = tensor, lag
        self._cuda = tensor.device.type == "cuda"
        self._buffers = [torch.empty_like(tensor, device="cpu", pin_memory=self._cuda) for _ in range(lag + 1)]
        self._events = [torch.cuda.Event() if self._cuda else None for _ in self._buffers]
        self.made = 0

    def exchange(self) -> np.ndarray | None:
        """Make a note of `tensor` as it is once the work so far is done; the note of `lag` calls ago, None if there is none."""
        at = self.made % len(self._buffers)
        self._buffers[at].copy_(self.tensor, non_blocking=True)
        if self._cuda:
            self._events[at].record()
        self.made += 1
        if self.made <= self._lag:
            return None
        at = self.made % len(self._buffers)  # the oldest
        if self._cuda:
            self._events[at].synchronize()
        return self._buffers[at].numpy()


@contextlib.contextmanager
def plain_writes(device: torch.device) -> Iterator[None]:
    """On CUDA, writes at indices as they are. torch's deterministic mode sorts all indices first, 64 times a decode step of a
    7B, lest two writes meet; here each cache place and each live row's entry is written once, so the bits are the same."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


class DecodeGraphs:
    """model.decode_one_token as CUDA graphs, one for each number of rows (a power of two, or all) and rounded-up span.

    Rows beyond those asked for run along and write to the cache's last column, where no prompt reaches. A graph
    that cannot be captured is said in the log, and its steps run without.
    """

    def __init__(self, model: Transformer):
        self._model = model
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph | None] = {}
        self._tokens = torch.zeros(model.rows, dtype=torch.int64, device=model.device)
        self._position = torch.full((model.rows,), model.columns - 1, dtype=torch.int64, device=model.device)
        # one for all graphs: each would keep its own
        self._logits = torch.empty(model.rows, model.params.vocab_size, dtype=torch.float32, device=model.device)
        self._stream: torch.cuda.Stream | None = None
        self._pool: tuple[int, int] | None = None  # memory that all graphs share

    def __call__(self, tokens: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
        n = tokens.shape[0]
        rows, columns = padded(n, span, self._model.rows, self._model.columns)
        self._tokens[:n] = tokens
        self._position[:n] = position
        self._position[n:rows] = self._model.columns - 1
        if (rows, columns) not in self._graphs:
            self._graphs[rows, columns] = self._capture(rows, columns)
        if (graph := self._graphs[rows, columns]) is None:
            return decode_one_token(self._model, self._tokens[:rows], self._position[:rows], columns)[:n]
        graph.replay()
        return self._logits[:n]

    def _capture(self, rows: int, columns: int) -> torch.cuda.CUDAGraph | None:
        step = (self._model, self._tokens[:rows], self._position[:rows], columns)
        decode_one_token(*step)  # what libraries allocate at their first call must not be captured
        if self._pool is None:
            self._stream, self._pool = torch.cuda.Stream(self._model.device), torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._model.device)
        torch.cuda.empty_cache()  # the graphs' pool cannot take what this process keeps for itself
        try:
            return captured(lambda: self._logits[:rows].copy_(decode_one_token(*step)), self._stream, self._pool)
        except RuntimeError as err:
            print(f"no CUDA graph of {rows} rows, {columns} columns ({err}): these steps run without", file=sys.stderr)
            self._stream = self._pool = None  # the failed end of a capture may leave its pool as if it were still at work
            return None


def captured(work: Callable[[], object], stream: torch.cuda.Stream, pool: tuple[int, int]) -> torch.cuda.CUDAGraph:
    """`work` as a CUDA graph. RuntimeError if it cannot be captured; this thread's stream and allocator are as before.

    torch.cuda.graph leaves its side stream current, and the allocator in the graphs' pool, where the end of a capture fails.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        try:
            graph.capture_begin(pool, capture_error_mode="thread_local")  # NCCL has a thread that asks
            work()
            graph.capture_end()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # it has ended, if ending it is what failed
                graph.capture_end()
            with contextlib.suppress(RuntimeError):  # a failed end leaves this out, in some versions of torch
                torch.cuda.memory._cuda_endAllocateToPool(stream.device_index, pool)
            raise
    return graph


def padded(n: int, span: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the graph for n rows and a span.

    >>> padded(5, 70, 48, 512), padded(40, 500, 48, 510)
    ((8, 128), (48, 510))
    """
    return min(rows, 1 << (n - 1).bit_length()), min(columns, -(-span // SPAN_STEP) * SPAN_STEP)
