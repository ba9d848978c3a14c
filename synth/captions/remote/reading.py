"""The answer in the body of a good HTTP answer, in all the forms that servers give it."""

import json
from collections.abc import Mapping
from typing import Any

from synth import foreign
from synth.captions.remote.journal import Answer
from synth.errors import InputError
from synth.foreign import COUNT, Maybe
from synth.redaction import redacted

LONGEST = 1 << 20  # characters of an answer's text
WHERE = "its answer cannot be read"
REFUSAL = "refusal"  # the finish reason of an answer that is a refusal by the server's own word
_COUNTS = ("prompt_tokens", "completion_tokens")
_TEXT, _CONTENT = (str, None), (str, None, [(str, dict)], dict)
_THOUGHTS = ("reasoning_content", "reasoning")  # of a message: DeepSeek's and vLLM's, OpenRouter's and newer vLLM's
_MESSAGE: Mapping[str, Any] = {"content": Maybe(_CONTENT), "refusal": Maybe(_TEXT), **dict.fromkeys(_THOUGHTS, Maybe(object))}
_CHOICE: Mapping[str, Any] = {
    **dict.fromkeys(("message", "delta"), Maybe((dict, None))),
    "text": Maybe(_TEXT),
    "finish_reason": Maybe(_TEXT),
    "error": Maybe(object),
}


class ErrorInside(Exception):
    """The body of an answer that is good by its status tells of an error: `status` is what it says, `body` the error as JSON."""

    def __init__(self, status: int, body: str):
        super().__init__(status)
        self.status, self.body = status, body


def answer_in(body: str) -> Answer:
    """The first choice of a completion or chat completion, whole or as the events of a stream; ErrorInside, or InputError for
    anything else."""
    if body.lstrip()[:6].startswith(("data:", "event:", ":")):
        return _answer(_joined_events(body))
    if body.lstrip()[:1] == "<":
        raise InputError(f"{WHERE}: it is a web page")
    return _answer(foreign.parse(body, WHERE))


def _answer(data: object) -> Answer:
    fields = foreign.obj(data, WHERE, choices=Maybe(([dict], None)), usage=Maybe((dict, None)), error=Maybe(object))
    choices = fields["choices"]
    if fields["error"] and not choices:
        raise _error_inside(fields["error"])
    if choices is None:
        raise InputError(f"{WHERE}: has no 'choices'")
    if not choices:
        raise InputError(f"{WHERE}: it has no choices")
    choice = foreign.obj(choices[0], WHERE, **_CHOICE)
    if choice["error"]:
        raise _error_inside(choice["error"])
    message, finish = choice["message"] or choice["delta"], choice["finish_reason"] or ""
    if message is not None:
        text, refused = _text_of(foreign.obj(message, WHERE, **_MESSAGE))
        finish = REFUSAL if refused else finish
    elif "text" in choices[0]:
        text = choice["text"] or ""
    else:
        raise InputError(f"{WHERE}: its first choice has neither message nor text")
    usage = foreign.obj(fields["usage"] or {}, WHERE, **dict.fromkeys(_COUNTS, Maybe((COUNT, None))))
    if len(text) > LONGEST:
        raise InputError(f"{WHERE}: its text has {len(text)} characters, more than {LONGEST}")
    return Answer(redacted(text, caption=True), redacted(finish), *(usage[name] or 0 for name in _COUNTS))


def _text_of(message: Mapping[str, Any]) -> tuple[str, bool]:
    """(what a message says, whether it is a refusal). One that holds nothing but thoughts is a thought that never ended."""
    text, refused = _parts(message["content"])
    refusal = message["refusal"] or refused
    if refusal and not text.strip():
        return refusal, True
    thoughts = next((said for name in _THOUGHTS if (said := _parts(message[name])[0]).strip()), "")
    return (f"<think>{thoughts}" if thoughts and not text.strip() else text), False


def _parts(content: object) -> tuple[str, str]:
    """(text, refusal) of content that may come as text or in parts, of which only those of text are an answer."""
    if isinstance(content, str):
        return content, ""
    texts, refusals = [], []
    for part in [content] if isinstance(content, dict) else content if isinstance(content, list) else []:
        fields = {"type": "text", "text": part} if isinstance(part, str) else part
        if not isinstance(fields, dict):
            continue
        value, kind = fields.get("text"), fields.get("type")
        if isinstance(value, dict):  # {"value": .., "annotations": ..}
            value = value.get("value")
        if isinstance(value, str) and kind in (None, "text", "output_text"):
            texts.append(value)
        if isinstance(fields.get("refusal"), str):
            refusals.append(fields["refusal"])
    return "".join(texts), "".join(refusals)


def _joined_events(body: str) -> dict[str, Any]:
    """The events of a stream as the one answer that would have come without it. One that breaks off is an InputError."""
    content, thoughts, refusal, text, finish, usage, whole = "", "", "", None, "", None, False
    for data in _events(body):
        if data == "[DONE]":
            whole = True
            break
        event = foreign.obj(
            foreign.parse(data, WHERE), WHERE, choices=Maybe(([dict], None)), usage=Maybe((dict, None)), error=Maybe(object)
        )
        if event["error"]:
            raise _error_inside(event["error"])
        usage = event["usage"] or usage
        for raw in (event["choices"] or [])[:1]:
            choice = foreign.obj(raw, WHERE, index=Maybe(int, 0), **_CHOICE)
            if choice["index"]:
                continue
            message = foreign.obj(choice["delta"] or choice["message"] or {}, WHERE, **_MESSAGE)
            more, refused = _parts(message["content"])
            content += more
            refusal += refused or message["refusal"] or ""
            thoughts += next((said for name in _THOUGHTS if (said := _parts(message[name])[0])), "")
            text = text if choice["text"] is None else (text or "") + choice["text"]
            finish = choice["finish_reason"] or finish
    if not (whole or finish):
        raise InputError(f"{WHERE}: its stream breaks off")
    said = {"text": text} if text is not None else {"message": {"content": content, "refusal": refusal or None, "reasoning": thoughts}}
    return {"choices": [said | {"finish_reason": finish}], "usage": usage}


def _events(body: str) -> list[str]:
    """The data of each event, by the rules of server-sent events: lines of one event are joined."""
    events: list[list[str]] = [[]]
    for line in body.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            events.append([])
        elif line.startswith("data:"):
            events[-1].append(line[5:].removeprefix(" "))
    return ["\n".join(lines) for lines in events if lines]


def _error_inside(error: object) -> ErrorInside:
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600 else 500
    return ErrorInside(status, json.dumps({"error": error}))
