"""Objects of a large cluster as an API server stores them, made fast: JSON with gaps, filled in one operation.

MAC addresses are hashes of their number, since addresses that count up would flatter whatever compresses.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable

from tests.e2e.kit import stamp
from tests.simulator.objects import Object, job, pod, pod_status, running

TORCH = ("kubeflow.org", "PyTorchJob")
TORCH_JOBS = (TORCH[0], "pytorchjobs")
POD_BYTES = 6900  # a pod as clusters have them
NAMESPACE = "team"


def uid(kind: str, number: int) -> str:
    """A UUID as random as the API server's."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"{kind}-{number}".encode()).digest()[:16], version=4))


def mac(number: int) -> str:
    """A MAC address that does not compress."""
    return "02:" + hashlib.sha256(b"%d" % number).digest()[:5].hex(":")


def made_job(number: int) -> Object:
    """A running PyTorchJob."""
    obj = job(*TORCH, f"train-{number:05}", NAMESPACE)
    obj["metadata"] |= {"uid": uid("job", number), "creationTimestamp": stamp(-60)}
    return obj | {"status": running(*TORCH, stamp(-50))}


class PodTemplate:
    """Pods of one form, of POD_BYTES each."""

    def __init__(self, phase: str, nics: int, owner_kind: str = "PyTorchJob", *, claim: bool = False) -> None:
        api = {"PyTorchJob": "kubeflow.org/v1", "ReplicaSet": "apps/v1"}[owner_kind]
        owner = {"apiVersion": api, "kind": owner_kind, "metadata": {"name": "%(job)s", "uid": "%(owner)s"}}
        obj = pod("%(name)s", owner, *(f"%(mac{n})s" for n in range(nics)), namespace=NAMESPACE, padding=1)
        meta = obj["metadata"]
        meta |= {"uid": "%(uid)s", "resourceVersion": "VERSION", "creationTimestamp": "%(created)s"}
        meta["labels"] = {
            "training.kubeflow.org/replica-type": "worker",
            "training.kubeflow.org/replica-index": "%(index)s",
        }
        obj["spec"]["nodeName"] = "%(node)s"
        if not nics:
            del meta["annotations"]
        if claim:
            obj["spec"]["resourceClaims"] = [{"name": "nics", "resourceClaimName": "%(name)s"}]
        obj["status"] = pod_status(phase, "%(started)s", "%(now)s" if phase in ("Succeeded", "Failed") else "")
        room = POD_BYTES - len(json.dumps(obj)) - 60
        obj["spec"]["containers"][0]["env"] = [
            {"name": f"SETTING_{n:03}", "value": "x" * (room // 40 - 40)} for n in range(40)
        ]
        self._text = json.dumps(obj).encode()
        self._nics = nics

    def make(self, number: int, owner: Object, *, generation: int = 0, created: float = -55.0) -> bytes:
        """Pod `number` of its owner; each generation of it is another pod, with other NICs, in the same place."""
        meta = owner["metadata"]
        first = (generation << 32 | number) * self._nics
        fields = {
            "name": pod_name(number, generation),
            "uid": uid("pod", generation << 32 | number),
            "job": meta["name"],
            "owner": meta["uid"],
            "index": str(number % 8),
            "node": f"gpu-{number // 8:05}",
            "created": stamp(created),
            "started": stamp(created + 5),
            "now": stamp(),
            **{f"mac{n}": mac(first + n) for n in range(self._nics)},
        }
        return self._text % {name.encode(): value.encode() for name, value in fields.items()}


def pod_name(number: int, generation: int = 0) -> str:
    """The name of a pod, and of its claim."""
    return f"train-worker-{number}-{generation}"


def made_claim(number: int, pod_uid: str, nics: int) -> Object:
    """An allocated ResourceClaim whose devices are NICs."""
    devices = [
        {
            "driver": "dranet.example.com",
            "pool": f"gpu-{number // 8:05}",
            "device": f"rail-{n}",
            "networkData": {"interfaceName": f"net{n}", "hardwareAddress": mac(number * nics + n)},
        }
        for n in range(nics)
    ]
    name = pod_name(number)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid("claim", number)},
        "spec": {"devices": {"requests": [{"name": "nics", "exactly": {"deviceClassName": "nics", "count": nics}}]}},
        "status": {"devices": devices, "reservedFor": [{"resource": "pods", "name": name, "uid": pod_uid}]},
    }


def made_node(number: int, pfs: int, vfs: int) -> Object:
    """A NodeInterfaceState as discovery writes it."""
    interfaces = [
        {
            "name": f"rail{pf}",
            "mac": mac(number << 12 | pf << 8),
            "ip": f"10.{pf}.{number >> 8 & 255}.{number & 255}",
            "pciAddress": f"0000:{pf:02x}:00.0",
            "rdmaDevice": f"mlx5_{pf}",
            "totalvfs": vfs,
            "numVfs": vfs,
            "Vfs": [
                {
                    "name": f"rail{pf}v{vf}",
                    "mac": mac(number << 12 | pf << 8 | vf + 1),
                    "pciAddress": f"0000:{pf:02x}:00.{vf + 1}",
                    "rdmaDevice": f"mlx5_{pf * 16 + vf + 16}",
                }
                for vf in range(vfs)
            ],
        }
        for pf in range(pfs)
    ]
    return {
        "apiVersion": "cloudvision.arista.io/v1",
        "kind": "NodeInterfaceState",
        "metadata": {"name": f"gpu-{number:05}", "namespace": "cloudvision", "uid": uid("node", number)},
        "status": {"syncStatus": "Succeeded", "interfaces": interfaces},
    }


def replica_sets(count: int) -> Iterable[Object]:
    """Owners of pods that belong to no job."""
    for number in range(count):
        meta = {"name": f"web-{number}", "namespace": NAMESPACE, "uid": uid("replicaset", number)}
        yield {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta}
