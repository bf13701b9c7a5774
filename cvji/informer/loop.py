"""The one thread that decides. Everything that happens comes to it on one bounded queue.

Watches, written records and answers of CloudVision go in; what is to be written and sent goes out to the store and the
delivery. Its phases, and what each accepts:

    STARTING     nothing is listed yet
    STANDBY      another process leads: watch events are applied, and nothing is decided
    TAKING_OVER  elected: the records are read, then everything is listed once more
    LEADING      decides, writes and sends
    DRAINING     asked to stop: no further input; waits until all is delivered and recorded, or time is up
"""

import enum
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection

from cvji.cloudvision.client import Answer, Verdict
from cvji.informer.inbox import (
    Attempted,
    Checked,
    Deliverer,
    Elected,
    Message,
    RecordGone,
    Recovered,
    StandBy,
    Stop,
)
from cvji.informer.jobevents import Announcer
from cvji.jobs.report import Key, RunReport
from cvji.kube.events import ClusterEvent, Discovered, Listed, Resource, Unserved, WatchLost
from cvji.kube.served import PODS
from cvji.kube.watches import Watches
from cvji.nodes.inventory import NodeReport
from cvji.reports.book import Acknowledge, Action, Check, Forget, Send, Write
from cvji.reports.records import Delivery, Reason
from cvji.reports.reporter import Reporter
from cvji.reports.store import Store
from cvji.reports.tasks import Changed, Lost, Written
from cvji.reports.tasks import Event as StoreEvent
from cvji.telemetry.metrics import Metrics, Moment, Watch

log = logging.getLogger(__name__)

BURST = 2000  # events applied before jobs are judged, so that a flood of events does not delay reports
DRAIN = 20.0  # seconds; Kubernetes gives 30 between SIGTERM and SIGKILL
FLUSH = 5.0  # seconds of these that the last acknowledgements may take
IDLE = 5.0  # seconds after which the loop turns even though nothing happens, to show that it is alive
ERROR_PAUSE = 0.5  # seconds after an internal error, so that a lasting one is not a flood
STUCK = 60.0  # seconds without a turn: not alive


class Phase(enum.Enum):
    """See the module's docstring."""

    STARTING = "starting"
    STANDBY = "standby"
    TAKING_OVER = "taking over"
    LEADING = "leading"
    DRAINING = "draining"


class Loop:
    """Between the watches, the records and the delivery."""

    def __init__(
        self,
        reporter: Reporter,
        watches: Watches,
        deliver: Deliverer,
        records: Store | None,
        inbox: "queue.Queue[Message]",
        metrics: Metrics,
        *,
        sources: Collection[tuple[str, str]] = (),
        keep: Callable[[ClusterEvent], bool] = lambda _: True,
        recover: Callable[[int], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
        release: Callable[[bool], None] = lambda _: None,
        events: Announcer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`sources` are the kinds that say what pods hold: nothing is decided before they are listed, unless they are
        refused or not served; nor before pods are, in any case. `keep` says which watch events are of interest.
        `recover` reads the records of former leaders, `check` those that stand now; both answer on the inbox.
        `release` ends the leadership, at once for a successor if asked to.
        """
        self._reporter, self._watches, self._deliver, self._records = reporter, watches, deliver, records
        self._inbox = inbox
        self._metrics = metrics
        self._sources = frozenset(sources)
        self._keep, self._recover, self._check, self._release = keep, recover, check, release
        self._events = events
        self._clock = clock
        self._awaited: set[Resource] | None = None  # resources whose list is still to come; None before API discovery
        self._failed: frozenset[tuple[str, str]] = frozenset()  # sources whose API discovery has failed
        self._listed: set[Resource] = set()  # resources whose list was applied
        self._round = 0  # of the lists that are awaited
        self._watching = False
        self._recovered = False  # all records of former leaders are read
        self._drain_until = 0.0
        self._code: int | None = None
        self.phase = Phase.STARTING
        self.turned = time.monotonic()
        self.synced = False

    # --- life ---------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until asked to stop. Returns the exit code: 1 if another process leads now."""
        while self._code is None:
            try:
                self._turn()
            except Exception:  # the outermost loop: one object must not end the reports of all others
                log.exception("internal error; going on")
                self._metrics.errors.inc()
                threading.Event().wait(ERROR_PAUSE)
        self._watches.stop()
        self._deliver.close()
        if self._records is not None:
            if self._code == 0:
                self._records.flush(FLUSH)
            self._records.close()
        # Not while a request is under way: the Lease outlasts every request of its holder.
        self._release(self._code == 0 and self._deliver.settled())
        return self._code

    def _turn(self) -> None:
        """Take in what has come, or wait for it until a job's time comes; then judge."""
        taken = 0
        try:
            message = self._inbox.get(timeout=self._wait())
            while True:
                taken += len(message) if isinstance(message, list) else 1
                self._take(message)
                if taken >= BURST or self._code is not None:
                    break
                message = self._inbox.get_nowait()
        except queue.Empty:
            pass
        self.turned = time.monotonic()
        if self.phase is Phase.LEADING:
            for report in self._reporter.advance(self._clock()):
                _announce(report)
                if self._events and isinstance(report, RunReport):
                    self._events.decided(report)
        for action in self._reporter.book.take():
            self._do(action)
        if self.phase is Phase.DRAINING:
            self._drain()

    def _wait(self) -> float:
        """Seconds until the loop has something to do by itself."""
        if self.phase is Phase.DRAINING:
            return 0.05
        deadline = self._reporter.next_deadline() if self.phase is Phase.LEADING else None
        return IDLE if deadline is None else min(max(deadline - self._clock(), 0.0), IDLE)

    def _do(self, action: Action) -> None:
        events: list[StoreEvent] = []
        match action:
            case Send(key, revision):
                self._deliver.put(key, revision)
            case Write(record) if self._records:
                events = self._records.write(record)
            case Acknowledge(key, revision, delivery) if self._records:
                events = self._records.acknowledge(key, revision, delivery)
            case Forget(key) if self._records:
                events = self._records.forget(key)
            case Check():
                self._check()
            case _:
                raise AssertionError(f"{action} without records")
        for event in events:  # not by the queue, for which this thread would wait when it is full
            self._take(event)

    # --- what happens -------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        book, now = self._reporter.book, self._clock()
        match message:
            case list() | Discovered() | Unserved() if self.phase is Phase.DRAINING:
                pass  # intake is over
            case list():
                self._take_events(message, now)
            case Discovered(resources, failed):
                if self._events:
                    self._events.served(resources)
                self._awaited = (self._awaited or set()) | set(resources)
                self._failed = failed & self._sources
                self._note_synced()
            case Unserved():
                self._reporter.apply(message, now)
            case StandBy():
                self.phase = Phase.STANDBY
                self._watch()
            case Elected(term):
                self.phase = Phase.TAKING_OVER
                self._recover(term)
            case Recovered(records, last):
                for listed in records:
                    self._reporter.restore(listed, now)
                if last:
                    self._list_again()
            case Checked(records):
                for listed in records:
                    book.recheck(listed)
            case Written(key, revision, remembered):
                book.written(key, revision, now, remembered=remembered)
            case Changed(key):
                book.rewrite(key)
            case Lost():
                self._code = 1
            case Attempted(key, revision, answer):
                self._settle(key, revision, answer, now)
            case RecordGone(key, revision):
                book.lost(key, revision)
            case Stop(code) if code or self.phase is not Phase.LEADING:
                self._code = code
            case Stop():
                self._watches.stop()
                self.phase = Phase.DRAINING
                self._drain_until = time.monotonic() + DRAIN
        if self.phase is Phase.TAKING_OVER and self._recovered and self._complete():
            self._lead(now)

    def _take_events(self, events: list[ClusterEvent], now: float) -> None:
        for event in events:
            try:
                self._apply(event, now)
            except Exception:  # as in `run`: the other events of the batch are applied all the same
                log.exception("internal error; going on")
                self._metrics.errors.inc()
        self._note_synced()

    def _apply(self, event: ClusterEvent, now: float) -> None:
        match event:
            case Listed(resource, round_):
                self._listed.add(resource)
                if round_ >= self._round:
                    (self._awaited or set()).discard(resource)
            case WatchLost(resource, refused) if resource != PODS and (refused or resource.key not in self._sources):
                self._listed.discard(resource)
                (self._awaited or set()).discard(resource)
            case _ if not self._keep(event):
                return
        self._reporter.apply(event, now)

    def _complete(self) -> bool:
        """Whether no list is awaited."""
        return self._awaited is not None and not self._awaited and not self._failed

    def _note_synced(self) -> None:
        if not self.synced and self._complete():
            self.synced = True
            if self.phase is Phase.STANDBY:
                log.info("all kinds are listed; standing by")

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._watches.start()

    def _list_again(self) -> None:
        """List everything again: a watch may have been silent, and the predecessor has seen more than this process."""
        self._recovered = True
        if self._watching:
            self._round = self._watches.relist()
            self._awaited = None if self._awaited is None else self._awaited | self._listed
        else:
            self._watch()

    def _lead(self, now: float) -> None:
        """Begin to decide, from what the records hold and what was listed."""
        self._reporter.lead(now)
        self.phase = Phase.LEADING
        jobs, nodes = self._reporter.jobs_by_state(), self._reporter.book.nodes()
        log.info(
            "all kinds are listed; reporting from now on; recorded: %d running jobs, %d nodes", jobs["running"], nodes
        )

    def _settle(self, key: Key, revision: int, answer: Answer, now: float) -> None:
        book = self._reporter.book
        if self._events and (newest := book.newest(key)) is not None and newest.revision == revision:
            self._events.answered(key, answer)
        match answer.verdict:
            case Verdict.DELIVERED:
                book.delivered(key, revision, now)
            case Verdict.REFUSED | Verdict.FORBIDDEN | Verdict.UNAUTHORIZED:
                book.failed(key, revision, Delivery(Reason.REFUSED, int(now), answer.reason))
            case _:
                book.failed(key, revision, Delivery(Reason.UNREACHABLE, int(now), answer.reason))

    def _drain(self) -> None:
        """Done once everything is recorded and delivered that can be, or when time is up."""
        book = self._reporter.book
        busy = book.awaits_write() or not self._deliver.settled() or not self._inbox.empty()
        if busy and time.monotonic() < self._drain_until:
            return
        if left := book.unsettled():
            log.error("stopped with %d reports undelivered", left)
        else:
            log.info("stopped; everything was delivered")
        self._code = 0

    # --- telemetry ----------------------------------------------------------------------------------

    def alive(self) -> str:
        """What is wrong with the loop, for /healthz; "" if nothing."""
        silence = time.monotonic() - self.turned
        return f"the loop has not turned for {silence:.0f} s" if silence > STUCK else ""

    def ready(self) -> str:
        """What is still awaited, for /readyz; "" if nothing."""
        if self.synced:
            return ""
        if not self._watching:
            return "waiting for the records, and then for the first lists"
        awaited = [*map(str, list(self._awaited or ()))]  # a copy: the loop's thread may change it meanwhile
        awaited += [f"{kind}.{group}" for group, kind in self._failed]
        return "waiting for the first lists of " + (", ".join(sorted(awaited)) or "the Kubernetes API")

    def look(self) -> Moment:
        """The loop at this moment, for a scrape."""
        now = time.monotonic()
        return Moment(
            jobs=self._reporter.jobs_by_state(),
            nodes=self._reporter.book.nodes(),
            leads=self.phase in (Phase.LEADING, Phase.DRAINING),
            outbox=self._reporter.book.unsettled(),
            oldest=self._reporter.book.oldest_age(self._clock()),
            watches={
                resource: Watch(watch.restarts, watch.decode_failures, now - watch.heard if watch.heard else 0.0)
                for resource, watch in list(self._watches.states.items())
            },
        )


def _announce(report: RunReport | NodeReport) -> None:
    if isinstance(report, NodeReport):
        log.info("node %s has %d NICs", report.node, len(report.nics))
        return
    what = "nodes" if report.holds.nodes else "NICs"
    run = f", run {report.run}" if report.run > 1 else ""
    log.info(
        "%s %s/%s%s is %s with %d %s",
        report.kind, report.namespace, report.name, run, report.state.name, len(report.holds), what,
    )  # fmt: skip
