"""helm and kubectl as programs, and waiting for a rollout, with the reasons where it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

from .settings import Object, Settings

PLACE = "cloudvision"  # the namespace that everything is in; NAMESPACE is what is watched
OURS = "app=cv-job-informer,app.kubernetes.io/name=cvji"
SELECTORS = {
    "": OURS,
    "job": f"{OURS},app.kubernetes.io/component=informer",
    "node": f"{OURS},app.kubernetes.io/component=interface-discovery",
}
WARNINGS = '{range .items[*]}event: {.involvedObject.kind} {.involvedObject.name}: {.reason}: {.message}{"\\n"}{end}'


class Failed(Exception):  # noqa: N818 - what could not be done
    """It cannot be done; the last line of the message says why in short."""


def needs(program: str, where: str) -> None:
    """Raises Failed where a program is missing."""
    if shutil.which(program) is None:
        raise Failed(f"{program} is not installed: https://{where}")


def run(*command: str, stdin: str = "", show: bool = False) -> str:
    """What a program prints; nothing with `show`, as it prints that itself. Raises Failed with its stderr."""
    out = None if show else subprocess.PIPE
    done = subprocess.run(command, input=stdin, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.strip() or f"{command[0]} ended with code {done.returncode}")
    return done.stdout or ""


class Cluster:
    """The cluster of KUBE_CONTEXT."""

    def __init__(self, settings: Settings) -> None:
        self.context = settings.of["KUBE_CONTEXT"]
        limit = settings.of["ROLLOUT_TIMEOUT"] or "5m"
        self._limit = limit + "s" * limit[-1].isdecimal()

    def kubectl(self, *arguments: str, stdin: str = "", show: bool = False) -> str:
        """As run(), in our namespace; but for objects to apply, which say theirs: a Role may be in another."""
        context = ["--context", self.context] if self.context else []
        place = ["-n", PLACE] if arguments[0] != "apply" else []
        return run("kubectl", *context, *place, *arguments, stdin=stdin, show=show)

    def helm(self, *arguments: str, stdin: str = "") -> str:
        """As run()."""
        return run("helm", *arguments, "-n", PLACE, "--kube-context", self.context, stdin=stdin)

    def reach(self) -> None:
        """Raises Failed where the cluster does not answer."""
        needs("kubectl", "kubernetes.io/docs/tasks/tools")
        try:
            self.kubectl("get", "--raw", "/version", "--request-timeout=15s")
        except Failed as error:
            raise Failed(f"the cluster cannot be reached: {str(error).splitlines()[-1]}") from None

    def found(self, *arguments: str) -> list[Object]:
        """The objects of `kubectl get`; none where their kind is not served. Raises Failed."""
        try:
            answer = json.loads(self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json") or "{}")
        except Failed as error:
            if "the server doesn't have a resource type" in str(error):
                return []
            raise Failed(str(error).splitlines()[-1]) from None
        return list(answer.get("items", [answer] if answer else []))

    def dry_run(self, *arguments: str, stdin: str = "") -> None:
        """Whether the API server, with its admission, would do it for this user. Raises Failed in one line."""
        try:
            self.kubectl(*arguments, "--dry-run=server", stdin=stdin)
        except Failed as error:
            # Before the first time, nothing can be tried in a namespace that is not there.
            lines = [line for line in str(error).splitlines() if f'namespaces "{PLACE}" not found' not in line]
            if lines:
                raise Failed(f"the cluster refuses: {lines[0]}") from None

    def wait_for(self, workload: str, selector: str) -> None:
        """Until it is rolled out, for ROLLOUT_TIMEOUT. Explains, and raises Failed, if it is not."""
        try:
            self.kubectl("rollout", "status", workload, f"--timeout={self._limit}", show=True)
        except Failed:
            waiting = [pod for pod in self.found("pods", "-l", selector) if not is_ready(pod)]
            alive = {node["metadata"]["name"] for node in self.found("nodes") if is_ready(node)}
            names = {pod["spec"].get("nodeName", "") for pod in waiting}
            # One of thousands of nodes is always down: that must not make every deploy fail.
            if workload.startswith("daemonset/") and names and not names & (alive | {""}):
                print(
                    f"Nodes that are not ready are passed over; discovery begins there when they are: {' '.join(names)}"
                )
                return
            for line in self._why(waiting[:5]):
                print(line, file=sys.stderr)
            raise Failed(f"{workload} did not become ready within {self._limit}") from None

    def _why(self, waiting: list[Object]) -> Iterator[str]:
        """Why pods are not ready, in the cluster's own words."""
        for pod in waiting:
            name, status = pod["metadata"]["name"], pod["status"]
            yield f"{name} on node {pod['spec'].get('nodeName', '-')}:"
            for item in status.get("conditions", []) + status.get("containerStatuses", []):
                # A condition that is not met; what a container waits for, and how it ended before.
                for state in (item, *item.get("state", {}).values(), *item.get("lastState", {}).values()):
                    if item.get("status") != "True" and state.get("reason"):
                        yield f"  {state['reason']}: {state.get('message') or state.get('exitCode', '')}"
            log = ("logs", name, "--tail=3", "--request-timeout=10s")
            yield from (f"  log: {line}" for line in self._try(*log))
        events = (
            "get",
            "events",
            "--field-selector=type=Warning",
            "--sort-by=.lastTimestamp",
            "-o",
            f"jsonpath={WARNINGS}",
        )
        yield from list(dict.fromkeys(self._try(*events)))[-5:]

    def _try(self, *arguments: str) -> list[str]:
        """The lines that kubectl prints, if it can."""
        try:
            return self.kubectl(*arguments).splitlines()
        except Failed:
            return []


def is_ready(obj: Object) -> bool:
    """Whether a pod or node has the condition Ready."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in obj["status"].get("conditions", []))
