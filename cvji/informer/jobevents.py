"""Events on a job's object, so that `kubectl describe` of a job says what became of its reports.

Best effort, in a thread of its own behind a bounded queue: an Event that cannot be written is dropped, and reporting
never waits. Repetitions change the Event that is there, and each object has a budget, as client-go's EventCorrelator
does it (client-go tools/record/events_cache.go). Called by the loop's thread alone.
"""

import hashlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from cvji.cloudvision.client import Answer, Verdict
from cvji.jobs.report import JobState, Key, RunReport
from cvji.kube.client import Api, ApiError
from cvji.kube.events import Resource

log = logging.getLogger(__name__)
K = TypeVar("K")
V = TypeVar("V")

QUEUE = 1000  # Events that wait to be written; more are dropped
KNOWN = 4096  # objects and Events that are remembered (client-go: maxLruCacheEntries)
# client-go's defaultSpamBurst and defaultSpamQPS, for each object.
BURST = 25
REFILL = 300.0  # seconds
# As much as CloudVision takes from us in a second at a takeover would flood the API server's Events.
RATE = 10.0  # a second, for all objects together
RATE_BURST = 100
FORBIDDEN_PAUSE = 600.0  # seconds without an attempt after a 403
# Nothing is created in a namespace that is being deleted (the API server's admission plugin NamespaceLifecycle).
TERMINATING = "NamespaceTerminating"
TIMEOUT = 5.0
COMPONENT = "cv-job-informer"
MESSAGE = 1024  # characters, as the API server checks it (NoteLengthLimit)
_REFUSALS = (Verdict.REFUSED, Verdict.FORBIDDEN, Verdict.UNAUTHORIZED)


class Note(msgspec.Struct, frozen=True):
    """One Event to write. `at` is in seconds since the epoch."""

    run: RunReport
    api_version: str
    reason: str
    message: str
    warning: bool
    at: float


class Budget:
    """A token bucket. Times are seconds, given by the caller."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._left, self._at = burst, now

    def take(self, now: float) -> bool:
        """Whether there is one left, which is taken."""
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, self._burst)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Announcer:
    """Turns what the loop decides, and what CloudVision answers, into Events."""

    def __init__(self, write: Callable[[Note], None], clock: Callable[[], float] = time.time) -> None:
        """`write` must return at once."""
        self._write, self._clock = write, clock
        self._versions: dict[str, str] = {}
        self._pending: OrderedDict[str, RunReport] = OrderedDict()  # decided and not accepted yet, by run
        self._shown: OrderedDict[str, None] = OrderedDict()  # runs that are shown as RUNNING
        self._refused: OrderedDict[str, str] = OrderedDict()  # CloudVision's words, by run

    def served(self, resources: Iterable[Resource]) -> None:
        """These kinds are served, in these versions."""
        for resource in resources:
            self._versions[f"{resource.group}/{resource.kind}"] = resource.api_version

    def decided(self, run: RunReport) -> None:
        """CloudVision is to hold this from now on."""
        _remember(self._pending, run.id, run)

    def answered(self, key: Key, answer: Answer) -> None:
        """An attempt to deliver a report is over."""
        run = self._pending.get(key[1]) if key[0] == "job" else None
        if run is None:
            return
        if answer.verdict is Verdict.DELIVERED:
            del self._pending[run.id]
            self._refused.pop(run.id, None)
            self._accepted(run)
        elif answer.verdict in _REFUSALS and self._refused.get(run.id) != answer.reason:  # not another attempt's
            _remember(self._refused, run.id, answer.reason)
            self._note(run, "CloudVisionRefused", f"CloudVision refuses the report: {answer.reason}", warning=True)

    def _accepted(self, run: RunReport) -> None:
        held = f"{len(run.holds)} {'nodes' if run.holds.nodes else 'NICs'}"
        number = f" (run {run.run})" if run.run > 1 else ""
        if run.state is not JobState.RUNNING:
            self._shown.pop(run.id, None)
            self._note(run, "CloudVisionEnded", f"Reported to CloudVision: {run.state.name}, with {held}{number}")
        elif run.id in self._shown:
            self._note(run, "CloudVisionChanged", f"Reported to CloudVision: now RUNNING with {held}{number}")
        else:
            _remember(self._shown, run.id, None)
            self._note(run, "CloudVisionReported", f"Reported to CloudVision: RUNNING with {held}{number}")

    def _note(self, run: RunReport, reason: str, message: str, *, warning: bool = False) -> None:
        version = self._versions.get(run.kind, "")
        self._write(Note(run, version, reason, message[:MESSAGE], warning, self._clock()))


class Writer:
    """Writes Events in a thread of its own."""

    def __init__(
        self, api: Api, identity: str, clock: Callable[[], float] = time.monotonic, *, start: bool = True
    ) -> None:
        self._api, self._identity, self._clock = api, identity, clock
        self._queue: queue.Queue[Note] = queue.Queue(QUEUE)
        self._written: OrderedDict[str, int] = OrderedDict()  # counts, by namespace and name of an Event
        self._budgets: OrderedDict[str, Budget] = OrderedDict()  # by uid of a job
        self._rate = Budget(RATE_BURST, RATE, clock())
        self._closed_until = 0.0
        if start:
            threading.Thread(target=self._work, name="job-events", daemon=True).start()

    def put(self, note: Note) -> None:
        """Write it soon, or never if too many wait."""
        try:
            self._queue.put_nowait(note)
        except queue.Full:
            log.debug("an Event of %s/%s is dropped: too many wait", note.run.namespace, note.run.name)

    def _work(self) -> None:
        while True:
            note = self._queue.get()
            try:
                self.write(note)
            except Exception:  # the outermost loop of this thread: Events are not worth the program
                log.exception("internal error with an Event; going on")

    def write(self, note: Note) -> None:
        """Write one Event, if the budgets allow it."""
        now = self._clock()
        budget = self._budgets.pop(note.run.job, None) or Budget(BURST, 1 / REFILL, now)
        _remember(self._budgets, note.run.job, budget)
        if now < self._closed_until or not budget.take(now) or not self._rate.take(now):
            log.debug("an Event of %s/%s is dropped: %s", note.run.namespace, note.run.name, note.message)
            return
        name = event_name(note)
        path = f"/api/v1/namespaces/{note.run.namespace}/events"
        key = f"{note.run.namespace}/{name}"
        try:
            if key in self._written and self._patch(path, name, note, self._written[key] + 1):
                return
            try:
                self._api.send("POST", path, msgspec.json.encode(self._body(name, note)), timeout=TIMEOUT)
                _remember(self._written, key, 1)
            except ApiError as err:
                if err.code != 409:
                    raise
                self._patch(path, name, note, 2)  # a former leader wrote it
        except ApiError as err:
            if err.code == 403 and TERMINATING not in err.causes:
                self._closed_until = now + FORBIDDEN_PAUSE
                log.warning("Events on jobs: %s; reporting goes on without them (EVENTS=false ends this message)", err)
            else:
                log.debug("an Event of %s/%s is dropped: %s", note.run.namespace, note.run.name, err)

    def _patch(self, path: str, name: str, note: Note, count: int) -> bool:
        """Change the Event that is there; whether it still is."""
        change = {"count": count, "lastTimestamp": _time(note.at), "message": note.message}
        try:
            self._api.send(
                "PATCH",
                f"{path}/{name}",
                msgspec.json.encode(change),
                content_type="application/merge-patch+json",
                timeout=TIMEOUT,
            )
        except ApiError as err:
            if err.code != 404:  # Events are kept for an hour
                raise
            return False
        _remember(self._written, f"{note.run.namespace}/{name}", count)
        return True

    def _body(self, name: str, note: Note) -> dict[str, object]:
        run, at = note.run, _time(note.at)
        about = {"kind": run.kind.rpartition("/")[2], "namespace": run.namespace, "name": run.name, "uid": run.job}
        if note.api_version:
            about["apiVersion"] = note.api_version
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": run.namespace},
            "involvedObject": about,
            "reason": note.reason,
            "message": note.message,
            "type": "Warning" if note.warning else "Normal",
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity[:128],
        }


def event_name(note: Note) -> str:
    """One Event for each run and reason: the job's name, and a hash of the rest."""
    digest = hashlib.sha256(f"{note.run.id}/{note.reason}".encode()).hexdigest()[:16]
    return f"{note.run.name[:200].rstrip('-.')}.{digest}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _remember(table: "OrderedDict[K, V]", key: K, value: V) -> None:
    """Keep the newest KNOWN entries."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > KNOWN:
        table.popitem(last=False)
