"""`cvji informer`: objects from the Kubernetes API through the tracker to CloudVision. Wiring, nothing else.

One thread decides: reflectors put batches on one bounded queue, and the loop here feeds them to the
tracker and hands its reports to the delivery.
"""

import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

import msgspec

from cvji.cloudvision.client import Answer, Client, Token, Verdict
from cvji.cloudvision.outbox import Delivery, Parcel
from cvji.cloudvision.payloads import Request, delete_node, job_config, node_config, post_job, post_node
from cvji.jobs.allocation import Claim, Pod, read_claim, read_pod
from cvji.jobs.kinds import Job, Registry
from cvji.jobs.report import JobReport
from cvji.jobs.tracker import (
    Applied,
    Deleted,
    KindWatched,
    Mode,
    NodeNics,
    OwnerPolicy,
    Policy,
    Problem,
    Tracker,
)
from cvji.kube.client import Api
from cvji.kube.discovery import PODS, Resource
from cvji.kube.reflector import Change, Happened
from cvji.kube.watches import REDISCOVER, Wanted, Watches
from cvji.nodes.inventory import InterfaceType, Inventory, NodeReport, NodeState, read_node_state
from cvji.settings import CloudVision, NodeConfigMode
from cvji.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

NODE_STATES = {
    NodeConfigMode.DISCOVERY: ("cloudvision.arista.io", "NodeInterfaceState"),
    NodeConfigMode.SRIOVOPERATOR: ("sriovnetwork.openshift.io", "SriovNetworkNodeState"),
}
QUEUE_BATCHES = 1000  # beyond this the watches are read no further: the API server holds the rest
BURST = 2000  # changes taken in before jobs are judged, so that reports are not held up by a flood
DRAIN = 20.0  # seconds; Kubernetes gives 30 between SIGTERM and SIGKILL


class Settings(msgspec.Struct, frozen=True):
    """`cvji informer`, as the operator set it up. Delays in seconds."""

    location: str
    cloudvision: CloudVision | None  # None: --dry-run
    token: str = ""
    token_file: str = ""
    namespaces: tuple[str, ...] = ()
    mode: Mode = Mode.INTERFACE
    owner: OwnerPolicy = OwnerPolicy.ROOT
    extra_kinds: tuple[tuple[str, str], ...] = ()
    stability_delay: float = 5.0
    start_max_wait: float = 60.0
    nodeconfig_mode: NodeConfigMode = NodeConfigMode.DISCOVERY
    node_interface_type: InterfaceType = InterfaceType.ALL
    context: str = ""
    rediscover: float = REDISCOVER

    def __repr__(self) -> str:
        return f"Settings(location={self.location!r})"


class Printer:
    """--dry-run: takes the place of delivery and prints each request as one line of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def put(self, key: tuple[str, str], request: Request, tag: object = None) -> None:  # noqa: ARG002
        """Print `request`."""
        body = msgspec.Raw(request.body or b"null")
        line = {"method": request.method, "path": request.path, "body": body}
        print(msgspec.json.encode(line).decode(), file=self._out, flush=True)

    def drain(self, timeout: float) -> int:  # noqa: ARG002
        """Nothing ever waits."""
        return 0


class Informer:
    """The loop between the watches and the delivery."""

    def __init__(
        self,
        settings: Settings,
        api: Api,
        metrics: Metrics,
        deliver: "Delivery | Printer",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._deliver = deliver
        self._clock = clock
        self._queue: queue.Queue[list[Change[Any]] | list[Resource] | None] = queue.Queue(QUEUE_BATCHES)
        self._registry = registry = Registry(settings.extra_kinds)
        self._tracker = Tracker(
            Policy(settings.mode, settings.owner, settings.stability_delay, settings.start_max_wait),
            self._problem,
        )
        self._inventory = Inventory()
        # Several namespaces are watched as all, since each would need a watch of its own for each kind.
        self._namespaces = frozenset(settings.namespaces) if len(settings.namespaces) > 1 else frozenset()
        namespace = settings.namespaces[0] if len(settings.namespaces) == 1 else ""
        wanted = {kind.key: Wanted(partial(registry.read, kind), namespace) for kind in registry}
        wanted["", "Pod"] = Wanted(partial(read_pod, registry), namespace)
        wanted["resource.k8s.io", "ResourceClaim"] = Wanted(read_claim, namespace)
        if state := NODE_STATES.get(settings.nodeconfig_mode):
            wanted[state] = Wanted(partial(read_node_state, settings.node_interface_type))
        self.watches = Watches(
            api,
            wanted,
            self._queue.put,
            self._queue.put,
            always=(PODS,),
            rediscover=settings.rediscover,
            on_crash=lambda _: metrics.errors.inc(),
        )
        self._awaited: set[Resource] | None = None  # first lists to come; None before discovery
        self.synced = False

    def run(self) -> None:
        """Work until `stop`; then deliver what waits."""
        self.watches.start()
        stopped = False
        while not stopped:
            try:
                stopped = self._turn()
            except Exception:  # the outermost loop: one object must not end the reports of all others
                log.exception("internal error; going on")
                self._metrics.errors.inc()
        self.watches.stop()
        left = self._deliver.drain(DRAIN)
        if left:
            log.error("stopped with %d reports undelivered", left)
        else:
            log.info("stopped; everything was delivered")

    def stop(self) -> None:
        """End `run` soon; may be called by a signal handler or another thread."""
        threading.Thread(target=self._queue.put, args=(None,), daemon=True).start()

    def _turn(self) -> bool:
        """Take in what has come, or wait for it until a job's time comes; then judge. True to stop."""
        deadline = self._tracker.next_deadline() if self.synced else None
        wait = None if deadline is None else max(deadline - self._clock(), 0.0)
        taken = 0
        try:
            batch = self._queue.get(timeout=wait)
            while True:
                if batch is None:
                    return True
                taken += len(batch)
                self._take(batch)
                if taken >= BURST:
                    break
                batch = self._queue.get_nowait()
        except queue.Empty:
            pass
        if self.synced:
            for report in self._tracker.advance(self._clock()):
                self._report(report)
        return False

    def _take(self, batch: list[Change[Any]] | list[Resource]) -> None:
        now = self._clock()
        for item in batch:
            if isinstance(item, Change):
                self._change(item, now)
        if self._awaited is None or any(isinstance(item, Resource) for item in batch):
            self._awaited = (self._awaited or set()) | {x for x in batch if isinstance(x, Resource)}
        if not self.synced and not self._awaited:
            self.synced = True
            log.info("all kinds are listed; reporting from now on")

    def _change(self, change: Change[Job | Pod | Claim | NodeState], now: float) -> None:
        found = change.object
        if found is None:
            key = (change.resource.group, change.resource.kind)
            (self._awaited or set()).discard(change.resource)
            self._tracker.apply(KindWatched(key, change.what is Happened.LISTED), now)
        elif isinstance(found, NodeState):
            applied = change.what is Happened.APPLIED
            report = (self._inventory.apply if applied else self._inventory.remove)(found)
            if report is not None:
                self._report_node(report)
            self._tracker.apply(NodeNics(found.node, self._inventory.fabric(found.node)), now)
        elif not self._namespaces or found.namespace in self._namespaces:
            event = Applied(found) if change.what is Happened.APPLIED else Deleted(found)
            self._tracker.apply(event, now)

    def _problem(self, problem: Problem) -> None:
        log.warning("%s: %s", problem.object, problem.message)
        self._metrics.problems.inc()

    def _report(self, report: JobReport) -> None:
        log.info(
            "%s %s/%s is %s with %d %s",
            report.kind,
            report.namespace,
            report.name,
            report.state.name,
            len(report.holds),
            "nodes" if self._settings.mode is Mode.NODE else "NICs",
        )
        config = job_config(report, location=self._settings.location, nodes=self._settings.mode is Mode.NODE)
        self._deliver.put(("job", report.id), post_job(config), report)

    def _report_node(self, report: NodeReport) -> None:
        log.info("node %s has %d NICs", report.node, len(report.nics))
        request = (
            post_node(node_config(report, location=self._settings.location))
            if report.nics
            else delete_node(report.node)
        )
        self._deliver.put(("node", report.node), request, report)


def run(settings: Settings) -> int:
    """`cvji informer`, until SIGTERM or SIGINT. Raises SettingsError. Returns the exit code."""
    metrics = Metrics()
    deliver: Delivery | Printer
    if settings.cloudvision is None:
        deliver = Printer(sys.stdout)
    else:
        client = Client(settings.cloudvision, Token(settings.token, settings.token_file))
        deliver = Delivery(client, on_attempt=partial(_count, metrics))
    api = Api(settings.context)
    informer = Informer(settings, api, metrics, deliver)
    stopping = threading.Event()

    def stop(signum: int, _: object) -> None:
        if stopping.is_set():
            sys.exit(1)  # asked twice: at once
        stopping.set()
        log.info("%s: delivering what waits", signal.Signals(signum).name)
        informer.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("watching %s for %s", api.host, settings.location)
    informer.run()
    return 0


def _count(metrics: Metrics, parcel: Parcel, answer: Answer, _: float) -> None:
    metrics.reports.labels(answer.verdict.value).inc()
    if answer.verdict is Verdict.DELIVERED:
        metrics.delivery_seconds.observe(time.monotonic() - parcel.since)
