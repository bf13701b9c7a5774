"""A cluster, an informer that dies, and a CloudVision that fails, in simulated time; and the truth they are held to.

Everything random comes from one seeded generator, so that a seed is a history. The reporter, ledger and outbox
are the real ones; watches, checkpoint and CloudVision are played here, with their faults. `real.py` plays the
same histories to the program itself, and has them judged here.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
from cvji.jobs.allocation import Claim, Pod
from cvji.reporter import WINDOW, NodeApplied, NodeDeleted, NodesListed, Reporter

from cvji.cloudvision.client import Answer, Verdict
from cvji.cloudvision.outbox import Outbox, Parcel
from cvji.jobs.kinds import Job, Registry
from cvji.jobs.report import End, JobState
from cvji.jobs.tracker import Applied, Deleted, KindWatched, Policy
from cvji.nodes.inventory import Nic, NodeState
from tests.simulator.cloudvision import Job as Payload
from tests.simulator.cloudvision import check_job

STEP = 0.5
START = 1_767_225_600.0
KIND = next(kind for kind in Registry() if kind.kind == "PyTorchJob")
POLICY = Policy()


def when(now: float) -> datetime:
    return datetime.fromtimestamp(int(START + now), UTC)


class Life(msgspec.Struct):
    """What really happened to one job, for the judge: when it began to run, how it ended, what it ever held."""

    name: str
    ran: float  # since its last start
    state: JobState = JobState.RUNNING
    ended: float | None = None
    end_said: datetime | None = None  # by its object
    seen_for: float = 0.0  # seconds that an informer saw it run
    ever: set[str] = msgspec.field(default_factory=set)
    gone: float | None = None
    starts: list[datetime] = msgspec.field(default_factory=list)
    kept: set[str] = msgspec.field(default_factory=set)  # held by pods that succeeded and were collected
    noted: float = -1.0  # when a pod of its last succeeded, or that or its claim was collected
    blurred: bool = False  # one of these happened while nobody may have seen or recorded it


class Cluster:
    """The truth: jobs, pods, claims and node states as they are, changed at random."""

    def __init__(
        self,
        rng: random.Random,
        jobs: int,
        *,
        claims: float = 0.0,
        clock: Callable[[float], datetime] = when,
    ) -> None:
        """`claims`: how many of all pods have their NICs by a claim. `clock`: what objects say the time is."""
        self.rng = rng
        self.claims = claims
        self.when = clock
        self.spent: dict[str, set[str]] = {}  # by pod: of claims that are gone
        self.objects: dict[str, dict[str, Any]] = {"jobs": {}, "pods": {}, "claims": {}, "nodes": {}}
        self.log: list[tuple[str, str, Any, bool]] = []  # kind, uid, object, whether deleted
        self.lives: dict[str, Life] = {}
        self.births = sorted(rng.uniform(0, 400) for _ in range(jobs))
        self.plans: list[tuple[float, str, str]] = []
        self.macs = 0
        self.published: dict[str, tuple[str, ...]] = {}  # by claim: MACs to come
        self.observed = False
        self.prompt = False  # a claim goes as soon as its pod has ended

    def put(self, kind: str, uid: str, obj: Any) -> None:
        self.objects[kind][uid] = obj
        self.log.append((kind, uid, obj, False))

    def drop(self, kind: str, uid: str) -> None:
        self.log.append((kind, uid, self.objects[kind].pop(uid), True))

    def mac(self) -> str:
        self.macs += 1
        return f"02:00:00:{self.macs >> 16:02x}:{self.macs >> 8 & 255:02x}:{self.macs & 255:02x}"

    def pod(self, job: str, now: float, *macs: str) -> str:
        uid = f"{job}-pod-{self.macs}-{len(self.objects['pods'])}-{now}"
        at = self.when(now)
        claimed = bool(self.claims) and self.rng.random() < self.claims
        found = Pod(
            uid=uid, namespace="team", name=uid, owner=job, phase="Running", node="n", host_network=False,
            deleting=False, created=at, started=at, ran_from=at, finished=None, slot=uid, macs=() if claimed else macs,
            claims=(uid,) if claimed else (), problem="",
        )  # fmt: skip
        self.put("pods", uid, found)
        self.lives[job].ever.update(macs)
        if claimed:  # its MACs are often published after it runs
            claim = Claim(uid=uid, namespace="team", name=uid, macs=(), reserved_for=((uid, uid),), problem="")
            late = self.rng.random() < 0.7
            self.put("claims", uid, claim if late else msgspec.structs.replace(claim, macs=macs))
            if late:
                self.published[uid] = macs
                self.plans.append((now + self.rng.uniform(1, 15), job, f"publish {uid}"))
        return uid

    def release(self, pod: str, now: float) -> None:
        """The claim of a pod goes, before or with it."""
        claim, found = self.objects["claims"].get(pod), self.objects["pods"].get(pod)
        if claim is None:
            return
        self.drop("claims", pod)
        if found is not None and found.phase == "Succeeded":
            self.spent[pod] = set(claim.macs)
            self.note(self.lives[found.owner], now)

    def note(self, life: Life, now: float) -> None:
        """What a job holds is from now on told by no object."""
        life.noted = now
        life.blurred |= not self.observed

    def collect(self, pod: str, now: float) -> None:
        """A pod goes, and with it its claim."""
        self.release(pod, now)
        self.spent.pop(pod, None)
        self.drop("pods", pod)

    def job(self, uid: str, now: float, **change: Any) -> None:
        old = self.objects["jobs"].get(uid)
        if old is None:
            old = Job(
                kind=KIND, uid=uid, name=uid, namespace="team", owner=None, owner_kind=None, created=self.when(now),
                started=self.when(now), end=None, suspended=False, deleting=False,
            )  # fmt: skip
        self.put("jobs", uid, msgspec.structs.replace(old, **change))

    def pods_of(self, job: str, *phases: str) -> list[str]:
        return [uid for uid, pod in self.objects["pods"].items() if pod.owner == job and pod.phase in phases]

    def held(self, job: str) -> set[str]:
        """What the job holds by all that happened to it."""
        spent = [self.spent.get(pod, set()) for pod in self.pods_of(job, "Running", "Succeeded")]
        return self.shown(job).union(*spent)

    def shown(self, job: str) -> set[str]:
        """What objects say now that the job holds."""
        found = set[str]()
        for uid in self.pods_of(job, "Running", "Succeeded"):
            claim = self.objects["claims"].get(uid)
            found.update(self.objects["pods"][uid].macs, claim.macs if claim else ())
        return found

    def step(self, now: float, busy: bool) -> None:
        """Let happen what is due; while `busy`, new things begin."""
        rng = self.rng
        while busy and self.births and self.births[0] <= now:
            self.births.pop(0)
            uid = f"job-{len(self.lives)}"
            self.lives[uid] = Life(uid, now)
            self.job(uid, now)
            for _ in range(rng.randint(1, 4)):
                self.pod(uid, now, self.mac())
            self.lives[uid].starts.append(self.when(now))
            at = now
            for _ in range(rng.randint(0, 3)):
                at += rng.uniform(15, 80)
                self.plans.append((at, uid, rng.choice(["replace", "grow", "pause", "succeed"])))
            if rng.random() < 0.85:
                at += rng.uniform(15, 80)
                self.plans.append((at, uid, rng.choice(["complete", "fail", "delete"])))
                if rng.random() < 0.5:
                    self.plans.append((at + rng.uniform(1, 60), uid, "collect"))
        if busy and rng.random() < 0.02:
            node = f"node-{rng.randint(0, 4)}"
            if node in self.objects["nodes"] and rng.random() < 0.4:
                self.drop("nodes", node)
            else:
                nics = (Nic("e0", self.mac(), ()),)
                self.put("nodes", node, NodeState(node, node, "cloudvision", nics, ()))
        self.due(now)

    def due(self, now: float) -> None:
        """Let happen what was planned for by now."""
        for plan in sorted(plan for plan in self.plans if plan[0] <= now):
            self.plans.remove(plan)
            self.act(plan[1], plan[2], now)

    def act(self, uid: str, deed: str, now: float) -> None:
        life, job = self.lives[uid], self.objects["jobs"].get(uid)
        deed, _, about = deed.partition(" ")
        if about:
            self.act_on_claim(deed, about, now)
            return
        if job is None:
            return
        running = self.pods_of(uid, "Running")
        if deed == "collect":
            self.remove(uid, now)
        elif life.ended is not None:
            return
        elif deed == "replace" and running:
            self.collect(self.rng.choice(running), now)
            self.pod(uid, now, self.mac())
        elif deed == "grow":
            self.pod(uid, now, self.mac(), self.mac())
        elif deed == "succeed" and len(running) > 1:
            done = self.rng.choice(running)
            self.put("pods", done, msgspec.structs.replace(self.objects["pods"][done], phase="Succeeded"))
            life.noted = now
            if self.prompt:
                self.release(done, now)
            if done in self.objects["claims"]:
                self.plans.append((now + self.rng.uniform(0, 20), uid, f"release {done}"))
            if self.rng.random() < 0.7:
                self.plans.append((now + self.rng.uniform(5, 60), uid, "prune"))
        elif deed == "prune" and (done_pods := self.pods_of(uid, "Succeeded")):
            gone = self.rng.choice(done_pods)
            claim = self.objects["claims"].get(gone)
            if not job.suspended:  # else it was of the run before
                held = claim.macs if claim else ()
                life.kept.update(self.objects["pods"][gone].macs, held, self.spent.get(gone, ()))
            self.note(life, now)
            self.collect(gone, now)
        elif deed == "pause":
            self.job(uid, now, suspended=True)
            life.kept.clear()
            # What its done pods held by claims that are gone, no object says and no record of the next run has to.
            life.blurred |= any(pod in self.spent for pod in self.pods_of(uid, "Succeeded"))
            life.blurred |= not self.observed  # with the resumption in the same breath it is no pause
            for pod in running:
                self.collect(pod, now)
            self.plans.append((now + self.rng.uniform(30, 60), uid, "resume"))
        elif deed == "resume" and job.suspended:
            life.ran = now
            life.starts.append(self.when(now))
            self.job(uid, now, suspended=False, started=self.when(now))
            self.pod(uid, now, self.mac())
        elif deed in ("complete", "fail") and not job.suspended and running:
            phase = "Succeeded" if deed == "complete" else "Failed"
            life.state = JobState.COMPLETED if deed == "complete" else JobState.FAILED
            life.ended = now
            for pod in running:
                old = self.objects["pods"][pod]
                self.put("pods", pod, msgspec.structs.replace(old, phase=phase, finished=self.when(now)))
                if self.prompt:
                    self.release(pod, now)
                elif pod in self.objects["claims"] and self.rng.random() < 0.5:
                    self.plans.append((now + self.rng.uniform(0, 20), uid, f"release {pod}"))
            life.end_said = self.when(now)
            self.job(uid, now, end=End(life.state, life.end_said))
        elif deed == "delete":
            self.remove(uid, now)

    def act_on_claim(self, deed: str, name: str, now: float) -> None:
        claim = self.objects["claims"].get(name)
        if deed == "release":
            self.release(name, now)
        elif claim is not None:
            self.put("claims", name, msgspec.structs.replace(claim, macs=self.published.pop(name)))

    def remove(self, uid: str, now: float) -> None:
        """Delete a job, and its pods with it."""
        life = self.lives[uid]
        life.gone = now
        if life.ended is None:
            life.state, life.ended = JobState.CANCELLED, now
        self.drop("jobs", uid)
        for pod in self.pods_of(uid, "Running", "Succeeded", "Failed"):
            self.collect(pod, now)


class Store:
    """The checkpoint's ConfigMaps: a writer that is not the last to have taken them over is refused."""

    def __init__(self) -> None:
        self.shards: dict[int, bytes] = {}
        self.owner = 0


class CloudVision:
    """Takes requests in order of arrival; away, or silent after taking one, when told so."""

    def __init__(self) -> None:
        self.jobs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.nodes: dict[str, list[bytes]] = defaultdict(list)
        self.away = False

    def take(self, parcel: Parcel) -> None:
        kind, name = parcel.key
        if kind == "job":
            payload = msgspec.json.decode(parcel.request.body, type=Payload)
            check_job(payload)
            self.jobs[name].append(msgspec.json.decode(parcel.request.body))
        else:
            self.nodes[name].append(parcel.request.body)


class Informer:
    """One process: the real reporter and outbox, its view of the cluster, its writes and requests under way."""

    def __init__(self, number: int, history: "History", lease: bool) -> None:
        self.number, self.history = number, history
        self.reporter = Reporter(POLICY, "lab", durable=True, window=history.window)
        self.outbox = Outbox(history.rng.random)
        self.known: dict[str, dict[str, Any]] = {kind: {} for kind in history.cluster.objects}
        self.read: dict[str, int] = dict.fromkeys(self.known, -1)  # place in the log, -1: to be listed
        self.deaf_until = 0.0  # its open watches are silent until then; a new list is not
        self.leads = False
        self.lease = lease
        self.writing: tuple[float, dict[int, bytes], dict[Any, Any]] | None = None
        self.flying: list[tuple[float, Parcel]] = []
        self.dead = False

    def watch(self, kind: str, now: float) -> None:
        """Take in what has happened to a kind: event by event, or by a list and its difference."""
        cluster = self.history.cluster
        if self.read[kind] < 0:
            for uid, obj in cluster.objects[kind].items():
                if self.known[kind].get(uid) is not obj:
                    self.see(kind, uid, obj, False, now)
            for uid in [uid for uid in self.known[kind] if uid not in cluster.objects[kind]]:
                self.see(kind, uid, self.known[kind][uid], True, now)
            if kind == "nodes":
                self.reporter.apply(NodesListed(), START + now)
            elif kind == "jobs":
                self.reporter.apply(KindWatched(KIND.key, True), START + now)
        else:
            for what, uid, obj, gone in cluster.log[self.read[kind] :]:
                if what == kind:
                    self.see(kind, uid, obj, gone, now)
        self.read[kind] = len(cluster.log)

    def see(self, kind: str, uid: str, obj: Any, gone: bool, now: float) -> None:
        if gone:
            self.known[kind].pop(uid, None)
        else:
            self.known[kind][uid] = obj
        if kind == "nodes":
            self.reporter.apply(NodeDeleted(obj) if gone else NodeApplied(obj), START + now)
        else:
            self.reporter.apply(Deleted(obj) if gone else Applied(obj), START + now)

    def step(self, now: float) -> None:
        history, rng = self.history, self.history.rng
        for kind in ("claims", "pods", "nodes", "jobs"):
            if history.stalled.get(kind, 0) <= now and (self.deaf_until <= now or self.read[kind] < 0):
                self.watch(kind, now)
        if not self.leads and self.lease and all(place >= 0 for place in self.read.values()):
            if history.api_away:
                return
            history.store.owner = self.number
            self.reporter.lead(list(history.store.shards.values()), START + now)
            self.leads = True
        if not self.leads:
            self.reporter.rest()
            return
        self.reporter.advance(START + now)
        if self.writing is None and self.reporter.changed:
            held_back = self.reporter.held_back()
            self.writing = (now + rng.uniform(0.1, 2), self.reporter.dirty(), held_back)
        elif self.writing is not None and self.writing[0] <= now:
            _, shards, held_back = self.writing
            self.writing = None
            if history.store.owner != self.number:
                self.dead = True  # a lost fence: no longer the one who reports
                return
            if history.api_away:
                self.reporter.unwritten(shards)
            else:
                history.store.shards.update(shards)
                self.reporter.written(shards, held_back)
        for send in self.reporter.take(START + now):
            if send.key in self.outbox._waiting:  # to A, back from a B that was never sent
                history.lost[send.key[1]] = history.lost.get(send.key[1], 0) + 1
            self.outbox.put(send.key, send.request, now, send.said, send.waited)
        for key in self.reporter.surplus(START + now):
            if (waited := self.outbox.withdraw(key, now)) is not None:
                self.reporter.spill(key, waited, START + now)
        while self.lease and (parcel := self.outbox.take(now)) is not None:
            self.flying.append((now + rng.uniform(0, 1.5), parcel))
        for flight in [flight for flight in self.flying if flight[0] <= now]:
            self.flying.remove(flight)
            self.land(flight[1], now)

    def land(self, parcel: Parcel, now: float) -> None:
        history = self.history
        if history.cloudvision.away:
            answer = Answer(Verdict.BUSY, message="away")
        elif not history.quiet and history.rng.random() < 0.05:
            answer = Answer(history.rng.choice(history.failures), 500)
        else:
            history.cloudvision.take(parcel)
            if not history.quiet and history.rng.random() < 0.05:
                history.lost[parcel.key[1]] = history.lost.get(parcel.key[1], 0) + 1
                answer = Answer(Verdict.BUSY, message="answer lost")
            else:
                answer = Answer(Verdict.DELIVERED, 200)
        if answer.verdict is Verdict.DELIVERED:
            self.reporter.delivered(parcel.tag)  # type: ignore[arg-type]
        self.outbox.settle(parcel, answer, now)


class History:
    """One seed's history from beginning to end. What depends on the speed of things is in its attributes."""

    steady = 65.0  # seconds after which an undisturbed informer has seen what there is, and
    recorded = 5.0  # recorded it
    sure_after = 40.0  # a job that was seen to run for so long must be reported,
    sure_unseen = 10.0  # and one that ran for so long unseen, if its objects tell

    def __init__(
        self,
        seed: int,
        *,
        jobs: int = 12,
        busy: float = 500.0,
        claims: float = 0.0,
        warm: bool = False,
        narrow: bool = False,
        clock: Callable[[float], datetime] = when,
    ) -> None:
        """`warm`: a second process stands by, and takes over when the first fails.

        `narrow`: of the jobs that are gone one at a time is on its way, and some reports are refused for a while.
        """
        self.window = 1 if narrow else WINDOW
        self.failures = [Verdict.RETRY, Verdict.BUSY, *([Verdict.REFUSED] if narrow else [])]
        self.seed = seed
        self.rng = random.Random(seed)
        self.cluster = Cluster(self.rng, jobs, claims=claims, clock=clock)
        self.cloudvision = CloudVision()
        self.store = Store()
        self.busy_until = busy
        self.quiet = False
        self.stalled: dict[str, float] = {}
        self.api_away = False
        self.lost: dict[str, int] = {}  # answers that never arrived and reports overtaken before they were sent, by job
        self.informers: list[Informer] = []
        self.count = 0
        self.standby: Informer | None = self.start() if warm else None
        self.fresh_for = 0.0
        self.recorded_to = 0.0  # whatever happened until then is in the checkpoint
        self.crashes = 0
        self.down_until = self.away_until = self.api_until = 0.0

    def run(self) -> None:
        """Play it, faults and all, until everything has been quiet for long enough to settle."""
        now = 0.0
        while now < self.busy_until + 400:
            self.quiet = now > self.busy_until
            self.cluster.step(now, not self.quiet)
            self.trouble(now)
            self.play(now)
            self.watch_lives(now)
            now += STEP

    def trouble(self, now: float) -> None:
        """Begin and end faults at random."""
        rng, kinds = self.rng, [kind for kind in ("jobs", "pods", "nodes", "claims") if self.claimed(kind)]
        if self.quiet:
            self.stalled.clear()
            self.away_until = self.api_until = 0.0
        else:
            if self.running() and rng.random() < 0.006:
                self.crash()
                self.kill()
                self.down_until = now + rng.choice([0, 5, 60, 150])
            if rng.random() < 0.006:
                self.away_until = now + rng.uniform(1, 90)
            if rng.random() < 0.004:
                self.api_until = now + rng.uniform(1, 40)
            if rng.random() < 0.02:
                self.stalled[rng.choice(kinds)] = now + rng.uniform(1, 40)
            if self.running() and rng.random() < 0.02:
                self.expire(rng.choice(kinds))
            if self.running() and rng.random() < 0.004:
                self.failover(now)
        self.cloudvision.away, self.api_away = now < self.away_until, now < self.api_until
        if self.api_away:
            self.stalled.update({kind: max(self.stalled.get(kind, 0), self.api_until) for kind in kinds})

    def crash(self) -> None:
        """A process ends without having been asked: what it alone knew is lost."""
        self.crashes += 1
        for life in self.cluster.lives.values():
            life.blurred |= life.noted > self.recorded_to

    def claimed(self, kind: str) -> bool:
        """Whether histories have this kind."""
        return kind != "claims" or bool(self.cluster.claims)

    # --- the processes, in simulated time -----------------------------------------------------------

    def running(self) -> bool:
        """Whether a process reports, or begins to."""
        return bool(self.informers)

    def kill(self) -> None:
        """SIGKILL whoever reports."""
        self.informers.clear()

    def expire(self, kind: str) -> None:
        """410: the history of a kind is gone."""
        self.informers[0].read[kind] = -1

    def failover(self, now: float) -> None:
        """A second takes over, the first goes on a while."""
        if self.standby is not None and self.rng.random() < 0.5:  # because it hears more than the standby does
            self.standby.deaf_until = now + 60
            return
        self.informers.insert(0, self.process())

    def play(self, now: float) -> None:
        """Let every process do what it has to do by now."""
        if not self.informers and now >= self.down_until:
            self.informers.append(self.process())
        for informer in self.informers:
            informer.step(now)
        self.informers = [informer for informer in self.informers if not informer.dead]
        if self.standby is not None:
            self.standby.step(now)

    def start(self) -> Informer:
        self.count += 1
        return Informer(self.count, self, lease=False)

    def process(self) -> Informer:
        """A process that holds the lease from now on; whoever held it may send no more."""
        for other in self.informers:
            self.crash()
            other.lease = False
            other.flying.clear()  # the lease outlasts the requests begun under it
        found = self.standby or self.start()
        if self.standby is not None:
            self.standby = self.start()
        found.lease = True
        self.store.owner = found.number  # the fence, and then a list of everything
        found.read = dict.fromkeys(found.read, -1)
        return found

    def watch_lives(self, now: float) -> None:
        """How long each job has been seen to run by an informer that could report it."""
        fresh = self.leads() and self.hears(now) and all(until <= now for until in self.stalled.values())
        self.fresh_for = self.fresh_for + STEP if fresh else 0.0
        self.cluster.observed = self.fresh_for > self.steady
        if self.fresh_for > self.recorded:
            self.recorded_to = now - self.recorded
        if not fresh:
            return
        for uid, life in self.cluster.lives.items():
            if life.ended is None and self.cluster.shown(uid) and self.cluster.pods_of(uid, "Running"):
                life.seen_for += STEP

    def leads(self) -> bool:
        """Whether a process reports now."""
        return bool(self.informers) and self.informers[0].leads

    def hears(self, now: float) -> bool:
        """Whether the process that reports has not taken over with watches that are silent."""
        return all(informer.deaf_until <= now for informer in self.informers[:1])

    def remembered(self) -> set[str]:
        """The jobs in the checkpoint."""
        ledger = self.informers[0].reporter._ledger
        return {*ledger.jobs, *["the backlog"][: ledger.backlog()[0]]}

    # --- the judge ----------------------------------------------------------------------------------

    def judge(self) -> list[str]:
        """Every way in which CloudVision differs from the truth."""
        wrong: list[str] = []
        for uid, life in self.cluster.lives.items():
            wrong += [f"seed {self.seed}: {uid}: {text}" for text in self.judge_job(uid, life)]
        for node in set(self.cluster.objects["nodes"]) | set(self.cloudvision.nodes):
            state = self.cluster.objects["nodes"].get(node)
            said = self.cloudvision.nodes.get(node, [])
            last = said[-1] if said else b""
            if state is None and last:
                wrong.append(f"seed {self.seed}: {node} stands though it is gone")
            if state is not None and state.nics[0].mac.encode() not in last:
                wrong.append(f"seed {self.seed}: {node} is {last!r}, not {state.nics}")
        if left := self.remembered() - set(self.cluster.objects["jobs"]):  # nothing that is over and gone
            wrong.append(f"seed {self.seed}: still remembered: {left}")
        return wrong

    def judge_job(self, uid: str, life: Life) -> list[str]:
        history = self.cloudvision.jobs.get(uid, [])
        if not history:
            exists = life.gone is None
            longest = (life.ended or self.busy_until + 400) - life.ran
            due = life.seen_for > self.sure_after
            due |= exists and longest > self.sure_unseen and bool(self.cluster.shown(uid))
            return ["was never reported"] if due else []
        wrong = order(history)
        last = history[-1]
        values = set(last["interfaces"]["values"])
        job = self.cluster.objects["jobs"].get(uid)
        if life.ended is None and job is not None and job.suspended:
            expected = ["CANCELLED"]
        elif life.ended is None:
            expected = ["RUNNING"]
        else:
            # Ended in a pause, it had been cancelled before; unseen since, it stays so.
            paused = len([1 for entry in history if entry["state"].endswith("CANCELLED")]) > 0
            expected = [life.state.name, *(["CANCELLED"] if paused else [])]
        state = last["state"].removeprefix("JOB_STATE_")
        if state not in expected:
            wrong.append(f"is {state}, not {expected}: {history}")
        if state == "RUNNING" and life.ended is None and not life.blurred:
            current = self.cluster.held(uid) | life.kept
            if values != current and self.cluster.held(uid):
                wrong.append(f"holds {values}, not exactly {current}")
        if not values <= life.ever:
            wrong.append(f"holds {values - life.ever} that it never held")
        if last["start_time"] not in [f"{start:%Y-%m-%dT%H:%M:%SZ}" for start in life.starts]:
            wrong.append(f"started at {last['start_time']}, not {life.starts}")
        if life.end_said is not None and state == life.state.name:
            at = f"{life.end_said:%Y-%m-%dT%H:%M:%SZ}"
            if last["end_time"] != at:
                wrong.append(f"ended at {last['end_time']}, not {at}")
        repeated = sum(1 for one, two in pairwise(history) if one == two)
        if repeated > self.crashes + self.lost.get(uid, 0):
            wrong.append(
                f"was repeated {repeated} times, by {self.crashes} crashes and {self.lost.get(uid, 0)} lost messages"
            )
        return wrong


def order(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a report went back behind an earlier one."""
    wrong = []
    ended: set[str] = set()
    starts: list[str] = []
    for entry in history:
        start = entry["start_time"]
        if starts and start < starts[-1]:
            wrong.append(f"the start went back to {start}: {history}")
        starts.append(start)
        if entry["state"] == "JOB_STATE_RUNNING" and start in ended:
            wrong.append(f"RUNNING again after its end: {history}")
        if entry["state"] != "JOB_STATE_RUNNING":
            ended.add(start)
    return wrong
