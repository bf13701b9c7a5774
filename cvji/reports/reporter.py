"""From what is seen to what is written and sent: tracker, inventory and book together. Pure: no I/O, clock or thread.

Events go in by `apply`; once `lead` is called, `advance` decides, and `take` gives what is to be done. What became of
that comes back into the book. A standby is a reporter that does not lead: it sees everything and decides nothing.
"""

from collections.abc import Callable, Collection

from cvji.jobs.nics import NodeNics
from cvji.jobs.policy import Policy
from cvji.jobs.report import RunReport
from cvji.jobs.runs import State
from cvji.jobs.tracker import Event, JobGone, Keep, Report, Tracker
from cvji.jobs.view import Problem
from cvji.kube.events import Applied, Deleted, Listed, Resource, Unserved
from cvji.macs import pack
from cvji.nodes.inventory import Inventory, NodeReport, NodeState, fingerprint
from cvji.reports.book import HISTORY_AGE, Book
from cvji.reports.records import ListedRecord

_STATES = {
    "pending": (State.STARTING,),
    "running": (State.REPORTED, State.CHANGING, State.VACANT, State.UNSEEN),
    "ended": (State.ENDED,),
}


class Reporter:
    """Decides what CloudVision is to hold. Times are seconds since the epoch, given by the caller."""

    def __init__(
        self,
        policy: Policy,
        location: str,
        *,
        durable: bool,
        job_kinds: Collection[tuple[str, str]],
        node_kind: tuple[str, str] | None = None,
        resync: float = 0.0,
        history: float = HISTORY_AGE,
        problem: Callable[[Problem], None] = lambda _: None,
    ) -> None:
        """`durable`: there are records in the cluster. `job_kinds`, `node_kind`: group and kind of the jobs and node
        states that are followed. What is recorded of other jobs ends; other nodes' records are somebody else's.

        `resync`: seconds, 0 for never. `history`: seconds, see Book. `problem` is called with what
        cannot be understood in an object.
        """
        self.book = Book(location, durable=durable, resync=resync, history=history)
        self._node_kind, self._problem = node_kind, problem
        self._tracker = Tracker(policy, problem)
        self._job_kinds = job_kinds
        self._inventory = Inventory()
        self._newest: dict[str, RunReport] = {}  # while records are read: of each job the newest run
        self._nodes: dict[str, bytes] = {}  # and of each node the fingerprint of its NICs

    def apply(self, event: Event, now: float) -> None:
        """Take note of one event."""
        match event:
            case Applied(NodeState() as state):
                if warning := self._inventory.apply(state):
                    self._problem(Problem(f"node {state.node}", warning))
            case Deleted(NodeState() as state):
                self._inventory.remove(state)
            case Listed(Resource(key=key)) | Unserved(key) if key == self._node_kind:
                self._inventory.listed()
                return
            case _:
                self._tracker.apply(event, now)
                return
        self._tracker.apply(NodeNics(state.node, pack(self._inventory.fabric(state.node))), now)

    def restore(self, listed: ListedRecord, now: float) -> None:
        """Take a record that a predecessor left; before `lead`."""
        report = listed.record.report
        if isinstance(report, NodeReport) and self._node_kind is None:
            self.book.forget(listed.record.key)
            return
        self.book.restore(listed, now)
        if isinstance(report, NodeReport):
            if report.nics:
                self._nodes[report.node] = fingerprint(report.nics)
            return
        group, _, kind = report.kind.partition("/")
        if (group, kind) not in self._job_kinds:  # JOB_KINDS had it: nothing will be seen of it
            self._tracker.apply(Unserved((group, kind)), now)
        known = self._newest.get(report.job)
        if known is None or known.run <= report.run:
            self._newest[report.job] = report
        if known is not None and known.run != report.run:
            self.book.finish(min(known, report, key=lambda one: one.run), now)

    def lead(self, now: float) -> None:
        """Decide from now on."""
        self._tracker.lead(self._newest.values(), now)
        self._inventory.restore(self._nodes)
        self._newest, self._nodes = {}, {}

    def advance(self, now: float) -> list[RunReport | NodeReport]:
        """Decide what CloudVision is to hold, as things stand; what is new of it."""
        decided: list[RunReport | NodeReport] = []
        for decision in self._tracker.advance(now):
            match decision:
                case Report(run):
                    self.book.put(run, now)
                    decided.append(run)
                case Keep(run):
                    self.book.keep(run)
                case JobGone(run):
                    self.book.finish(run, now)
        for node in self._inventory.advance():
            self.book.put(node, now)
            decided.append(node)
        self.book.advance(now)
        return decided

    def next_deadline(self) -> float | None:
        """When `advance` is due even if nothing happens; None if it is not."""
        due = [at for at in (self._tracker.next_deadline(), self.book.next_deadline()) if at is not None]
        return min(due, default=None)

    # --- for telemetry, by any thread ---------------------------------------------------------------

    def jobs_by_state(self) -> dict[str, int]:
        """How many jobs wait to be reported, run and have ended, as CloudVision is to hold them."""
        states = self._tracker.states
        return {name: sum(states[state] for state in among) for name, among in _STATES.items()}
