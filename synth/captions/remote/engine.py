"""Engine `openai`: captions asked of an OpenAI-compatible endpoint, several at a time, none of them twice."""

import contextlib
import importlib.util
import os
import platform
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from synth import foreign
from synth.captions.config import CaptionerConfig
from synth.captions.engines import TOO_LONG, Reply, Request, check_texts, cut, stops
from synth.captions.remote.budget import Budget, NoRoom
from synth.captions.remote.calls import Caller, Doubtful, Rejected, Unanswered, WrongServer
from synth.captions.remote.journal import CHECK, Answer, Journal, key_of
from synth.captions.remote.network import Moved, Oversized, is_loopback, proxy_of, signers
from synth.captions.remote.reading import REFUSAL
from synth.captions.remote.settings import Endpoint
from synth.captions.remote.verdict import REFUSED, UNREADABLE, reason_of
from synth.errors import InputError, ServiceGone
from synth.kinds import config_of
from synth.redaction import redacted
from synth.store.folder import StageFolder
from synth.terminal import printable

CHECKED = 8  # requests that are asked alone between two looks whether the server answers others
PLAIN = Request("A photo of an apple on a table.", seed=1)  # what any model may be asked, unless its user says otherwise


class RemoteEngine:
    """Not deterministic: a server batches requests as they come. What it answered once is kept in answers/."""

    where = "captioner.model, captioner.base_url"  # what to check of a server that refuses who asks it
    api = "captioner.base_url, which ends in /v1 for most servers, and captioner.api"  # and of one whose answers cannot be read

    def __init__(self, captioner: CaptionerConfig, endpoint: Endpoint, stage: Path, model: str):
        self.captioner, self.endpoint, self.stage, self.model = captioner, endpoint, Path(stage), model
        worker = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.journal = Journal(self.stage, worker)
        self._budget = Budget(endpoint, self.journal)
        self.plain = PLAIN
        self._proven: Request | None = None  # the last request that was answered
        self._checking = threading.Lock()
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
        known: dict[str, Answer | Rejected] = {key: answer for key in keys if (answer := self.journal.get(key))}
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
        more = {"alone": spent.alone, "price": round(price, 6)}
        return {name: getattr(spent, name) for name in names} | {name: n for name, n in more.items() if n}

    def close(self) -> None:
        if self._pool is not None:
            self._caller.pause.stopped.set()
            self._pool.shutdown(cancel_futures=True)
        if self._client is not None:
            self._client.close()
        self.journal.close()
        self._pool = self._client = None

    def _ask(self, todo: dict[str, Request]) -> dict[str, Answer | Rejected]:
        """key -> the answer, or why this request has none."""
        futures = {self._pool.submit(self._ask_one, key, request): key for key, request in todo.items()}
        done, running = wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((f.exception() for f in done if f.exception()), None)
        if failed is not None:
            self._caller.pause.stopped.set()  # what is under way is paid for: its answers are waited for and kept
            for future in running:
                future.cancel()
            wait(futures)
            self._caller.pause.stopped.clear()
        try:
            if failed is not None:
                raise failed
            outcomes = {key: f.result() for f, key in futures.items()}
            doubts = {key: doubt for key, doubt in outcomes.items() if isinstance(doubt, Doubtful)}
            return outcomes | self._asked_alone(todo, doubts)
        finally:
            self.journal.sync()

    def _ask_one(self, key: str, request: Request) -> Answer | Rejected | Doubtful:
        """What became of one request among others. Unanswered or WrongServer where the others get none either."""
        before = self._caller.spent.requests
        try:
            answer = self._answered(key, request)
        except Rejected as e:
            return e
        except Doubtful as e:
            doubt = e
        else:
            self._proven = request
            return answer
        with self._checking:
            if self._caller.spent.requests == before:
                self._check_server()
        return doubt

    def _answered(self, key: str, request: Request, maybe: int | None = None) -> Answer:
        """The answer to a request, which is kept before anything else is done with it."""
        with self._budget.request():
            answer = self._caller.ask(request, maybe)
            self.journal.add(key, answer)
        self._budget.counted(answer)
        return answer

    def _asked_alone(self, todo: dict[str, Request], doubts: dict[str, Doubtful]) -> dict[str, Answer | Rejected]:
        """The outcomes of requests that failed in one way while others were answered: each is asked once more while this worker asks
        nothing else, so that no neighbour takes its room, and the server is shown to answer before and after it. After one that broke
        the server it is shown again: what dies still takes connections for a moment, and the next request would be blamed for that."""
        outcomes: dict[str, Answer | Rejected] = {}
        whole = 0  # requests since the server was last shown to answer, none of which broke it
        for key, doubt in doubts.items():
            if whole % CHECKED == 0:
                self._check_server()
            whole += 1
            try:
                outcomes[key] = self._answered(key, todo[key], maybe=1)
                self._caller.spent.add(alone=1)
            except Rejected as e:
                outcomes[key] = e
            except Doubtful as e:
                if e.kind != doubt.kind:  # nothing that comes of the request comes in two ways
                    raise Unanswered(f"{doubt}; then {e}") from None
                outcomes[key] = Rejected(reason_of(str(e)), str(e))
                if e.kind != REFUSED:
                    whole = 0
        if doubts:
            self._check_server()
        return outcomes

    def _check_server(self) -> None:
        """Return once the server answers what it answered before, or a request that is nothing special: it is waited for as long as
        captioner.retries says. WrongServer or Unanswered if it does not."""
        for attempt in range(self.endpoint.retries + 1):
            self._caller.pause.wait(self._caller.patience(self.plain, attempt))
            try:
                self._answered(CHECK, self._proven or self.plain, maybe=1)
            except Rejected:  # it was looked at
                return
            except Doubtful as e:
                doubt = e
            else:
                return
            if doubt.kind == REFUSED:
                raise WrongServer(f"it refuses every request: {doubt}; see captioner.body for fields that it wants or does not take")
            if doubt.kind == UNREADABLE and not self._caller.spent.requests:
                raise WrongServer(f"{doubt}; check {self.api}")
        raise Unanswered(f"{doubt} (tried {self.endpoint.retries + 1} times)")

    def _reply(self, what: Answer | Rejected) -> Reply:
        if isinstance(what, Rejected):
            return Reply(what.said, what.reason)
        if what.tokens_in >= self.captioner.max_seq_len:  # the server has room for it; the other engines would not
            return Reply(what.text, TOO_LONG)
        if what.finish in ("content_filter", REFUSAL):
            return Reply(what.text, what.finish)
        text = cut(what.text, stops(self.captioner.stop, self.captioner.api == "chat"))
        return Reply(text, ended=what.finish != "length" or text != what.text)

    @contextlib.contextmanager
    def _explained(self):
        """Errors of calls as the worker understands them."""
        try:
            yield
        except Unanswered as e:
            raise self._gone(str(e)) from None
        except NoRoom as e:
            raise self._budget.reached(str(e)) from None
        except WrongServer as e:
            key = f" and the key in {self.endpoint.api_key_env}" if self.endpoint.api_key_env else ""
            fix = f"; check {self.where}{key}" if e.kind == REFUSED else ""
            raise InputError(f"{self._address()} (captioner.model={self.model}): {e}{fix}") from None

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

    proxy = proxy_of(url)
    try:
        # a cluster's proxy has no way to this machine itself
        http = openai.DefaultHttpxClient(
            trust_env=not is_loopback(urlsplit(url).hostname),
            verify=signers() if url.startswith("https:") else True,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [limit]},
        )
        return openai.OpenAI(base_url=url, api_key=key or "none", max_retries=0, timeout=timeout, http_client=http)
    except InputError:
        raise
    except Exception as e:  # InvalidURL of httpx is of no class but Exception
        where = f"{proxy}, which names a proxy, or NO_PROXY" if proxy else "captioner.base_url"
        raise InputError(f"{url}: cannot be reached as it is written: {redacted(e)}; check {where}") from e


def limit(response: Any) -> None:
    """Let an answer be read up to foreign.ANSWER bytes, and only as it is: a megabyte that is packed well would fill the memory. No
    request is followed to another place where it would be asked nothing."""
    if response.status_code in (301, 302, 303):
        to = printable(redacted(response.headers.get("location", "")), 200)
        raise Moved(f"HTTP {response.status_code}: what is asked lies at {to!r}: captioner.base_url is to be that address, up to /v1")
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
