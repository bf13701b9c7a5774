"""What is to be reported, what was, and what follows: what to write to the cluster, to send, to acknowledge, to forget.

A report is written down before it is sent, and acknowledged there once CloudVision holds it. So whatever instant a
leader dies at, its successor knows every run that CloudVision may hold, and repeats at most the last report. Pure: no
I/O, clock or thread. Times are seconds since the epoch. Only `newest` may be called by any thread.
"""

from collections import deque
from collections.abc import Iterator

import msgspec

from cvji.jobs.report import Key, RunReport
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import Delivery, ListedRecord, Reason, Record

# A report that was not delivered after this long waits for CloudVision to come back: its record says so, and where
# nothing else needs it in memory, the record alone keeps it.
WAITING = 10.0
# Records of runs that have ended are kept for operators: for this many seconds, and at most this many records.
HISTORY_AGE = 24 * 3600.0
HISTORY_SIZE = 1000


class Write(msgspec.Struct, frozen=True):
    """Write the record to the cluster."""

    record: Record


class Send(msgspec.Struct, frozen=True):
    """Send the key's newest report to CloudVision."""

    key: Key
    revision: int


class Acknowledge(msgspec.Struct, frozen=True):
    """Write what is known of a revision's delivery into its record."""

    key: Key
    revision: int
    delivery: Delivery


class Forget(msgspec.Struct, frozen=True):
    """Delete the record."""

    key: Key


class Check(msgspec.Struct, frozen=True):
    """List the records: somebody may have deleted or edited some."""


Action = Write | Send | Acknowledge | Forget | Check


class Newest(msgspec.Struct, frozen=True, gc=False):
    """A key's newest report and its revision. Where the report is None, its record in the cluster holds it."""

    revision: int
    report: RunReport | NodeReport | None


class _Entry(msgspec.Struct):
    """One key.

    `content`: the revision since which CloudVision is to hold the same. The newest revisions, -1 for none, are:
    `recorded` in the cluster; `written` there, or known not to be possible; `delivered` to CloudVision. `over`: no
    report follows.
    """

    key: Key
    newest: Newest
    content: int
    recorded: int = -1
    written: int = -1
    delivered: int = -1
    over: bool = False

    @property
    def settled(self) -> bool:
        """Whether CloudVision holds what it is to hold."""
        return self.delivered >= self.content


class Book:
    """One entry a key: a run or a node."""

    def __init__(self, location: str, *, durable: bool, resync: float = 0.0, history: float = HISTORY_AGE) -> None:
        """`durable`: there are records in the cluster. `resync`: seconds, 0 for never.

        `history`: for how many seconds the records of runs that have ended are kept; 0: deleted at once.
        """
        self._location = location
        self._durable = durable
        self._entries: dict[Key, _Entry] = {}
        self._revision = 0  # the newest of all entries; restored entries begin with 0
        self._actions: deque[Action] = deque()
        self._waiting: deque[tuple[float, Key, int]] = deque()  # since when; in order
        self._history: deque[tuple[float, Key]] = deque()  # keys of delivered records of ended runs, oldest first
        self._unsettled: dict[Key, float] = {}  # since when CloudVision does not hold what it is to hold
        self._nodes = 0
        self._trouble = Delivery(Reason.PENDING, 0)  # the last failure of CloudVision as a whole
        self._history_age = history
        self._resync = resync
        self._round: deque[Key] = deque()  # what this resync is still to send
        self._round_step = 0.0
        self._resync_at = 0.0

    def take(self) -> Iterator[Action]:
        """What is to be done now, in order; also what follows from doing it. Should one fail, the next call goes on."""
        while self._actions:
            yield self._actions.popleft()

    # --- decisions ----------------------------------------------------------------------------------

    def put(self, report: RunReport | NodeReport, now: float) -> None:
        """CloudVision is to hold this from now on."""
        key = key_of(report)
        entry = self._entries.get(key)
        newest = self._revise(report)
        if entry is None:
            entry = self._add(_Entry(key, newest, newest.revision))
            if isinstance(report, RunReport) and report.run > 1:
                self.finish(msgspec.structs.replace(report, run=report.run - 1), now)
        entry.newest, entry.content = newest, newest.revision
        self._unsettled.setdefault(key, now)
        self._write(entry)

    def _revise(self, report: RunReport | NodeReport) -> Newest:
        """A revision that no entry has had: a late answer about a key's former entry is none about its new one."""
        self._revision += 1
        return Newest(self._revision, report)

    def _add(self, entry: _Entry) -> _Entry:
        self._nodes += entry.key[0] == "node" and entry.key not in self._entries
        self._entries[entry.key] = entry
        return entry

    def keep(self, report: RunReport) -> None:
        """CloudVision is to hold the same, and a successor needs to know more."""
        entry = self._entries.get(key_of(report))
        if entry is not None:
            entry.newest = self._revise(report)
            if self._durable:
                self._write(entry)
            else:
                entry.written = entry.newest.revision

    def finish(self, report: RunReport, now: float) -> None:
        """The run is the last of its job, or has a successor: once it is delivered, it is history."""
        entry = self._entries.get(key_of(report))
        if entry is not None:
            entry.over = True
            self._retire(entry, now)
            if not entry.settled:
                self._waiting.append((now, entry.key, entry.newest.revision))

    def _write(self, entry: _Entry) -> None:
        revision, report = entry.newest.revision, entry.newest.report
        if self._durable and report is not None:
            self._actions.append(Write(Record(entry.key, revision, report)))
        else:
            entry.written = revision
            self._send(entry)

    def _send(self, entry: _Entry) -> None:
        self._actions.append(Send(entry.key, entry.newest.revision))

    # --- what became of it --------------------------------------------------------------------------

    def awaits_write(self) -> bool:
        """Whether a report waits for its record to be written."""
        return any(
            entry.written < entry.newest.revision for key in self._unsettled if (entry := self._entries.get(key))
        )

    def written(self, key: Key, revision: int, now: float, *, remembered: bool = True) -> None:
        """The record of a revision is in the cluster; or (not `remembered`) its report does not wait for that."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if remembered:
            entry.recorded = max(entry.recorded, revision)
        if revision <= entry.written:
            if remembered and not entry.settled:  # later than its report could wait: now the record can keep it
                self._waiting.append((now, key, revision))
            return
        entry.written = revision
        if revision < entry.newest.revision:
            return  # the newest is on its way
        if entry.settled:
            self._acknowledge(key, revision, Delivery(Reason.ACCEPTED, int(now)))
        else:
            self._send(entry)
            self._waiting.append((now, key, revision))

    def delivered(self, key: Key, revision: int, now: float) -> None:
        """CloudVision holds the report of this revision."""
        entry = self._entries.get(key)
        self._trouble = Delivery(Reason.PENDING, 0)
        if entry is None:
            return
        entry.delivered = max(entry.delivered, revision)
        if entry.settled:
            self._unsettled.pop(key, None)
            self._acknowledge(key, entry.newest.revision, Delivery(Reason.ACCEPTED, int(now)))
            self._retire(entry, now)

    def failed(self, key: Key, revision: int, delivery: Delivery) -> None:
        """CloudVision did not take the report of this revision, and why."""
        if delivery.reason is Reason.UNREACHABLE:
            self._trouble = delivery
        else:
            self._acknowledge(key, revision, delivery)

    def lost(self, key: Key, revision: int) -> None:
        """Somebody has deleted the record that alone held the report of this revision: there is nothing to send."""
        entry = self._entries.get(key)
        if entry is not None and entry.newest == Newest(revision, None):
            del self._entries[key]
            self._unsettled.pop(key, None)

    def _acknowledge(self, key: Key, revision: int, delivery: Delivery) -> None:
        if self._durable:
            self._actions.append(Acknowledge(key, revision, delivery))

    def _retire(self, entry: _Entry, now: float) -> None:
        """Drop the entry if no report follows and the last is delivered; its record is kept as history."""
        report, key = entry.newest.report, entry.key
        removed = isinstance(report, NodeReport) and not report.nics
        if not entry.settled or not (entry.over or removed):
            return
        del self._entries[key]
        self._nodes -= key[0] == "node"
        if removed:
            self.forget(key)
        elif self._durable:
            self._history.append((now, key))

    def forget(self, key: Key) -> None:
        """Delete the record."""
        if self._durable:
            self._actions.append(Forget(key))

    def newest(self, key: Key) -> Newest | None:
        """What is to be sent for a key; None if that is not written yet."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        newest = entry.newest  # read once: another thread may replace it
        return newest if entry.written >= newest.revision else None

    # --- successors ---------------------------------------------------------------------------------

    def restore(self, listed: ListedRecord, now: float) -> None:
        """Continue from a record that a predecessor left. What was not delivered, or to another location, is sent."""
        key, report = listed.record.key, listed.record.report
        entry = self._add(_Entry(key, Newest(0, report), 0, 0, 0, 0 if listed.delivered else -1))
        if listed.location != self._location:
            self.put(report, now)
        elif not listed.delivered:
            self._unsettled[key] = now
            self._send(entry)
            self._waiting.append((now, key, 0))
        else:
            self._retire(entry, now)

    def recheck(self, listed: ListedRecord) -> None:
        """A record as it was listed just now: an edited one is written again, one that is not ours is deleted."""
        key = listed.record.key
        if key not in self._entries:
            if all(key != old for _, old in self._history):
                self.forget(key)
        elif listed.changed:
            self.rewrite(key)

    def rewrite(self, key: Key) -> None:
        """Somebody has deleted or edited the record."""
        entry = self._entries.get(key)
        if entry is not None and entry.newest.report is not None:  # else its content is lost, here and in the cluster
            entry.newest = self._revise(entry.newest.report)
            self._write(entry)

    # --- what time brings ---------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `advance` is due even if nothing happens; None if it is not."""
        due = [self._waiting[0][0] + WAITING] if self._waiting else []
        due += [self._history[0][0] + self._history_age] if self._history else []
        due += [self._resync_at] if self._resync else []
        return min(due, default=None)

    def advance(self, now: float) -> None:
        """Do what is due by now."""
        while self._waiting and self._waiting[0][0] <= now - WAITING:
            self._note_waiting(*self._waiting.popleft()[1:], now)
        kept_since = now - self._history_age
        while self._history and (self._history[0][0] <= kept_since or len(self._history) > HISTORY_SIZE):
            self.forget(self._history.popleft()[1])
        if self._resync:
            self._send_again(now)

    def _note_waiting(self, key: Key, revision: int, now: float) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.settled or entry.newest.revision != revision or entry.newest.report is None:
            return
        waits = self._trouble if self._trouble.at else Delivery(Reason.PENDING, int(now))
        self._acknowledge(key, revision, waits)
        if entry.over and entry.recorded == revision:
            entry.newest = Newest(revision, None)

    def _send_again(self, now: float) -> None:
        """Resync: report all that CloudVision holds again, once per round, evenly spread, and check the records."""
        if not self._resync_at or not now - self._resync <= self._resync_at <= now + self._resync:
            self._resync_at = now + self._resync  # the first time, or the clock was set
            self._round.clear()
        while self._resync_at <= now:
            if not self._round:
                self._begin_round()
                continue
            entry = self._entries.get(self._round.popleft())
            if entry is not None and entry.settled and not entry.over:
                self._send(entry)
            self._resync_at += self._round_step

    def _begin_round(self) -> None:
        self._round = deque(key for key, entry in self._entries.items() if entry.settled and not _ended(entry))
        self._round_step = self._resync / max(len(self._round), 1)
        self._resync_at += self._round_step
        if self._durable:
            self._actions.append(Check())

    # --- for telemetry, by any thread ---------------------------------------------------------------

    def nodes(self) -> int:
        """How many nodes CloudVision is to hold."""
        return self._nodes

    def unsettled(self) -> int:
        """How many reports CloudVision does not hold yet."""
        return len(self._unsettled)

    def oldest_age(self, now: float) -> float:
        """For how many seconds CloudVision does not hold one of these, at most; 0 if it holds all."""
        return max(now - min([*self._unsettled.values()], default=now), 0.0)


def key_of(report: RunReport | NodeReport) -> Key:
    """The key of a report."""
    return ("node", report.node) if isinstance(report, NodeReport) else ("job", report.id)


def _ended(entry: _Entry) -> bool:
    report = entry.newest.report
    return report is None or (isinstance(report, RunReport) and report.end is not None)
