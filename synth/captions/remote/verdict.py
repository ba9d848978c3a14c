"""What an error of a server means for the request, the stage and the worker. Pure."""

import email.utils
import json
from collections.abc import Mapping
from dataclasses import dataclass

from synth import foreign
from synth.captions.engines import TOO_LONG
from synth.errors import InputError
from synth.redaction import redacted

AGAIN, SAMPLE, INPUT, GONE = "again", "sample", "input", "gone"
_LONG = ("context length", "context_length", "context size", "maximum context", "max_model_len", "too long", "too many tokens")
_LONG += ("exceeds the available", "longer than the model")
_FILTERED = ("content_filter", "content_policy", "content management policy")


@dataclass(frozen=True)
class Verdict:
    """again: try it again, not before `after` seconds. sample: this request alone has no answer, `why` is its reason.
    input: the config is wrong. gone: nothing to be had from this server for now."""

    what: str
    why: str
    after: float | None = None


def judge(status: int, headers: Mapping[str, str], body: str, now: float) -> Verdict:
    """The verdict on an HTTP answer that is not 200. `now`: seconds since the epoch, for a Retry-After that is a date."""
    code, message = _said(body)
    message = redacted(message[:4096])  # before it is cut short
    text = f"{code} {message}".lower()
    why = f"HTTP {status}: {message[:500]}"
    if status == 402 or "insufficient_quota" in text:
        return Verdict(GONE, why)
    if status in (408, 409, 425, 429) or status >= 500:
        return Verdict(AGAIN, why, retry_after(headers, now))
    if status in (400, 413, 422):
        if status == 413 or any(t in text for t in _LONG):
            return Verdict(SAMPLE, TOO_LONG)
        if any(t in text for t in _FILTERED):
            return Verdict(SAMPLE, "content_filter")
        return Verdict(SAMPLE, why)  # the engine decides: the first requests ever refused are bad input
    return Verdict(INPUT, why)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks for, by retry-after-ms or Retry-After as seconds or date; None if it does not.

    >>> retry_after({"retry-after": "7"}, 0), retry_after({"retry-after": "soon"}, 0)
    (7.0, None)
    """
    low = {k.lower(): v for k, v in headers.items()}
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(low[name]) * scale
            if 0 <= seconds < float("inf"):
                return seconds
        except (KeyError, ValueError):
            continue
    until = _time_of(low.get("retry-after"))
    if until is None:
        return None
    stated = _time_of(low.get("date"))  # by the same clock, which may be hours from ours
    return max(0.0, until - (now if stated is None else stated))


def _time_of(date: str | None) -> float | None:
    """Seconds since the epoch of a date in a header; None if it is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (TypeError, ValueError, OverflowError):
        return None


def _said(body: str) -> tuple[str, str]:
    """(code, message) of an error body: OpenAI's {"error": {..}}, FastAPI's {"detail": ..}, or whatever text it is."""
    try:
        data = foreign.parse(body, "error", halves=True)
    except InputError:
        return "", " ".join(body.split())
    if isinstance(data, dict):
        inner = data.get("error", data)
        if isinstance(inner, dict):
            message = inner.get("message") or inner.get("detail") or inner
            return f"{inner.get('code') or ''} {inner.get('type') or ''}", message if isinstance(message, str) else json.dumps(message)
        return "", str(inner)
    return "", " ".join(body.split())
