"""The one place where histories meet the program: objects in wire form, and a process to be driven.

`wire` turns the structs of `cluster.py` into the objects that an API server serves; `Program` reads them as the
program does, and is what `play.py` drives. When the program's own interface changes, this file alone follows.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cvji.cloudvision.client import Answer, Verdict
from cvji.cloudvision.outbox import Outbox, Parcel
from cvji.cloudvision.payloads import Request, delete_node, job_config, node_config, post_job, post_node
from cvji.jobs.kinds import Registry
from cvji.jobs.nics import read_claim
from cvji.jobs.pods import read_pod
from cvji.jobs.policy import Policy
from cvji.jobs.report import Key, RunReport
from cvji.kube.events import Applied, Deleted, Listed, Resource
from cvji.nodes.inventory import Nic, NodeReport, NodeState
from cvji.reports import book
from cvji.reports.records import Delivery, Reason, Record, first_status, write_spec, write_status
from cvji.reports.records import read as read_record
from cvji.reports.reporter import Reporter
from cvji.settings import Mode
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
    elif found.suspended and found.kind != VOLCANO:
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
    if found.kind == VOLCANO and found.suspended and found.end is None:
        obj["status"] = {"state": {"phase": "Aborted"}}
    if found.started is None:
        for field in ("startTime", "startedAt"):
            obj["status"].pop(field, None)
    return obj


def wire_pod(found: Pod, uid_of: Mapping[str, str] | None = None) -> Object:
    """A pod, its status as a kubelet writes it."""
    group, kind = found.owner_kind
    owner_uid = (uid_of or {}).get(found.owner, found.owner)
    version = job(group, kind, "x")["apiVersion"] if group else "v1"
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
        meta["deletionGracePeriodSeconds"] = 30
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
        return Deleted(understood) if gone else Applied(understood)

    def program(self, *, nodes: bool, narrow: bool, jitter: Callable[[], float]) -> "Program":
        return Program(nodes=nodes, narrow=narrow, jitter=jitter)


class Write(msgspec.Struct):
    """One record to be stored under a key; an empty body deletes it. `tag` is the program's own."""

    key: str
    body: bytes
    tag: Any


class Sending(msgspec.Struct):
    """A request on its way."""

    parcel: Parcel
    request: Request
    revision: int


class Stored(msgspec.Struct):
    """What stands in the cluster under a key, or is to."""

    record: Record
    accepted: bool = False


NODE_STATES = Resource("cloudvision.arista.io", "v1", "NodeInterfaceState", "nodeinterfacestates")


class Program:
    """One process's decisions and its outbox, without its threads. Times are seconds since the epoch."""

    def __init__(self, *, nodes: bool, narrow: bool, jitter: Callable[[], float]) -> None:
        """`nodes`: JOBCONFIG_MODE is node."""
        policy = Policy(mode=Mode.NODE if nodes else Mode.INTERFACE)
        self.reporter = Reporter(policy, "lab", durable=True, job_kinds=ROWS, node_kind=NODE_STATES.key)
        self.outbox = Outbox(jitter)
        self.stored: dict[Key, Stored] = {}
        self.specs: dict[Key, Record] = {}
        self.acknowledgements: dict[Key, tuple[int, bool]] = {}
        self.forgotten: dict[Key, None] = {}
        self.now = 0.0

    def apply(self, event: Any, now: float) -> None:
        self.reporter.apply(event, now)

    def listed(self, kind: str, now: float) -> None:
        """Everything of a kind that exists has been applied, and what is gone has been deleted."""
        if kind == "nodes":
            self.reporter.apply(Listed(NODE_STATES), now)
        for row in ROWS.values():
            if kind in ("jobs", str(row)):
                self.reporter.apply(Listed(Resource(row.group, "v1", row.kind, row.plural)), now)

    def lead(self, records: Mapping[str, bytes], now: float) -> None:
        """Decide from now on, after what a former leader stored."""
        for name, body in records.items():
            if body:
                listed = read_record("job" if name.startswith("job ") else "node", body)
                self.stored[listed.record.key] = Stored(listed.record, listed.delivered)
                self.reporter.restore(listed, now)
        self.reporter.lead(now)

    def rest(self) -> None:
        """Called at every step instead of `decide` while this process stands by."""

    def decide(self, now: float) -> None:
        self.now = now
        self.reporter.advance(now)
        self.collect(now)

    def collect(self, now: float) -> None:
        for action in self.reporter.book.take():
            match action:
                case book.Send(key, revision):
                    self.outbox.put(key, revision, now)
                case book.Write(record):
                    self.specs[record.key] = record
                case book.Acknowledge(key, revision, delivery):
                    self.acknowledgements[key] = (revision, delivery.accepted)
                case book.Forget(key):
                    self.forgotten[key] = None

    def writes(self) -> list[Write]:
        """What is to be stored; asked for once the last writes are over."""
        found = []
        for key, record in self.specs.items():
            found.append(Write(f"{key[0]} {key[1]}", body(Stored(record)), ("spec", Stored(record))))
        for key, (revision, accepted) in self.acknowledgements.items():
            old = self.stored.get(key)
            if key not in self.specs and old is not None and old.record.revision == revision:
                new = Stored(old.record, accepted)
                found.append(Write(f"{key[0]} {key[1]}", body(new), ("status", new)))
        written = {write.key for write in found}
        found += [
            Write(f"{key[0]} {key[1]}", b"", ("forget", key))
            for key in self.forgotten
            if f"{key[0]} {key[1]}" not in written
        ]
        self.specs, self.acknowledgements, self.forgotten = {}, {}, {}
        return found

    def written(self, write: Write, stored: bool) -> None:
        what, tag = write.tag
        match what, stored:
            case "forget", True:
                self.stored.pop(tag, None)
            case "forget", False:
                self.forgotten[tag] = None
            case _, True:
                self.stored[tag.record.key] = tag
                if what == "spec":
                    self.reporter.book.written(tag.record.key, tag.record.revision, self.now)
                    self.collect(self.now)
            case "spec", False:
                self.specs.setdefault(tag.record.key, tag.record)
            case "status", False:
                self.acknowledgements.setdefault(tag.record.key, (tag.record.revision, tag.accepted))

    def send(self, now: float) -> Sending | None:
        """The next request to make now, if any."""
        while (parcel := self.outbox.take(now)) is not None:
            newest = self.reporter.book.newest(parcel.key)
            report = newest.report if newest else None
            if newest is not None and report is None:
                report = self.stored[parcel.key].record.report
            if newest is not None and report is not None:
                return Sending(parcel, request(report), newest.revision)
            self.outbox.settle(parcel, Answer(Verdict.DELIVERED), now)
        return None

    def settle(self, sending: Sending, answer: Answer, delivered: bool, now: float) -> None:
        key = sending.parcel.key
        if delivered:
            self.reporter.book.delivered(key, sending.revision, now)
        else:
            reason = Reason.REFUSED if answer.verdict is Verdict.REFUSED else Reason.UNREACHABLE
            self.reporter.book.failed(key, sending.revision, Delivery(reason, int(now), "words"))
        self.outbox.settle(sending.parcel, answer, now)
        self.collect(now)

    def remembered(self) -> set[str]:
        """The jobs (by uid, or by a run's id) that records are kept of, beyond those to look back at."""
        return {key[1] for key in self.reporter.book._entries if key[0] == "job"}


def request(report: RunReport | NodeReport) -> Request:
    if isinstance(report, RunReport):
        return post_job(job_config(report, location="lab"))
    return post_node(node_config(report, location="lab")) if report.nics else delete_node(report.node)


def body(stored: Stored) -> bytes:
    """The object as the API server would hold it."""
    record = stored.record
    found = msgspec.json.decode(write_spec(record, "cloudvision", "1", location="lab", term=0))
    found["metadata"]["generation"] = 1
    if stored.accepted:
        status = first_status(Delivery(Reason.ACCEPTED, 10**9))
        found["status"] = msgspec.json.decode(write_status(record.key, "cloudvision", "1", 1, status))["status"]
    return msgspec.json.encode(found)
