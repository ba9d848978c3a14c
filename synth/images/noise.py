"""Every noise draw from the sample's own generator, in pipelines that would not do so by themselves."""

import contextlib
import functools
import inspect
from collections.abc import Iterator, Sequence

GLOBAL_NOISE = "draws noise from the global generator, so its pictures would depend on their neighbours"


@contextlib.contextmanager
def own_noise(pipe, generators: Sequence) -> Iterator[None]:
    """Inside, `pipe`'s scheduler draws from `generators` (one a row), whether or not the pipeline hands them on.

    The pipelines of flow-matching models call scheduler.step without a generator; a stochastic scheduler would then draw
    from torch's global one. Whatever else draws from that one inside raises RuntimeError.
    """
    import torch

    scheduler = getattr(pipe, "scheduler", None)
    takes = scheduler is not None and "generator" in inspect.signature(scheduler.step).parameters
    before = torch.get_rng_state()
    try:
        if takes:
            scheduler.step = _with_generators(scheduler.step, list(generators))
        yield
    finally:
        if takes:
            del scheduler.step  # the instance's; the class's own shows again
    if not torch.equal(before, torch.get_rng_state()):
        raise RuntimeError(f"{type(pipe).__name__} {GLOBAL_NOISE}")


def _with_generators(step, generators: list):
    @functools.wraps(step)  # pipelines look at its signature
    def wrapped(*args, **kwargs):
        if kwargs.get("generator") is None:
            kwargs["generator"] = generators
        return step(*args, **kwargs)

    return wrapped
