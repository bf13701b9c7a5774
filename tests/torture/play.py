"""Processes that crash, watches that stall, a CloudVision that fails: one history in simulated time.

Everything random comes from one seeded generator: a seed is a history. The program is driven through `adapter.py`;
watches, the store of records and CloudVision are played here, with their faults. What a leader could see, and when,
is noted for the judge.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cvji.cloudvision.client import Answer, Verdict
from tests.torture.adapter import Driver, Sending, Write
from tests.torture.cluster import KINDS, RAYCLUSTER, RAYJOB, START, WATCHES, Options, is_of
from tests.torture.deeds import World
from tests.torture.evidence import Evidence, Rules
from tests.torture.judge import judge
from tests.torture.shown import Shown

STEP = 0.5
QUIET = 330.0  # seconds after the last fault and birth, at least: time for what is planned still
SETTLE = 80.0  # seconds after the last change
RECORDED = 6.0  # seconds after which what a leader has seen is in its records


class Faults(msgspec.Struct, frozen=True):
    """Which faults histories contain. `warm`: a second process stands by. `narrow`: see `Program`; some refusals.

    `mode_changes`: JOBCONFIG_MODE becomes node at a restart. `apart`: each kind of jobs is watched by itself, and kinds
    are listed one after another in any order, with other events between: a child may be seen before its owner, and pods
    before both; now and then one kind is seen late.
    """

    any: bool = True
    warm: bool = False
    narrow: bool = False
    mode_changes: bool = False
    apart: bool = False


def kind_of(watch: str) -> str:
    """Of KINDS, what a watch shows."""
    return watch if watch in KINDS else "jobs"


class Process:
    """One process: the program, what it has seen of the cluster, its writes and requests on their way."""

    def __init__(self, history: "History") -> None:
        self.history = history
        self.number = history.count
        self.program = history.driver.program(
            nodes=history.nodes, narrow=history.faults.narrow, jitter=history.rng.random
        )
        self.known: dict[str, dict[str, Any]] = {watch: {} for watch in history.watches}
        self.read: dict[str, int] = dict.fromkeys(history.watches, -1)  # place in the log, -1: to be listed
        self.late: dict[str, float] = {}  # watches that begin later than others, and when: this process leads without
        self.drivers: set[str] = set()  # pods that own pods, of those that it has seen
        self.jobs: set[str] = set()  # that it has seen, where kinds are watched apart
        self.deaf_until = 0.0  # its open watches are silent until then; a new list is not
        self.lease = False
        self.leads = False
        self.dead = False
        self.writing: list[tuple[float, Write]] = []
        self.flying: list[tuple[float, Sending]] = []
        self.heard: list[tuple[float, int]] = []  # changes of job objects that it saw while it led, and when

    def watch(self, watch: str, now: float) -> None:
        """Take in what has happened to a kind: event by event, or by a list and its difference."""
        history = self.history
        cluster, at = history.cluster, history.clock(now)
        end, kind = len(cluster.log), kind_of(watch)
        if self.read[watch] < 0:
            there = {uid: obj for uid, obj in cluster.objects[kind].items() if is_of(watch, kind, obj)}
            new = [obj for uid, obj in there.items() if self.known[watch].get(uid) is not obj]
            gone = [obj for uid, obj in self.known[watch].items() if uid not in there]
            for obj in new:
                self.program.apply(history.driver.event(kind, obj, False), at)
            for obj in gone:
                self.program.apply(history.driver.event(kind, obj, True), at)
            if kind == "jobs" and history.faults.apart:
                self.jobs |= there.keys()
                self.note_ownerless(gone, at)
            self.known[watch] = there
            self.program.listed(watch, at)
            if kind == "jobs":
                newest = {change.uid: number for number, change in enumerate(cluster.log) if change.concerns(watch)}
                self.heard += [(now, number) for number in newest.values()]
        else:
            for number in range(self.read[watch], end):
                change = cluster.log[number]
                if not change.concerns(watch):
                    continue
                self.program.apply(history.driver.event(kind, change.object, change.gone), at)
                if kind == "jobs" and history.faults.apart:
                    self.jobs.add(change.uid)
                    self.note_ownerless([change.object] if change.gone else (), at)
                if change.gone:
                    self.known[watch].pop(change.uid, None)
                else:
                    self.known[watch][change.uid] = change.object
                if kind == "jobs":
                    self.heard.append((now, number))
        if kind == "pods":
            self.drivers |= self.known[watch].keys() & cluster.drivers.keys()
        self.read[watch] = end

    def note_ownerless(self, jobs: Iterable[Any], at: float) -> None:
        """Of which of these jobs, of which it decides something, it has not seen the owner."""
        for job in jobs:
            if job.owner and job.owner not in self.jobs:
                self.history.evidence.note_ownerless(at, job.uid)

    def silent(self, watch: str, now: float) -> bool:
        """Whether nothing of a kind reaches it."""
        history = self.history
        until = max(history.stalled.get(kind_of(watch), 0), history.lagging.get(watch, 0), self.late.get(watch, 0))
        return until > now

    def hears(self, now: float) -> bool:
        """Whether everything that happens reaches it."""
        history = self.history
        until = (*history.stalled.values(), *history.lagging.values(), *self.late.values())
        return self.deaf_until <= now and max(until, default=0.0) <= now

    def listed(self) -> bool:
        """Whether it has listed every kind that it does not lead without."""
        return all(read >= 0 for watch, read in self.read.items() if watch not in self.late)

    def step(self, now: float) -> None:
        history, program, at = self.history, self.program, self.history.clock(now)
        for watch in history.in_turn():
            read = self.read[watch]
            heard = read == len(history.cluster.log) or (self.deaf_until > now and read >= 0)
            if not heard and not self.silent(watch, now):
                self.watch(watch, now)
        if not self.leads and self.lease and self.listed() and not history.api_away:
            history.owner = self.number
            program.lead(dict(history.records), at)
            self.leads = True
            history.evidence.leaders.append(at)
            self.heard = [(now, number) for _, number in self.heard]
        if not self.leads:
            self.heard = []
            program.rest()
            return
        program.decide(at)
        self.store(now)
        while self.lease and (sending := program.send(at)) is not None:
            self.flying.append((now + history.rng.uniform(0, 1.5), sending))
        for flight in [flight for flight in self.flying if flight[0] <= now]:
            self.flying.remove(flight)
            history.answer(self, flight[1], now)

    def store(self, now: float) -> None:
        """Begin and end writes of records."""
        history = self.history
        if not self.writing:
            self.writing = [(now + history.rng.uniform(0.1, 2), write) for write in self.program.writes()]
        for entry in [entry for entry in self.writing if entry[0] <= now]:
            self.writing.remove(entry)
            if history.owner != self.number:
                self.dead = True  # refused: a later leader has taken the records over
                return
            if not history.api_away:
                history.records[entry[1].key] = entry[1].body
            self.program.written(entry[1], not history.api_away)


class History:
    """One seed's history from beginning to end."""

    def __init__(
        self,
        seed: int,
        *,
        busy: float = 330.0,
        options: Options = Options(),  # noqa: B008  frozen
        faults: Faults = Faults(),  # noqa: B008
        rules: Rules = Rules(),  # noqa: B008
        driver: Any = None,
    ) -> None:
        self.seed, self.busy, self.faults, self.rules = seed, busy, faults, rules
        self.driver = driver or Driver()
        self.rng = random.Random(seed)
        self.cluster = World(self.rng, options, self.clock)
        self.cluster.begin()
        self.shown = Shown()
        self.records: dict[str, bytes] = {}
        self.owner = -1
        self.failures = [Verdict.RETRY, Verdict.BUSY, *([Verdict.REFUSED] if faults.narrow else [])]
        self.quiet = not faults.any
        self.stalled: dict[str, float] = {}
        self.watches = WATCHES if faults.apart else KINDS
        self.apart = random.Random(f"{seed} apart")  # of what not every history has: the draws of others stay theirs
        self.lagging: dict[str, float] = {}  # like `stalled`, by watch
        self.api_away = self.cloudvision_away = False
        self.down_until = self.away_until = self.api_until = self.now = 0.0
        self.nodes = False
        self.count = 0
        self.processes: list[Process] = []
        self.standby: Process | None = None
        self.evidence = Evidence(began=self.clock(0.0))
        if faults.warm:
            self.standby = self.make()

    def clock(self, now: float) -> float:
        return START + now

    def run(self) -> None:
        """Play it, faults and all, until everything has been quiet for long enough to settle."""
        now = 0.0
        while now < self.busy + QUIET or self.cluster.plans or now < self.cluster.changed + SETTLE:
            self.quiet = not self.faults.any or now > self.busy
            self.cluster.step(now, now < self.busy)
            self.trouble(now)
            self.play(now)
            self.note(now)
            now += STEP
        self.evidence.until = self.clock(now)
        for process in self.processes:
            self.note_heard(process, float("inf"))

    # --- faults -------------------------------------------------------------------------------------

    def trouble(self, now: float) -> None:
        """Begin and end faults at random."""
        rng = self.rng
        if self.quiet:
            self.stalled.clear()
            self.lagging.clear()
            self.away_until = self.api_until = 0.0
        else:
            if self.faults.apart:
                self.lag(now)
            if self.running() and rng.random() < 0.008:
                self.kill(now)
                self.down_until = now + rng.choice([0, 5, 60, 150])
            if rng.random() < 0.006:
                self.away_until = now + rng.uniform(1, 90)
            if rng.random() < 0.005:
                self.api_until = now + rng.uniform(1, 40)
            if rng.random() < (0.002 if self.faults.apart else 0.02):
                self.stalled[rng.choice(KINDS)] = now + rng.uniform(1, 40)
            if self.running() and rng.random() < 0.02:
                self.expire(rng.choice(KINDS))
            if self.running() and rng.random() < 0.005:
                self.failover(now)
        self.cloudvision_away, self.api_away = now < self.away_until, now < self.api_until
        if self.api_away:
            self.stalled.update({kind: max(self.stalled.get(kind, 0), self.api_until) for kind in KINDS})

    def lag(self, now: float) -> None:
        """One kind is seen late; after an outage all are, each by as much as it happens."""
        if self.apart.random() < 0.004:
            self.lagging[self.apart.choice(self.watches)] = now + self.apart.uniform(1, 20)
        if self.apart.random() < 0.002:
            self.lagging["/".join(RAYJOB)] = now + self.apart.uniform(40, 100)
        if self.api_away:
            self.lagging.update({watch: self.api_until + self.apart.uniform(0, 6) for watch in self.watches})

    def in_turn(self) -> Sequence[str]:
        """The watches in the order in which what happened in the same moment is heard of."""
        return self.apart.sample(self.watches, len(self.watches)) if self.faults.apart else self.watches

    def running(self) -> bool:
        """Whether a process reports, or is about to."""
        return bool(self.processes)

    def expire(self, kind: str) -> None:
        """The API server has no history of a kind any more (410): it is listed again."""
        self.processes[0].read.update({watch: -1 for watch in self.watches if kind_of(watch) == kind})

    def kill(self, now: float) -> None:
        """SIGKILL whoever reports; JOBCONFIG_MODE may be another for who comes next."""
        for process in self.processes:
            self.note_heard(process, now)
        self.processes.clear()
        if self.faults.mode_changes and not self.nodes and self.standby is None and self.rng.random() < 0.5:
            self.nodes = True
            self.evidence.node_mode_from = self.clock(now)

    def failover(self, now: float) -> None:
        """A second process takes over, and the first goes on for a while."""
        if self.standby is not None and self.rng.random() < 0.5:  # because it hears more than the standby does
            self.standby.deaf_until = now + 60
            return
        for other in self.processes:
            self.note_heard(other, now)
        self.processes.insert(0, self.process())

    # --- processes ----------------------------------------------------------------------------------

    def make(self) -> Process:
        self.count += 1
        return Process(self)

    def process(self) -> Process:
        """A process that holds the lease from now on; whoever held it may send no more."""
        for other in self.processes:
            other.lease = False
            other.flying.clear()  # the lease outlasts the requests begun under it
        found = self.standby or self.make()
        if self.standby is not None:
            self.standby = self.make()
        found.lease = True
        self.owner = found.number  # the fence, and then a list of everything
        found.read = dict.fromkeys(found.read, -1)
        if self.faults.apart and not self.quiet:
            now = self.now
            self.lagging.update({watch: now + self.apart.uniform(0, 4) for watch in self.watches})
            if self.standby is None and self.apart.random() < 0.15:
                found.late = {"/".join(RAYJOB): now + self.apart.uniform(4, 90)}
        return found

    def play(self, now: float) -> None:
        """Let every process do what it has to do by now."""
        self.now = now
        if not self.processes and now >= self.down_until:
            self.processes.append(self.process())
        everyone = [*self.processes, *([self.standby] if self.standby else [])]
        for pod in self.cluster.orphans():  # who has not seen its owner cannot know whose it is
            if any(pod.owner not in process.drivers for process in everyone):
                self.cluster.remove_pod(pod.uid)
        for process in self.processes:
            process.step(now)
        self.processes = [process for process in self.processes if not process.dead]
        if self.standby is not None:
            self.standby.step(now)

    def answer(self, process: Process, sending: Sending, now: float) -> None:
        """A request arrives at CloudVision, or does not; its answer arrives, or does not."""
        verdict = Verdict.DELIVERED
        if self.cloudvision_away:
            verdict = Verdict.BUSY
        elif not self.quiet and self.rng.random() < 0.05:
            verdict = self.rng.choice(self.failures)
        else:
            self.shown.take(sending.request.method, sending.request.path, sending.request.body, self.clock(now))
            if not self.quiet and self.rng.random() < 0.05:
                verdict = Verdict.BUSY  # the answer was lost
        delivered = verdict is Verdict.DELIVERED
        process.program.settle(sending, Answer(verdict, 200 if delivered else 0), delivered, self.clock(now))

    # --- for the judge ------------------------------------------------------------------------------

    def note(self, now: float) -> None:
        """Whether a leader hears everything now, and whether what it says arrives."""
        leader = self.processes[0] if self.processes else None
        live = leader is not None and leader.leads and leader.hears(now) and not self.api_away
        number = leader.number if leader is not None and live else None
        self.evidence.note(self.clock(now), number, live and not self.cloudvision_away)
        if leader is not None and leader.leads and self.faults.apart:
            leader.note_ownerless(leader.known["/".join(RAYCLUSTER)].values(), self.clock(now))

    def note_heard(self, process: Process, now: float) -> None:
        """A process ends: what it saw of job objects, and had the time to record, has been seen."""
        if process.leads:
            self.evidence.seen.update(number for at, number in process.heard if at + RECORDED <= now)

    def judge(self) -> list[str]:
        """Every way in which CloudVision differs from the truth."""
        wrong = judge(self.cluster.log, self.evidence, self.shown, self.rules)
        jobs = set(self.cluster.objects["jobs"])
        if self.processes and (left := {name.split(".")[0] for name in self.processes[0].program.remembered()} - jobs):
            wrong.append(f"still remembered: {sorted(left)}")  # nothing that is over and gone
        return [f"seed {self.seed}: {text}" for text in wrong]
