"""The truth of a random history: jobs, pods, claims and node states of a cluster, changing by one seeded generator.

Objects are plain structs of this module's own; `adapter.py` alone knows how the program reads them. Every change is
logged with its time and its order, and the judge reads nothing else. Times are seconds since the epoch: of the API
server's clock (`created`, what job objects say, `Change.at`) or of a node's (`started`, `ran_from`, `finished`),
which may be off by up to a minute. What happens in a cluster is in `deeds.py`.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

START = 1_767_225_600.0
Kind = tuple[str, str]  # group and kind

TORCH: Kind = ("kubeflow.org", "PyTorchJob")
BATCH: Kind = ("batch", "Job")
WORKFLOW: Kind = ("argoproj.io", "Workflow")
VOLCANO: Kind = ("batch.volcano.sh", "Job")
RAYJOB: Kind = ("ray.io", "RayJob")
RAYCLUSTER: Kind = ("ray.io", "RayCluster")
NUMBERED = frozenset({TORCH, VOLCANO})  # kinds whose operator numbers the places of pods
TIMELESS = frozenset({VOLCANO, RAYCLUSTER})  # kinds whose objects do not say when they started
POD: Kind = ("", "Pod")  # a pod may own pods
KINDS = ("claims", "pods", "nodes", "jobs")
# The same, watched apart: each kind of jobs by itself.
WATCHES = (*KINDS[:3], *("/".join(kind) for kind in (TORCH, BATCH, WORKFLOW, VOLCANO, RAYJOB, RAYCLUSTER)))


class End(msgspec.Struct, frozen=True):
    """What an object says of its end: COMPLETED, FAILED or CANCELLED, and when, if it says so."""

    state: str
    at: int | None


class Job(msgspec.Struct, frozen=True):
    """A job object of any kind; `owner` is the uid of the job object that controls it."""

    uid: str
    kind: Kind
    owner: str | None
    created: int
    started: int | None
    end: End | None = None
    suspended: bool = False
    deleting: int | None = None  # since when


class Pod(msgspec.Struct, frozen=True):
    """A pod. `place` is its number where places are numbered, else empty. `claim` is the uid of its claim.

    Its owner is a job object, or the pod that drives the job.

    `ran_from` is None where a container never started: its status says 1970 then, if it says anything.
    """

    uid: str
    owner: str
    owner_kind: Kind
    place: str
    node: str
    created: int
    phase: str = "Pending"
    deleting: int | None = None
    started: int | None = None
    ran_from: int | None = None
    finished: int | None = None
    macs: tuple[str, ...] = ()
    claim: str | None = None


class Claim(msgspec.Struct, frozen=True):
    """A ResourceClaim, reserved for a pod of the same name."""

    uid: str
    macs: tuple[str, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """A node's inventory."""

    uid: str
    mac: str


class Change(msgspec.Struct, frozen=True):
    """One change of one object; `gone`: it was deleted, and `object` is the last of it."""

    at: float
    kind: str
    uid: str
    object: Any
    gone: bool

    def concerns(self, watch: str) -> bool:
        """Whether a watch shows it: of KINDS or of WATCHES."""
        return is_of(watch, self.kind, self.object)


def is_of(watch: str, kind: str, obj: Any) -> bool:
    """Whether a watch shows an object of that kind."""
    return watch == kind or (kind == "jobs" and watch == "/".join(obj.kind))


class Options(msgspec.Struct, frozen=True):
    """What histories contain. `claims`: how many of all pods have their NICs by a claim.

    `drivers`: of how many jobs the first pod owns the others. `rays`: how many jobs more are RayJobs, whose pods succeed
    one by one as others' do.
    """

    jobs: int = 10
    births: float = 260.0  # seconds within which jobs come
    claims: float = 0.0
    skew: float = 0.3  # how many nodes have a clock that is off
    prompt: bool = False  # a claim goes as soon as its pod has ended
    drivers: float = 0.0
    rays: float = 0.0


class Cluster:
    """Objects as they are, and the log of how they came to be."""

    def __init__(
        self, rng: random.Random, options: Options, clock: Callable[[float], float] = lambda now: START + now
    ) -> None:
        """`clock`: the API server's time at a moment of the history."""
        self.rng, self.options, self.clock = rng, options, clock
        self.objects: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self.log: list[Change] = []
        self.plans: list[tuple[float, int, str, str]] = []  # time, order, deed, of what
        self.order = 0
        self.macs = 0
        self.free: list[str] = []  # NICs that a pod had and no pod has
        self.unpublished: dict[str, tuple[str, ...]] = {}  # by claim: MACs to come
        self.driven: dict[str, str] = {}  # jobs with a driver, and the newest of their drivers
        self.drivers: dict[str, str] = {}  # all drivers, and their jobs
        self.now = self.changed = 0.0  # the last change's time
        self.skews = {
            f"worker-{n}": rng.choice([-60, -11, -4, 4, 11, 60]) if rng.random() < options.skew else 0 for n in range(6)
        }

    # --- objects ------------------------------------------------------------------------------------

    def put(self, kind: str, obj: Any) -> None:
        self.objects[kind][obj.uid] = obj
        self.note(Change(self.clock(self.now), kind, obj.uid, obj, False))

    def drop(self, kind: str, uid: str) -> None:
        self.note(Change(self.clock(self.now), kind, uid, self.objects[kind].pop(uid), True))

    def note(self, change: Change) -> None:
        self.log.append(change)
        self.changed = self.now

    def stamp(self, node: str | None = None) -> int:
        """What an object says the time is: by the API server's clock, or by a node's."""
        return int(self.clock(self.now)) + (self.skews[node] if node else 0)

    def plan(self, after: float, deed: str, about: str) -> None:
        self.order += 1
        heapq.heappush(self.plans, (self.now + after, self.order, deed, about))

    def due(self, now: float) -> Iterator[tuple[str, str]]:
        """What was planned for by now, in order."""
        while self.plans and self.plans[0][0] <= now:
            self.now, _, deed, about = heapq.heappop(self.plans)
            yield deed, about
        self.now = now

    def mac(self) -> str:
        """A NIC: mostly one that another pod had."""
        if self.free and self.rng.random() < 0.75:
            return self.free.pop(self.rng.randrange(len(self.free)))
        self.macs += 1
        return f"02:00:00:{self.macs >> 16:02x}:{self.macs >> 8 & 255:02x}:{self.macs & 255:02x}"

    # --- jobs ---------------------------------------------------------------------------------------

    def job(self, uid: str) -> Job | None:
        found: Job | None = self.objects["jobs"].get(uid)
        return found

    def change_job(self, uid: str, **change: Any) -> None:
        self.put("jobs", msgspec.structs.replace(self.objects["jobs"][uid], **change))

    def home(self, uid: str) -> str:
        """The object that owns the pods of a job: itself, or the RayCluster of a RayJob."""
        return next((job.uid for job in self.objects["jobs"].values() if job.owner == uid), uid)

    def pods_of(self, uid: str, *phases: str) -> list[Pod]:
        """The pods of a job in these phases, or all."""
        homes = {uid, self.home(uid)}
        homes |= {driver for driver, job in self.drivers.items() if job in homes}
        return [pod for pod in self.objects["pods"].values() if pod.owner in homes and pod.phase in (phases or PHASES)]

    # --- pods ---------------------------------------------------------------------------------------

    def make_pod(self, uid: str, place: str = "") -> None:
        """A pod of a job, Pending, mostly for a moment; now and then for long, or for ever."""
        owner: Job = self.objects["jobs"][self.home(uid)]
        rng = self.rng
        self.order += 1
        name = f"{owner.uid}-pod-{self.order}"
        claimed = rng.random() < self.options.claims
        node = rng.choice(list(self.skews))
        above = (owner.uid, owner.kind)
        if uid in self.driven:
            driver: Pod | None = self.objects["pods"].get(self.driven[uid])
            if driver and driver.phase in ("Pending", "Running") and not driver.deleting:
                above = (driver.uid, POD)
            else:
                self.driven[uid] = name
                self.drivers[name] = uid
        self.put("pods", Pod(name, *above, place, node, self.stamp(), claim=name if claimed else None))
        if claimed:
            self.put("claims", Claim(name))
        kind = rng.random()
        if kind < 0.94:
            wait = rng.choice([0.0, 0.0, rng.uniform(0.5, 3)]) if kind < 0.86 else rng.uniform(10, 90)
            self.plan(wait, "start-error" if rng.random() < 0.03 else "start", name)

    def start(self, name: str, *, error: bool = False) -> None:
        """A pod's containers start, or fail to."""
        pod: Pod | None = self.objects["pods"].get(name)
        if pod is None or pod.phase != "Pending" or pod.deleting:
            return
        at = self.stamp(pod.node)
        macs = tuple(self.mac() for _ in range(self.rng.choice([1, 1, 2])))
        own = () if pod.claim else macs
        if error:  # its NICs were attached; no container ran
            self.put("pods", msgspec.structs.replace(pod, phase="Failed", started=at, finished=at, macs=own))
            self.free += macs
            return
        self.put("pods", msgspec.structs.replace(pod, phase="Running", started=at, ran_from=at, macs=own))
        if pod.claim:
            self.unpublished[pod.claim] = macs
            self.plan(self.rng.choice([0.0, self.rng.uniform(1, 15)]), "publish", pod.claim)

    def publish(self, name: str) -> None:
        """A claim's driver says which NICs it gave, if its pod still runs."""
        pod: Pod | None = self.objects["pods"].get(name)
        runs = pod is not None and pod.phase == "Running" and not pod.deleting
        if runs and name in self.objects["claims"] and name in self.unpublished:
            self.put("claims", Claim(name, self.unpublished.pop(name)))

    def release(self, name: str) -> None:
        """The claim of a pod goes."""
        if name in self.objects["claims"]:
            self.drop("claims", name)

    def let_go(self, pod: Pod) -> None:
        """A running pod's NICs are free for others."""
        claim: Claim | None = self.objects["claims"].get(pod.claim or "")
        if pod.phase == "Running":
            self.free += [*pod.macs, *(claim.macs if claim else ())]

    def end_pod(self, pod: Pod, phase: str) -> None:
        """A pod's program ends."""
        self.let_go(pod)
        self.put("pods", msgspec.structs.replace(pod, phase=phase, finished=self.stamp(pod.node)))
        if pod.claim and self.options.prompt:
            self.release(pod.claim)
        elif pod.claim and self.rng.random() < 0.5:
            self.plan(self.rng.uniform(0, 20), "release", pod.claim)

    def remove_pod(self, name: str) -> None:
        """A pod's object goes, and its claim."""
        pod: Pod | None = self.objects["pods"].get(name)
        if pod is None:
            return
        self.let_go(pod)
        if pod.claim:
            self.release(pod.claim)
        self.drop("pods", name)
        if name in self.drivers:  # the garbage collector takes what it owned, in time
            for other in [other.uid for other in self.objects["pods"].values() if other.owner == name]:
                self.plan(self.rng.choice([0.0, self.rng.uniform(0, 30)]), "take", other)

    def orphans(self) -> list[Pod]:
        """Pods whose owner, a pod, is gone."""
        pods = self.objects["pods"]
        return [pod for pod in pods.values() if pod.owner in self.drivers and pod.owner not in pods]

    def delete_pod(self, pod: Pod) -> None:
        """Ask for a pod's deletion: a running one gets a while to end in, and on a lost node it is stuck."""
        if pod.deleting:
            return
        if pod.phase != "Running":
            self.remove_pod(pod.uid)
            return
        self.put("pods", msgspec.structs.replace(pod, deleting=self.stamp()))
        stuck = self.rng.random() < 0.08
        self.plan(self.rng.uniform(20, 150) if stuck else self.rng.uniform(0, 8), "kill" if stuck else "stop", pod.uid)

    def stop(self, name: str) -> None:
        """A pod that is being deleted ends: by exit 0 (Succeeded), by exit 143 (Failed), or unseen."""
        pod: Pod | None = self.objects["pods"].get(name)
        if pod is None:
            return
        phase = self.rng.choice(["Succeeded", "Failed", ""])
        if phase and pod.phase == "Running":
            self.end_pod(pod, phase)
            self.plan(self.rng.uniform(0, 3), "kill", name)
        else:
            self.remove_pod(name)


PHASES = ("Pending", "Running", "Succeeded", "Failed")
