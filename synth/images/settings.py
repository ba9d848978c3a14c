"""Keys of speed and memory of both image stages: presets, the guidance interval and what changes no byte. No torch."""

from collections.abc import Mapping, Sequence

from synth.errors import InputError

ON_OOM = ("fail", "split")
# how a stage is worked on; not in its fingerprint
RUN: Mapping[str, object] = {"on_oom": "fail", "preview_every": 0.0, "text_offload": False}


def check_run(run: Mapping[str, object]) -> None:
    """InputError that names the key unless `run` holds what RUN holds."""
    if run.get("on_oom", "fail") not in ON_OOM:
        msg = f"images.on_oom={run['on_oom']!r}: use fail (the unit fails with advice) or split (halve the batch, said in the metadata)"
        raise InputError(msg)
    every = run.get("preview_every", 0.0)
    if isinstance(every, bool) or not isinstance(every, (int, float)) or not 0 <= every < float("inf"):
        msg = f"images.preview_every={every!r}: use seconds, 0 for no preview"
        raise InputError(msg)
    if not isinstance(run.get("text_offload", False), bool):
        msg = f"model.text_offload={run['text_offload']!r}: use true or false"
        raise InputError(msg)


def check_interval(interval: Sequence[float], guidance_scale: float, guided: bool) -> tuple[float, float]:
    """(lo, hi) of images.guidance_interval, or an InputError. `guided`: whether the model has an unconditional half to leave out."""
    text = f"images.guidance_interval=[{', '.join(f'{x:g}' for x in interval)}]"
    if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
        msg = f"{text}: use [lo, hi] with 0 <= lo < hi <= 1, shares of the schedule: 0 is pure noise, [0, 1] guides every step"
        raise InputError(msg)
    lo, hi = float(interval[0]), float(interval[1])
    if (lo, hi) == (0.0, 1.0):
        return lo, hi
    if not guided:
        msg = f"{text}: this model has no unconditional half that could be left out; use [0, 1]"
        raise InputError(msg)
    if guidance_scale <= 1:
        msg = f"{text}: images.guidance_scale={guidance_scale:g} never computes the unconditional half; use [0, 1] or a larger scale"
        raise InputError(msg)
    return lo, hi
