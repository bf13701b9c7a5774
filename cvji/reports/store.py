"""The reports' objects in the cluster: written by a few threads as `WriteQueue` decides, and listed page by page."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from cvji.jobs.report import Key, KindName
from cvji.kube.client import READ_TIMEOUT, Api, ApiError
from cvji.kube.reading import one, pages
from cvji.reports.records import (
    RESOURCES,
    Delivery,
    ListedRecord,
    Record,
    RecordError,
    Unreadable,
    object_name,
    read,
    read_any,
    read_stored,
    write_spec,
    write_status,
)
from cvji.reports.tasks import Event, Lost, Outcome, Remove, Result, Task, WriteSpec, WriteStatus
from cvji.reports.writequeue import CONNECTIONS, WriteQueue

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for one write
RELISTS = 3  # how often a list is started again whose next page has expired
# etcd takes 1.5 MiB and its client 2 MiB; the API server passes their words on with code 500 (and 413 from 3 MiB on).
_TOO_LARGE = ("request is too large", "larger than max", "Request entity too large")
_BUSY = {0, 401, 408, 429, 502, 503, 504}


class Store:
    """JobReports and NodeReports of one namespace. May be used by several threads at once.

    Nothing is written before `take_over` has listed what there is.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        *,
        location: str,
        emit: Callable[[Event], None],
        permit: Callable[[], float] = lambda: TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        connections: int = CONNECTIONS,
    ) -> None:
        """`emit` is given what came of each write, by this store's threads and with no lock held; it may block.

        `permit` says for how many seconds a request started now may last; 0: this process may not write (its Lease has
        run out).
        """
        self._api = api
        self._namespace = namespace
        self._location = location
        self._emit = emit
        self._permit = permit
        self._clock = clock
        self._queue = WriteQueue(jitter, connections)
        self._term = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # there may be something to do
        self._settled = threading.Condition(self._lock)  # something was done
        self._closing = False
        self._partly_read: set[KindName] = set()  # of which former leaders' objects were not read
        self._logged: set[tuple[str, str, int]] = set()
        self._threads = [
            threading.Thread(target=self._work, name=f"record-{number}", daemon=True) for number in range(connections)
        ]

    # --- writing ------------------------------------------------------------------------------------------------

    # Each returns what is known at once. That is not emitted: `emit` may block until the caller goes on.

    def write(self, record: Record) -> list[Event]:
        """Write the record's spec soon: `Written` follows. It replaces an older one that waits under its key."""
        return self._submit(lambda queue, now: queue.put(record, now))

    def acknowledge(self, key: Key, revision: int, delivery: Delivery) -> list[Event]:
        """Write within a second or two what is known of a revision's delivery: `Acknowledged` follows.

        Passed over where a newer revision has been written or waits, or the status says so already.
        """
        return self._submit(lambda queue, now: queue.acknowledge(key, revision, delivery, now))

    def forget(self, key: Key) -> list[Event]:
        """Delete the object soon: `Forgotten` follows."""
        return self._submit(lambda queue, now: queue.forget(key, now))

    def flush(self, within: float) -> bool:
        """Write what waits, statuses too, in at most so many seconds; whether all of it was written that could be."""
        deadline = self._clock() + within
        with self._changed:
            self._queue.hurry(self._clock())
            self._changed.notify_all()
            while not (done := self._queue.settled()) and (left := deadline - self._clock()) > 0:
                self._settled.wait(left)
        return done

    def close(self) -> None:
        """Begin no further request."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _submit(self, change: Callable[[WriteQueue, float], list[Event]]) -> list[Event]:
        with self._changed:
            events = change(self._queue, self._clock())
            self._changed.notify()
        return events

    def _report(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Lost):
                log.error("%s %s was written by a newer leader (term %d): no longer the leader", *event.key, event.term)
            self._emit(event)

    # --- reading ------------------------------------------------------------------------------------------------

    def take_over(self, term: int, *, patient: bool = False) -> Iterator[ListedRecord | Unreadable]:
        """Everything that former leaders have left; once it is exhausted, writing begins. Raises ApiError.

        `term` is the Lease's leaseTransitions. It is raised above every term that stands in an object, for a Lease that
        was deleted by hand counts from 0 again. An ApiError ends it: take over again. A kind without CRD or permission
        is logged once, is as if there were no objects, and is not written before `retry_unread` could list it. But
        while `patient` a missing permission is an ApiError: an API server that has just started may not know of it yet.
        """
        with self._changed:
            self._queue.begin()
        highest = -1
        for found in self._list(taking_over=True, patient=patient):
            highest = max(highest, found.stored.term)
            yield found
        self._term = max(term, highest + 1)
        for thread in self._threads:
            if thread.ident is None:
                thread.start()

    def relist(self) -> Iterator[ListedRecord | Unreadable]:
        """Everything that is in the cluster, but for what this process is just writing. Raises ApiError.

        Once it is exhausted, a `Changed` has been emitted for every object that somebody has deleted. Only one list may
        be under way.
        """
        for found in self._list():
            if isinstance(found, ListedRecord) and found.stored.term > self._term:
                self._report([Lost(found.record.key, found.stored.term)])
                return
            yield found

    def unread(self) -> list[KindName]:
        """The kinds that could not be listed at the takeover, nor since."""
        with self._changed:
            return list(self._queue.unread)

    def retry_unread(self) -> bool:
        """Try again to list what could not be listed at the takeover. Whether former leaders' records were found there.

        What waits is written from then on, over theirs: it is newer. Their other records are for a new process to take
        over, once that is written. Raises ApiError.
        """
        for kind in self.unread():
            try:
                terms = [read_any(kind, raw).stored.term for raw in self._pages(kind)]
            except ApiError as err:
                if err.code not in (403, 404):
                    raise
                continue
            if terms:
                self._partly_read.add(kind)
                self._term = max(self._term, max(terms) + 1)
            with self._changed:
                self._queue.reopen(kind)
                self._changed.notify_all()
        return bool(self._partly_read)

    def get(self, key: Key) -> ListedRecord | None:
        """One record; None if there is no such object. Raises ApiError or RecordError."""
        body = self._look(key)
        return None if body is None else read(key[0], body)

    def _list(self, *, taking_over: bool = False, patient: bool = False) -> Iterator[ListedRecord | Unreadable]:
        with self._changed:
            self._queue.begin_listing()
            unread = self._queue.unread | self._partly_read
        seen: set[Key] = set()
        whole: list[KindName] = []
        for kind in RESOURCES:
            if kind in unread:
                continue
            try:
                for raw in self._pages(kind):
                    listed = read_any(kind, raw)
                    if isinstance(listed, Unreadable):
                        yield listed
                        continue
                    seen.add(listed.record.key)
                    with self._changed:
                        known = self._queue.found(listed)
                    if known is not None:
                        yield known
                whole.append(kind)
            except ApiError as err:
                if err.code not in (403, 404) or (patient and err.code == 403):
                    raise
                self._log(kind, "list", err.code, str(err))
                with self._changed:
                    events = self._queue.close(kind, self._clock())
                    if taking_over:
                        self._queue.unread.add(kind)
                self._report(events)
        self._report(self._submit(lambda queue, _: queue.end_listing(whole, seen)))

    def _pages(self, kind: KindName) -> Iterator[msgspec.Raw]:
        """Each object; some of them twice, if a page has expired and the list is started again."""
        for attempt in range(RELISTS + 1):
            try:
                yield from pages(self._api, self._path(kind), silence=READ_TIMEOUT)
                return
            except ApiError as err:
                if err.code != 410 or attempt == RELISTS:
                    raise

    # --- the threads --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next()) is not None:
            result = Result(Outcome.BUSY)
            try:
                if (within := self._permit()) > 0:  # asked again: the process may have been paused since
                    result = self._attempt(task, min(within, TIMEOUT))
                    self._note(task, result)
            except Exception:  # the outermost loop of this thread, without which its object would never be written
                log.exception("internal error with the record of %s %s; going on", *task.key)
                result = Result(Outcome.FAILED)
            with self._changed:
                events = self._queue.settle(task, result, self._clock())
                self._settled.notify()
            self._report(events)

    def _next(self) -> Task | None:
        with self._changed:
            while not self._closing:
                now = self._clock()
                permitted = self._permit() > 0
                if permitted and (task := self._queue.take(now)) is not None:
                    self._changed.notify()  # another thread takes what is due next
                    return task
                wake = self._queue.wake_at()
                wait = None if wake is None else max(wake - now, 0.01)
                self._changed.wait(wait if permitted or wait is None else 1.0)
            return None

    def _attempt(self, task: Task, within: float) -> Result:
        """Make one attempt of at most about `within` seconds, and find out what a conflict is about."""
        try:
            if isinstance(task, Remove) and task.held is None:
                return self._compare(task, within)
            try:
                return self._send(task, within)
            except ApiError as err:
                if err.code == 404 and task.held is not None:
                    return Result(Outcome.GONE)
                if err.code != 409:
                    raise
                return self._compare(task, within)
        except ApiError as err:
            return Result(_outcome(err), retry_after=err.retry_after, code=err.code, message=str(err))
        except RecordError as err:
            return Result(Outcome.FAILED, message=str(err))

    def _send(self, task: Task, within: float) -> Result:
        path = self._path(task.key[0], object_name(task.key[1]))
        if isinstance(task, Remove):
            version = task.held.version if task.held else ""
            body = msgspec.json.encode({"preconditions": {"resourceVersion": version}})
            self._api.send("DELETE", path, body, timeout=within)
            return Result(Outcome.DONE)
        if isinstance(task, WriteStatus):
            held = task.held
            body = write_status(task.key, self._namespace, held.version, held.generation, task.status)
            return Result(Outcome.DONE, read_stored(self._api.send("PUT", f"{path}/status", body, timeout=within)))
        version = task.held.version if task.held else ""
        body = write_spec(task.record, self._namespace, version, location=self._location, term=self._term)
        method, path = ("PUT", path) if task.held else ("POST", self._path(task.key[0]))
        return Result(Outcome.DONE, read_stored(self._api.send(method, path, body, timeout=within)))

    def _compare(self, task: Task, within: float) -> Result:
        """What stands in the cluster in place of what was expected."""
        body = self._look(task.key, within)
        if body is None:
            return Result(Outcome.GONE)
        stored = read_stored(body)
        if stored.term > self._term:
            return Result(Outcome.LOST, stored)
        if isinstance(task, WriteSpec) and stored.term == self._term and self._holds(task.record, body):
            return Result(Outcome.DONE, stored)  # an earlier attempt took effect, and only its answer was lost
        return Result(Outcome.THERE, stored)

    def _holds(self, record: Record, body: bytes) -> bool:
        try:
            found = read(record.key[0], body)
        except RecordError:
            return False
        return found.record.report == record.report and found.location == self._location

    def _look(self, key: Key, within: float = TIMEOUT) -> bytes | None:
        return one(self._api, self._path(key[0], object_name(key[1])), timeout=within)

    def _path(self, kind: KindName, name: str = "") -> str:
        return RESOURCES[kind].path(self._namespace, name)

    # --- the log ------------------------------------------------------------------------------------------------

    def _note(self, task: Task, result: Result) -> None:
        kind, action = task.key[0], _ACTIONS[type(task)]
        match result.outcome:
            case Outcome.DONE if self._logged:
                with self._changed:
                    passed = {item for item in self._logged if item[:2] in ((kind, action), (kind, "list"))}
                    self._logged -= passed
                if passed:
                    log.warning("%ss: %s works again", RESOURCES[kind].kind, action)
            case Outcome.TOO_LARGE:
                log.error("%s %s is too large to be remembered: %s", RESOURCES[kind].kind, task.key[1], result.message)
            case Outcome.REFUSED | Outcome.CLOSED | Outcome.BUSY | Outcome.FAILED:
                self._log(kind, action, result.code, f"{task.key[1]}: {result.message}")
            case _:
                log.debug("%s %s: %s, %s", RESOURCES[kind].kind, task.key[1], action, result.outcome.value)

    def _log(self, kind: KindName, action: str, code: int, message: str) -> None:
        """Once until it works again."""
        with self._changed:
            first = (kind, action, code) not in self._logged
            self._logged.add((kind, action, code))
        hint = ""
        if code == 404:
            hint = (
                f"; is its CRD installed, and is there a namespace {self._namespace}? Until then nothing is remembered"
            )
        elif code == 403 and action in ("list", "write"):
            hint = "; without this permission nothing is remembered"
        level = logging.WARNING if first else logging.DEBUG
        log.log(level, "%ss: %s failed and is retried: %s%s", RESOURCES[kind].kind, action, message, hint)


_ACTIONS: dict[type[Task], str] = {WriteSpec: "write", WriteStatus: "status", Remove: "delete"}


def _outcome(err: ApiError) -> Outcome:
    if err.code == 413 or any(words in str(err) for words in _TOO_LARGE):
        return Outcome.TOO_LARGE
    if err.code in _BUSY:
        return Outcome.BUSY
    if err.code in (403, 404):
        return Outcome.CLOSED
    return Outcome.REFUSED if err.code in (400, 422) else Outcome.FAILED
