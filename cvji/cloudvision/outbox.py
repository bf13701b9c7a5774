"""What waits to be sent to CloudVision: in order per key, newest only, retried until it is delivered.

Only keys and revisions wait here; the report is loaded when its turn comes. `Outbox` is the rule book: no clock, thread
or lock. `Dispatcher` runs it with a few threads and a client.
"""

import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from cvji.backoff import backoff
from cvji.cloudvision.client import READ_TIMEOUT, Answer, Verdict
from cvji.cloudvision.payloads import Request
from cvji.jobs.report import Key

log = logging.getLogger(__name__)

# Retries start fast, since most failures are short, and end slow enough not to hinder a recovery.
BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0
# A refusal is cured by people: a permission granted, a schema upgraded. Ask now and then.
REFUSED_FIRST = 60.0
REFUSED_MAX = 3600.0
UNAUTHORIZED_WAIT = 300.0
CONNECTIONS = 8


class Parcel(msgspec.Struct, eq=False):
    """One key whose report is to be sent. `since` is when it began to wait.

    `failures` are its own; `round` is how many of the service in a row were known when its last attempt began, and
    `tokens` how many changes of the token.
    `refused` says that CloudVision understood the last attempt and did not take it.
    """

    key: Key
    revision: int
    since: float
    failures: int = 0
    round: int = 0
    tokens: int = 0
    needs_token: bool = False
    refused: bool = False


class Outbox:
    """Orders attempts by key, coalesces what waits, spaces retries. Times are seconds on any one clock."""

    def __init__(self, jitter: Callable[[], float], connections: int = CONNECTIONS) -> None:
        """`jitter` gives a number in [0, 1) at each call."""
        self._jitter = jitter
        self._connections = connections
        self._waiting: dict[Key, Parcel] = {}
        self._in_flight: dict[Key, Parcel] = {}
        self._ready: list[tuple[float, int, Parcel]] = []  # heap; stale once its parcel waits no more
        self._serial = itertools.count()
        self._paused_until = 0.0
        self._failures = 0  # in a row, of the service as a whole
        self._tokens = 0  # changes of it

    def __len__(self) -> int:
        return len(self._waiting.keys() | self._in_flight.keys())

    def settled(self) -> bool:
        """Whether nothing is left but what CloudVision refuses."""
        return not self._in_flight and all(parcel.refused for parcel in self._waiting.values())

    def put(self, key: Key, revision: int, now: float) -> None:
        """Send the key's report, of this revision or a newer one, when its turn comes."""
        replaced = self._waiting.get(key)
        parcel = Parcel(key, revision, replaced.since if replaced else now)
        self._waiting[key] = parcel
        if key not in self._in_flight:
            self._schedule(parcel, now)

    def take(self, now: float) -> Parcel | None:
        """The next to attempt now, if any; it is in flight until `settle`d."""
        if now < self._paused_until or not self._has_connection():
            return None
        while self._ready and self._ready[0][0] <= now:
            parcel = heapq.heappop(self._ready)[2]
            if self._waiting.get(parcel.key) is parcel:
                del self._waiting[parcel.key]
                self._in_flight[parcel.key] = parcel
                parcel.round, parcel.tokens = self._failures, self._tokens
                return parcel
        return None

    def wake_at(self) -> float | None:
        """When `take` may have something that it has not now; None if that is up to `put` or `settle`."""
        if not self._has_connection():
            return None
        while self._ready:
            due, _, parcel = self._ready[0]
            if self._waiting.get(parcel.key) is parcel:
                return max(due, self._paused_until)
            heapq.heappop(self._ready)
        return None

    def _has_connection(self) -> bool:
        """After a failure of the service one request at a time asks whether it is back."""
        return len(self._in_flight) < (1 if self._failures else self._connections)

    def settle(self, parcel: Parcel, answer: Answer, now: float) -> None:
        """An attempt is over: forget the parcel, or schedule it again unless a newer one waits."""
        del self._in_flight[parcel.key]
        if parcel.tokens != self._tokens and answer.verdict in (Verdict.UNAUTHORIZED, Verdict.FORBIDDEN):
            self._put_again(parcel, now)  # with another token than it may have carried
            return
        delivered = answer.verdict is Verdict.DELIVERED
        if answer.verdict is not Verdict.BUSY:  # which says nothing about this report
            parcel.failures += 1
        delay = self._delay(parcel, answer)
        newer = self._waiting.get(parcel.key)
        if newer is not None:
            if not delivered:
                newer.since = parcel.since
            self._schedule(newer, now)
        elif not delivered:
            parcel.needs_token = answer.verdict in (Verdict.UNAUTHORIZED, Verdict.FORBIDDEN)
            parcel.refused = answer.verdict in (Verdict.REFUSED, Verdict.FORBIDDEN)
            self._waiting[parcel.key] = parcel
            self._schedule(parcel, now + delay)
        if answer.verdict in (Verdict.BUSY, Verdict.UNAUTHORIZED):
            if parcel.round == self._failures:  # attempts that fail together are one failure, not eight
                self._failures += 1
            self._paused_until = max(self._paused_until, now + delay)
        else:
            self._failures = 0
            if delivered:
                self._paused_until = 0.0

    def _put_again(self, parcel: Parcel, now: float) -> None:
        newer = self._waiting.setdefault(parcel.key, parcel)
        newer.since = parcel.since
        self._schedule(newer, now)

    def token_changed(self, now: float) -> None:
        """Whatever the old token stopped may go at once."""
        self._paused_until, self._failures = 0.0, 0
        self._tokens += 1
        for parcel in self._waiting.values():
            if parcel.needs_token:
                parcel.needs_token = False
                self._schedule(parcel, now)

    def _schedule(self, parcel: Parcel, at: float) -> None:
        heapq.heappush(self._ready, (at, next(self._serial), parcel))
        if len(self._ready) > 2 * len(self._waiting) + 64:  # mostly stale: an outage with changes coming in
            self._ready = [item for item in self._ready if self._waiting.get(item[2].key) is item[2]]
            heapq.heapify(self._ready)

    def _delay(self, parcel: Parcel, answer: Answer) -> float:
        jitter = self._jitter()
        match answer.verdict:
            case Verdict.BUSY:
                return max(backoff(BACKOFF_FIRST, BACKOFF_MAX, self._failures + 1, jitter), answer.retry_after)
            case Verdict.RETRY:
                return max(backoff(BACKOFF_FIRST, BACKOFF_MAX, parcel.failures, jitter), answer.retry_after)
            case Verdict.REFUSED:
                return backoff(REFUSED_FIRST, REFUSED_MAX, parcel.failures, jitter)
            case _:
                return backoff(UNAUTHORIZED_WAIT, UNAUTHORIZED_WAIT, 1, jitter)


class Sender(Protocol):
    """What delivery needs of a client."""

    def send(self, request: Request, within: float = ...) -> Answer:
        """Make one attempt of at most about `within` seconds; never raises."""
        ...

    def token(self) -> str:
        """The token the next request would carry."""
        ...


class Outgoing(msgspec.Struct, frozen=True):
    """A key's newest report as a request."""

    revision: int
    request: Request


class LoadError(Exception):
    """A report cannot be loaded at the moment; the message says why."""


Load = Callable[[Key], Outgoing | None]


class Dispatcher:
    """Runs an outbox: a few threads that take, load, send and settle."""

    def __init__(
        self,
        client: Sender,
        load: Load,
        *,
        on_attempt: Callable[[Parcel, Outgoing, Answer], None] = lambda *_: None,
        permit: Callable[[], float] = lambda: READ_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        connections: int = CONNECTIONS,
    ) -> None:
        """`load` gives the newest report of a key, None if there is nothing to send. It may raise LoadError.

        `on_attempt` is called after each attempt, before its key's next. Both are called by any thread. `permit` is for
        how many seconds an attempt begun now may last; 0: none may begin.
        """
        self._client = client
        self._load = load
        self._outbox = Outbox(random.random, connections)
        self._on_attempt = on_attempt
        self._permit = permit
        self._clock = clock
        self._changed = threading.Condition()
        self._closing = False
        self._away = False
        self._token = client.token()
        self._threads = [
            threading.Thread(target=self._work, name=f"send-{number}", daemon=True) for number in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, key: Key, revision: int) -> None:
        """See `Outbox.put`."""
        with self._changed:
            self._outbox.put(key, revision, self._clock())
            self._changed.notify()

    def settled(self) -> bool:
        """Whether nothing is left but what CloudVision refuses."""
        with self._changed:
            return self._outbox.settled()

    def close(self) -> None:
        """Begin no further attempt."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (parcel := self._next()) is not None:
            answer = Answer(Verdict.RETRY)
            try:
                answer = self._attempt(parcel)
            except Exception:  # the outermost loop of this thread, without which its key would wait for ever
                log.exception("internal error with %s %s; going on", *parcel.key)
            with self._changed:
                self._outbox.settle(parcel, answer, self._clock())
                self._changed.notify_all()

    def _attempt(self, parcel: Parcel) -> Answer:
        try:
            outgoing = self._load(parcel.key)
        except LoadError as err:
            log.warning("%s %s waits: %s", *parcel.key, err)
            return Answer(Verdict.RETRY, message=str(err))
        if outgoing is None:  # replaced, and the newer one is not written yet
            return Answer(Verdict.DELIVERED)
        if (within := self._permit()) <= 0:  # asked again: the process may have been paused since
            return Answer(Verdict.RETRY)
        answer = self._client.send(outgoing.request, within)
        self._note(outgoing, answer)
        self._on_attempt(parcel, outgoing, answer)
        return answer

    def _next(self) -> Parcel | None:
        with self._changed:
            while not self._closing:
                now = self._clock()
                token = self._client.token()
                if token != self._token:
                    self._token = token
                    self._outbox.token_changed(now)
                permitted = self._permit() > 0
                parcel = self._outbox.take(now) if permitted else None
                if parcel is not None:
                    return parcel
                wake = self._outbox.wake_at()
                # Once a second while something waits, so that a changed token or permit is noticed.
                wait = None if wake is None else min(max(wake - now, 0.01), 1.0)
                self._changed.wait(wait if permitted or wait is None else 1.0)
            return None

    def _note(self, outgoing: Outgoing, answer: Answer) -> None:
        about = outgoing.request.about
        reason = answer.reason if answer.status else f"no answer: {answer.message}"
        match answer.verdict:
            case Verdict.DELIVERED:
                if self._away:
                    self._away = False
                    log.warning("CloudVision takes reports again")
                log.info("delivered %s", about)
            case Verdict.BUSY if self._away:
                log.debug("not delivered yet: %s (%s)", about, reason)
            case Verdict.BUSY:
                self._away = True
                log.warning("CloudVision is away (%s); reports wait and are retried", reason)
            case Verdict.UNAUTHORIZED:
                log.error("CloudVision does not accept the API token: %s", reason)
            case _:
                log.error("CloudVision refused %s: %s", about, reason)
