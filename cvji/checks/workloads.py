"""Checks of what is deployed: the informer's pods, its leader and memory, discovery on the nodes, and the records."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from cvji.checks.result import Level, Result, failure, few, ok, skipped, warning
from cvji.checks.site import Site
from cvji.jobs.report import RunReport
from cvji.kube.client import ApiError
from cvji.kube.objects import Time, Wire
from cvji.kube.reading import one, pages
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import GROUP, ListedRecord, Reason, Unreadable

INFORMER = "app=cv-job-informer,app.kubernetes.io/component=informer"
DISCOVERY = "app=cv-job-informer,app.kubernetes.io/component=interface-discovery"
LEASE = "cv-job-informer"
STALE = 30.0  # seconds without a renewal: twice the Lease's duration
PENDING = 60.0  # seconds after which a report that is not delivered is news
RESTARTS = 3
MEMORY = 0.85  # of the limit
CGROUP = Path("/sys/fs/cgroup")
ELSEWHERE = "run `cvji check` with a kubeconfig that may read it"


class _Condition(Wire):
    type: str = ""
    status: str = ""


class _Last(Wire):
    reason: str = ""


class _Ended(Wire):
    terminated: _Last | None = None


class _Container(Wire):
    restart_count: int = 0
    last_state: _Ended | None = None


class _PodStatus(Wire):
    phase: str = ""
    conditions: list[_Condition] | None = None
    container_statuses: list[_Container] | None = None


class _Resources(Wire):
    limits: dict[str, str | int] | None = None


class _ContainerSpec(Wire):
    resources: _Resources | None = None


class _PodSpec(Wire):
    node_name: str = ""
    containers: list[_ContainerSpec] | None = None


class _Named(Wire):
    name: str = ""


class Pod(Wire):
    """A pod of ours."""

    metadata: _Named
    spec: _PodSpec | None = None
    status: _PodStatus | None = None

    @property
    def ready(self) -> bool:
        """Whether its Ready condition is True."""
        conditions = (self.status.conditions if self.status else None) or ()
        return any(found.type == "Ready" and found.status == "True" for found in conditions)

    @property
    def restarts(self) -> int:
        """How often its containers were restarted."""
        return sum(found.restart_count for found in (self.status.container_statuses if self.status else None) or ())

    @property
    def killed_for(self) -> str:
        """Why a container ended last, such as OOMKilled; "" if none did."""
        found = (self.status.container_statuses if self.status else None) or ()
        ends = (one.last_state.terminated.reason for one in found if one.last_state and one.last_state.terminated)
        return next(ends, "")

    @property
    def memory_limit(self) -> float | None:
        """In bytes; None if there is none."""
        containers = (self.spec.containers if self.spec else None) or ()
        limits = (found.resources.limits or {} for found in containers if found.resources)
        return next((quantity(str(found["memory"])) for found in limits if "memory" in found), None)


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}


def quantity(text: str) -> float | None:
    """A resource.Quantity as a number; None if it is none (apimachinery pkg/api/resource)."""
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
    except ValueError:
        return None


def _pods(site: Site, selector: str) -> list[Pod]:
    path = f"/api/v1/namespaces/{site.namespace}/pods"
    return [msgspec.json.decode(raw, type=Pod) for raw in pages(site.api, path, {"labelSelector": selector})]


def informer(site: Site) -> Iterator[Result]:
    """The informer's pods are ready and do not restart."""
    found = [pod for pod in _pods(site, INFORMER) if pod.status and pod.status.phase not in ("Succeeded", "Failed")]
    ready = [pod for pod in found if pod.ready]
    logs = f"kubectl -n {site.namespace} logs -l {INFORMER} --tail=50"
    if not found:
        advice = f"deploy it, or scale it up: kubectl -n {site.namespace} get deployments"
        yield failure("informer", f"there is no pod of it in namespace {site.namespace}", advice)
    elif not ready:
        yield failure("informer", f"none of {len(found)} pods is ready", logs)
    elif len(ready) < len(found):
        names = few(pod.metadata.name for pod in found if not pod.ready)
        yield warning("informer", f"{len(ready)} of {len(found)} pods are ready; not {names}", logs)
    else:
        yield ok("informer", f"{len(ready)} pods are ready")
    for pod in found:
        if pod.restarts >= RESTARTS or pod.killed_for == "OOMKilled":
            why = f", last {pod.killed_for}" if pod.killed_for else ""
            advice = "raise its memory limit" if pod.killed_for == "OOMKilled" else f"{logs} --previous"
            yield warning("informer", f"pod {pod.metadata.name} was restarted {pod.restarts} times{why}", advice)


class _LeaseSpec(Wire):
    holder_identity: str | None = None
    renew_time: Time | None = None


class _Lease(Wire):
    spec: _LeaseSpec | None = None


def leader(site: Site) -> Iterator[Result]:
    """Somebody holds the Lease and renews it. Where no pod of the informer is ready, that is why nobody does."""
    found = _leader(site)
    if found.level is Level.FAILURE and _is_down(site):
        found = skipped("leader", found.message, "see the informer's line above")
    yield found


def _is_down(site: Site) -> bool:
    try:
        return not any(pod.ready for pod in _pods(site, INFORMER))
    except ApiError:  # nobody knows
        return False


def _leader(site: Site) -> Result:
    body = one(site.api, f"/apis/coordination.k8s.io/v1/namespaces/{site.namespace}/leases/{LEASE}")
    if body is None:
        return failure("leader", "there is no Lease: no informer has ever led here", "see whether its pods are ready")
    spec = msgspec.json.decode(body, type=_Lease).spec or _LeaseSpec()
    age = site.age(spec.renew_time.timestamp()) if isinstance(spec.renew_time, datetime) else None
    if not spec.holder_identity:
        return failure("leader", "nobody holds the Lease, so nothing is reported", "see whether its pods are ready")
    if age is None or age > STALE:
        old = "at an unknown time" if age is None else f"{age:.0f} s ago"
        advice = "no informer leads: see whether its pods are ready and may update the Lease"
        return failure("leader", f"{spec.holder_identity} renewed the Lease last {old}", advice)
    return ok("leader", f"{spec.holder_identity}, renewed {max(age, 0):.0f} s ago")


class _Usage(Wire):
    usage: dict[str, str] | None = None


class _PodMetrics(Wire):
    metadata: _Named
    containers: list[_Usage] | None = None


def memory(site: Site) -> Iterator[Result]:
    """The informer keeps clear of its memory limit."""
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{site.namespace}/pods"
    try:
        raws = list(pages(site.api, path, {"labelSelector": INFORMER}))
        limits = {pod.metadata.name: pod.memory_limit for pod in _pods(site, INFORMER)}
    except ApiError as err:
        own = _own_memory()
        if own is None or not site.environment.get("POD_NAME"):
            yield skipped(
                "memory", f"no metrics of pods: {err}", "run this in the informer's pod, or install metrics-server"
            )
        else:
            yield _memory(site.environment["POD_NAME"], *own)
        return
    for raw in raws:
        found = msgspec.json.decode(raw, type=_PodMetrics)
        used = sum(quantity((part.usage or {}).get("memory", "")) or 0 for part in found.containers or ())
        yield _memory(found.metadata.name, used, limits.get(found.metadata.name))


def _own_memory() -> tuple[float, float | None] | None:
    """This container's use and limit in bytes (cgroup v2, Documentation/admin-guide/cgroup-v2.rst)."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        return float((CGROUP / "memory.current").read_text()), None if limit == "max" else float(limit)
    except (OSError, ValueError):
        return None


def _memory(name: str, used: float, limit: float | None) -> Result:
    mib = f"{used / 2**20:.0f} MiB"
    if not limit:
        return ok("memory", f"{name} uses {mib}, without a limit")
    message = f"{name} uses {mib} of {limit / 2**20:.0f}"
    return warning("memory", message, "raise its memory limit") if used > MEMORY * limit else ok("memory", message)


# --- discovery ---------------------------------------------------------------------------------------------------


class _StateStatus(Wire):
    sync_status: str = ""
    message: str = ""


class _State(Wire):
    metadata: _Named
    status: _StateStatus | None = None


def discovery(site: Site) -> Iterator[Result]:
    """Every node with a discovery pod has a state that is fresh: its pod is ready, and its last scan succeeded."""
    if site.node_state != (GROUP, "NodeInterfaceState"):
        yield skipped("discovery", f"NODECONFIG_MODE is {site.settings.nodeconfig().value}")
        return
    if (resource := site.served.found.get(site.node_state)) is None:
        return  # `crds` says so
    pods = {pod.spec.node_name: pod for pod in _pods(site, DISCOVERY) if pod.spec and pod.spec.node_name}
    states = {
        state.metadata.name: state.status or _StateStatus()
        for raw in pages(site.api, resource.path(site.namespace))
        for state in [msgspec.json.decode(raw, type=_State)]
    }
    logs = f"kubectl -n {site.namespace} logs -l {DISCOVERY}"
    if not pods:
        yield failure("discovery", "no node has a discovery pod", f"kubectl -n {site.namespace} get daemonsets")
    elif missing := sorted(pods.keys() - states.keys()):
        yield failure("discovery", f"no inventory of {len(missing)} of {len(pods)} nodes: {few(missing)}", logs)
    else:
        yield ok("discovery", f"{len(pods)} of {len(pods)} nodes have an inventory")
    for node, status in sorted(states.items()):
        if status.sync_status == "Failed":
            advice = f"kubectl -n {site.namespace} logs of its discovery pod; what was known before stands"
            yield failure("discovery", f"node {node} cannot be scanned: {status.message[:200]}", advice)
    if pods and (old := sorted(node for node in states if node not in pods or not pods[node].ready)):
        advice = "what is reported of them may be old: see their discovery pods"
        yield warning("discovery", f"{few(old)}: no discovery pod is ready there", advice)


# --- records -----------------------------------------------------------------------------------------------------


def reports(site: Site) -> Iterator[Result]:
    """Every report is delivered: those that are not, by reason, with CloudVision's own words."""
    found = [record for record in site.records if isinstance(record, ListedRecord)]
    for record in site.records:
        if isinstance(record, Unreadable):
            yield warning("reports", record.error, f"somebody has edited it: kubectl -n {site.namespace} delete it")
    waiting: dict[Reason, list[ListedRecord]] = {}
    for record in found:
        if not record.delivered:
            waiting.setdefault(record.reason, []).append(record)
    for reason, records in waiting.items():
        yield _undelivered(site, reason, records)
    if not waiting:
        yield ok("reports", f"all {len(found)} are delivered")


def _undelivered(site: Site, reason: Reason, records: list[ListedRecord]) -> Result:
    # Whose spec is newer than an accepted one waits since an unknown time, which is short: soon its status says so.
    known = [status for record in records if (status := record.status) and not status.delivery.accepted]
    age = max(site.age(min(status.since for status in known)), 0) if known else 0
    words = next((status.delivery.message for status in known), "")
    long = f" for {age:.0f} s" if known else ""
    what = f"{len(records)} not delivered ({reason.value}){long}: {few(map(_name, records), 3)}"
    message = f"{what}{f': {words[:200]}' if words else ''}"
    if reason is Reason.REFUSED:
        return failure("reports", message, "CloudVision's words say why: token, permission, LOCATION or content")
    if age < PENDING:
        return Result("reports", Level.OK, message)
    if reason is Reason.UNREACHABLE:
        return warning("reports", message, "they are retried; see the CloudVision lines above")
    return warning("reports", message, "nobody delivers them: see whether an informer leads")


def _name(record: ListedRecord) -> str:
    report = record.record.report
    match report:
        case RunReport():
            return f"{report.namespace}/{report.name}"
        case NodeReport():
            return f"node {report.node}"
