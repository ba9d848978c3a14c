"""What errors of servers mean."""

import json

import pytest

from synth.captions.remote.verdict import SAMPLE, judge, retry_after

LONG = "This model's maximum context length is 512 tokens. However, you requested 700 tokens (600 in the messages, 100 in the completion)."


@pytest.mark.parametrize(
    ("status", "body", "what", "why"),
    [
        (429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, "again", "HTTP 429: Rate limit reached"),
        (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, "gone", "HTTP 429: You exceeded your quota"),
        (402, {"error": {"message": "Insufficient Balance"}}, "gone", "HTTP 402: Insufficient Balance"),
        (500, "", "maybe", "HTTP 500: "),
        (503, "<html>\n Service  Unavailable</html>", "again", "HTTP 503: <html> Service Unavailable</html>"),
        (408, {}, "again", "HTTP 408: {}"),
        (400, {"error": {"message": LONG, "code": "context_length_exceeded"}}, "sample", "prompt_too_long"),
        (400, {"object": "error", "message": LONG, "type": "BadRequestError", "code": 400}, "sample", "prompt_too_long"),
        (400, {"error": {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"}},
         "sample", "prompt_too_long"),
        (413, "", "sample", "prompt_too_long"),
        (400, {"error": {"message": "The response was filtered", "code": "content_filter"}}, "sample", "content_filter"),
        (400, {"error": {"message": "Unknown parameter: 'seed'"}}, "maybe", "HTTP 400: Unknown parameter: 'seed'"),
        (422, {"detail": "Unprocessable"}, "maybe", "HTTP 422: Unprocessable"),
        (401, {"error": {"message": "Incorrect API key"}}, "input", "HTTP 401: Incorrect API key"),
        (404, {"detail": "Not Found"}, "input", "HTTP 404: Not Found"),
        (400, [1], "maybe", "HTTP 400: [1]"),
        (400, {"error": "plain"}, "maybe", "HTTP 400: plain"),
    ],
)  # fmt: skip
def test_a_status_is_to_be_tried_again_or_one_samples_matter_or_the_configs(status, body, what, why):
    verdict = judge(status, {}, body if isinstance(body, str) else json.dumps(body), 0)
    assert (verdict.what, verdict.kind if what == SAMPLE else verdict.why) == (what, why) and verdict.why.startswith(f"HTTP {status}: ")


def test_retry_after_is_seconds_milliseconds_or_a_date():
    assert retry_after({"Retry-After": "2.5"}, 0) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}, 0) == 0.25
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60) == 40
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 600) == 0
    for nonsense in ("soon", "-3", "nan", "inf", ""):
        assert retry_after({"Retry-After": nonsense}, 0) is None
    assert retry_after({}, 0) is None
