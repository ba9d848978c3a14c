"""Text encoders that rest in host memory while pictures are drawn: model.text_offload=true, for large ones (T5) on small GPUs."""

import contextlib
from collections.abc import Iterable, Iterator

PREFIX = "text_encoder"  # what diffusers calls them: text_encoder, text_encoder_2, ...


class TextEncoders:
    """The text encoders of some pipelines, off the device except inside `on_device`. Weights never change: they are copied
    to the host once, into page-locked memory, and each return to the device is one copy at the bus's full speed.
    """

    def __init__(self, pipes: Iterable, device, offload: bool):
        self.device = device
        encoders = {id(m): m for pipe in pipes for name, m in components(pipe).items() if name.startswith(PREFIX)}
        self._tensors = [t for m in encoders.values() for t in (*m.parameters(), *m.buffers())] if offload else []
        pin = device.type == "cuda"
        self._hosts = [t.data.cpu().pin_memory() if pin else t.data.cpu() for t in self._tensors]
        self._put_to_rest()

    @property
    def rest(self) -> bool:
        """Whether they are off the device while pictures are drawn."""
        return bool(self._tensors)

    def _put_to_rest(self) -> None:
        for tensor, host in zip(self._tensors, self._hosts, strict=True):
            tensor.data = host

    @contextlib.contextmanager
    def on_device(self) -> Iterator[None]:
        """Around what encodes texts. Leaves again whatever happens inside, an out-of-memory error too."""
        try:
            for tensor, host in zip(self._tensors, self._hosts, strict=True):
                tensor.data = host.to(self.device, non_blocking=True)
            yield
        finally:
            self._put_to_rest()


def components(pipe) -> dict:
    """name -> module of a pipeline's parts that have weights."""
    import torch

    return {name: m for name, m in pipe.components.items() if isinstance(m, torch.nn.Module)}
