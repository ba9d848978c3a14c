"""Guidance in a part of the noise schedule only: outside it the unconditional half is not computed.

Guidance hurts at high noise levels and does nothing at low ones (Kynkäänniemi et al. 2024, arXiv 2404.07724). diffusers'
pipelines compute both halves in one call of the denoiser, the unconditional one first, and mix them as u + scale (c - u).
Outside the interval the denoiser is called with the second half alone and its answer is handed back twice: u = c, so the
mix is c, exactly, whatever the pipeline and its scheduler.
"""

from collections.abc import Mapping, Sequence

from synth.keys import WrongKey


def check_interval(interval: Sequence[float], guidance_scale: float, guided: bool) -> tuple[float, float]:
    """(lo, hi) of guidance_interval, or a WrongKey. guided: whether the model computes an unconditional half in the same call."""
    if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
        fix = "use [lo, hi] with 0 <= lo < hi <= 1: 0 is pure noise, [0, 1] guides every step"
        raise WrongKey("guidance_interval", interval, "is no share of the schedule", fix)
    lo, hi = float(interval[0]), float(interval[1])
    if (lo, hi) == (0.0, 1.0):
        return lo, hi
    if not guided:
        why = "this model has no unconditional half that could be left out of a call"
        raise WrongKey("guidance_interval", interval, why, "use [0, 1]")
    if guidance_scale <= 1:
        why = f"guidance_scale={guidance_scale:g} never computes the unconditional half"
        raise WrongKey("guidance_interval", interval, why, "use [0, 1] or a larger scale")
    return lo, hi


class Interval:
    """Wraps the forward of a pipeline's denoiser. lo, hi: shares of the noise schedule, 0 = pure noise, 1 = no noise."""

    def __init__(self, pipe, denoiser, lo: float, hi: float):
        self.pipe, self.lo, self.hi = pipe, lo, hi
        self._denoiser, self._forward, self._rows = denoiser, denoiser.forward, 0
        self._guided: list[bool] = []  # by step, from the first one that is really run
        self._step = 0
        denoiser.forward = self.forward

    def begin(self, rows: int) -> None:
        """A call of the pipeline for `rows` pictures follows."""
        self._rows, self._guided, self._step = rows, [], 0

    def forward(self, *args, **kwargs):
        sample = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        if len(sample) != 2 * self._rows:  # a stage of a chain with a guidance scale of 1 or less
            return self._forward(*args, **kwargs)
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        if not self._guided:
            self._guided = self._plan(timestep)
        guided = self._guided[min(self._step, len(self._guided) - 1)]
        self._step += 1
        if guided:
            return self._forward(*args, **kwargs)
        args, kwargs = self._second_half(args), self._second_half(kwargs)
        return self._twice(self._forward(*args, **kwargs))

    def _plan(self, first) -> list[bool]:
        """Which of the steps still to come are guided. Reads the device once a call of the pipeline, not once a step.

        first: the timestep as the denoiser gets it, which some pipelines (AuraFlow) count from 0 to 1 instead of 0 to 1000.
        """
        steps = [float(t) for t in self.pipe.scheduler.timesteps.tolist()]
        first = float(first.flatten()[0]) if hasattr(first, "flatten") else float(first)
        total = self.pipe.scheduler.config.num_train_timesteps
        begin = min(
            range(len(steps)), key=lambda k: min(abs(steps[k] - first), abs(steps[k] - first * total))
        )  # image to image begins further on
        return [self.lo <= 1 - t / total < self.hi or self.hi == 1 <= 1 - t / total for t in steps[begin:]]

    def _second_half(self, value):
        """The conditional rows of everything that has a row for each half."""
        if hasattr(value, "shape"):
            return value[self._rows :] if value.ndim and len(value) == 2 * self._rows else value
        if isinstance(value, Mapping):
            return {k: self._second_half(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._second_half(v) for v in value)
        return value

    def _twice(self, output):
        """The denoiser's answer, a tuple or one of diffusers' outputs, for both halves."""
        import torch

        if isinstance(output, tuple):
            return tuple(torch.cat([m, m]) if torch.is_tensor(m) else m for m in output)
        return type(output)(**{k: torch.cat([v, v]) if torch.is_tensor(v) else v for k, v in output.items()})
