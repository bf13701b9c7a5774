"""A small cluster for the tracker: objects in their wire form go in, reports come out, time is a number."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cvji.jobs.kinds import Job, Registry
from cvji.jobs.nics import NodeNics, read_claim
from cvji.jobs.pods import Pod, read_pod
from cvji.jobs.policy import Policy
from cvji.jobs.report import JobState, RunReport
from cvji.jobs.tracker import Decision, JobGone, Keep, Report, Tracker
from cvji.jobs.view import Problem
from cvji.kube.events import Applied, Deleted, Listed, Resource
from cvji.macs import pack

T0 = 1_767_225_600.0  # 2026-01-01T00:00:00Z
RUNNING, COMPLETED = JobState.RUNNING, JobState.COMPLETED
FAILED, CANCELLED = JobState.FAILED, JobState.CANCELLED


def at(seconds: float) -> int:
    return int(T0 + seconds)


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def mac(number: int) -> str:
    return f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"


def macs(*numbers: int) -> tuple[str, ...]:
    return tuple(mac(number) for number in numbers)


def owner(api: str, kind: str, uid: str) -> list[dict[str, Any]]:
    return [{"apiVersion": api, "kind": kind, "name": uid, "uid": uid, "controller": True}]


BATCH = ("batch/v1", "Job")


COMPLETE = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(90)}]}
BROKEN = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": stamp(80)}]}


class Seen(NamedTuple):
    """A report as CloudVision would see it."""

    id: str
    name: str
    state: JobState
    start: int
    end: int | None
    holds: tuple[str, ...]


def seen(run: RunReport) -> Seen:
    return Seen(run.id, run.name, run.state, run.start, run.end, run.holds.texts())


class World:
    """A tracker and the time it is given; `run` lets time pass and collects the reports."""

    def __init__(self, policy: Policy | None = None, *, leading: bool = True) -> None:
        self.problems: list[Problem] = []
        self.policy = policy or Policy()
        self.tracker = Tracker(self.policy, self.problems.append)
        self.newest: dict[str, RunReport] = {}  # what a record would hold, by job
        if leading:
            self.tracker.lead([], T0)
        self.registry = Registry([("example.com", "Training")])
        self.kinds = {kind.key: kind for kind in self.registry}
        self.now = 0.0
        self.reports: list[tuple[float, Seen]] = []
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, Pod] = {}

    def job(
        self,
        uid: str = "job",
        api: str = "batch/v1",
        kind: str = "Job",
        parent: tuple[str, str, str] | None = None,
        namespace: str = "team",
        name: str = "",
        **body: Any,
    ) -> None:
        meta: dict[str, Any] = {"name": name or uid, "namespace": namespace, "uid": uid}
        meta["creationTimestamp"] = stamp(0)
        meta.update(body.pop("metadata", {}))
        if parent:
            meta["ownerReferences"] = owner(*parent)
        raw = json.dumps({"apiVersion": api, "kind": kind, "metadata": meta, **body}).encode()
        self.jobs[uid] = self.registry.read(self.kinds[api.rpartition("/")[0], kind], raw)
        self.tracker.apply(Applied(self.jobs[uid]), T0 + self.now)

    def delete_job(self, uid: str = "job") -> None:
        self.tracker.apply(Deleted(self.jobs.pop(uid)), T0 + self.now)

    def pod(
        self,
        uid: str = "pod",
        phase: str = "Running",
        nics: tuple[int, ...] = (1,),
        of: tuple[str, str, str] = (*BATCH, "job"),
        name: str = "",
        namespace: str = "team",
        node: str = "node-1",
        created: float = 0,
        started: float | None = None,
        finished: float | None = None,
        annotations: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None,
        status: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        networks: list[dict[str, Any]] = [{"name": "cbr0", "default": True, "ips": ["10.0.0.1"]}]
        networks += [{"name": "rail", "interface": f"net{n}", "mac": mac(n)} for n in nics]
        notes = {"k8s.v1.cni.cncf.io/network-status": json.dumps(networks), **(annotations or {})}
        state: dict[str, Any] = {}
        if finished is not None:
            state = {"terminated": {"startedAt": stamp(started or 0), "finishedAt": stamp(finished)}}
        elif started is not None:
            state = {"running": {"startedAt": stamp(started)}}
        found: dict[str, Any] = {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]}
        if started is not None:
            found["startTime"] = stamp(started)
        raw = {
            "metadata": {
                "name": name or uid,
                "namespace": namespace,
                "uid": uid,
                "creationTimestamp": stamp(created),
                "annotations": notes,
                "labels": labels or {},
                "ownerReferences": owner(*of),
                **(metadata or {}),
            },
            "spec": {"nodeName": node, **(spec or {})},
            "status": {**found, **(status or {})},
        }
        self.pods[uid] = read_pod(self.registry, json.dumps(raw).encode())
        self.tracker.apply(Applied(self.pods[uid]), T0 + self.now)

    def delete_pod(self, uid: str = "pod") -> None:
        self.tracker.apply(Deleted(self.pods.pop(uid)), T0 + self.now)

    def claim(
        self,
        name: str,
        nics: tuple[int, ...],
        users: tuple[tuple[str, str], ...],
        gone: bool = False,
        uid: str = "",
    ) -> None:
        devices = [{"driver": "dra.net", "networkData": {"hardwareAddress": mac(n).upper()}} for n in nics]
        raw = {
            "metadata": {"name": name, "namespace": "team", "uid": uid or f"claim-{name}"},
            "status": {
                "reservedFor": [{"resource": "pods", "uid": uid, "name": pod} for uid, pod in users],
                "devices": [{"driver": "gpu.example.com", "device": "gpu-0"}, *devices],
            },
        }
        found = read_claim(json.dumps(raw).encode())
        self.tracker.apply(Deleted(found) if gone else Applied(found), T0 + self.now)

    def node(self, node: str, *numbers: int) -> None:
        self.tracker.apply(NodeNics(node, pack(macs(*numbers))), T0 + self.now)

    def successor(self, policy: Policy | None = None) -> None:
        """Another process takes over: it lists what there is, and knows what was recorded."""
        self.tracker = Tracker(policy or self.policy, self.problems.append)
        for obj in (*self.jobs.values(), *self.pods.values()):
            self.tracker.apply(Applied(obj), T0 + self.now)
        self.lead()

    def listed(self, group: str, kind: str) -> None:
        resource = Resource(group, "v1", kind, kind.lower() + "s")
        self.tracker.apply(Listed(resource), T0 + self.now)

    def lead(self) -> None:
        self.tracker.lead(self.newest.values(), T0 + self.now)

    def run(self, seconds: float = 0.0) -> list[Seen]:
        """Let time pass, judging at each deadline as the loop does; what was reported meanwhile."""
        end, before = self.now + seconds, len(self.reports)
        while True:
            self.take(self.tracker.advance(T0 + self.now))
            deadline = self.tracker.next_deadline()
            if deadline is None or deadline - T0 > end:
                break
            self.now = max(self.now, deadline - T0)
        self.now = end
        return [report for _, report in self.reports[before:]]

    def take(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Report(run):
                    self.newest[run.job] = run
                    self.reports.append((self.now, seen(run)))
                case Keep(run):
                    self.newest[run.job] = run
                case JobGone(run):
                    self.newest.pop(run.job, None)

    def reported(self) -> list[tuple[str, JobState, tuple[str, ...]]]:
        """Every report so far: name, state and what it holds."""
        return [(report.name, report.state, report.holds) for _, report in self.reports]

    def runs(self) -> dict[str, tuple[JobState, int, int | None, tuple[str, ...]]]:
        """The newest report of each run, by its id: state, start and end (since T0), and what it holds."""
        return {
            run.id: (run.state, run.start - int(T0), None if run.end is None else run.end - int(T0), run.holds)
            for _, run in self.reports
        }


def running(**kwargs: Any) -> World:
    """A job with a pod, reported as RUNNING."""
    world = World()
    world.job(**kwargs)
    world.pod()
    assert [report.state for report in world.run(6)] == [RUNNING]
    return world


def deleting(grace: int = 30) -> dict[str, Any]:
    return {"deletionTimestamp": stamp(500), "deletionGracePeriodSeconds": grace}
