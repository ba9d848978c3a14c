"""One request to an OpenAI-compatible server, by the official client, tried again until it is answered or given up."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from synth import foreign
from synth.captions.config import CaptionerConfig
from synth.captions.engines import Request, stops
from synth.captions.remote.journal import Answer
from synth.captions.remote.settings import Endpoint
from synth.captions.remote.verdict import AGAIN, GONE, SAMPLE, judge
from synth.errors import InputError
from synth.foreign import COUNT, Maybe
from synth.redaction import redacted

FIRST_WAIT, WAIT = 1.0, 60.0  # seconds before the second try, and at most before a later one
LOOKED_AT = 4096  # characters of what cannot be read
LONGEST = 1 << 20  # characters of an answer's text
SEED_BITS = 31  # what every server takes as a seed


class Rejected(Exception):
    """This request has no answer, for a reason of its own."""


class Oversized(Exception):
    """An answer was cut off, because it is larger than any answer here may be, or packed so that nobody knows."""


class Unanswered(Exception):
    """The server does not answer; every try is used up, or it asks to be left alone for long."""


@dataclass
class Spent:
    """What this process asked and got. Counted by several threads."""

    requests: int = 0  # answered
    reused: int = 0  # answers found in the journal
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **more: int) -> None:
        with self._lock:
            for name, n in more.items():
                setattr(self, name, getattr(self, name) + n)


class Pause:
    """A server that asks for a pause asks it of all threads at once."""

    def __init__(self):
        self._until, self._lock, self.stopped = 0.0, threading.Lock(), threading.Event()

    def extend(self, seconds: float) -> None:
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def wait(self, seconds: float = 0.0) -> None:
        """Sleep, and on until the pause is over; ends at once where all is given up."""
        end = time.monotonic() + seconds
        while (left := max(end, self._until) - time.monotonic()) > 0 and not self.stopped.wait(left):
            pass


class Caller:
    """Asks for one request at a time; ask() may be called by many threads."""

    def __init__(self, captioner: CaptionerConfig, endpoint: Endpoint, model: str, connect: Callable, on_timeout: Callable[[], None]):
        self.captioner, self.endpoint, self.model = captioner, endpoint, model
        self._connect, self._on_timeout = connect, on_timeout  # connect() -> openai.OpenAI, called before each try
        self.spent, self.pause = Spent(), Pause()

    def ask(self, request: Request) -> Answer:
        """The answer. Rejected, InputError or Unanswered if there is none."""
        why = ""
        for attempt in range(self.endpoint.retries + 1):
            if attempt:
                self.spent.add(retries=1)
                # half of it by the seed, so that requests refused together do not come back together
                self.pause.wait(min(WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * (0.5 + (request.seed >> attempt) % 1024 / 2048))
            else:
                self.pause.wait()
            if self.pause.stopped.is_set():
                raise Unanswered("given up after an error of another request")
            outcome = self._once(request)
            if isinstance(outcome, Answer):
                self.spent.add(requests=1, tokens_in=outcome.tokens_in, tokens_out=outcome.tokens_out)
                return outcome
            why, after = outcome
            if after is not None:
                if after > self.endpoint.longest_wait:
                    raise Unanswered(f"{why} (it asks to wait {after:.0f} s; captioner.longest_wait={self.endpoint.longest_wait:g})")
                self.pause.extend(after)
        raise Unanswered(f"{why} (tried {self.endpoint.retries + 1} times)")

    def _once(self, request: Request) -> Answer | tuple[str, float | None]:
        """An answer, or why to try again and after how many seconds."""
        import openai

        client = self._connect()
        try:
            text = self._send(client, request)
        except Oversized as e:
            return str(e), None
        except openai.APITimeoutError:
            self._on_timeout()
            return f"no answer within {self.endpoint.timeout:g} s (captioner.timeout)", None
        except openai.APIConnectionError as e:
            return f"no connection: {redacted(e.__cause__ or e)}", None
        except openai.APIStatusError as e:
            verdict = judge(e.status_code, e.response.headers, e.response.text, time.time())
            why = redacted(verdict.why)
            if verdict.what == AGAIN:
                return why, verdict.after
            raise {SAMPLE: Rejected, GONE: Unanswered}.get(verdict.what, InputError)(why) from None
        try:
            return answer_in(text)
        except InputError as e:
            return f"{redacted(e)}: {redacted(text[:LOOKED_AT])[:200]!r}", None

    def _send(self, client, request: Request) -> str:
        """The body of a good answer."""
        c = self.captioner
        fields = {
            "temperature": c.temperature,
            "top_p": c.top_p,
            "max_tokens": c.max_gen_len,
            "seed": request.seed & ((1 << SEED_BITS) - 1),
            "stop": list(stops(c.stop, c.api == "chat")) or None,
        }
        extra = {k: v for k, v in (fields | dict(c.body)).items() if v is not None}
        if c.api == "chat":
            messages = [{"role": role, "content": text} for role, text in request.messages or (("user", request.text),)]
            return client.chat.completions.with_raw_response.create(model=self.model, messages=messages, extra_body=extra).text
        return client.completions.with_raw_response.create(model=self.model, prompt=request.text, extra_body=extra).text


_TEXT, _COUNTS = (str, None), ("prompt_tokens", "completion_tokens")


def _joined(content: str | list | None, where: str) -> str | None:
    """The text of an answer that may come in parts, of which only those of text are an answer."""
    if not isinstance(content, list):
        return content
    parts = (foreign.obj(part, where, type=Maybe(str), text=Maybe(str)) for part in content)
    return "".join(part["text"] or "" for part in parts if part["type"] in (None, "text"))


def answer_in(body: str) -> Answer:
    """The first choice of a completion or chat completion; anything else is an InputError."""
    where = "its answer cannot be read"
    data = foreign.obj(foreign.parse(body, where), where, choices=[dict], usage=Maybe((dict, None)))
    if not data["choices"]:
        raise InputError(f"{where}: it has no choices")
    choice = foreign.obj(data["choices"][0], where, message=Maybe(dict), text=Maybe(_TEXT), finish_reason=Maybe(_TEXT))
    if choice["message"] is not None:
        text = _joined(foreign.obj(choice["message"], where, content=Maybe((str, None, [dict])))["content"], where)
    elif "text" in data["choices"][0]:
        text = choice["text"]
    else:
        raise InputError(f"{where}: its first choice has neither message nor text")
    usage = foreign.obj(data["usage"] or {}, where, **dict.fromkeys(_COUNTS, Maybe((COUNT, None))))
    if len(text or "") > LONGEST:
        raise InputError(f"{where}: its text has {len(text or '')} characters, more than {LONGEST}")
    return Answer(redacted(text or "", caption=True), redacted(choice["finish_reason"] or ""), *(usage[name] or 0 for name in _COUNTS))
