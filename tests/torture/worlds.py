"""What histories do to a cluster that real processes watch: objects, and faults of the API server."""

import signal
from typing import Any, Protocol

from tests.cluster.controlplane import ControlPlane
from tests.e2e.kit import Stage
from tests.e2e.test_nodes import DISCOVERY, node_state
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object
from tests.simulator.server import Fault
from tests.torture.adapter import wire_claim, wire_job, wire_pod
from tests.torture.cluster import Change, Claim, Job, Node, Pod

WRITES = frozenset({"PUT", "POST", "PATCH"})


class World(Protocol):
    """A cluster. `prompt`: its controllers take a claim from a pod that has ended."""

    prompt: bool

    def change(self, change: Change) -> None:
        """Do to the cluster what has been done to the history's."""

    def disturb(self, what: str, hard: bool) -> list[signal.Signals]:
        """Begin or end a fault: away, back, stall, go-on, expire, fail, slow, fast. Signals for the processes."""
        ...


def wire(found: Job | Pod | Claim | Node, uid_of: dict[str, str]) -> Object:
    """An object as the API server has it."""
    match found:
        case Job():
            return wire_job(found, uid_of)
        case Pod():
            return wire_pod(found, uid_of)
        case Claim():
            return wire_claim(found, uid_of)
        case Node():
            return node_state(*DISCOVERY, found.uid, found.mac)


class SimulatedWorld:
    """A simulated API server, changed from within: it may be refusing its clients."""

    prompt = False

    def __init__(self, simulator: KubernetesSimulator) -> None:
        self.simulator = simulator
        self.refusing = False

    def change(self, change: Change) -> None:
        obj = wire(change.object, {})
        meta = obj["metadata"]
        if change.gone:
            kind = self.simulator.kind_of(obj)
            self.simulator.delete(kind.group, kind.plural, meta["namespace"], meta["name"])
        else:
            self.simulator.create(obj)

    def disturb(self, what: str, hard: bool) -> list[signal.Signals]:
        simulator = self.simulator
        match what:
            case "away" if not self.refusing:
                self.refusing = True
                simulator.refuse()
            case "back" if self.refusing:
                self.refusing = False
                simulator.resume()
            case "stall" | "go-on":
                simulator.stall(what == "stall")
            case "expire":
                simulator.compact()
                simulator.close_watches()
            case "fail":  # a write that took effect, and its answer was lost; a server in trouble; watches that end
                simulator.faults.append(Fault(drop=True, after=True, methods=WRITES))
                simulator.faults.append(Fault(status=500, body=b"{}", methods=WRITES))
                simulator.close_watches()
            case "slow" | "fast":
                simulator.delay = 0.3 if what == "slow" else 0.0
        return []


class ClusterWorld:
    """A real API server, spoken to over HTTP; the test plays the kubelet. It is away for as long as its restart takes."""

    prompt = True

    def __init__(self, stage: Stage, plane: ControlPlane) -> None:
        self.cluster, self.plane = stage.cluster, plane
        self.made: dict[tuple[str, str], Object] = {}
        self.uids: dict[str, str] = {}  # by the name that histories have in place of a uid
        self.compactions = 0

    def change(self, change: Change) -> None:
        obj, key = wire(change.object, self.uids), (change.kind, change.uid)
        made = self.made.get(key)
        if change.gone:
            if self.made.pop(key, {}).get("asked") and change.kind == "jobs":
                self.plane.request("PATCH", self.cluster.path(obj, change.uid), {"metadata": {"finalizers": None}})
            else:
                self.remove(obj, "gracePeriodSeconds=0&propagationPolicy=Background")
            return
        if change.kind == "pods":
            self.complete_pod(obj, change.object)
        meta, status = obj["metadata"], obj.pop("status")
        deleting = meta.pop("deletionTimestamp", None)
        meta.pop("deletionGracePeriodSeconds", None)
        for field in ("uid", "creationTimestamp"):  # the API server's own
            meta.pop(field, None)
        if made is None:
            self.made[key] = made = self.cluster.create(obj)
            self.uids[change.uid] = made["metadata"]["uid"]
        elif change.kind == "jobs":
            self.cluster.patch(made, {"spec": {"suspend": None, **obj["spec"]}})
        elif change.kind == "pods":
            self.cluster.patch(made, {"metadata": {"annotations": meta["annotations"]}})
        before = made.get("last", {})
        made["last"] = status
        self.cluster.set_status(made, {**dict.fromkeys(before.keys() - status.keys()), **status})
        if deleting and not made.get("asked"):
            made["asked"] = True
            if change.kind == "jobs":  # as in a foreground deletion, whose finalizer is the garbage collector's own
                self.cluster.patch(made, {"metadata": {"finalizers": ["example.com/the-test"]}})
            self.remove(obj, "")

    def complete_pod(self, obj: Object, found: Pod) -> None:
        """What a real API server insists on. A pod is bound from the beginning: only a scheduler may do that later."""
        obj["spec"] |= {
            "nodeName": found.node,
            "containers": [{"name": "main", "image": "train"}],
            "automountServiceAccountToken": False,
        }
        for container in obj["status"]["containerStatuses"]:
            container |= {"image": "train", "imageID": "", "ready": False, "restartCount": 0}

    def remove(self, obj: Object, query: str) -> None:
        path = self.cluster.path(obj, obj["metadata"]["name"])
        answer = self.plane.request("DELETE", f"{path}?{query}")
        assert answer.status in (200, 202, 404), answer  # the garbage collector may have been there before

    def disturb(self, what: str, hard: bool) -> list[signal.Signals]:
        match what:
            case "away":
                self.compact()
                self.plane.restart_apiserver(hard=hard)
            case "stall":  # of the whole program, which comes to the same
                return [signal.SIGSTOP]
            case "go-on":
                return [signal.SIGCONT]
            case "expire":
                self.compact()
        return []

    def compact(self) -> None:
        self.compactions += 1  # there must be something to compact
        label: dict[str, Any] = {"labels": {"compactions": str(self.compactions)}}
        self.cluster.call("PATCH", "/api/v1/namespaces/team", {"metadata": label})
        self.plane.compact()
