"""One call of a pipeline is a function of its arguments: each sample's noise is its own generator's, and no call finds in a scheduler
what another one left there.
"""

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
    before = torch.get_rng_state()
    with as_found(pipe):
        if scheduler is not None and "generator" in inspect.signature(scheduler.step).parameters:
            scheduler.step = _with_generators(scheduler.step, list(generators))
        yield
    if not torch.equal(before, torch.get_rng_state()):
        raise RuntimeError(f"{type(pipe).__name__} {GLOBAL_NOISE}")


@contextlib.contextmanager
def as_found(pipe) -> Iterator[None]:
    """Afterwards `pipe`'s schedulers are as they were before.

    Those that put noise on a picture move their tables to the GPU for good, and half precision rounds a product with a number there
    otherwise than one with a number on the host: pictures from noise would depend on whether one from a picture was drawn before.
    """
    schedulers = [part for name, part in getattr(pipe, "components", {}).items() if name.endswith("scheduler") and part is not None]
    before = [dict(vars(scheduler)) for scheduler in schedulers]
    try:
        yield
    finally:
        for scheduler, found in zip(schedulers, before, strict=True):
            vars(scheduler).clear()
            vars(scheduler).update(found)


def _with_generators(step, generators: list):
    @functools.wraps(step)  # pipelines look at its signature
    def wrapped(*args, **kwargs):
        if kwargs.get("generator") is None:
            kwargs["generator"] = generators
        return step(*args, **kwargs)

    return wrapped
