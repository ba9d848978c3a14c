"""One request to an OpenAI-compatible server, by the official client, tried again until it is answered or given up."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from synth.captions.config import CaptionerConfig
from synth.captions.engines import Request, stops
from synth.captions.remote.journal import Answer
from synth.captions.remote.network import Moved, Oversized, trouble
from synth.captions.remote.reading import ErrorInside, answer_in
from synth.captions.remote.settings import Endpoint
from synth.captions.remote.verdict import GONE, INPUT, MAYBE, SAMPLE, TIMEOUT, UNREADABLE, Verdict, judge
from synth.errors import InputError
from synth.redaction import redacted

FIRST_WAIT, WAIT = 1.0, 60.0  # seconds before the second try, and at most before a later one
LOOKED_AT = 4096  # characters of what cannot be read
UNREADABLE_TRIES = 3  # of a request whose answers cannot be read
SEED_BITS = 31  # what every server takes as a seed


class Rejected(Exception):
    """This request has no answer, for a reason of its own; said: the server's words."""

    def __init__(self, reason: str, said: str):
        super().__init__(reason)
        self.reason, self.said = reason, said


class Unanswered(Exception):
    """The server does not answer; every try is used up, or it asks to be left alone for long."""


class WrongServer(Exception):
    """No request can be answered as things are: the address, the key, the model or a field is wrong.

    kind: REFUSED where the server said so, "" where the message says all.
    """

    def __init__(self, why: str, kind: str = ""):
        super().__init__(why)
        self.kind = kind


class Doubtful(Exception):
    """This request got no answer, try after try, and it may be its own fault: whether others are answered will tell.

    kind: the way in which it failed, of those in `verdict`.
    """

    def __init__(self, why: str, kind: str):
        super().__init__(why)
        self.kind = kind


@dataclass
class Spent:
    """What this process asked and got. Counted by several threads."""

    requests: int = 0  # answered
    reused: int = 0  # answers found in the journal
    retries: int = 0
    alone: int = 0  # answered only while no other request of this process was under way
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

    def ask(self, request: Request, maybe: int | None = None) -> Answer:
        """The answer. Rejected, Doubtful, WrongServer or Unanswered if there is none.

        maybe: tries before it is Doubtful; None: as verdicts say.
        """
        attempt = 0
        while True:
            self.pause.wait(self.patience(request, attempt))
            if self.pause.stopped.is_set():
                raise Unanswered("given up after an error of another request")
            outcome = self._once(request)
            if isinstance(outcome, Answer):
                self.spent.add(requests=1, tokens_in=outcome.tokens_in, tokens_out=outcome.tokens_out)
                return outcome
            attempt += 1
            self._end(outcome, attempt, maybe)
            self.spent.add(retries=1)

    def patience(self, request: Request, attempt: int) -> float:
        """Seconds before a try; half of them by the seed, so that requests refused together do not come back together."""
        if not attempt:
            return 0.0
        return min(WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * (0.5 + (request.seed >> attempt) % 1024 / 2048)

    def _end(self, verdict: Verdict, attempt: int, maybe: int | None) -> None:
        """Raise what ends the tries of a request, if anything does."""
        why = verdict.why
        if verdict.what == SAMPLE:
            raise Rejected(verdict.kind, why)
        if verdict.what == INPUT:
            raise WrongServer(why, verdict.kind)
        if verdict.what == GONE:
            raise Unanswered(why)
        if verdict.after is not None:
            if verdict.after > self.endpoint.longest_wait:
                raise Unanswered(f"{why} (it asks to wait {verdict.after:.0f} s; captioner.longest_wait={self.endpoint.longest_wait:g})")
            self.pause.extend(verdict.after)
        if verdict.what == MAYBE and attempt >= (maybe or self._tries(verdict)):
            raise Doubtful(why, verdict.kind)
        if attempt >= self._tries(verdict):
            raise Unanswered(f"{why} (tried {attempt} times)")

    def _tries(self, verdict: Verdict) -> int:
        return min(verdict.tries or self.endpoint.retries + 1, self.endpoint.retries + 1)

    def _once(self, request: Request) -> Answer | Verdict:
        """An answer, or what became of one try."""
        import openai

        client = self._connect()
        try:
            text = self._send(client, request)
        except openai.APITimeoutError:
            self._on_timeout()
            return Verdict(MAYBE, f"no answer within {self.endpoint.timeout:g} s (captioner.timeout)", kind=TIMEOUT)
        except openai.APIStatusError as e:
            return judge(e.status_code, e.response.headers, e.response.text, time.time())
        except (openai.APIConnectionError, Oversized, Moved) as e:
            return trouble(e, self.endpoint.base_url, bool(self.endpoint.base_url) and not self.spent.requests)
        try:
            return answer_in(text)
        except ErrorInside as e:
            return judge(e.status, {}, e.body, time.time())
        except InputError as e:
            why = f"{redacted(e)}: {redacted(text[:LOOKED_AT])[:200]!r}"
            return Verdict(MAYBE, why, tries=UNREADABLE_TRIES, kind=UNREADABLE)

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
            messages = messages_of(request)
            return client.chat.completions.with_raw_response.create(model=self.model, messages=messages, extra_body=extra).text
        return client.completions.with_raw_response.create(model=self.model, prompt=request.text, extra_body=extra).text


def messages_of(request: Request) -> list[dict[str, Any]]:
    """The chat that a request is, pictures before the text of its last message.

    >>> messages_of(Request("What is it?", pictures=("data:,",)))[0]["content"]
    [{'type': 'image_url', 'image_url': {'url': 'data:,'}}, {'type': 'text', 'text': 'What is it?'}]
    """
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in request.messages or (("user", request.text),)]
    if request.pictures:
        shown = [{"type": "image_url", "image_url": {"url": picture}} for picture in request.pictures]
        messages[-1]["content"] = [*shown, {"type": "text", "text": messages[-1]["content"]}]
    return messages
