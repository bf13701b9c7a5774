"""`cvji informer`: objects from the Kubernetes API through the loop to CloudVision. Wiring, nothing else."""

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import TextIO

import msgspec

from cvji.cloudvision.client import READ_TIMEOUT, Answer, Client, Token, Verdict
from cvji.cloudvision.outbox import Dispatcher, LoadError, Outgoing, Parcel
from cvji.cloudvision.payloads import Request, delete_node, job_config, node_config, post_job, post_node, request_line
from cvji.commands import InformerSettings
from cvji.informer.inbox import (
    QUEUE_BATCHES,
    Attempted,
    Checked,
    Deliverer,
    Elected,
    Message,
    RecordGone,
    Recovered,
    StandBy,
    Stop,
)
from cvji.informer.jobevents import Announcer, Writer
from cvji.informer.loop import Loop
from cvji.jobs.kinds import Job, Registry
from cvji.jobs.nics import Claim, read_claim
from cvji.jobs.pods import Pod, read_pod
from cvji.jobs.policy import Policy
from cvji.jobs.report import Key, RunReport
from cvji.jobs.view import Problem
from cvji.kube.client import Api, ApiError
from cvji.kube.events import Applied, ClusterEvent, Deleted
from cvji.kube.lease import LEASE_DURATION, RENEW_DEADLINE, Elector
from cvji.kube.reading import PAGE
from cvji.kube.served import CLAIMS, PODS
from cvji.kube.watches import Wanted, Watches
from cvji.malloc import give_back_large_blocks
from cvji.nodes.inventory import NodeReport, read_node_state
from cvji.nodes.objects import NODE_STATES
from cvji.output import say_or_end
from cvji.reports.records import ListedRecord, RecordError, Unreadable
from cvji.reports.reporter import Reporter
from cvji.reports.store import Store
from cvji.reports.tasks import Acknowledged, Forgotten
from cvji.reports.tasks import Event as StoreEvent
from cvji.settings import Mode, NodeConfigMode
from cvji.telemetry.metrics import Metrics
from cvji.threads import start_or_end

log = logging.getLogger(__name__)

NAME = "cv-job-informer"  # of the Lease
RETRY = 2.0  # seconds after which the records are read again that could not be
PATIENCE = 10.0  # seconds for which a missing permission is taken for that of an API server that has just started
UNREAD_RETRY = 30.0  # seconds after which a kind of records is tried again that has no CRD, or may not be listed
DELIVERY_ROUNDS = 20  # so often it waits for that long for everything to be delivered, before it starts again


class Printer:
    """--dry-run: takes the place of delivery and prints each request as one line of JSON."""

    def __init__(self, load: Callable[[Key], Outgoing | None], done: Callable[[Key, int], None], out: TextIO) -> None:
        self._load, self._done, self._out = load, done, out

    def put(self, key: Key, revision: int) -> None:  # noqa: ARG002
        """Print the key's newest report; printed is as good as delivered."""
        outgoing = self._load(key)
        if outgoing is not None:
            say_or_end(request_line(outgoing.request), self._out)
            self._done(key, outgoing.revision)

    def settled(self) -> bool:
        """Nothing ever waits."""
        return True

    def close(self) -> None:
        """Nothing to end."""


class Informer:
    """The parts of one informer, put together."""

    def __init__(
        self,
        settings: InformerSettings,
        api: Api,
        metrics: Metrics,
        *,
        client: Client | None = None,
        elector: Elector | None = None,
        clock: Callable[[], float] = time.time,
        inbox: "queue.Queue[Message] | None" = None,
    ) -> None:
        """Without a `client`, reports are printed. Without an `elector`, this process leads.

        `inbox` is where everything that happens goes; it is bounded.
        """
        self._settings, self._metrics, self._elector = settings, metrics, elector
        for verdict in Verdict:  # a counter that begins at 1 shows Prometheus no increase
            metrics.reports.labels(verdict.value)
        self.inbox = inbox or queue.Queue[Message](QUEUE_BATCHES)
        permit = partial(_permit, elector) if elector else lambda: READ_TIMEOUT
        self._store: Store | None = None
        if settings.state_namespace and client is not None:
            self._store = Store(
                api, settings.state_namespace, location=settings.location, emit=self._recorded, permit=permit
            )
        registry = Registry(settings.job_kinds)
        node_kind = NODE_STATES.get(settings.nodeconfig_mode)
        self.reporter = Reporter(
            Policy(settings.jobconfig_mode, settings.job_owner, settings.stability_delay, settings.start_max_wait),
            settings.location,
            durable=self._store is not None,
            job_kinds={kind.key for kind in registry},
            node_kind=node_kind,
            resync=settings.resync_interval,
            history=settings.report_history,
            problem=self._problem,
        )
        self.deliver: Deliverer
        if client is None:
            self.deliver = Printer(self._load, partial(self.reporter.book.delivered, now=0.0), sys.stdout)
        else:
            self.deliver = Dispatcher(client, self._load, on_attempt=self._attempted, permit=permit)
        # Several namespaces are watched as all, since each would need a watch of its own for each kind.
        self._namespaces = frozenset(settings.namespace) if len(settings.namespace) > 1 else frozenset()
        self.loop = Loop(
            self.reporter,
            self._watches(settings, api, registry, node_kind),
            self.deliver,
            self._store,
            self.inbox,
            metrics,
            sources=[CLAIMS, *([node_kind] if node_kind else [])] if settings.jobconfig_mode is Mode.INTERFACE else [],
            keep=self._is_wanted,
            recover=lambda term: self._start("records", partial(self._take_over, term)),
            check=lambda: self._start("records", self._check),
            release=self._release,
            events=Announcer(Writer(api, _identity(settings)).put) if settings.events and client is not None else None,
            clock=clock,
        )

    def _watches(
        self, settings: InformerSettings, api: Api, registry: Registry, node_kind: tuple[str, str] | None
    ) -> Watches:
        namespace = settings.namespace[0] if len(settings.namespace) == 1 else ""
        wanted = {kind.key: Wanted(partial(registry.read, kind), namespace) for kind in registry}
        note = log.debug if log.isEnabledFor(logging.DEBUG) else None
        wanted[PODS.key] = Wanted(partial(_read_pod, registry, note), namespace)
        wanted[CLAIMS] = Wanted(partial(read_claim, note=note), namespace)
        if node_kind:
            # Ours count from our own namespace only: who can create them elsewhere is not discovery.
            ours = settings.nodeconfig_mode is NodeConfigMode.DISCOVERY
            place = settings.state_namespace if ours else ""
            wanted[node_kind] = Wanted(partial(read_node_state, settings.node_interface_type), place)
        return Watches(
            api,
            wanted,
            self.inbox.put,
            always=(PODS,),
            rediscover=settings.kind_retry,
            on_crash=lambda _: self._metrics.errors.inc(),
        )

    def run(self) -> int:
        """Work until asked to stop. Returns the exit code: 1 if another process leads now."""
        if self._elector is not None:
            elector = self._elector
            self._start(
                "lease",
                lambda: elector.run(
                    elected=lambda term: self.inbox.put(Elected(term)),
                    lost=lambda: self.inbox.put(Stop(1)),
                    waiting=lambda: self.inbox.put(StandBy()),
                ),
            )
        else:
            self.inbox.put(Elected())
        return self.loop.run()

    def stop(self) -> None:
        """Send what is pending, then exit."""
        start_or_end(lambda: self.inbox.put(Stop(0)), "stop")

    def _release(self, release: bool) -> None:
        """End being, or wanting to be, the leader; with `release` the Lease is free at once."""
        if self._elector is not None:
            self._elector.stop(release=release)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        """Do `work` in a thread of its own. The program cannot do without it: if it fails, the process exits, and
        Kubernetes starts it again.
        """

        def run() -> None:
            try:
                work()
            except Exception:  # the outermost loop of this thread
                log.exception("the %s thread failed; exiting", name)
                self._metrics.errors.inc()
                self.inbox.put(Stop(1))

        start_or_end(run, name)

    # --- watches ------------------------------------------------------------------------------------

    def _is_wanted(self, event: ClusterEvent) -> bool:
        if not self._namespaces or not isinstance(event, Applied | Deleted):
            return True
        found = event.object
        return not isinstance(found, Job | Pod | Claim) or found.namespace in self._namespaces

    def _problem(self, problem: Problem) -> None:
        log.warning("%s: %s", problem.object, problem.message)
        self._metrics.problems.inc()

    # --- records ------------------------------------------------------------------------------------

    def _recorded(self, event: StoreEvent) -> None:
        if not isinstance(event, Acknowledged | Forgotten):  # which nothing waits for
            self.inbox.put(event)

    def _take_over(self, term: int) -> None:
        store, impatient_at = self._store, time.monotonic() + PATIENCE
        while store is not None:
            try:
                for page in _pages(store.take_over(term, patient=time.monotonic() < impatient_at)):
                    self.inbox.put(Recovered(page, last=False))
                break
            except ApiError as err:
                log.error("the records of former leaders cannot be read: %s; trying again", err)
                threading.Event().wait(RETRY)
        self.inbox.put(Recovered([], last=True))
        found = False
        while store is not None and store.unread():
            threading.Event().wait(UNREAD_RETRY)
            try:
                found = store.retry_unread()
            except ApiError as err:
                log.debug("the records cannot be listed: %s; trying again", err)
        if found:
            for _ in range(DELIVERY_ROUNDS):
                threading.Event().wait(UNREAD_RETRY)  # what waited is written meanwhile
                if not self.reporter.book.unsettled():
                    break
            log.error("records of former leaders can be read only now: starting again, to go on from them")
            self.inbox.put(Stop(0))

    def _check(self) -> None:
        if self._store is not None:
            try:
                for page in _pages(self._store.relist()):
                    self.inbox.put(Checked(page))
            except ApiError as err:
                log.warning("the records cannot be checked: %s; they will be at the next resync", err)

    # --- delivery -----------------------------------------------------------------------------------

    def _load(self, key: Key) -> Outgoing | None:
        """The key's newest report as a request. Raises LoadError. By any thread."""
        newest = self.reporter.book.newest(key)
        if newest is None:
            return None
        report = newest.report
        if report is None and self._store is not None:
            try:
                found = self._store.get(key)
            except (ApiError, RecordError) as err:
                raise LoadError(f"its record cannot be read: {err}") from None
            report = found.record.report if found else None
        if report is None:
            log.error("%s %s is never reported: its record was deleted while CloudVision was away", *key)
            self.inbox.put(RecordGone(key, newest.revision))
            return None
        return Outgoing(newest.revision, self._request(report))

    def _request(self, report: RunReport | NodeReport) -> Request:
        if isinstance(report, RunReport):
            return post_job(job_config(report, location=self._settings.location))
        if report.nics:
            return post_node(node_config(report, location=self._settings.location))
        return delete_node(report.node)

    def _attempted(self, parcel: Parcel, outgoing: Outgoing, answer: Answer) -> None:
        self._metrics.reports.labels(answer.verdict.value).inc()
        if answer.verdict is Verdict.DELIVERED:
            self._metrics.delivery_seconds.observe(time.monotonic() - parcel.since)
        self.inbox.put(Attempted(parcel.key, outgoing.revision, answer))


def _read_pod(registry: Registry, note: Callable[[str], None] | None, raw: msgspec.Raw) -> Pod | None:
    """A pod, if it belongs to a job, or may."""
    pod = read_pod(registry, raw, note)
    return pod if pod.owner is not None else None


def _pages(found: Iterable[ListedRecord | Unreadable]) -> Iterable[list[ListedRecord]]:
    """The records that can be read, in lists of a page each: the queue counts lists."""
    page: list[ListedRecord] = []
    for item in found:
        if isinstance(item, Unreadable):
            log.error("%s; it is skipped", item.error)
            continue
        page.append(item)
        if len(page) >= PAGE:
            yield page
            page = []
    if page:
        yield page


def run(settings: InformerSettings) -> int:
    """`cvji informer`, until SIGTERM or SIGINT. Raises SettingsError. Returns the exit code."""
    give_back_large_blocks()
    metrics = Metrics()
    client = None
    if not settings.dry_run:
        client = Client(settings.cloudvision, Token(settings.api_token, settings.api_token_file))
    api = Api(settings.context)
    elector = None
    if settings.leader_elect and client:
        elector = Elector(api, settings.state_namespace, NAME, _identity(settings))
    informer = Informer(settings, api, metrics, client=client, elector=elector)
    loop = informer.loop
    metrics.look(loop.look)
    if settings.health_address:
        from cvji.telemetry import health

        health.serve(settings.health_address, metrics.registry, loop.alive, loop.ready)
    stopping = threading.Event()

    def stop(signum: int, _: object) -> None:
        if stopping.is_set():
            os._exit(1)  # the second signal: exit at once
        stopping.set()
        log.info("%s: sending pending reports, then exiting", signal.Signals(signum).name)
        informer.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("watching %s for %s", api.host, settings.location)
    if client and settings.api_insecure_skip_verify:
        log.warning("API_INSECURE_SKIP_VERIFY: whoever answers at %s gets the token", settings.api_server)
    return informer.run()


def _identity(settings: InformerSettings) -> str:
    """Of this process, in the Lease and in Events."""
    return settings.pod_name or f"{socket.gethostname()}-{uuid.uuid4()}"


def _permit(elector: Elector) -> float:
    """For how many seconds a request that starts now may last: it must end before the Lease does. 0: none may start."""
    left = elector.valid_for()
    return left + (LEASE_DURATION - RENEW_DEADLINE - 1.0) if left > 0 else 0.0
