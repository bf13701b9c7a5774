"""Keeps a reflector running for every wanted kind that the cluster serves, now or later."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Container, Mapping
from typing import Any

import msgspec

from cvji.backoff import backoff
from cvji.kube.client import Api, ApiError
from cvji.kube.events import ClusterEvent, Deleted, Discovered, Resource, Unserved
from cvji.kube.reflector import Known, Reflector, Watching
from cvji.kube.served import served

log = logging.getLogger(__name__)
# A CRD installed later is noticed within this many seconds; one GET of /apis each time.
REDISCOVER = 30.0
RETRY_FIRST = 0.5
# A CRD that is not served for so long was removed, and its objects with it; a new API server has all within minutes.
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
        self._on_crash = on_crash
        self._clock = clock
        self._missing_since: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()
        self._running: dict[tuple[str, str], threading.Thread] = {}
        self._known: dict[tuple[str, str], dict[str, Known[Any]]] = {}  # outlives the reflectors of a kind
        self._reflectors: dict[tuple[str, str], Reflector[Any]] = {}
        self._round = 0
        self.states: dict[str, Watching] = {}  # by resource, for metrics

    def start(self) -> None:
        """Begin, in threads of their own."""
        threading.Thread(target=self._run, name="api-discovery", daemon=True).start()

    def relist(self) -> int:
        """List everything once more; the least `round` of the Listed events that come of it."""
        self._round += 1
        for reflector in list(self._reflectors.values()):
            reflector.relist()
        return self._round

    def stop(self) -> None:
        """Emit no further changes. Threads end with their current request."""
        self._stop.set()

    def _run(self) -> None:
        failures = 0  # in a row
        first = True
        wrong = ""  # the error that was last logged
        while not self._stop.is_set():
            try:
                answer = served(self._api, self._wanted)
            except Exception as err:  # the outermost loop of this thread, without which no kind is watched again
                if isinstance(err, ApiError):
                    level = logging.DEBUG if str(err) == wrong else logging.WARNING
                    log.log(level, "Kubernetes API at %s: %s; trying again", self._api.host, err)
                    wrong = str(err)
                else:
                    log.exception("internal error of API discovery; trying again")
                    self._on_crash("discovery")
                failures += 1
                self._stop.wait(backoff(RETRY_FIRST, self._rediscover, failures, random.random()))  # noqa: S311
                continue
            failures = 0
            if wrong:
                log.warning("Kubernetes API at %s answers again", self._api.host)
                wrong = ""
            found = answer.found | {resource.key: resource for resource in self._always}
            new = {key: resource for key, resource in found.items() if not self._alive(key)}
            if new or first:
                self._emit(Discovered(tuple(new.values())))
            self._note_missing(found.keys() | answer.unclear)
            first = False
            for key, resource in new.items():
                thread = threading.Thread(target=self._reflect, args=(key, resource), name=str(resource), daemon=True)
                self._running[key] = thread
                thread.start()
            self._stop.wait(self._rediscover * (0.75 + random.random() / 2))  # noqa: S311

    def _note_missing(self, found: Container[tuple[str, str]]) -> None:
        """Report once of each kind that has not been served for long enough that its objects are gone."""
        now = self._clock()
        for key in self._wanted:
            if key in found:
                self._missing_since.pop(key, None)
            elif self._missing_since.setdefault(key, now) <= now - UNSERVED_AFTER:
                self._missing_since[key] = math.inf
                gone = [item.object for item in self._known.pop(key, {}).values() if item.object is not None]
                self._emit([Deleted(last) for last in gone])
                self._emit(Unserved(key))

    def _alive(self, key: tuple[str, str]) -> bool:
        thread = self._running.get(key)
        return thread is not None and thread.is_alive()

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
        except Exception:  # the outermost loop of this thread: the kind is watched again at the next API discovery
            log.exception("%s: the watch failed", resource)
            for item in known.values():  # which of them were emitted is not known: they are emitted again
                item.version = ""
            self._on_crash(str(resource))
