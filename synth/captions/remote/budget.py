"""Limits of what a stage may ask and spend: counted over all its workers and runs, by the answers that are kept."""

import contextlib
import threading
import time
from collections.abc import Iterator

from synth.captions.remote.journal import Answer, Journal
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError

LOOK_EVERY = 1.0  # seconds between two looks at what other workers have stored


class LimitReached(InputError):
    """A limit of requests or money is reached: what was answered is kept, and the same command with a higher limit goes on.

    As it stands, trying again changes nothing: neither a job that is requeued nor a gate may.
    """


class NoRoom(Exception):
    """One more request would pass a limit; others may be under way."""


class Budget:
    """What may still be asked. For several threads; those of other workers are seen by their answers, up to LOOK_EVERY seconds late.

    A request is taken in only if it, and what this worker has under way, stays within the limits; money is foreseen by the mean price.
    """

    def __init__(self, endpoint: Endpoint, journal: Journal):
        self._endpoint, self._journal = endpoint, journal
        self._lock, self._under_way, self._looked = threading.Lock(), 0, 0.0

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around one request, until its answer is stored. NoRoom where there is none for it."""
        with self._lock:
            if self.limited:
                self._check()
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    @property
    def limited(self) -> bool:
        return bool(self._endpoint.max_requests or self._endpoint.max_cost)

    def counted(self, answer: Answer) -> None:
        """InputError for an answer that does not say what it cost, where money is limited."""
        if self._endpoint.max_cost and not answer.tokens_in and not answer.tokens_out:
            raise InputError(
                "captioner.max_cost: the server does not say how many tokens an answer took (usage), so that nobody knows what it cost; "
                "limit the number by captioner.max_requests"
            )

    def _check(self) -> None:
        now = time.monotonic()
        if not self._looked or now - self._looked >= LOOK_EVERY:
            self._journal.refresh()
            self._looked = now
        n, e = self._journal.totals.answers, self._endpoint
        if e.max_requests and n + self._under_way >= e.max_requests:
            raise NoRoom("max_requests")
        if e.max_cost and self._cost() * (1 + (self._under_way + 1) / max(1, n)) > e.max_cost:
            raise NoRoom("max_cost")

    def _cost(self) -> float:
        return self._journal.totals.cost(self._endpoint.price_in, self._endpoint.price_out)

    def reached(self, key: str) -> LimitReached:
        """The error that ends a worker, once nothing is under way. key: of the limit."""
        totals, cost = self._journal.totals, self._cost()
        price = f", price {cost:,.4f}" if cost else ""
        return LimitReached(
            f"captioner.{key}={getattr(self._endpoint, key):g} is reached: this stage has {totals.answers:,} answers "
            f"({totals.tokens_in:,} tokens in, {totals.tokens_out:,} out{price}), and all are kept; to go on, run the same command with a "
            f"higher captioner.{key}, or null"
        )
