"""Batches drawn by a family and brought to the host: one shape for every call, memory rules, copies beside the next batch."""

from collections.abc import Mapping, Sequence

import numpy as np

from synth.errors import InputError, OutOfDeviceMemory
from synth.host.gpu import free
from synth.images.compiling import Shapes
from synth.images.embeddings import encode_unit
from synth.images.families import Embedded, Family
from synth.images.guidance import Interval
from synth.images.text_encoders import TextEncoders
from synth.seeds import torch_generator

MEMORY_ADVICE = "a batch does not fit on the device: lower images.batch_size, set images.vae_batch or use images.on_oom=split"
FULL = "a picture alone does not fit on the device: choose a smaller size or model, or a GPU with more memory"


class Picture:
    """One row of a drawn call on its way to the host. rows: how many were computed together; refused: by the safety checker."""

    reason = ""  # why there is none, where that is known

    def __init__(self, copy: "Copy", row: int, rows: int, refused: bool):
        self._copy, self._row, self.rows, self.refused = copy, row, rows, refused

    def pixels(self) -> np.ndarray | None:
        """[H, W, 3] uint8; None if the model gave values that are not finite. Waits for the copy: call it beside the device."""
        return self._copy.row(self._row)


class Painter:
    """Draws batches of a stage. `on_oom`: split halves the calls of a batch that does not fit; fail raises OutOfDeviceMemory,
    and says how many rows fit."""

    def __init__(
        self,
        family: Family,
        batch: int,
        on_oom: str = "fail",
        intervals: Sequence[Interval] = (),
        text_encoders: TextEncoders | None = None,
        shapes: Shapes | None = None,
    ):
        self.family, self.batch, self.on_oom, self.intervals = family, batch, on_oom, intervals
        self._text_encoders, self._shapes = text_encoders, shapes or Shapes()
        self._fits = batch  # rows a call; smaller after a split
        self._stream = self._before = None

    def begin_unit(self) -> None:
        """Try whole batches again: what filled the device may have gone."""
        self._fits = self.batch

    def encode(self, captions: Sequence[str]) -> Mapping[str, Embedded]:
        """caption -> its embedding, of the captions of a unit."""
        from synth.images.pipeline import out_of_memory

        with out_of_memory(MEMORY_ADVICE), self._text_encoders.on_device():
            return encode_unit(self.family, captions, self._text_encoders.rest)

    def use(self, label: int | None) -> None:
        """Encode and draw with the LoRA of a class from here on; None: with the model alone."""
        from synth.images.pipeline import out_of_memory

        with out_of_memory(MEMORY_ADVICE):
            self.family.use(label)

    def paint(self, keys: Sequence[str], texts: Sequence[Embedded], seeds: Sequence[int]) -> "list[Picture]":
        """A picture of each text, from noise. keys: what the samples are called, which no pipeline asks."""
        return self.draw(texts, seeds)

    def close(self) -> None:
        self._shapes.close()

    def draw(self, items: Sequence[Embedded], seeds: Sequence[int], start=None, strength: float = 1.0) -> list[Picture]:
        """A picture for each item, row i with all noise of its own from seeds[i].

        Calls always have the same number of rows: a short batch is filled up with repeats of its last picture.
        start: [n, 3, H, W] floats in [0, 1] to begin from. On a GPU this returns while the last batch is still being drawn,
        and waits for the one before it: the device has always something to do, and no more than two batches take its memory.
        """
        pictures: list[Picture] = []
        full = ""
        while len(pictures) < len(items):
            part = slice(len(pictures), len(pictures) + self._fits)
            drawn = self._call(items[part], seeds[part], None if start is None else start[part], strength)
            if isinstance(drawn, str):
                self._fits = self._fewer(drawn)
                full = drawn
            elif self.on_oom != "split" and self._fits < self.batch:  # nothing of it is kept: it was drawn to see whether it fits
                fits, self._fits = self._fits, self.batch
                raise OutOfDeviceMemory(f"{full}; images.batch_size={fits} fits here")
            else:
                pictures += drawn
        return pictures

    def _fewer(self, full: str) -> int:
        """Rows to try after a call that did not fit. full: what torch said of it."""
        if self._fits == 1:
            self._fits = self.batch
            raise OutOfDeviceMemory(f"{FULL} ({full})")
        return -(-self._fits // 2)

    def _call(self, items: Sequence[Embedded], seeds: Sequence[int], start, strength: float) -> list[Picture] | str:
        """One call of the family in the current number of rows; what torch said if it did not fit."""
        import torch

        from synth.images.pipeline import out_of_memory

        rows, more = self._fits, self._fits - len(items)
        try:
            with torch.inference_mode(), out_of_memory(MEMORY_ADVICE):
                if start is not None:
                    # one layout too: kernels differ by it, and so would pictures of short and of whole batches
                    start = torch.cat([start, start[-1:].expand(more, *start.shape[1:])]).contiguous()
                # a generator for each row, repeats too: two rows that share one would draw each other's noise
                generators = [torch_generator(s) for s in [*seeds, *[seeds[-1]] * more]]
                for interval in self.intervals:
                    interval.begin(rows)
                values = self.family.draw([*items, *[items[-1]] * more], generators, start, strength)  # [B, 3, H, W] in [0, 1]
                self._check_size(values, start)
                self._shapes.met((rows, None if start is None else tuple(start.shape[2:])))
                refused, copy = self.family.flagged(values), self._fetch(values)
            return [Picture(copy, i, rows, refused[i]) for i in range(len(items))]
        except OutOfDeviceMemory as e:
            full = str(e)
        # out here the error is gone, and with it the frames that hold the failed call's tensors
        values = start = None
        free()
        return full

    def _check_size(self, values, start) -> None:
        """InputError if the model drew pictures of another size than was asked for: the metadata would lie."""
        asked = tuple(start.shape[2:]) if start is not None else (self.family.config.height, self.family.config.width)
        if (drawn := tuple(values.shape[2:])) != asked:
            what = f"{type(self.family.pipe).__name__} draws {drawn[1]}x{drawn[0]} pixels where {asked[1]}x{asked[0]} were asked for"
            raise InputError(f"model.path: {what}; use a size that it draws: images.width={drawn[1]} images.height={drawn[0]}")

    def _fetch(self, values) -> "Copy":
        """Begin to bring a call's pictures to the host, as 8-bit numbers: a quarter of the bytes."""
        import torch

        finite = values.flatten(1).isfinite().all(1)
        # row by row: a float32 copy of all would be four times what is wanted
        rows = [row.float().mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0) for row in values]
        pixels = torch.stack(rows)
        if pixels.device.type != "cuda":
            return Copy(pixels, finite)
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            hosts = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in (pixels, finite)]
            for tensor in (pixels, finite):
                tensor.record_stream(self._stream)  # its memory must not be used again before the copy is done
            done = torch.cuda.Event(blocking=True)  # whoever waits sleeps, and leaves the core to the encoders
            done.record()
        if self._before is not None:
            self._before.synchronize()
        self._before = done
        return Copy(*hosts, done)


class Copy:
    """Pictures of one call in host memory, or on their way there until `done`."""

    def __init__(self, pixels, finite, done=None):
        self._pixels, self._finite, self._done = pixels.numpy(), finite.numpy(), done  # the numpy arrays share the memory

    def row(self, i: int) -> np.ndarray | None:
        if self._done is not None:
            self._done.synchronize()
        return self._pixels[i] if self._finite[i] else None
