"""List-watch as client-go's reflector does it: a stream of what exists, complete after every interruption.

Knows how to keep up with one resource; not what the objects mean. What was deleted while no watch ran is
found by comparing the next list with what was known, and comes out as a deletion.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import msgspec

from cvji.backoff import backoff
from cvji.kube.client import JSON, Api, ApiError
from cvji.kube.events import Applied, ClusterEvent, Deleted, Listed, Resource, WatchLost
from cvji.kube.objects import Identified, Identity, ListMetadata, ObjectList, Status, WatchEvent
from cvji.kube.served import decode

log = logging.getLogger(__name__)


class Identifiable(Protocol):
    """Whatever is read of an object, its uid is."""

    @property
    def uid(self) -> str:
        """metadata.uid."""
        ...


T = TypeVar("T", bound=Identifiable)

PAGE_SIZE = 500  # client-go's default; about 4 MB of pods
# The server ends each watch after 5 to 10 minutes, spread so that not all come back together (client-go).
WATCH_SECONDS = 300
# No whole objects in their place: an API server that cannot answer so refuses (406).
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# client-go's figures: about 98 % less traffic to an API server in trouble than without backoff.
BACKOFF_FIRST = 0.8
BACKOFF_MAX = 30.0
# A watch that ends at once and says nothing would otherwise be a busy loop (client-go VeryShortWatchError).
SHORT_WATCH = 1.0
# What RBAC forbids or the server no longer serves changes by people's hands.
FORBIDDEN_WAIT = 60.0
# An API server that has just started forbids what it allows a few seconds later: its RBAC rules are not read yet.
REFUSALS = 3
# About half a minute of failing lists (a broken conversion webhook, say): the other kinds go on without.
LIST_FAILURES = 6

_LIST = msgspec.json.Decoder(ObjectList)
_EVENT = msgspec.json.Decoder(WatchEvent)
_IDENTITY = msgspec.json.Decoder(Identified)
_STATUS = msgspec.json.Decoder(Status)
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Known(msgspec.Struct, Generic[T], gc=False):
    """An object as last seen: its version, the last that could be read of it, and whether it now cannot.

    `listed` is false while a list is read that has not shown it yet.
    """

    version: str
    object: T | None
    unreadable: bool = False
    listed: bool = True


class Watching(msgspec.Struct):
    """How a reflector does, for metrics: restarts and failures so far, and when it last heard anything."""

    restarts: int = 0
    decode_failures: int = 0
    heard: float = 0.0


class ExpiredError(Exception):
    """The resourceVersion is too old (410): list again."""


class Reflector(Generic[T]):
    """Keeps up with one resource of the API server, in a thread of its own once `run`.

    `emit` takes batches and may block: then nothing more is read, and the API server waits. `known` is what an
    earlier reflector of the kind has emitted: what of it no longer exists comes out as deletions.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        read: Callable[[msgspec.Raw], T | None],
        emit: Callable[[list[ClusterEvent]], None],
        *,
        namespace: str = "",
        known: dict[str, Known[T]] | None = None,
        stop: threading.Event | None = None,
        metadata_only: bool = False,
        page_size: int = PAGE_SIZE,
        lost_level: int = logging.WARNING,
        round: Callable[[], int] = lambda: 0,  # noqa: A002
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """With `metadata_only` the server leaves out spec and status. `lost_level` is how a 403 or 404 is logged."""
        self._api = api
        self._resource = resource
        self._path = resource.path(namespace)
        self._read = read
        self._emit = emit
        self._stop = stop or threading.Event()
        self._accept = (METADATA_LIST, METADATA) if metadata_only else (JSON, JSON)  # to list, to watch
        self._page_size = page_size
        self._lost_level = lost_level
        self._round = round
        self._clock = clock
        self._jitter = jitter
        self._known: dict[str, Known[T]] = {} if known is None else known
        self._version: str | None = None  # None: list before watching
        self._doubted = False  # by another thread: list before going on
        self._end_watch: Callable[[], None] = lambda: None
        self.state = Watching()

    def relist(self) -> None:
        """List once more, at once: the watch may have been silent for long. To be called by any thread."""
        self._doubted = True
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # the watch has just ended by itself
            self._end_watch()

    def _opened(self, end_watch: Callable[[], None]) -> None:
        self._end_watch = end_watch
        if self._doubted:
            self.relist()

    def run(self) -> None:
        """List and watch until stopped. Returns when the resource is no longer served (404)."""
        failures = refusals = 0
        available = True  # neither forbidden nor failing, as last logged
        lost = False  # as last emitted
        while not self._stop.is_set():
            began = self._clock()
            events = 0
            fresh = self._version is None or self._doubted
            try:
                if not fresh and failures:
                    fresh = self._went_back()
                if fresh:
                    self._list()
                    if not available:
                        log.log(self._lost_level, "%s: watched again", self._resource)
                    available, lost, refusals = True, False, 0
                for _ in self._watch():
                    events += 1
                if not events and self._clock() - began < SHORT_WATCH:
                    raise ApiError(0, "the watch ended at once")
                failures = refusals = 0
                self.state.restarts += 1
            except ExpiredError:
                log.info("%s: resourceVersion too old, listing again", self._resource)
                self.state.restarts += 1
                self._version = None
                failures = 0 if events else failures + 1
                if fresh and failures:  # 410 right after a fresh list: the server's trouble, not staleness
                    self._wait(self._backoff(failures))
            except ApiError as err:
                self.state.restarts += 1
                if self._doubted and self._version is not None and not err.code:
                    continue  # we ended that watch ourselves
                failures = 1 if events else failures + 1
                refusals = refusals + 1 if err.code == 403 else 0
                if err.code == 404 or refusals >= REFUSALS:
                    if available:
                        log.log(self._lost_level, "%s: %s", self._resource, err)
                        self._emit([WatchLost(self._resource, refused=True)])
                    available = False
                    self._version = None
                    if err.code == 404:
                        return
                    self._wait(FORBIDDEN_WAIT * (0.5 + self._jitter()))
                    continue
                level = logging.WARNING if failures == 3 else logging.DEBUG
                log.log(level, "%s: %s; trying again", self._resource, err)
                if self._version is None and failures >= LIST_FAILURES and not lost:
                    lost = True
                    self._emit([WatchLost(self._resource)])
                self._wait(max(self._backoff(failures), err.retry_after))

    def _backoff(self, failures: int) -> float:
        return backoff(BACKOFF_FIRST, BACKOFF_MAX, failures, self._jitter())

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    # --- list ---------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Read all pages; emit what is new, changed and gone. Raises ApiError; then nothing is forgotten."""
        self._version, self._doubted = None, False
        round_ = self._round()
        self._begin_list()
        version = token = ""
        limit = self._page_size
        while True:
            query: dict[str, str | int] = {"limit": limit} if limit else {}
            if token:
                query["continue"] = token
            try:
                body = self._api.get(self._path, query, accept=self._accept[0])
            except ApiError as err:
                if err.code == 410 and token:  # compacted between two pages: what was emitted stays valid
                    token = ""
                    limit = 0  # all at once, as client-go's pager does: pages may expire over and over
                    self._begin_list()
                    continue
                raise
            metadata = self._apply_page(body)
            del body  # several MB, of which the next page takes the place
            version = metadata.resource_version
            last, token = token, metadata.continue_ or ""
            if not token:
                break
            if token == last:
                raise ApiError(0, "the API server returns the same page of a list again and again")
        gone = [self._deleted(uid, None) for uid in [uid for uid, known in self._known.items() if not known.listed]]
        self._emit([event for event in gone if event is not None])
        self._emit([Listed(self._resource, round_)])
        self._version = version

    def _went_back(self) -> bool:
        """Whether the API server's etcd was restored from a backup. Raises ApiError.

        No watch tells: the API server sends only what is newer than the resourceVersion it was opened at (cacheWatcher
        in k8s.io/apiserver), which is silence until the restored etcd has counted past it. A list without a
        resourceVersion is a consistent read, never older than what was read before. A restore stops all API servers,
        so it is enough to ask after a failure.
        """
        page = decode(_LIST, self._api.get(self._path, {"limit": 1}, accept=self._accept[0]))
        newest, held = page.metadata.resource_version, self._version or ""
        if not is_older(newest, held):
            return False
        log.warning("%s: resourceVersion went back from %s to %s, listing again", self._resource, held, newest)
        return True

    def _begin_list(self) -> None:
        """Nothing is listed yet. A mark on what is known takes no memory; a set of uids would, where it counts."""
        for known in self._known.values():
            known.listed = False

    def _apply_page(self, body: bytes) -> ListMetadata:
        """Say what of one page is new or changed. Raises ApiError."""
        page = decode(_LIST, body)
        self.state.heard = self._clock()
        events: list[ClusterEvent] = []
        for raw in page.items or ():
            event = self._applied(raw, identity(raw))
            if event is not None:
                events.append(event)
        if events:
            self._emit(events)
        return page.metadata

    # --- watch --------------------------------------------------------------------------------------

    def _watch(self) -> Iterator[None]:
        """Follow one watch to its end, yielding once per event. Raises ApiError and ExpiredError."""
        query: dict[str, str | int] = {
            "watch": "1",
            "resourceVersion": self._version or "",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": int(WATCH_SECONDS * (1 + self._jitter())),
        }
        try:
            for line in self._api.watch(self._path, query, self._opened, accept=self._accept[1]):
                self.state.heard = self._clock()
                event = decode(_EVENT, line)
                self._take(event)
                yield
        except ApiError as err:
            if err.code == 410:
                raise ExpiredError from None
            raise

    def _take(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            status = _status(event.object)
            if status.code == 410 or status.reason in ("Expired", "Gone"):
                raise ExpiredError
            raise ApiError(status.code or 0, status.message or "the watch ended with an error")
        found = identity(event.object)
        happened = None
        if event.type in ("ADDED", "MODIFIED"):
            happened = self._applied(event.object, found)
        elif event.type == "DELETED":
            happened = self._deleted(_key(found), event.object)
        elif event.type != "BOOKMARK":
            log.debug("%s: unknown watch event %.40r", self._resource, event.type)
        if happened is not None:
            self._emit([happened])
        if found.resource_version:
            self._version = found.resource_version

    # --- objects ------------------------------------------------------------------------------------

    def _applied(self, raw: msgspec.Raw, found: Identity) -> ClusterEvent | None:
        uid = _key(found)
        known = self._known.get(uid)
        if known is not None:
            known.listed = True
            if known.version == found.resource_version and found.resource_version:
                return None  # the list repeats what the watch has shown
        try:
            obj: T | None = self._read(raw)
        except _UNREADABLE as err:
            self.state.decode_failures += 1
            if known is None or not known.unreadable:
                log.warning("%s %s is skipped: %s", self._resource, name_of(found), err)
            # It exists: what was known of it stands until it can be read again or is deleted.
            self._known[uid] = Known(found.resource_version, known.object if known else None, True)
            return None
        if obj is None:  # of no interest: nothing of it is kept
            return self._deleted(uid, None) if known is not None else None
        if known is not None:
            known.version, known.object, known.unreadable = found.resource_version, obj, False
        else:  # under the object's own uid: one text a uid is kept, not two
            self._known[obj.uid if found.uid else uid] = Known(found.resource_version, obj)
        return Applied(obj)

    def _deleted(self, uid: str, raw: msgspec.Raw | None) -> ClusterEvent | None:
        known = self._known.pop(uid, None)
        if known is None or known.object is None:
            return None
        last = known.object
        if raw is not None:
            try:
                last = self._read(raw) or last
            except _UNREADABLE:
                self.state.decode_failures += 1
        return Deleted(last)


def is_older(version: str, than: str) -> bool:
    """Whether one resourceVersion of a resource is certainly older than another.

    Kubernetes 1.35 promises that they are decimal numbers of any length that count up, for built-in types and CRDs
    (KEP-5504); they always were, where etcd's revision is behind them. Other API servers may have other texts.
    """
    decimal = all(text.isascii() and text.isdecimal() and text[0] != "0" for text in (version, than))
    return decimal and (len(version), version) < (len(than), than)


def identity(raw: msgspec.Raw) -> Identity:
    """Who an object is, as far as it can be read; never raises."""
    try:
        return _IDENTITY.decode(raw).metadata or Identity()
    except _UNREADABLE:
        return Identity()


def _key(found: Identity) -> str:
    return found.uid or f"?{found.namespace}/{found.name}"


def name_of(found: Identity) -> str:
    """An object's name for people, as far as it has one."""
    place = f"{found.namespace}/" if found.namespace else ""
    return place + (found.name or f"without a name (uid {found.uid or 'missing too'})")


def _status(raw: msgspec.Raw) -> Status:
    try:
        return _STATUS.decode(raw)
    except _UNREADABLE:
        return Status()
