"""Plays the kubelet of every node: pods that the scheduler has bound run and are ready; deleted ones end."""

import contextlib
import http.client
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tests.cluster.controlplane import ApiError, ControlPlane
from tests.e2e.kit import stamp

Object = dict[str, Any]


def node(name: str, *, labels: Mapping[str, str] | None = None, taints: tuple[str, ...] = ()) -> Object:
    """A Node that is ready and has room for everything. Taints are KEY:EFFECT."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"} | dict(labels or {}),
        },
        "spec": {"taints": [dict(zip(("key", "effect"), taint.split(":"), strict=True)) for taint in taints]},
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Test"}],
        },
    }


class Kubelet:
    """Runs until the end of its `with` block."""

    def __init__(self, plane: ControlPlane, namespace: str, *, trouble: Callable[[Object], Object | None]) -> None:
        """`trouble` gives what a container waits for instead of running: reason and message."""
        self._plane = plane
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._trouble = trouble
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            with contextlib.suppress(ApiError, OSError, http.client.HTTPException):
                for pod in self._plane.call("GET", self._pods)["items"]:
                    self._look_after(pod)

    def _look_after(self, pod: Object) -> None:
        path = f"{self._pods}/{pod['metadata']['name']}"
        if "deletionTimestamp" in pod["metadata"]:
            self._plane.request("DELETE", f"{path}?gracePeriodSeconds=0")
        elif pod["spec"].get("nodeName") and not pod["status"].get("containerStatuses"):
            self._plane.request("PATCH", f"{path}/status", {"status": self._status(pod)})

    def _status(self, pod: Object) -> Object:
        waiting = self._trouble(pod)
        container = pod["spec"]["containers"][0]
        ready = "False" if waiting else "True"
        return {
            "phase": "Pending" if waiting else "Running",
            "podIP": "10.1.0.1",
            "startTime": stamp(),
            "conditions": [{"type": kind, "status": ready} for kind in ("Initialized", "ContainersReady", "Ready")],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": not waiting,
                    "started": not waiting,
                    "restartCount": 0,
                    "state": {"waiting": waiting} if waiting else {"running": {"startedAt": stamp()}},
                }
            ],
        }
