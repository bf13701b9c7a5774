"""`just status`, `logs`, `restart` and `describe`, of both workloads or of COMPONENT's."""

from __future__ import annotations

from .cluster import PLACE, SELECTORS, Cluster, Failed, say
from .remove import STATES
from .settings import Settings


def deployed(settings: Settings) -> tuple[Cluster, str]:
    """The cluster, and what selects the workloads. Raises Failed where there are none."""
    cluster, selector = Cluster(settings), SELECTORS[settings.of["COMPONENT"]]
    cluster.reach()
    if not cluster.exists("deployments,daemonsets", "-l", selector):
        raise Failed(f"nothing of it runs in namespace {PLACE}: `just deploy` makes one")
    return cluster, selector


def status(settings: Settings) -> None:
    """What runs, where, who leads."""
    cluster, selector = deployed(settings)
    cluster.kubectl("get", "deployments,daemonsets,poddisruptionbudgets", "-l", selector, "-o", "wide", show=True)
    say()
    cluster.kubectl("get", "pods", "-l", selector, "-o", "wide", show=True)
    if settings.of["COMPONENT"] != "node":
        lease = cluster.objects("lease", "cv-job-informer")
        say(f"\nLeader: {lease[0].get('spec', {}).get('holderIdentity', '') if lease else ''}")
        say(f"What was reported to CloudVision: kubectl -n {PLACE} get jobreports,nodereports")
    if settings.of["COMPONENT"] != "job" and cluster.exists("crd", STATES):
        say()
        cluster.kubectl("get", STATES, show=True)


def logs(settings: Settings) -> None:
    """What the pods wrote."""
    cluster, selector = deployed(settings)
    how = [f"--tail={settings.of['TAIL'] or 100}", "--max-log-requests=1000"]
    follow = ["-f"] if settings.on["FOLLOW"] else []
    cluster.kubectl("logs", "-l", selector, "--prefix", *how, *follow, show=True)


def restart(settings: Settings) -> None:
    """Replace the pods, one after another."""
    cluster, selector = deployed(settings)
    cluster.kubectl("rollout", "restart", "deployments,daemonsets", "-l", selector, show=True)
    for name, workload in (("job", "deployment/cv-job-informer"), ("node", "daemonset/cv-interface-discovery")):
        if settings.of["COMPONENT"] in ("", name) and cluster.exists(workload):
            cluster.wait_for(workload, SELECTORS[name])


def describe(settings: Settings) -> None:
    """Workloads, pods and their events in full."""
    cluster, selector = deployed(settings)
    cluster.kubectl("describe", "deployments,daemonsets,pods", "-l", selector, show=True)
