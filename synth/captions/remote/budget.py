"""Limits of what a stage may ask and spend: counted over all its workers and runs, by the answers that are kept."""

import contextlib
import threading
import time
from collections.abc import Iterator

from synth.captions.remote.journal import Answer, Journal, Totals
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError, ServiceGone

LOOK_EVERY = 1.0  # seconds between two looks at what other workers have stored


class Spent(ServiceGone):
    """A limit of requests or money is reached: what was answered is kept, and the same command with a higher limit goes on."""


class Budget:
    """What may still be asked. For several threads; those of other workers are seen by their answers, up to LOOK_EVERY seconds late.

    A request is taken in only if it, and what this worker has under way, stays within the limits; money is foreseen by the mean price.
    """

    def __init__(self, endpoint: Endpoint, journal: Journal):
        self._endpoint, self._journal = endpoint, journal
        self._lock, self._under_way, self._looked = threading.Lock(), 0, 0.0

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around one request, until its answer is stored. Spent where there is no room for it."""
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
        totals, e = self._journal.totals, self._endpoint
        cost = totals.cost(e.price_in, e.price_out)
        if e.max_requests and totals.answers + self._under_way >= e.max_requests:
            raise Spent(self._said("max_requests", f"{e.max_requests:,}", totals, cost))
        if e.max_cost and cost + (self._under_way + 1) * cost / max(1, totals.answers) > e.max_cost:
            raise Spent(self._said("max_cost", f"{e.max_cost:g}", totals, cost))

    def _said(self, key: str, value: str, totals: Totals, cost: float) -> str:
        price = f", price {cost:,.4f}" if cost else ""
        return (
            f"captioner.{key}={value} is reached: this stage has {totals.answers:,} answers ({totals.tokens_in:,} tokens in, "
            f"{totals.tokens_out:,} out{price}), and all are kept; to go on, run the same command with a higher captioner.{key}, or null"
        )
