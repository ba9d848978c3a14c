"""Keys of speed and memory of both image stages: presets, the guidance interval and what changes no byte. No torch."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

from synth.errors import InputError

ON_OOM = ("fail", "split")
# how a stage is worked on; not in its fingerprint. shapes: sizes of pictures in it, each of which would be compiled for
RUN: Mapping[str, object] = {"on_oom": "fail", "preview_every": 0.0, "text_offload": False, "shapes": 1}

_SHARED = re.compile(r"\bimages\.(?!(?:on_oom|preview_every)\b)")  # those two have one key for both stages


@contextlib.contextmanager
def keys_of(group: str) -> Iterator[None]:
    """Inside, an InputError says `<group>.steps` where what both image stages share is written as images.steps."""
    try:
        yield
    except InputError as e:
        said = _SHARED.sub(f"{group}.", str(e))
        raise (e if said == str(e) else InputError(said)) from e.__cause__


def check_run(run: Mapping[str, object]) -> None:
    """InputError that names the key unless `run` holds what RUN holds."""
    if run.get("on_oom", "fail") not in ON_OOM:
        raise InputError(
            f"images.on_oom={run['on_oom']!r}: use fail (the unit fails with advice) or split (halve the batch, said in the metadata)"
        )
    every = run.get("preview_every", 0.0)
    if isinstance(every, bool) or not isinstance(every, (int, float)) or not 0 <= every < float("inf"):
        raise InputError(f"images.preview_every={every!r}: use seconds, 0 for no preview")
    if not isinstance(run.get("text_offload", False), bool):
        raise InputError(f"model.text_offload={run['text_offload']!r}: use true or false")


def check_interval(interval: Sequence[float], guidance_scale: float, guided: bool) -> tuple[float, float]:
    """(lo, hi) of images.guidance_interval, or an InputError. guided: whether the model computes an unconditional half in the same call."""
    text = f"images.guidance_interval=[{', '.join(f'{x:g}' for x in interval)}]"
    if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
        raise InputError(f"{text}: use [lo, hi] with 0 <= lo < hi <= 1, shares of the schedule: 0 is pure noise, [0, 1] guides every step")
    lo, hi = float(interval[0]), float(interval[1])
    if (lo, hi) == (0.0, 1.0):
        return lo, hi
    if not guided:
        raise InputError(f"{text}: this model has no unconditional half that could be left out of a call; use [0, 1]")
    if guidance_scale <= 1:
        raise InputError(
            f"{text}: images.guidance_scale={guidance_scale:g} never computes the unconditional half; use [0, 1] or a larger scale"
        )
    return lo, hi
