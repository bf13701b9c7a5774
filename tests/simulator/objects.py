"""Objects in the shape that operators give them; times are passed in, as RFC3339 text."""

import json
from typing import Any

from tests.simulator.kinds import CLAIMS, CORE_KINDS, JOB_KINDS, NODE_KINDS, SPARK

Object = dict[str, Any]
KINDS = {
    (group, kind): (version, plural)
    for group, version, kind, plural in [*CORE_KINDS, *JOB_KINDS, *NODE_KINDS, CLAIMS, SPARK]
}


def job(group: str, kind: str, name: str, namespace: str = "team", owner: Object | None = None) -> Object:
    """A job object of any kind; `owner` is the object that controls it."""
    version = KINDS[group, kind][0]
    spec: Object = {}
    if (group, kind) == ("batch", "Job"):  # managedBy keeps a real Job controller from making pods of its own
        container = {"name": "main", "image": "train"}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        spec = {"managedBy": "example.com/the-test", "template": template}
    return {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **references(owner)},
        "spec": spec,
    }


def references(owner: Object | None) -> Object:
    """metadata.ownerReferences for a controller."""
    if owner is None:
        return {}
    meta = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {"ownerReferences": [reference | {"controller": True}]}


def networks(*macs: str) -> str:
    """A network-status annotation: the cluster network first, then an attachment for each MAC."""
    default = {"name": "cbr0", "interface": "eth0", "ips": ["10.244.1.7"], "mac": "0a:58:0a:f4:01:07"}
    entries: list[Object] = [default | {"default": True, "dns": {}}]
    for number, mac in enumerate(macs):
        device = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": f"0000:3b:00.{number}"}}
        entries.append(
            {
                "name": f"fabric/rail-{number}",
                "interface": f"net{number + 1}",
                "mac": mac,
                "device-info": device,
            }
        )
    return json.dumps(entries)


def pod(
    name: str,
    owner: Object,
    *macs: str,
    namespace: str = "team",
    node: str = "worker-0",
    padding: int = 0,
    **spec: Any,
) -> Object:
    """A pod of a job with a NIC for each MAC; `padding` bytes of what real pods carry besides."""
    containers = [{"name": "main", "image": "train"}]
    if padding:
        containers[0]["env"] = [  # type: ignore[assignment]
            {"name": f"SETTING_{n}", "value": "x" * 80} for n in range(padding // 120)
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"k8s.v1.cni.cncf.io/network-status": networks(*macs)},
            **references(owner),
        },
        "spec": {"containers": containers, "automountServiceAccountToken": False, **spec}
        | ({"nodeName": node} if node else {}),
    }


def pod_status(phase: str, start: str = "", finish: str = "") -> Object:
    """A pod's status as the kubelet writes it."""
    state: Object = {"waiting": {"reason": "ContainerCreating"}}
    if finish:
        code = 0 if phase == "Succeeded" else 1
        state = {"terminated": {"startedAt": start, "finishedAt": finish, "exitCode": code}}
    elif phase == "Running":
        state = {"running": {"startedAt": start}}
    container = {
        "name": "main",
        "state": state,
        "image": "train",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
    }
    return {"phase": phase, "containerStatuses": [container], **({"startTime": start} if start else {})}


def _conditions(*types: str, at: str) -> list[Object]:
    condition = {"status": "True", "reason": "Because", "message": "", "lastTransitionTime": at}
    return [condition | {"type": name} for name in types]


def running(group: str, kind: str, start: str) -> Object:
    """The status of a running job."""
    if group == "argoproj.io":
        return {"phase": "Running", "startedAt": start, "finishedAt": None}
    if group == "batch.volcano.sh":
        condition = {"status": "Running", "lastTransitionTime": start}
        return {"state": {"phase": "Running", "lastTransitionTime": start}, "conditions": [condition]}
    if kind == "RayJob":
        return {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "startTime": start}
    if kind == "RayCluster":
        return {"state": "ready"}
    if group in ("batch", "kubeflow.org"):
        conditions = _conditions("Created", "Running", at=start) if group == "kubeflow.org" else []
        return {"startTime": start, "conditions": conditions}
    return {}


# How each kind of job says that it ended well, badly or was stopped: docs/design.md#job-kinds.
SUCCESS = {"kubeflow.org": "Succeeded", "trainer.kubeflow.org": "Complete", "jobset.x-k8s.io": "Completed"}


def ended(group: str, kind: str, state: str, start: str, end: str) -> Object | None:
    """The status of a job that ended COMPLETED, FAILED or CANCELLED; None where the kind cannot say so."""
    good = state == "COMPLETED"
    if kind == "RayJob":
        word = {"COMPLETED": "SUCCEEDED", "FAILED": "FAILED", "CANCELLED": "STOPPED"}[state]
        deployment = "Failed" if state == "FAILED" else "Complete"
        return {"jobDeploymentStatus": deployment, "jobStatus": word, "startTime": start, "endTime": end}
    if state == "CANCELLED":
        return None
    if group == "batch.volcano.sh":
        return {"state": {"phase": "Completed" if good else "Failed", "lastTransitionTime": end}}
    if group == "argoproj.io":
        return {"phase": "Succeeded" if good else "Error", "startedAt": start, "finishedAt": end}
    if kind == "RayCluster":
        return None if good else {"state": "failed"}
    if group == "batch":
        if good:
            conditions = _conditions("SuccessCriteriaMet", "Complete", at=end)
            return {"startTime": start, "completionTime": end, "conditions": conditions}
        return {"startTime": start, "conditions": _conditions("FailureTarget", "Failed", at=end)}
    if group == "kubeflow.org":
        conditions = _conditions("Created", "Succeeded" if good else "Failed", at=end)
        return {"startTime": start, "completionTime": end, "conditions": conditions}
    if group == "run.ai":
        return {"phase": "Succeeded" if good else "Failed", "completionTime": end}
    return {"conditions": _conditions(SUCCESS[group] if good else "Failed", at=end)}


def informer_deployment(namespace: str = "cloudvision", **settings: str) -> Object:
    """The informer's, as far as commands read it: its settings."""
    labels = {"app": "cv-job-informer", "app.kubernetes.io/component": "informer"}
    env = [{"name": name, "value": value} for name, value in settings.items()]
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "informer", "image": "cvji", "env": env}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cv-job-informer", "namespace": namespace, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": pods},
    }
