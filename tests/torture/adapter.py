"""The one place where histories meet the program: objects in wire form, and a process to be driven.

`wire` turns the structs of `cluster.py` into the objects that an API server serves; `Program` reads them as the
program does, and is what `play.py` drives. When the program's own interface changes, this file alone follows.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cvji.cloudvision.client import Answer
from cvji.cloudvision.outbox import Outbox, Parcel
from cvji.jobs.allocation import read_claim, read_pod
from cvji.jobs.kinds import Registry
from cvji.jobs.tracker import Applied, Deleted, KindWatched, Mode, Policy
from cvji.nodes.inventory import Nic, NodeState
from cvji.reporter import WINDOW, NodeApplied, NodeDeleted, NodesListed, Reporter
from tests.simulator.objects import Object, job, networks, running
from tests.simulator.objects import ended as ended_status
from tests.torture.cluster import RAYCLUSTER, VOLCANO, Claim, Job, Node, Pod

REGISTRY = Registry()
ROWS = {kind.key: kind for kind in REGISTRY}


def stamp(at: int | None) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}" if at is not None else ""


# --- objects as the API server has them ----------------------------------------------------------------


def wire_job(found: Job, uid_of: Mapping[str, str] | None = None) -> Object:
    """A job object. `uid_of`: by name, uids that a real API server gave."""
    owner = job("ray.io", "RayJob", found.owner) if found.owner else None
    if owner and found.owner:
        owner["metadata"]["uid"] = (uid_of or {}).get(found.owner, found.owner)
    obj = job(*found.kind, found.uid, owner=owner)
    meta = obj["metadata"]
    meta |= {"uid": found.uid, "creationTimestamp": stamp(found.created)}
    if found.deleting:
        meta["deletionTimestamp"] = stamp(found.deleting)
    if found.kind[0] == "kubeflow.org":
        obj["spec"] = {"runPolicy": {"suspend": found.suspended}}
    elif found.suspended:
        obj["spec"]["suspend"] = True
    start = stamp(found.started)
    if found.end is None:
        obj["status"] = running(*found.kind, start or stamp(found.created))
        obj["status"].pop("conditions" if found.kind == VOLCANO else "", None)  # some read a start from these
    elif found.kind == RAYCLUSTER:
        obj["status"] = {"state": "failed"}
    else:
        end = stamp(found.end.at)
        obj["status"] = ended_status(*found.kind, found.end.state, start or end, end) or {}
    if found.started is None:
        for field in ("startTime", "startedAt"):
            obj["status"].pop(field, None)
    return obj


def wire_pod(found: Pod, uid_of: Mapping[str, str] | None = None) -> Object:
    """A pod, its status as a kubelet writes it."""
    group, kind = found.owner_kind
    owner_uid = (uid_of or {}).get(found.owner, found.owner)
    version = job(group, kind, "x")["apiVersion"]
    reference = {"apiVersion": version, "kind": kind, "name": found.owner, "uid": owner_uid, "controller": True}
    meta: Object = {
        "name": found.uid,
        "namespace": "team",
        "uid": found.uid,
        "creationTimestamp": stamp(found.created),
        "ownerReferences": [reference],
        "annotations": {},
        "labels": {},
    }
    if found.deleting:
        meta["deletionTimestamp"] = stamp(found.deleting + 30)  # with the grace it has
    if found.macs:
        meta["annotations"]["k8s.v1.cni.cncf.io/network-status"] = networks(*found.macs)
    if found.place and group == "kubeflow.org":
        meta["labels"] = {
            "training.kubeflow.org/replica-type": "worker",
            "training.kubeflow.org/replica-index": found.place,
        }
    elif found.place:
        meta["annotations"] |= {"volcano.sh/task-spec": "worker", "volcano.sh/task-index": found.place}
    spec: Object = {"nodeName": found.node if found.phase != "Pending" else "", "containers": []}
    if found.claim:
        spec["resourceClaims"] = [{"name": "nic", "resourceClaimName": found.claim}]
    state: Object = {"waiting": {"reason": "ContainerCreating"}}
    if found.finished is not None:
        began = stamp(found.ran_from if found.ran_from is not None else 0)
        code = 0 if found.phase == "Succeeded" else 1
        state = {"terminated": {"startedAt": began, "finishedAt": stamp(found.finished), "exitCode": code}}
    elif found.ran_from is not None:
        state = {"running": {"startedAt": stamp(found.ran_from)}}
    status: Object = {"phase": found.phase, "containerStatuses": [{"name": "main", "state": state}]}
    if found.started is not None:
        status["startTime"] = stamp(found.started)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def wire_claim(found: Claim, uid_of: Mapping[str, str] | None = None) -> Object:
    """A claim of one pod, with a device for each of its MACs."""
    places = [{"driver": "dra.net", "pool": "worker-0", "device": f"dev-{number}"} for number in (1, 2)]
    pod = {"resource": "pods", "name": found.uid, "uid": (uid_of or {}).get(found.uid, found.uid)}
    devices = [
        place | {"networkData": {"hardwareAddress": mac}} for place, mac in zip(places, found.macs, strict=False)
    ]
    results = [{"request": "nic", **place} for place in places]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": found.uid, "namespace": "team", "uid": f"claim-{found.uid}"},
        "spec": {"devices": {"requests": [{"name": "nic", "exactly": {"deviceClassName": "nic"}}]}},
        "status": {"allocation": {"devices": {"results": results}}, "reservedFor": [pod], "devices": devices},
    }


# --- the program ----------------------------------------------------------------------------------------


def read(kind: str, found: Any) -> Any:
    """What the program understands of an object."""
    match kind:
        case "jobs":
            return REGISTRY.read(ROWS[found.kind], msgspec.json.encode(wire_job(found)))
        case "pods":
            return read_pod(REGISTRY, msgspec.json.encode(wire_pod(found)))
        case "claims":
            return read_claim(msgspec.json.encode(wire_claim(found)))
        case _:
            return NodeState(found.uid, found.uid, "cloudvision", (Nic("e0", found.mac, ()),), ())


class Driver:
    """Makes processes of the program, and reads each version of an object once, however many of them see it."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}  # by identity: the log keeps every version alive

    def event(self, kind: str, found: Job | Pod | Claim | Node, gone: bool) -> Any:
        understood = self.known.get(id(found))
        if understood is None:
            understood = self.known[id(found)] = read(kind, found)
        if kind == "nodes":
            return NodeDeleted(understood) if gone else NodeApplied(understood)
        return Deleted(understood) if gone else Applied(understood)

    def program(self, *, nodes: bool, narrow: bool, jitter: Callable[[], float]) -> "Program":
        return Program(nodes=nodes, narrow=narrow, jitter=jitter)


class Write(msgspec.Struct):
    """One record to be stored under a key; `tag` is the program's own."""

    key: str
    body: bytes
    tag: Any


class Program:
    """One process's decisions and its outbox, without its threads. Times are seconds since the epoch."""

    def __init__(self, *, nodes: bool, narrow: bool, jitter: Callable[[], float]) -> None:
        """`nodes`: JOBCONFIG_MODE is node. `narrow`: of what is over, one at a time is on its way."""
        policy = Policy(mode=Mode.NODE if nodes else Mode.INTERFACE)
        self.reporter = Reporter(policy, "lab", durable=True, window=1 if narrow else WINDOW)
        self.outbox = Outbox(jitter)

    def apply(self, event: Any, now: float) -> None:
        self.reporter.apply(event, now)

    def listed(self, kind: str, now: float) -> None:
        """Everything of a kind that exists has been applied, and what is gone has been deleted."""
        if kind == "nodes":
            self.reporter.apply(NodesListed(), now)
        elif kind == "jobs":
            for key in ROWS:
                self.reporter.apply(KindWatched(key, True), now)

    def lead(self, records: Mapping[str, bytes], now: float) -> None:
        """Decide from now on, after what a former leader stored."""
        self.reporter.lead(list(records.values()), now)

    def rest(self) -> None:
        """Called at every step instead of `decide` while this process stands by."""
        self.reporter.rest()

    def decide(self, now: float) -> None:
        self.reporter.advance(now)

    def writes(self) -> list[Write]:
        """What is to be stored; asked for once the last writes are over."""
        if not self.reporter.changed:
            return []
        held = self.reporter.held_back()
        return [Write(str(shard), body, held) for shard, body in self.reporter.dirty().items()]

    def written(self, write: Write, stored: bool) -> None:
        shard = int(write.key)
        if stored:
            self.reporter.written([shard], write.tag)
        else:
            self.reporter.unwritten([shard])

    def send(self, now: float) -> Parcel | None:
        """The next request to make now, if any."""
        for send in self.reporter.take(now):
            self.outbox.put(send.key, send.request, now, send.said, send.waited)
        for key in self.reporter.surplus(now):
            if (waited := self.outbox.withdraw(key, now)) is not None:
                self.reporter.spill(key, waited, now)
        return self.outbox.take(now)

    def settle(self, parcel: Parcel, answer: Answer, delivered: bool, now: float) -> None:
        if delivered:
            self.reporter.delivered(parcel.tag)  # type: ignore[arg-type]
        self.outbox.settle(parcel, answer, now)

    def remembered(self) -> set[str]:
        """The jobs (by uid, or by a run's id) that records are kept of."""
        ledger = self.reporter._ledger
        return {*ledger.jobs, *["the backlog"][: ledger.backlog()[0]]}
