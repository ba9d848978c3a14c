"""Engine `openai`: captions asked of an OpenAI-compatible endpoint, several at a time, none of them twice."""

import contextlib
import importlib.util
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from synth import foreign
from synth.captions.config import CaptionerConfig
from synth.captions.engines import TOO_LONG, Reply, Request, check_texts, cut, stops
from synth.captions.remote.calls import Caller, Oversized, Rejected, Unanswered
from synth.captions.remote.journal import Answer, Journal, key_of
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError, ServiceGone
from synth.kinds import config_of
from synth.store.folder import StageFolder

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RemoteEngine:
    """Not deterministic: a server batches requests as they come. What it answered once is kept in answers/."""

    def __init__(self, captioner: CaptionerConfig, endpoint: Endpoint, stage: Path, model: str):
        self.captioner, self.endpoint, self.stage, self.model = captioner, endpoint, Path(stage), model
        worker = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.journal = Journal(self.stage, worker)
        self._pool: ThreadPoolExecutor | None = None
        self._caller: Caller | None = None
        self._client = None

    def check(self) -> None:
        self.endpoint.check()
        check_client()
        self.endpoint.key()

    def start(self) -> None:
        if self._pool is not None:
            return
        self.check()
        if self._caller is None:
            self._caller = Caller(self.captioner, self.endpoint, self.model, self._connect, self._on_timeout)
        self._caller.pause.stopped.clear()
        self._pool = ThreadPoolExecutor(self.endpoint.concurrency, thread_name_prefix="ask")
        with self._explained():
            self._connect()

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply a request, in order; answers that are in answers/ are not asked for again.

        Raises InputError (key, model, address, or a request refused before any was answered), ServiceGone (exit code 75).
        """
        check_texts(requests)
        self.start()
        self.journal.refresh()
        keys = [key_of(r) for r in requests]
        known = {key: answer for key in keys if (answer := self.journal.get(key))}
        self._caller.spent.add(reused=len(known))
        todo = {key: r for key, r in zip(keys, requests, strict=True) if key not in known}
        with self._explained():
            answers = known | (self._ask(todo) if todo else {})
        return [self._reply(answers[key]) for key in keys]

    def usage(self) -> dict[str, float]:
        if self._caller is None:
            return {}
        spent, e = self._caller.spent, self.endpoint
        price = (spent.tokens_in * e.price_in + spent.tokens_out * e.price_out) / 1e6
        names = ("requests", "reused", "retries", "tokens_in", "tokens_out")
        return {name: getattr(spent, name) for name in names} | ({"price": round(price, 6)} if price else {})

    def close(self) -> None:
        if self._pool is not None:
            self._caller.pause.stopped.set()
            self._pool.shutdown(cancel_futures=True)
        if self._client is not None:
            self._client.close()
        self.journal.close()
        self._pool = self._client = None

    def _ask(self, todo: dict[str, Request]) -> dict[str, Answer | str]:
        """key -> the answer, or the reason why this request has none."""
        futures = {self._pool.submit(self._ask_one, key, request): key for key, request in todo.items()}
        done, running = wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((f.exception() for f in done if f.exception()), None)
        if failed is not None:
            self._caller.pause.stopped.set()  # what is under way is paid for: its answers are waited for and kept
            for future in running:
                future.cancel()
            wait(futures)
            self._caller.pause.stopped.clear()
        self.journal.sync()
        if failed is not None:
            raise failed
        answers = {key: f.result() for f, key in futures.items()}
        refused = [what for what in answers.values() if isinstance(what, str) and what.startswith("HTTP")]
        if len(refused) == len(answers) and not self._caller.spent.requests:
            raise InputError(
                f"{self._address()} refuses every request: {refused[0]}; see captioner.body for fields that it wants or does not take"
            )
        return answers

    def _ask_one(self, key: str, request: Request) -> Answer | str:
        try:
            answer = self._caller.ask(request)
        except Rejected as e:
            return str(e)
        self.journal.add(key, answer)
        return answer

    def _reply(self, what: Answer | str) -> Reply:
        if isinstance(what, str):
            return Reply("", "refused_by_server" if what.startswith("HTTP") else what)
        if what.tokens_in >= self.captioner.max_seq_len:  # the server has room for it; the other engines would not
            return Reply("", TOO_LONG)
        if what.finish == "content_filter":
            return Reply("", "content_filter")
        text = cut(what.text, stops(self.captioner.stop, self.captioner.api == "chat"))
        return Reply(text, ended=what.finish != "length" or text != what.text)

    @contextlib.contextmanager
    def _explained(self):
        """Errors of calls as the worker understands them."""
        try:
            yield
        except Unanswered as e:
            raise self._gone(str(e)) from None
        except InputError as e:
            if not str(e).startswith("HTTP"):
                raise
            fix = "check captioner.model, captioner.base_url" + (
                f" and the key in {self.endpoint.api_key_env}" if self.endpoint.api_key_env else ""
            )
            raise InputError(f"{self._address()} (captioner.model={self.model}): {e}; {fix}") from None

    def _gone(self, why: str) -> Exception:
        return ServiceGone(f"{self._address()}: {why}; the answers so far are kept: run the same command again")

    def _address(self) -> str:
        return self.endpoint.base_url

    def _connect(self):
        """The client, made once."""
        if self._client is None:
            self._client = client(self.endpoint.base_url, self.endpoint.key(), self.endpoint.timeout)
        return self._client

    def _on_timeout(self) -> None: ...


def client(url: str, key: str, timeout: float):
    """An openai.OpenAI without retries of its own: ours obey Retry-After for all threads together."""
    import openai

    # a cluster's proxy has no way to this machine itself
    http = openai.DefaultHttpxClient(
        trust_env=urlsplit(url).hostname not in LOOPBACK, headers={"Accept-Encoding": "identity"}, event_hooks={"response": [limit]}
    )
    return openai.OpenAI(base_url=url, api_key=key or "none", max_retries=0, timeout=timeout, http_client=http)


def limit(response: Any) -> None:
    """Let an answer be read up to foreign.ANSWER bytes, and only as it is: a megabyte that is packed well would fill the memory."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Oversized("its answer is compressed, which nobody asked for")
    body = response.stream

    class Limited(type(body)):  # type: ignore[misc]  # the client takes streams of its own classes only
        def __init__(self) -> None: ...

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for piece in body:
                size += len(piece)
                if size > foreign.ANSWER:
                    raise Oversized(f"its answer has more than {foreign.ANSWER:,} bytes")
                yield piece

        def close(self) -> None:
            body.close()

    response.stream = Limited()


def check_client() -> None:
    """InputError where the official client is not installed."""
    if importlib.util.find_spec("openai") is None:
        raise InputError("captioner.engine: openai and served need the package openai: pip install 'synthset[openai]'")


def from_stage(folder: StageFolder) -> RemoteEngine:
    captioner = config_of(folder).captioner
    endpoint = Endpoint.of(folder.spec.settings, str(folder.path / "inputs.json"))
    return RemoteEngine(captioner, endpoint, folder.path, captioner.model)
