"""The two simulators, each in a process of its own, and what is done with them there.

Only what is picklable crosses the border. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

import contextlib
import json
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.managers import BaseManager
from typing import TypeVar, cast

import msgspec

from tests.bench.objects import (
    NAMESPACE,
    TORCH,
    TORCH_JOBS,
    PodTemplate,
    made_claim,
    made_job,
    made_node,
    pod_name,
    replica_sets,
    uid,
)
from tests.e2e.kit import stamp
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended

T = TypeVar("T")
ENDED_JOBS = 100  # that are there before the oldest of them is deleted


class Expected(msgspec.Struct, frozen=True):
    """An event that CloudVision is to hear of: the job's uid, what happened ("start", "change", "end"), and when."""

    job: str
    what: str
    at: float


class Said(msgspec.Struct, frozen=True):
    """A report that CloudVision took."""

    key: str
    state: str
    at: float


Event = Callable[[], Expected | None]


class _Side:
    """What both have in common."""

    def cpu(self) -> float:
        """CPU seconds that this process has used."""
        return time.process_time()


class KubernetesSide(_Side):
    """The cluster."""

    def __init__(self) -> None:
        self.simulator = KubernetesSimulator()
        self.simulator.serve_all()
        self._jobs: list[Object] = []
        self._size = 0  # pods a job
        self._alive: deque[int] = deque()  # jobs by number, the next to end first
        self._over: deque[int] = deque()  # jobs that ended and are not deleted
        self._changed: set[int] = set()  # jobs whose first pod was replaced
        self._pods = {phase: PodTemplate(phase, 8) for phase in ("Pending", "Running", "Succeeded")}

    def address(self) -> str:
        """host:port."""
        return self.simulator.address

    def fill(self, jobs: int, size: int, nics: int = 8, *, claims: bool = False) -> None:
        """Running jobs of so many running pods."""
        self._size = size
        self._pods = {phase: PodTemplate(phase, nics) for phase in self._pods}
        template = PodTemplate("Running", 0, claim=True) if claims else self._pods["Running"]
        for number in range(jobs):
            owner = self.simulator.create(made_job(number))
            self._jobs.append(owner)
            self._alive.append(number)
            for member in range(number * size, (number + 1) * size):
                self._put_pod(member, template.make(member, owner))
                if claims:
                    self.simulator.create(made_claim(member, uid("pod", member), nics))
        self.simulator.compact()

    def fill_others(self, pods: int) -> None:
        """Running pods of no job."""
        template = PodTemplate("Running", 0, "ReplicaSet")
        owners = list(replica_sets(max(pods // 20, 1)))
        for number in range(pods):
            raw = template.make(1 << 24 | number, owners[number // 20 % len(owners)])
            self._put_pod(1 << 24 | number, raw)
        self.simulator.compact()

    def fill_nodes(self, nodes: int, pfs: int, vfs: int) -> None:
        """Nodes with their inventory."""
        for number in range(nodes):
            self.simulator.create(made_node(number, pfs, vfs))
        self.simulator.compact()

    def requests(self) -> dict[str, int]:
        """How many there were, by verb and resource."""
        with self.simulator.lock:
            return dict(self.simulator.counts)

    def discoveries(self) -> int:
        """How many requests asked what is served."""
        with self.simulator.lock:
            return sum(path.startswith("/apis") and path.count("/") < 4 for _, path in self.simulator.requests)

    def received(self) -> dict[str, int]:
        """Bytes of the bodies of writes, by verb and resource."""
        with self.simulator.lock:
            return dict(self.simulator.received)

    # --- events -------------------------------------------------------------------------------------

    def _put_pod(self, number: int, raw: bytes, generation: int = 0) -> float:
        at = time.monotonic()
        self.simulator.put_raw("", "pods", NAMESPACE, pod_name(number, generation), raw)
        return at

    def _end(self, owner: Object) -> Expected:
        status = ended(*TORCH, "COMPLETED", stamp(-50), stamp())
        at = time.monotonic()
        self.simulator.patch(*TORCH_JOBS, NAMESPACE, owner["metadata"]["name"], {"status": status})
        return Expected(owner["metadata"]["uid"], "end", at)

    def end_jobs(self, first: int, count: int, rate: float) -> list[Expected]:
        """End so many jobs a second."""
        pace = Pace(rate)
        return [self._end(owner) for owner in self._jobs[first : first + count] if pace.wait()]

    def replace_pods(self, count: int, rate: float) -> int:
        """Replace pods of the first job, so many a second; how many events that was."""
        pace, owner = Pace(rate), self._jobs[0]
        for number in range(count):
            pace.wait()
            for event in self._replacement(number, owner):
                event()
        return count * 3

    def churn(self, rate: float, seconds: float) -> tuple[int, list[Expected]]:
        """Jobs end and go, others start, pods are replaced: so many events a second. How many, and what follows.

        Called again, it goes on from there.
        """
        pace, until = Pace(rate), time.monotonic() + seconds
        expected: list[Expected] = []
        events = 0
        while time.monotonic() < until:
            for event in self._cycle(self._alive, self._over):
                pace.wait()
                events += 1
                if (found := event()) is not None:
                    expected.append(found)
        return events, expected

    def _cycle(self, alive: "deque[int]", over: "deque[int]") -> Iterator[Event]:
        """A job ends, one that ended a while ago goes, another starts, and a pod of a third is replaced."""
        over.append(alive.popleft())
        yield from self._ending(over[-1])
        if len(over) > ENDED_JOBS:
            yield from self._removal(over.popleft())
        alive.append(len(self._jobs))
        self._jobs.append(made_job(alive[-1]))
        yield from self._starting(alive[-1])
        third = alive[len(alive) // 2]
        if third not in self._changed:
            self._changed.add(third)
            yield from self._replacement(third * self._size, self._jobs[third])

    def _members(self, number: int) -> Iterator[tuple[int, int]]:
        """The numbers and generations of a job's pods."""
        first = number * self._size
        yield first, int(number in self._changed)
        yield from ((member, 0) for member in range(first + 1, first + self._size))

    def _ending(self, number: int) -> Iterator[Event]:
        owner = self._jobs[number]
        for member, generation in self._members(number):
            yield partial(self._note, member, "Succeeded", owner, generation)
        yield partial(self._end, owner)

    def _starting(self, number: int) -> Iterator[Event]:
        owner = self._jobs[number]
        members = range(number * self._size, (number + 1) * self._size)
        yield partial(self._made, owner)
        for member in members:
            yield partial(self._note, member, "Pending", owner)
        for member in members:
            yield partial(self._note, member, "Running", owner, what="start" if member == members[-1] else "")

    def _removal(self, number: int) -> Iterator[Event]:
        for member, generation in self._members(number):
            yield partial(self._gone, "", "pods", pod_name(member, generation))
        yield partial(self._gone, *TORCH_JOBS, self._jobs[number]["metadata"]["name"])

    def _replacement(self, member: int, owner: Object) -> Iterator[Event]:
        yield partial(self._gone, "", "pods", pod_name(member))
        yield partial(self._note, member, "Pending", owner, 1)
        yield partial(self._note, member, "Running", owner, 1, what="change")

    def _made(self, owner: Object) -> None:
        self.simulator.create(owner)

    def _gone(self, group: str, plural: str, name: str) -> None:
        self.simulator.delete(group, plural, NAMESPACE, name)

    def _note(self, member: int, phase: str, owner: Object, generation: int = 0, what: str = "") -> Expected | None:
        raw = self._pods[phase].make(member, owner, generation=generation, created=-6.0)
        at = self._put_pod(member, raw, generation)
        return Expected(owner["metadata"]["uid"], what, at) if what else None


class Pace:
    """So many a second, catching up where one was late."""

    def __init__(self, rate: float) -> None:
        self._step, self._next = 1 / rate, time.monotonic()

    def wait(self) -> bool:
        """Wait for the next one's time; always true."""
        if (left := self._next - time.monotonic()) > 0:
            time.sleep(left)
        self._next += self._step
        return True


class CloudVisionSide(_Side):
    """The receiver."""

    def __init__(self) -> None:
        self.simulator = CloudVisionSimulator()

    def address(self) -> str:
        """host:port."""
        return self.simulator.address

    def token(self) -> str:
        """The token it accepts."""
        return self.simulator.token

    def ca_file(self) -> str:
        """The file of its CA."""
        return str(self.simulator.ca_file)

    def wait_for_held(self, jobs: int, nodes: int, timeout: float) -> None:
        """Return once so many jobs and nodes are held."""
        self.simulator.wait_for(
            lambda: len(self.simulator.jobs) >= jobs and len(self.simulator.nodes) >= nodes, timeout
        )

    def wait_for_requests(self, count: int, timeout: float) -> bool:
        """Whether there have been so many requests within so many seconds."""
        with contextlib.suppress(AssertionError):
            self.simulator.wait_for(lambda: len(self.simulator.requests) >= count, timeout)
        return self.count() >= count

    def count(self) -> int:
        """How many requests there were."""
        return len(self.simulator.requests)

    def rejected(self) -> int:
        """How many of them broke the contract."""
        return len(self.simulator.rejected)

    def said(self, after: int = 0) -> list[Said]:
        """What was taken of jobs, but for the first so many requests."""
        with self.simulator.lock:
            requests = self.simulator.requests[after:]
        bodies = [(json.loads(request.body), request.at) for request in requests if request.path.endswith("JobConfig")]
        return [Said(body["key"]["id"], body["state"].removeprefix("JOB_STATE_"), at) for body, at in bodies]


class _Manager(BaseManager):
    pass


_Manager.register("KubernetesSide", KubernetesSide)
_Manager.register("CloudVisionSide", CloudVisionSide)


@contextlib.contextmanager
def process(side: type[T]) -> Iterator[T]:
    """One of the sides in a process of its own; its methods are called there."""
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start()
    with contextlib.closing(_Shutdown(manager)):
        yield cast("T", getattr(manager, side.__name__)())


class _Shutdown:
    def __init__(self, manager: BaseManager) -> None:
        self.close = manager.shutdown


def waits(expected: list[Expected], said: list[Said]) -> dict[str, list[float]]:
    """Seconds from each event to CloudVision, by what happened; `inf` for one that CloudVision never heard of."""
    first: dict[tuple[str, str], list[float]] = {}
    for one in said:
        first.setdefault((one.key, one.state), []).append(one.at)
    found: dict[str, list[float]] = {}
    for event in expected:
        state = "COMPLETED" if event.what == "end" else "RUNNING"
        times = [at for at in first.get((event.job, state), []) if at > event.at]
        found.setdefault(event.what, []).append(min(times) - event.at if times else float("inf"))
    return found
