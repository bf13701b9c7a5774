"""What waits to be written to the cluster: per object in order, newest only, specs before statuses, retried.

Pure: no clock, thread or request. `store.py` runs it. Times are seconds on any one clock.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable

import msgspec

from cvji.backoff import backoff
from cvji.jobs.report import Key, KindName
from cvji.reports.records import RESOURCES, Delivery, ListedRecord, Record, Stored, first_status
from cvji.reports.tasks import (
    EDITED,
    Acknowledged,
    Changed,
    Event,
    Forgotten,
    Held,
    Lost,
    Outcome,
    Remove,
    Result,
    Task,
    WriteSpec,
    WriteStatus,
    Written,
)

CONNECTIONS = 4
# A status may lag: what comes within this time for the same object is one write.
STATUS_LAG = 1.5
# Specs go first. Where they never pause, one connection serves statuses that are overdue by this much.
STARVING = 5.0
# Retries start fast, since most failures are short, and end slow enough not to hinder a recovery.
BACKOFF_FIRST = 0.2
BACKOFF_MAX = 30.0
# After so many errors (about 5 s) a report waits no longer for its record: a webhook that is down may stay so.
UNRECORDED = 6
# Somebody has to fix these: install a CRD, grant a permission, upgrade a schema.
CLOSED_WAIT = 60.0
REFUSED_FIRST = 60.0
REFUSED_MAX = 3600.0


class _Pending(msgspec.Struct, eq=False):
    """What waits for one key. `uncertain`: a create was not answered, so there may be an object that is not known."""

    record: Record | None = None
    delivery: Delivery | None = None
    acknowledged: int = 0  # the revision that `delivery` is about
    forget: bool = False
    task: Task | None = None
    uncertain: bool = False
    announced: int = -1  # the revision that was last announced as not recorded
    failures: int = 0
    due: float = 0.0
    serial: int = 0  # of its valid place in a lane; 0 for none
    urgent: bool = False  # which lane that is

    @property
    def empty(self) -> bool:
        return self.record is None and self.delivery is None and not self.forget


class _Lane(msgspec.Struct, eq=False):
    """The specs, or the statuses and removals, of one kind: they have their permission and their failures in common."""

    ready: list[tuple[float, int, Key]] = []
    in_flight: int = 0
    failures: int = 0  # in a row
    paused_until: float = 0.0
    closed: bool = False


class WriteQueue:
    """Decides what is written when, and what each answer means. Every method returns what is to be reported of it."""

    def __init__(self, jitter: Callable[[], float], connections: int = CONNECTIONS) -> None:
        """`jitter` gives a number in [0, 1) at each call."""
        self._jitter = jitter
        self._connections = connections
        self._held: dict[Key, Held] = {}
        self._pending: dict[Key, _Pending] = {}
        self._lanes = {(kind, urgent): _Lane() for kind in RESOURCES for urgent in (True, False)}
        self._serial = itertools.count(1)
        self._recent: set[Key] | None = None  # touched since the listing that is under way began
        self.unread: set[KindName] = set()  # former leaders' objects could not be listed: not to be written over
        self._lost = False
        self._lag = STATUS_LAG

    def __len__(self) -> int:
        """How many objects have something waiting or in flight."""
        return len(self._pending)

    # --- what is wanted ---------------------------------------------------------------------------------------

    def put(self, record: Record, now: float) -> list[Event]:
        """Write the record's spec; it replaces an older one that waits."""
        held, pending = self._held.get(record.key), self._pending.get(record.key)
        if held and held.revision == record.revision and pending is None:
            return [Written(record.key, record.revision)]
        pending = self._wait(record.key)
        pending.record, pending.forget = record, False
        if pending.acknowledged != record.revision:
            pending.delivery = None
        self._schedule(record.key, now)
        if self._lanes[record.key[0], True].closed:
            return self._announce(pending)
        return []

    def acknowledge(self, key: Key, revision: int, delivery: Delivery, now: float) -> list[Event]:
        """Write what is known of a revision's delivery, unless a newer revision has replaced it."""
        held, pending = self._held.get(key), self._pending.get(key)
        awaited = pending.record if pending else None
        newest = awaited or held
        if newest is None or newest.revision != revision or (pending and pending.forget):
            return []
        if pending is None and held and held.status and held.observed == held.generation:
            known = held.status.delivery
            if (known.reason, known.message) == (delivery.reason, delivery.message):
                return [Acknowledged(key, revision)]
        pending = self._wait(key)
        pending.delivery, pending.acknowledged = delivery, revision
        if awaited is None:
            self._schedule(key, now + self._lag)
        return []

    def forget(self, key: Key, now: float) -> list[Event]:
        """Remove the object."""
        pending = self._pending.get(key)
        if key not in self._held and (pending is None or not (pending.task or pending.uncertain)):
            self._pending.pop(key, None)
            return [Forgotten(key)]
        pending = self._wait(key)
        pending.record, pending.delivery, pending.forget = None, None, True
        self._schedule(key, now)
        return []

    def hurry(self, now: float) -> None:
        """The process is about to exit: write at once what would have lagged."""
        self._lag = 0.0
        for key, pending in self._pending.items():
            if not pending.failures:
                self._schedule(key, now)

    def settled(self) -> bool:
        """Whether nothing is left that could be written without somebody fixing something."""
        return self._lost or not any(
            pending.task or not (pending.failures or self._lanes[key[0], pending.urgent].closed)
            for key, pending in self._pending.items()
        )

    def _wait(self, key: Key) -> _Pending:
        self._touch(key)
        return self._pending.setdefault(key, _Pending())

    def _announce(self, pending: _Pending) -> list[Event]:
        record = pending.record
        if record is None or pending.announced == record.revision:
            return []
        pending.announced = record.revision
        return [Written(record.key, record.revision, remembered=False)]

    # --- what is in the cluster ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Nothing is known of the cluster yet."""
        self._held.clear()
        self.unread.clear()

    def begin_listing(self) -> None:
        """A list begins: what is written from now on is newer than what the list shows."""
        self._recent = set(self._pending)

    def found(self, listed: ListedRecord) -> ListedRecord | None:
        """Take over what a listed object shows. None if something newer is known."""
        key, stored = listed.record.key, listed.stored
        if self._recent is None or key in self._recent:
            return None
        held = self._held.get(key)
        edited = held is not None and (held.generation != stored.generation or held.revision == EDITED)
        revision = EDITED if edited else held.revision if held else 0
        observed = stored.generation if listed.delivered else 0
        self._held[key] = Held(stored.version, stored.generation, revision, listed.status, observed)
        return msgspec.structs.replace(listed, record=Record(key, revision, listed.record.report), changed=edited)

    def end_listing(self, kinds: Iterable[KindName], seen: set[Key]) -> list[Event]:
        """The list of these kinds was whole: what is known of and was not in it has been deleted by somebody."""
        recent, self._recent = self._recent or set(), None
        gone = [key for key in self._held if key[0] in kinds and key not in seen and key not in recent]
        for key in gone:
            del self._held[key]
        return [Changed(key) for key in gone]

    def close(self, kind: KindName, now: float) -> list[Event]:
        """The CRD, the namespace or the permission is missing: retry at long intervals."""
        return [event for urgent in (True, False) for event in self._close(kind, urgent, now)]

    def reopen(self, kind: KindName) -> None:
        """The kind can be listed: what waits is written."""
        self.unread.discard(kind)
        for lane in (self._lanes[kind, True], self._lanes[kind, False]):
            lane.closed, lane.paused_until = False, 0.0

    def _close(self, kind: KindName, urgent: bool, now: float) -> list[Event]:
        lane = self._lanes[kind, urgent]
        lane.paused_until = now + CLOSED_WAIT
        if lane.closed:
            return []
        lane.closed = True
        waiting = [pending for key, pending in self._pending.items() if key[0] == kind] if urgent else []
        return [event for pending in waiting for event in self._announce(pending)]

    def _touch(self, key: Key) -> None:
        if self._recent is not None:
            self._recent.add(key)

    # --- what is done -------------------------------------------------------------------------------------------

    def take(self, now: float) -> Task | None:
        """The next attempt to make now, if any; it is in flight until `settle`d."""
        best: tuple[int, float, _Lane] | None = None
        for urgent, lane in self._open():
            due = self._head(lane)
            if due is None or due > now or lane.paused_until > now:
                continue
            starving = not urgent and due + STARVING < now and not self._lazy_in_flight()
            rank = 0 if starving else 1 if urgent else 2
            if best is None or (rank, due) < best[:2]:
                best = (rank, due, lane)
        if best is None:
            return None
        lane = best[2]
        key = heapq.heappop(lane.ready)[2]
        pending = self._pending[key]
        pending.serial = 0
        pending.task = self._task(key, pending, lane.failures)
        lane.in_flight += 1
        return pending.task

    def _task(self, key: Key, pending: _Pending, failures: int) -> Task:
        held = self._held.get(key)
        if pending.record is not None:
            return WriteSpec(key, held, pending.record, failures)
        if pending.delivery is not None and held is not None:
            status = held.status.followed_by(pending.delivery) if held.status else first_status(pending.delivery)
            return WriteStatus(key, held, status, failures)
        return Remove(key, held, failures)

    def wake_at(self) -> float | None:
        """When `take` may have something that it has not now; None if that is up to other calls."""
        heads = [(head, lane) for _, lane in self._open() if (head := self._head(lane)) is not None]
        return min((max(head, lane.paused_until) for head, lane in heads), default=None)

    def _open(self) -> list[tuple[bool, _Lane]]:
        """The lanes that have a connection left. After a failure one attempt at a time probes it."""
        if self._lost or sum(lane.in_flight for lane in self._lanes.values()) >= self._connections:
            return []
        # One connection is kept for specs, which reports wait for.
        lazy = self._lazy_in_flight() < max(self._connections - 1, 1)
        return [
            (urgent, lane)
            for (kind, urgent), lane in self._lanes.items()
            if (urgent or lazy) and kind not in self.unread and not ((lane.failures or lane.closed) and lane.in_flight)
        ]

    def _lazy_in_flight(self) -> int:
        return sum(lane.in_flight for (_, urgent), lane in self._lanes.items() if not urgent)

    def _head(self, lane: _Lane) -> float | None:
        """When the lane's first is due."""
        while lane.ready:
            due, serial, key = lane.ready[0]
            pending = self._pending.get(key)
            if pending is not None and pending.serial == serial:
                return due
            heapq.heappop(lane.ready)
        return None

    def _schedule(self, key: Key, at: float) -> None:
        """Put the key into its lane; it keeps an earlier place."""
        pending = self._pending[key]
        if pending.task is not None:
            return
        urgent = pending.record is not None
        if pending.serial and pending.urgent == urgent and pending.due <= at:
            return
        pending.due, pending.serial, pending.urgent = at, next(self._serial), urgent
        lane = self._lanes[key[0], urgent]
        heapq.heappush(lane.ready, (at, pending.serial, key))
        if len(lane.ready) > 2 * len(self._pending) + 64:  # mostly places that are not valid any more
            lane.ready = [item for item in lane.ready if self._is_valid(item)]
            heapq.heapify(lane.ready)

    def _is_valid(self, place: tuple[float, int, Key]) -> bool:
        pending = self._pending.get(place[2])
        return pending is not None and pending.serial == place[1]

    # --- what came of it ----------------------------------------------------------------------------------------

    def settle(self, task: Task, result: Result, now: float) -> list[Event]:
        """An attempt is over."""
        key, outcome = task.key, result.outcome
        self._touch(key)
        pending, lane = self._pending[key], self._lanes[key[0], isinstance(task, WriteSpec)]
        pending.task = None
        lane.in_flight -= 1
        events, at = list[Event](), now
        tried = task.record if isinstance(task, WriteSpec) else None
        overtaken = pending.record is not None and pending.record is not tried
        if outcome is Outcome.BUSY:
            if task.round == lane.failures:  # attempts that fail together are one failure
                lane.failures += 1
            wait = self._backoff(BACKOFF_FIRST, BACKOFF_MAX, lane.failures)
            lane.paused_until = max(lane.paused_until, now + max(wait, result.retry_after))
        elif outcome is Outcome.CLOSED:
            events += self._close(key[0], isinstance(task, WriteSpec), now)
        else:
            lane.failures, lane.paused_until, lane.closed = 0, 0.0, False
        match outcome:
            case Outcome.LOST:
                self._lost = True
                return [Lost(key, result.stored.term if result.stored else 0)]
            case Outcome.DONE:
                pending.failures = 0
                events += self._done(task, pending, result.stored)
                at = now if pending.record or pending.forget else now + self._lag
            case Outcome.THERE | Outcome.GONE:
                events += self._conflict(task, pending, result.stored)
                pending.failures += 1  # somebody else may write without end
                at = now if pending.failures == 1 else now + self._backoff(BACKOFF_FIRST, BACKOFF_MAX, pending.failures)
            case Outcome.TOO_LARGE | Outcome.REFUSED:
                if not overtaken:
                    events += self._announce(pending)
                if outcome is Outcome.TOO_LARGE and not overtaken:
                    pending.record = pending.delivery = None
                pending.failures += 1
                at = now + self._backoff(REFUSED_FIRST, REFUSED_MAX, pending.failures)
            case Outcome.FAILED:
                pending.failures += 1
                if pending.failures >= UNRECORDED and not overtaken:
                    events += self._announce(pending)
                at = now + max(self._backoff(BACKOFF_FIRST, BACKOFF_MAX, pending.failures), result.retry_after)
        if outcome in (Outcome.BUSY, Outcome.FAILED):
            pending.uncertain |= isinstance(task, WriteSpec) and task.held is None
        if overtaken:
            at, pending.failures = now, 0  # a newer one, which may fare better
        if pending.empty:
            del self._pending[key]
        else:
            self._schedule(key, at)
        return events

    def _done(self, task: Task, pending: _Pending, stored: Stored | None) -> list[Event]:
        key, held = task.key, task.held
        if stored is None or isinstance(task, Remove):
            return self._removed(key, pending)
        if isinstance(task, WriteSpec):
            status, observed = (held.status, held.observed) if held else (None, 0)
            self._held[key] = Held(stored.version, stored.generation, task.record.revision, status, observed)
            pending.uncertain = False
            if pending.record is task.record:
                pending.record = None
            return [Written(key, task.record.revision)]
        known = task.held
        self._held[key] = Held(stored.version, known.generation, known.revision, task.status, known.generation)
        if pending.delivery is task.status.delivery:
            pending.delivery = None
        return [Acknowledged(key, known.revision)]

    def _removed(self, key: Key, pending: _Pending) -> list[Event]:
        self._held.pop(key, None)
        pending.uncertain = False
        if not pending.forget:
            return []
        pending.forget = False
        return [Forgotten(key)]

    def _conflict(self, task: Task, pending: _Pending, stored: Stored | None) -> list[Event]:
        """The object is not what it was: somebody has edited it, or it is gone (`stored` None)."""
        key, held = task.key, task.held
        same = held is not None and stored is not None and held.generation == stored.generation
        events: list[Event] = []
        if stored is None:
            events += self._removed(key, pending)
        elif same and held is not None:  # its metadata or status only; or our own write, whose answer was lost
            self._held[key] = msgspec.structs.replace(held, version=stored.version)
        else:
            self._held[key] = Held(stored.version, stored.generation, EDITED, held.status if held else None)
        if isinstance(task, WriteStatus) and not same:
            pending.delivery = None
            if pending.empty:
                events.append(Changed(key))
        return events

    def _backoff(self, first: float, most: float, failures: int) -> float:
        return backoff(first, most, failures, self._jitter())
