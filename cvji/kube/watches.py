"""Keeps a reflector running for every wanted kind that the cluster serves, now or later."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import msgspec

from cvji.backoff import backoff
from cvji.kube.client import Api, ApiError
from cvji.kube.events import ClusterEvent, Deleted, Discovered, Resource, Unserved, WatchLost
from cvji.kube.reflector import FORBIDDEN_WAIT, Known, Reflector, Watching
from cvji.kube.served import Served, served
from cvji.kube.trigger import CRD_PAGE_SIZE, CRDS, PAUSE_MAX, Trigger, read_crd
from cvji.threads import start_or_end

log = logging.getLogger(__name__)
# Where CRDs cannot be watched, one installed later is noticed within this many seconds, by a GET a group each time.
REDISCOVER = 30.0
RETRY_FIRST = 0.5
# A CRD that is not served for so long was removed, and its objects with it (unless it is seen to be there: `served` may
# be off); a new API server has all within minutes.
UNSERVED_AFTER = 600.0


class Wanted(msgspec.Struct, frozen=True):
    """A kind to follow: how to read its objects, and in which namespace ("" for all)."""

    read: Callable[[msgspec.Raw], Any]
    namespace: str = ""


class Watches:
    """Discovers, starts and restarts reflectors; everything that happens goes to one `emit`.

    The first event is a Discovered, so that the receiver knows which first lists to wait for.
    """

    def __init__(
        self,
        api: Api,
        wanted: Mapping[tuple[str, str], Wanted],
        emit: Callable[[list[ClusterEvent] | Discovered | Unserved], None],
        *,
        always: tuple[Resource, ...] = (),
        rediscover: float = REDISCOVER,
        on_crash: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`always` are resources that need no discovery: every API server has them."""
        self._api = api
        self._wanted = wanted
        self._emit = emit
        self._always = always
        self._rediscover = rediscover
        self._trigger = Trigger(wanted, rediscover, clock=clock)
        self._on_crash = on_crash
        self._clock = clock
        self._missing_since: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()
        self._running: set[tuple[str, str]] = set()
        self._known: dict[tuple[str, str], dict[str, Known[Any]]] = {}  # outlives the reflectors of a kind
        self._reflectors: dict[tuple[str, str], Reflector[Any]] = {}
        self._failed: frozenset[tuple[str, str]] = frozenset()  # as last emitted
        self._round = 0
        self.states: dict[str, Watching] = {}  # by resource, for metrics

    def start(self) -> None:
        """Begin, in threads of their own."""
        start_or_end(self._run, "api-discovery")

    def relist(self) -> int:
        """List everything once more; the least `round` of the Listed events that come of it."""
        self._round += 1
        for reflector in list(self._reflectors.values()):
            reflector.relist()
        return self._round

    def stop(self) -> None:
        """Emit no further changes. Threads end with their current request."""
        self._stop.set()
        self._trigger.wake()

    def _run(self) -> None:
        failures = 0  # in a row
        first = True
        wrong = ""  # the error that was last logged
        while not self._stop.is_set():
            began = self._clock()
            try:
                answer = served(self._api, self._wanted)
                self._trigger.looked(began, answer, self._watch_found(answer, first=first))
                if first:
                    threading.Thread(target=self._watch_crds, name=str(CRDS), daemon=True).start()
            except Exception as err:  # the outermost loop of this thread, without which no kind is watched again
                if isinstance(err, ApiError):
                    level = logging.DEBUG if str(err) == wrong else logging.WARNING
                    log.log(level, "Kubernetes API at %s: %s; trying again", self._api.host, err)
                    wrong = str(err)
                else:
                    log.exception("internal error of API discovery; trying again")
                    self._on_crash("discovery")
                failures += 1
                self._stop.wait(backoff(RETRY_FIRST, min(self._rediscover, PAUSE_MAX), failures, random.random()))  # noqa: S311
                continue
            failures = 0
            first = False
            if wrong:
                log.warning("Kubernetes API at %s answers again", self._api.host)
                wrong = ""
            self._trigger.wait(self._stop)

    def _watch_found(self, answer: Served, *, first: bool) -> float:
        """Start a reflector for each kind that has none; when to look again for those that are missing."""
        found = answer.found | {resource.key: resource for resource in self._always}
        new = {key: resource for key, resource in found.items() if key not in self._running}
        failed = answer.failed - self._running  # what is watched tells of itself
        if new or first or failed != self._failed:
            self._failed = failed
            self._emit(Discovered(tuple(new.values()), failed))
        hidden = self._trigger.hidden(answer.names)
        recheck = self._note_missing(found.keys() | answer.unclear | {key for key in self._wanted if key[0] in hidden})
        for key, resource in new.items():
            self._running.add(key)
            try:
                threading.Thread(target=self._reflect, args=(key, resource), name=str(resource), daemon=True).start()
            except RuntimeError:  # the system gives no thread now
                self._running.discard(key)
                raise
        return recheck

    def _watch_crds(self) -> None:
        """Follow CRDs; where they are forbidden or not served, come back to them from time to time."""
        reflector = self._reflectors[CRDS.key] = Reflector(
            self._api,
            CRDS,
            partial(read_crd, {group for group, _ in self._wanted}),
            self._trigger.take,
            stop=self._stop,
            metadata_only=True,
            page_size=CRD_PAGE_SIZE,
            lost_level=logging.INFO,  # it goes on without, and `cvji check` says so
        )
        self.states[str(CRDS)] = reflector.state
        while not self._stop.is_set():
            try:
                reflector.run()
            except Exception:  # the outermost loop of this thread
                log.exception("%s: the watch failed", CRDS)
                self._trigger.take([WatchLost(CRDS)])
                self._on_crash(str(CRDS))
            self._stop.wait(FORBIDDEN_WAIT)

    def _note_missing(self, there: Container[tuple[str, str]]) -> float:
        """Report once of each kind that has not been served for long enough that its objects are gone.

        `there` are those that are served, or may have objects although they are not.
        When the next one may be, by the clock: what is served must be looked at then.
        """
        now = self._clock()
        for key in self._wanted:
            if key in there:
                self._missing_since.pop(key, None)
            elif self._missing_since.setdefault(key, now) + UNSERVED_AFTER <= now:
                self._missing_since[key] = math.inf
                gone = [item.object for item in self._known.pop(key, {}).values() if item.object is not None]
                self._emit([Deleted(last) for last in gone])
                self._emit(Unserved(key))
        return min(self._missing_since.values(), default=math.inf) + UNSERVED_AFTER

    def _reflect(self, key: tuple[str, str], resource: Resource) -> None:
        """Run one reflector to its end: the resource is no longer served, or its thread failed."""
        wanted = self._wanted[key]
        known = self._known.setdefault(key, {})
        reflector = self._reflectors[key] = Reflector(
            self._api,
            resource,
            wanted.read,
            self._emit,
            namespace=wanted.namespace,
            known=known,
            stop=self._stop,
            round=lambda: self._round,
        )
        self.states[str(resource)] = reflector.state
        log.debug("%s: watching", resource)
        try:
            reflector.run()
            self.states.pop(str(resource), None)  # not served: there is nothing that it could hear
        except Exception:  # the outermost loop of this thread: the kind is watched again at the next API discovery
            log.exception("%s: the watch failed", resource)
            for item in known.values():  # which of them were emitted is not known: they are emitted again
                item.version = ""
            self._on_crash(str(resource))
        finally:
            self._running.discard(key)
            self._trigger.ended(key)
