"""From what is seen to what is sent: tracker, inventory and ledger together. Pure: no I/O, clock or thread.

What is seen goes in by `apply`. Once `lead` is called, `advance` decides; each decision is written to the
ledger's shards (`dirty`, `encode`) and its request is released by `written`. `delivered` closes the circle.
A standby is a reporter that is not told to lead: it sees everything and decides nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import msgspec

from cvji.cloudvision.payloads import Request, delete_node, job_config, node_config, post_job, post_node
from cvji.jobs.report import JobReport
from cvji.jobs.tracker import Event, NodeNics, Policy, Problem, Tracker
from cvji.ledger import SHARDS, Key, Ledger, LedgerError, shard_of
from cvji.nodes.inventory import Inventory, NodeReport, NodeState, fingerprint


class NodeApplied(msgspec.Struct, frozen=True):
    """A node state was made or changed."""

    state: NodeState


class NodeDeleted(msgspec.Struct, frozen=True):
    """A node state is gone."""

    state: NodeState


class NodesListed(msgspec.Struct, frozen=True):
    """Every node state that exists has been applied."""


class Send(msgspec.Struct, frozen=True):
    """A request to be sent, and what it says: given back to `delivered` once CloudVision took it.

    `waited`: for how many seconds it has waited before, in the backlog.
    """

    key: Key
    request: Request
    said: JobReport | NodeReport
    waited: float = 0.0


WINDOW = 64  # of the jobs that are gone, how many are on their way at once; the others are in the backlog
TURN = 60.0  # seconds after which those on their way give way to others: they may be refused for good


class Reporter:
    """Decides what CloudVision is told. Times are seconds since the epoch, given by the caller."""

    def __init__(
        self,
        policy: Policy,
        location: str,
        *,
        durable: bool,
        resync: float = 0.0,
        window: int = WINDOW,
        problem: Callable[[Problem], None] = lambda _: None,
    ) -> None:
        """`durable`: reports wait for their record to be written. `resync`: seconds, 0 for never."""
        self._location = location
        self._durable = durable
        self._problem = problem
        self._tracker = Tracker(policy, problem)
        self._inventory = Inventory()
        self._ledger = Ledger()
        self._held_back: dict[Key, JobReport | NodeReport] = {}  # until their shard is written
        self._ready: list[Send] = []
        self._window = window
        self._turn_at = 0.0
        self._resync = resync
        self._again: list[Key] = []  # what is still to be repeated in this round, last first
        self._again_at = 0.0
        self._again_step = 0.0
        self.leading = False

    def apply(self, event: Event | NodeApplied | NodeDeleted | NodesListed, now: float) -> None:
        """Take note of one event."""
        match event:
            case NodeApplied(state) | NodeDeleted(state):
                if isinstance(event, NodeDeleted):
                    self._inventory.remove(state)
                elif warning := self._inventory.apply(state):
                    self._problem(Problem(f"node {state.node}", warning))
                self._tracker.apply(NodeNics(state.node, self._inventory.fabric(state.node)), now)
            case NodesListed():
                self._inventory.listed()
            case _:
                self._tracker.apply(event, now)

    def lead(self, shards: Iterable[bytes], now: float) -> list[LedgerError]:
        """Decide from now on, after what is in the checkpoint's shards; returned is why some cannot be read.

        What was written down and perhaps not delivered is sent again, at once. Without a shard that nobody can
        read, running jobs are told anew, and what ended unseen is not: worse than with it, better than silence.
        """
        unread = []
        for shard in shards:
            try:
                self._ledger.load(shard, now)
            except LedgerError as err:
                unread.append(err)
        jobs = self._ledger.jobs.values()
        self._tracker.restore([record.report for record in jobs], now)
        self._inventory.restore({node: record.mark for node, record in self._ledger.nodes.items() if record.mark})
        for record in jobs:
            if not record.told:
                self._release(("job", record.report.id), record.report)
        for node, known in self._ledger.nodes.items():
            if not known.told and known.mark:
                self._inventory.restore({node: b"?"})  # differs from whatever stands: said again
            elif not known.told:
                self._release(("node", node), NodeReport(node, ()))
        self.leading = True
        self._again_at = now
        return unread

    def rest(self) -> None:
        """Decide nothing for now. To be called on and on by who does not lead, so that nothing piles up."""
        self._tracker.rest()
        self._inventory.rest()

    def advance(self, now: float) -> None:
        """Decide what is to be said, as things stand."""
        for report in self._tracker.advance(now):
            self._ledger.put_job(report)
            self._say(("job", report.id), report)
        for uid, kept in self._tracker.noted.items():
            self._ledger.keep(uid, kept)
        for uid in self._tracker.forgotten:
            self._ledger.forget_job(uid)
        self._tracker.noted, self._tracker.forgotten = {}, []
        for node in self._inventory.advance():
            self._ledger.put_node(node.node, fingerprint(node.nics))
            self._say(("node", node.node), node)
        if self._resync:
            self._repeat(now)

    def next_deadline(self) -> float | None:
        """When `advance` is due even if nothing happens; None if it is not."""
        due = self._tracker.next_deadline()
        if not self._resync:
            return due
        return self._again_at if due is None else min(due, self._again_at)

    def _say(self, key: Key, said: JobReport | NodeReport) -> None:
        if self._durable:
            self._held_back[key] = said
        else:
            self._release(key, said)

    def _release(self, key: Key, said: JobReport | NodeReport, waited: float = 0.0) -> None:
        if isinstance(said, JobReport):
            request = post_job(job_config(said, location=self._location))
        elif said.nics:
            request = post_node(node_config(said, location=self._location))
        else:
            request = delete_node(said.node)
        self._ready.append(Send(key, request, said, waited))

    def _repeat(self, now: float) -> None:
        """Say again what CloudVision has acknowledged, all of it once per round, evenly spread.

        The checkpoint is written anew too: somebody may have deleted a part of it.
        """
        self._again_at = min(self._again_at, now + self._resync)  # the clock may have been set back
        while self._again_at <= now:
            if not self._again:
                self._again = [("node", node) for node, known in self._ledger.nodes.items() if known.mark]
                self._again += [("job", uid) for uid, job in self._ledger.jobs.items() if job.report.end is None]
                self._again_step = self._resync / max(len(self._again), 1)
                self._ledger.dirty.update(range(SHARDS))
                self._again_at += self._again_step
                continue
            kind, name = key = self._again.pop()
            job, node = self._ledger.jobs.get(name), self._ledger.nodes.get(name)
            if kind == "job" and job and job.told and job.report.end is None:
                self._release(key, job.report)
            elif kind == "node" and node and node.told and (current := self._inventory.current(name)).nics:
                self._release(key, current)
            if self._again:
                self._again_at += self._again_step

    # --- the checkpoint -----------------------------------------------------------------------------

    @property
    def urgent(self) -> bool:
        """Whether reports wait for a write."""
        return bool(self._held_back)

    def dirty(self) -> dict[int, bytes]:
        """Every shard that has changed since it was last asked for, as it is to be stored."""
        shards = {shard: self._ledger.encode(shard) for shard in sorted(self._ledger.dirty)} if self._durable else {}
        self._ledger.dirty = set()
        return shards

    @property
    def changed(self) -> bool:
        """Whether `dirty` has something to give."""
        return self._durable and bool(self._ledger.dirty)

    def written(self, shards: Iterable[int], held_back: Mapping[Key, JobReport | NodeReport]) -> None:
        """These shards are stored, as they were when `held_back` was: what of that is still the newest may go."""
        stored = set(shards)
        for key, said in held_back.items():
            if shard_of(key) in stored and self._held_back.get(key) is said:
                self._release(key, self._held_back.pop(key))

    def unwritten(self, shards: Iterable[int]) -> None:
        """These shards could not be stored."""
        self._ledger.dirty.update(shards)

    def held_back(self) -> dict[Key, JobReport | NodeReport]:
        """What waits for a write; to be asked for with `dirty` and handed to `written`."""
        return dict(self._held_back)

    # --- sending ------------------------------------------------------------------------------------

    def take(self, now: float) -> list[Send]:
        """What is to be sent now, in order."""
        while len(self._ledger.leaving) < self._window and (taken := self._ledger.take_back()):
            report, since = taken
            self._release(("job", report.id), report, max(now - since, 0.0))
        ready, self._ready = self._ready, []
        return ready

    def surplus(self, now: float) -> list[Key]:
        """What was taken and had better be withdrawn, and then `spill`ed: the oldest beyond the window, or all
        when others have waited for a while.
        """
        leaving = self._ledger.leaving
        surplus = len(leaving) - self._window
        self._turn_at = min(self._turn_at, now + TURN)  # the clock may have been set back
        if self._turn_at <= now:
            self._turn_at = now + TURN
            surplus = len(leaving) if self._ledger.backlog()[0] else surplus
        keys = [("job", uid) for uid in islice(leaving, max(surplus, 0))]
        return [key for key in keys if key not in self._held_back]

    def spill(self, key: Key, waited: float, now: float) -> None:
        """What was `surplus` is withdrawn, after it has waited for so many seconds."""
        self._ledger.spill(key[1], now - waited)

    def delivered(self, said: JobReport | NodeReport) -> None:
        """CloudVision took this."""
        if isinstance(said, JobReport):
            self._ledger.told_job(said)
        else:
            self._ledger.told_node(said.node, fingerprint(said.nics))

    # --- for telemetry, by any thread: a list() of a dict is one step of the interpreter -----------------

    def jobs_by_state(self) -> dict[str, int]:
        """How many jobs wait to be reported, run and have ended, as CloudVision was told."""
        told = list(self._ledger.jobs.values())
        running = sum(record.report.end is None for record in told)
        ended = len(told) - running + self._ledger.backlog()[0]
        return {"pending": self._tracker.pending(), "running": running, "ended": ended}

    def backlog(self, now: float) -> tuple[int, float]:
        """How many jobs wait for their turn to be sent, and for how many seconds the first of them has waited."""
        count, since = self._ledger.backlog()
        return count, max(now - since, 0.0)

    def nodes(self) -> int:
        """How many nodes CloudVision was told of."""
        return len(self._ledger.nodes)
