"""When to ask API discovery: as soon as a CRD comes or goes or a watch ends, and otherwise seldom.

CRDs are watched as metadata only: with its schema one may be over 1 MB.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator

import msgspec

from cvji.kube.events import Applied, ClusterEvent, Deleted, Listed, Resource, WatchLost
from cvji.kube.objects import Identified
from cvji.kube.served import Served

log = logging.getLogger(__name__)

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
# Metadata may hold the CRD once more, as kubectl's last-applied annotation of up to 256 kB.
CRD_PAGE_SIZE = 50
# Half of what it has taken so far: a kind is found within 1.5 times what the API server needs to serve it.
PAUSE_FIRST = 0.5
PAUSE_MAX = 30.0
# For what no CRD tells of: aggregated APIs.
SAFETY_ROUND = 600.0
# A CRD that is not served so long after its last change (names in conflict, no served version) waits for the next one.
EXPECTED_FOR = 600.0
# Two ends of a watch within this time are one trouble: discovery still lists what is gone, or a thread fails each time.
CALM = 60.0

_IDENTIFIED = msgspec.json.Decoder(Identified)
Key = tuple[str, str]


class Crd(msgspec.Struct, frozen=True):
    """A CustomResourceDefinition; its name is PLURAL.GROUP."""

    uid: str
    name: str


def read_crd(groups: Container[str], raw: msgspec.Raw) -> Crd | None:
    """A CRD of one of these groups, else None. Raises msgspec.MsgspecError."""
    found = _IDENTIFIED.decode(raw).metadata
    return Crd(found.uid, found.name) if found is not None and _group(found.name) in groups else None


def _group(name: str) -> str:
    return name.partition(".")[2]


class _End(msgspec.Struct, frozen=True):
    """When a kind's watch ended last, and since when it has done so again and again."""

    since: float
    at: float


class Trigger:
    """Says when the next look is due, from what happened since the last one. May be used by several threads at once."""

    def __init__(
        self,
        wanted: Collection[Key],
        poll: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`poll` is the interval in seconds while CRDs cannot be watched."""
        self._wanted = wanted
        self._poll = poll
        self._clock = clock
        self._jitter = jitter
        self._changed = threading.Condition()
        self._watched: bool | None = None  # whether CRDs are; None: it is not known yet
        self._crds: dict[str, float] = {}  # those of wanted groups, and when each last changed
        self._ends: dict[Key, _End] = {}
        self._asked = -math.inf  # when something last happened that needs another look
        self._began = self._looked = 0.0  # the last look
        self._names: frozenset[str] = frozenset()  # resources that it found
        self._open: set[str] = set()  # groups in which it has not found every wanted kind
        self._unclear: float | None = None  # since when a group cannot say what it serves
        self._recheck = math.inf
        self._spread = 1.0

    def take(self, events: Iterable[ClusterEvent]) -> None:
        """What the reflector of CRDs emits."""
        with self._changed:
            now = self._clock()
            for event in events:
                match event:
                    case Applied(Crd(name=name)):
                        self._crds[name] = self._asked = now
                    case Deleted(Crd(name=name)):
                        self._crds.pop(name, None)
                        self._asked = now
                    case Listed():
                        self._watched = True
                    case WatchLost():
                        if self._watched is not False:
                            log.info("CRDs cannot be watched: new kinds are looked for every %g s", self._poll)
                        self._watched = False
            self._changed.notify_all()

    def ended(self, key: Key) -> None:
        """The reflector of a kind has ended."""
        with self._changed:
            now = self._clock()
            last = self._ends.get(key)
            self._ends[key] = _End(last.since if last and now - last.at < CALM else now, now)
            self._changed.notify_all()

    def looked(self, began: float, answer: Served, recheck: float) -> None:
        """API discovery has answered a question asked at `began`; look again at `recheck` at the latest."""
        with self._changed:
            self._began, self._looked, self._recheck = began, self._clock(), recheck
            self._names = answer.names
            self._open = {key[0] for key in self._wanted if key not in answer.found}
            self._unclear = (began if self._unclear is None else self._unclear) if answer.unclear else None
            self._spread = 0.75 + self._jitter() / 2

    def hidden(self, served: Container[str]) -> set[str]:
        """Groups with a CRD that is there and not among the served resources: it has its objects still."""
        with self._changed:
            return {_group(name) for name in self._crds if name not in served} if self._watched else set()

    def due(self) -> float:
        """When to look next, by the clock, once there was a first look."""
        pauses = [min(max((self._looked - since) / 2, PAUSE_FIRST), PAUSE_MAX) for since in self._since()]
        rest = SAFETY_ROUND if self._watched else self._poll
        return min(self._looked + min([rest, *pauses]) * self._spread, self._recheck)

    def _since(self) -> Iterator[float]:
        """Since when there has been each reason not to wait for the next round."""
        if self._asked > self._began:
            yield self._asked
        yield from (end.since for end in self._ends.values() if end.at > self._began)
        for name, changed in self._crds.items():
            unserved = name not in self._names and _group(name) in self._open
            if unserved and self._looked - changed < EXPECTED_FOR:
                yield changed
        if self._unclear is not None:
            yield self._unclear

    def wait(self, stop: threading.Event) -> None:
        """Return when a look is due, or once stopped and woken."""
        with self._changed:
            while not stop.is_set() and (left := self.due() - self._clock()) > 0:
                self._changed.wait(left)

    def wake(self) -> None:
        """Let `wait` see that it is stopped."""
        with self._changed:
            self._changed.notify_all()
