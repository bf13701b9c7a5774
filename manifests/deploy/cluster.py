"""helm and kubectl as programs: questions, changes, and waiting for a rollout, with the reasons where it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping

from .settings import Object, Settings

RELEASE = "cvji"
PLACE = "cloudvision"  # the namespace that everything is in; NAMESPACE is what is watched
OURS = "app=cv-job-informer,app.kubernetes.io/name=cvji"
SELECTORS = {
    "": OURS,
    "job": f"{OURS},app.kubernetes.io/component=informer",
    "node": f"{OURS},app.kubernetes.io/component=interface-discovery",
}


class Failed(Exception):  # noqa: N818 - what could not be done
    """It cannot be done; the last line of the message says why in short."""


def say(text: str = "") -> None:
    """A line of the answer."""
    print(text, flush=True)


def warn(text: str) -> None:
    """A line about what is wrong."""
    print(text, file=sys.stderr, flush=True)


def needs(program: str, where: str) -> None:
    """Raises Failed where a program is missing."""
    if shutil.which(program) is None:
        raise Failed(f"{program} is not installed: {where}")


def run(
    *command: str,
    check: bool = True,
    stdin: str = "",
    show: bool = False,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a program prints; nothing with `show`, as it prints that itself.

    Raises Failed with its stderr where it fails, if `check`.
    """
    out = None if show else subprocess.PIPE
    try:
        done = subprocess.run(
            command, input=stdin, stdout=out, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed") from None
    if check and done.returncode != 0:
        raise Failed(done.stderr.strip() or f"{command[0]} ended with code {done.returncode}")
    return done.stdout or ""


class Cluster:
    """The cluster of KUBE_CONTEXT."""

    def __init__(self, settings: Settings) -> None:
        self._context = settings.of["KUBE_CONTEXT"]
        self._limit = settings.of["ROLLOUT_TIMEOUT"] or "5m"
        if self._limit[-1].isdecimal():
            self._limit += "s"
        self.version = ""

    def kubectl(
        self, *arguments: str, check: bool = True, stdin: str = "", show: bool = False, place: str = PLACE
    ) -> str:
        """As run(), in a namespace."""
        context = ["--context", self._context] if self._context else []
        return run("kubectl", *context, "-n", place, *arguments, check=check, stdin=stdin, show=show)

    def helm(self, *arguments: str, check: bool = True, stdin: str = "") -> str:
        """As run()."""
        context = ["--kube-context", self._context] if self._context else []
        return run("helm", *arguments, "-n", PLACE, *context, check=check, stdin=stdin)

    def reach(self) -> None:
        """Ask its version. Raises Failed."""
        needs("kubectl", "https://kubernetes.io/docs/tasks/tools")
        try:
            self.version = json.loads(self.kubectl("get", "--raw", "/version", "--request-timeout=15s"))["gitVersion"]
        except Failed as error:
            why = str(error).splitlines()[-1]
            if "enter Username" in str(error):  # kubectl asks for it where the kubeconfig has no credentials
                why = "the kubeconfig's context has no credentials for it"
            raise Failed(f"the cluster cannot be reached: {why}") from None

    def objects(self, *arguments: str) -> list[Object]:
        """What `kubectl get` finds; nothing where it cannot."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json", check=False)
        found = json.loads(text or "{}")
        return list(found.get("items", [found] if found else []))

    def exists(self, *arguments: str) -> bool:
        """Whether `kubectl get` finds anything."""
        return bool(self.kubectl("get", *arguments, "--ignore-not-found", "-o", "name", check=False).strip())

    def apply(self, objects: str, *more: str, manager: str = "cvji-deploy") -> None:
        """Server-side apply of YAML or JSON, whose objects name their namespaces themselves."""
        how = ("--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-")
        self.kubectl("apply", *how, *more, stdin=objects, place="")

    def wait_for(self, workload: str, selector: str) -> None:
        """Until it is rolled out, for ROLLOUT_TIMEOUT. Explains, and raises Failed, if it is not."""
        try:
            self.kubectl("rollout", "status", workload, f"--timeout={self._limit}", show=True)
        except Failed:
            waiting = [pod for pod in self.objects("pods", "-l", selector) if not is_ready(pod)]
            dead = self._dead_nodes(waiting) if workload.startswith("daemonset/") else []
            if not dead:
                self._explain(waiting)
                raise Failed(f"{workload} did not become ready within {self._limit}") from None
            say(f"Nodes that are not ready are passed over; discovery begins there when they are: {' '.join(dead)}")

    def _dead_nodes(self, waiting: list[Object]) -> list[str]:
        """The nodes of these pods where none of them is ready: one that is down must not make every deploy fail."""
        names = [pod["spec"].get("nodeName", "") for pod in waiting]
        for name in names:
            found = self.objects("node", name) if name else []
            if not found or is_ready(found[0]):
                return []
        return names

    def _explain(self, waiting: list[Object]) -> None:
        """Why pods are not ready, in the cluster's own words."""
        for pod in waiting[:5]:
            name = pod["metadata"]["name"]
            warn(f"{name} on node {pod['spec'].get('nodeName', '-')}:")
            for reason in reasons(pod):
                warn(f"  {reason}")
            for line in self.kubectl("logs", name, "--tail=3", "--request-timeout=10s", check=False).splitlines():
                warn(f"  log: {line}")
        if len(waiting) > 5:
            warn("... and more: just describe")
        lines = [
            f"event: {about['kind']} {about['name']}: {item.get('reason')}: {item.get('message')}"
            for item in self.objects("events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp")
            if (about := item["involvedObject"])["name"].startswith("cv-")
        ]
        for line in list(dict.fromkeys(lines))[-5:]:
            warn(line)


def is_ready(obj: Object) -> bool:
    """Whether a pod or node has the condition Ready."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in obj["status"].get("conditions", []))


def reasons(pod: Object) -> list[str]:
    """Why a pod is not ready, by its status."""
    status = pod["status"]
    found = [
        f"not scheduled: {item.get('message', '')}"
        for item in status.get("conditions", [])
        if item["type"] == "PodScheduled" and item["status"] != "True"
    ]
    for container in status.get("containerStatuses", []):
        if waiting := container.get("state", {}).get("waiting"):
            found.append(": ".join(filter(None, (waiting.get("reason"), waiting.get("message")))))
        if ended := container.get("lastState", {}).get("terminated"):
            found.append(f"ended with code {ended.get('exitCode')} ({ended.get('reason')})")
        if "running" in container.get("state", {}) and not container.get("ready"):
            found.append("runs, and is not ready")
    return found
