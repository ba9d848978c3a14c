"""What an error of a server means for the request, the stage and the worker. Pure."""

import email.utils
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from synth import foreign
from synth.captions.engines import REFUSED_BY_SERVER, TOO_LONG
from synth.errors import InputError
from synth.redaction import redacted

AGAIN, MAYBE, SAMPLE, INPUT, GONE = "again", "maybe", "sample", "input", "gone"
REFUSED, FAILED, UNREADABLE, CONNECTION, TIMEOUT = "HTTP 4xx", "HTTP 5xx", "unreadable", "connection", "timeout"  # ways to fail
BUSY = (408, 409, 425, 429, 503, 529)  # say of the server alone that it takes nothing for now
_LONG = ("context length", "context_length", "context size", "maximum context", "max_model_len", "too long", "too many tokens")
_LONG += ("exceeds the available", "longer than the model")
_FILTERED = ("content_filter", "content_policy", "content management policy", "moderation", "was flagged", "safety system")
_UNPAID = ("insufficient_quota", "credit balance", "insufficient balance", "insufficient credits", "insufficient funds", "out of credits")
_UNPAID += ("billing_hard_limit", "billing hard limit", "billing_not_active", "payment required")
_FOR_TODAY = re.compile(r"\b(per day|per month|daily|monthly|tpd|rpd)\b")
_NO_KEY = ("api key not valid", "invalid api key", "incorrect api key", "invalid_api_key", "api_key_invalid", "authentication_error")
_TRIES = 3  # of what fails inside a server, before it is looked at alone


@dataclass(frozen=True)
class Verdict:
    """again: try it again, not before `after` seconds; it says nothing of this request. maybe: again too; a request that alone fails so,
    time after time, while others are answered, has no answer, for this reason. sample: this request has none, others may have one.
    input: the config is wrong. gone: nothing to be had from this server for now.

    tries: after so many it is enough; None: captioner.retries says. kind: the way in which a `maybe` failed, or the reason of a `sample`.
    """

    what: str
    why: str
    after: float | None = None
    tries: int | None = None
    kind: str = ""


def judge(status: int, headers: Mapping[str, str], body: str, now: float) -> Verdict:
    """The verdict on an HTTP answer that is not 200. `now`: seconds since the epoch, for a Retry-After that is a date."""
    code, message = _said(body)
    message = redacted(message[:4096])  # before it is cut short
    text = f"{code} {message}".lower()
    why = f"HTTP {status}: {message[:500]}"
    if status == 402 or (status in (400, 403, 429) and any(t in text for t in _UNPAID)):
        return Verdict(GONE, why)
    after = retry_after(headers, now)
    if status == 429 and after is None and _FOR_TODAY.search(text):
        return Verdict(GONE, why)
    if status in BUSY:
        return Verdict(AGAIN, why, after)
    if status >= 500:
        return Verdict(MAYBE, why, after, _TRIES if status in (500, 501) else None, FAILED)
    if status in (400, 403, 413, 422, 451) and any(t in text for t in _FILTERED):
        return Verdict(SAMPLE, why, kind="content_filter")
    if status == 413 or (status in (400, 422) and any(t in text for t in _LONG)):
        return Verdict(SAMPLE, why, kind=TOO_LONG)
    if status in (400, 422) and not any(t in text for t in _NO_KEY):
        return Verdict(MAYBE, why, tries=1, kind=REFUSED)
    return Verdict(INPUT, why, kind=REFUSED)


def reason_of(why: str) -> str:
    """The reason of a request that alone has no answer, by what its server said."""
    return TOO_LONG if any(t in why.lower() for t in _LONG) else REFUSED_BY_SERVER


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
