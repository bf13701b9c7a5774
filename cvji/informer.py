"""`cvji informer`: objects from the Kubernetes API through the reporter to CloudVision. Wiring, nothing else.

One thread decides: everything that happens, reflectors' changes, written shards, delivered reports, comes
to it on one bounded queue, and the reporter's decisions leave it for the writer and the delivery.
"""

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TextIO

import msgspec

from cvji.cloudvision.client import READ_TIMEOUT, Answer, Client, Token, Verdict
from cvji.cloudvision.outbox import Delivery, Parcel
from cvji.cloudvision.payloads import Request
from cvji.jobs.allocation import Claim, Pod, read_claim, read_pod
from cvji.jobs.kinds import Job, Registry
from cvji.jobs.report import JobReport
from cvji.jobs.tracker import Applied, Deleted, KindWatched, Mode, OwnerPolicy, Policy, Problem
from cvji.kube.checkpoint import Checkpoint, LostFenceError, TooLargeError
from cvji.kube.client import Api, ApiError
from cvji.kube.discovery import PODS, Resource
from cvji.kube.lease import LEASE_DURATION, RENEW_DEADLINE, Elector
from cvji.kube.reflector import Change, Happened
from cvji.kube.watches import REDISCOVER, Wanted, Watches
from cvji.ledger import SHARDS, Key
from cvji.memory import started
from cvji.nodes.inventory import InterfaceType, NodeReport, NodeState, read_node_state
from cvji.output import say_or_end
from cvji.reporter import NodeApplied, NodeDeleted, NodesListed, Reporter
from cvji.settings import CloudVision, NodeConfigMode, SettingsError
from cvji.telemetry.metrics import Metrics, Moment, Watch

log = logging.getLogger(__name__)

NODE_STATES = {
    NodeConfigMode.DISCOVERY: ("cloudvision.arista.io", "NodeInterfaceState"),
    NodeConfigMode.SRIOVOPERATOR: ("sriovnetwork.openshift.io", "SriovNetworkNodeState"),
}
QUEUE_BATCHES = 1000  # beyond this the watches are read no further: the API server holds the rest
BURST = 2000  # changes taken in before jobs are judged, so that reports are not held up by a flood
DRAIN = 20.0  # seconds; Kubernetes gives 30 between SIGTERM and SIGKILL
IDLE = 5.0  # seconds after which the loop turns even though nothing happens, to show that it is alive
ERROR_PAUSE = 0.5  # seconds after an internal error, so that a lasting one is not a flood
STUCK = 60.0  # seconds without a turn: not alive
# Reports wait for the write that records them; acknowledgements may wait for company.
WRITE_URGENT, WRITE_LAZY = 0.2, 2.0
WRITE_RETRY = 2.0
# Bytes a second into etcd, which keeps every version of a shard for five minutes and has 2 GiB for everybody.
WRITE_RATE = 500_000.0
NAME = "cv-job-informer"  # of the Lease, and of the checkpoint's ConfigMaps


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
    state_namespace: str = ""  # "": no checkpoint; nothing is remembered over a restart
    leader_elect: bool = False
    resync: float = 0.0
    health_address: str = ""

    def __repr__(self) -> str:
        return f"Settings(location={self.location!r})"


class StandBy(msgspec.Struct, frozen=True):
    """Another process reports; this one is to keep itself up to date."""


class Elected(msgspec.Struct, frozen=True):
    """This process is to report from now on."""


class TakenOver(msgspec.Struct, frozen=True):
    """The checkpoint is ours alone to write; this is what it holds."""

    shards: list[bytes]


class Written(msgspec.Struct, frozen=True):
    """Shards were stored as they were when `held_back` was; or were not, for now."""

    shards: tuple[int, ...]
    held_back: Mapping[Key, JobReport | NodeReport]
    stored: bool


class Delivered(msgspec.Struct, frozen=True):
    """CloudVision took a report."""

    said: JobReport | NodeReport


class Stop(msgspec.Struct, frozen=True):
    """End: well (code 0), with what waits delivered first; or at once, no longer the leader."""

    code: int


Happening = list[Change[Any]] | list[Resource] | StandBy | Elected | TakenOver | Written | Delivered | Stop


class Deliverer(Protocol):
    """Where requests go."""

    def put(self, key: Key, request: Request, tag: object = None, waited: float = 0.0) -> None:
        """Send `request`; it replaces what waits under its key. `waited`: seconds that it has waited elsewhere."""

    def withdraw(self, key: Key) -> float | None:
        """Forget what waits under a key, unless it is on its way: for how many seconds it has waited."""

    def depth(self) -> int:
        """How many keys wait."""
        ...

    def oldest_age(self) -> float:
        """For how many seconds the key that has waited longest has waited; 0 when none waits."""
        ...

    def close(self) -> None:
        """Begin no further attempt."""


class Printer:
    """--dry-run: takes the place of delivery and prints each request as one line of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def put(self, key: Key, request: Request, tag: object = None, waited: float = 0.0) -> None:  # noqa: ARG002
        """Print `request`."""
        body = msgspec.Raw(request.body or b"null")
        line = {"method": request.method, "path": request.path, "body": body}
        say_or_end(msgspec.json.encode(line).decode(), self._out)

    def withdraw(self, key: Key) -> float | None:  # noqa: ARG002
        """Nothing ever waits."""
        return None

    def depth(self) -> int:
        """Nothing ever waits."""
        return 0

    def oldest_age(self) -> float:
        """Nothing ever waits."""
        return 0.0

    def close(self) -> None:
        """Nothing to end."""


class Informer:
    """The loop between the watches, the checkpoint and the delivery."""

    def __init__(
        self,
        settings: Settings,
        api: Api,
        metrics: Metrics,
        deliver: Deliverer,
        happenings: "queue.Queue[Happening]",
        elector: Elector | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._deliver = deliver
        self._clock = clock
        self._queue = happenings
        self._elector = elector
        policy = Policy(settings.mode, settings.owner, settings.stability_delay, settings.start_max_wait)
        self._checkpoint: Checkpoint | None = None
        if settings.state_namespace and settings.cloudvision:
            identity = f"{socket.gethostname()}-{uuid.uuid4()}"
            self._checkpoint = Checkpoint(api, settings.state_namespace, f"{NAME}-checkpoint", SHARDS, identity)
        self._reporter = Reporter(
            policy,
            settings.location,
            durable=self._checkpoint is not None,
            resync=settings.resync,
            problem=self._problem,
        )
        # Several namespaces are watched as all, since each would need a watch of its own for each kind.
        self._namespaces = frozenset(settings.namespaces) if len(settings.namespaces) > 1 else frozenset()
        namespace = settings.namespaces[0] if len(settings.namespaces) == 1 else ""
        registry = Registry(settings.extra_kinds)
        wanted = {kind.key: Wanted(partial(registry.read, kind), namespace) for kind in registry}
        note = log.debug if log.isEnabledFor(logging.DEBUG) else None
        wanted["", "Pod"] = Wanted(partial(read_pod, registry, note=note), namespace)
        wanted["resource.k8s.io", "ResourceClaim"] = Wanted(partial(read_claim, note=note), namespace)
        self._node_kind = NODE_STATES.get(settings.nodeconfig_mode)
        if self._node_kind:
            # Our own are believed from our own namespace alone: whoever may make them elsewhere is not discovery.
            ours = settings.nodeconfig_mode is NodeConfigMode.DISCOVERY
            place = settings.state_namespace if ours else ""
            wanted[self._node_kind] = Wanted(partial(read_node_state, settings.node_interface_type), place)
        self.watches = Watches(
            api,
            wanted,
            self._queue.put,
            self._queue.put,
            always=(PODS,),
            rediscover=settings.rediscover,
            on_crash=lambda _: metrics.errors.inc(),
        )
        self._awaited: set[Resource] | None = None  # lists to come; None before discovery
        self._listed: set[Resource] = set()  # what is followed
        self._round = 0  # of the lists that are awaited
        self._watching = False
        self._shards: list[bytes] | None = None  # taken over, and not read yet
        self._stopping_until: float | None = None
        self._code: int | None = None
        self._writes: queue.SimpleQueue[tuple[dict[int, bytes], dict[Key, JobReport | NodeReport]]] = (
            queue.SimpleQueue()
        )
        self._writing = False
        self._write_after = self._write_pause = 0.0
        self.turned = time.monotonic()
        self.synced = False

    # --- life ---------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop. Returns the exit code: 1 if another is the leader now."""
        if self._elector is not None:
            tell = [partial(self._queue.put, what) for what in (Elected(), Stop(1), StandBy())]
            self._start("lease", partial(self._elector.run, *tell))
        else:
            self._take(Elected())
        while self._code is None:
            try:
                self._turn()
            except Exception:  # the outermost loop: one object must not end the reports of all others
                log.exception("internal error; going on")
                self._metrics.errors.inc()
                threading.Event().wait(ERROR_PAUSE)
        self._deliver.close()
        if self._elector is not None:
            # With a request under way, the lease has to outlast it.
            self._elector.stop(release=self._code == 0 and not self._deliver.depth())
        return self._code

    def _start(self, name: str, work: Callable[[], None]) -> None:
        """Do this in a thread of its own. Without it the program would be deaf or dumb: if it breaks, end, to be
        started anew.
        """

        def run() -> None:
            try:
                work()
            except Exception:  # the outermost loop of this thread
                log.exception("the %s thread broke; ending", name)
                self._metrics.errors.inc()
                self._queue.put(Stop(1))

        threading.Thread(target=run, name=name, daemon=True).start()

    def _turn(self) -> None:
        """Take in what has come, or wait for it until a job's time comes; then judge."""
        undelivered = self._deliver.depth()  # what was delivered by now is on the queue
        taken = 0
        try:
            happened = self._queue.get(timeout=self._wait())
            while True:
                taken += len(happened) if isinstance(happened, list) else 1
                self._take(happened)
                if taken >= BURST or self._code is not None:
                    break
                happened = self._queue.get_nowait()
        except queue.Empty:
            pass
        self.turned = time.monotonic()
        if self._reporter.leading:
            if self._stopping_until is None:
                self._reporter.advance(self._clock())
            self._store()
            self._send(self._clock())
        else:
            self._reporter.rest()
        if self._stopping_until is not None:
            self._finish(self._stopping_until, undelivered)

    def _send(self, now: float) -> None:
        for send in self._reporter.take(now):
            if not send.waited:
                self._announce(send.said)
            self._deliver.put(send.key, send.request, send.said, send.waited)
            if not self._settings.cloudvision:  # printed is as good as delivered
                self._reporter.delivered(send.said)
        for key in self._reporter.surplus(now):
            if (waited := self._deliver.withdraw(key)) is not None:
                self._reporter.spill(key, waited, now)

    def _wait(self) -> float:
        """Seconds until the loop has something to do by itself."""
        wait = IDLE if self._stopping_until is None else 0.1
        if self._reporter.leading:
            deadline = self._reporter.next_deadline() if self._stopping_until is None else None
            wait = min(wait, deadline - self._clock()) if deadline is not None else wait
            if self._reporter.changed and not self._writing:
                wait = min(wait, self._write_due() - time.monotonic())
        return max(wait, 0.0)

    def _take(self, happened: Happening) -> None:
        match happened:
            case list() if self._stopping_until is not None:
                pass  # intake is over
            case list():
                self._take_batch(happened)
            case StandBy():
                self._watching = True
                self.watches.start()
            case Elected() if self._checkpoint is not None:
                self._start("checkpoint", partial(self._keep, self._checkpoint))
            case Elected():
                self._take(TakenOver([]))
            case TakenOver(shards):
                # What is listed after the takeover is at least what the predecessor told. A watch may be silent.
                self._shards = shards
                if self._watching:
                    self._round = self.watches.relist()
                    self._awaited = None if self._awaited is None else self._awaited | self._listed
                else:
                    self._watching = True
                    self.watches.start()
            case Delivered(said):
                self._reporter.delivered(said)
            case Written(shards, held_back, stored):
                self._writing = False
                if stored:
                    self._reporter.written(shards, held_back)
                else:
                    self._reporter.unwritten(shards)
                    self._write_after = time.monotonic() + WRITE_RETRY
            case Stop(code) if code or not self._reporter.leading:
                self._code = code
            case Stop():
                self.watches.stop()
                self._stopping_until = time.monotonic() + DRAIN
        if self._shards is not None and self.synced and not self._awaited:
            shards, self._shards = self._shards, None
            self._lead(shards)

    def _lead(self, shards: list[bytes]) -> None:
        """Report from now on, after what the checkpoint holds."""
        for err in self._reporter.lead(shards, self._clock()):
            log.error("%s; going on without", err)
        jobs, nodes = self._reporter.jobs_by_state(), self._reporter.nodes()
        log.info(
            "all kinds are listed; reporting from now on; remembered: %d running jobs, %d ended, %d nodes",
            jobs["running"],
            jobs["ended"],
            nodes,
        )

    def _finish(self, until: float, undelivered: int) -> None:
        """After SIGTERM: done once everything is delivered and recorded, or when time is up."""
        left = max(undelivered, self._deliver.depth()) + len(self._reporter.held_back())
        left += self._reporter.backlog(self._clock())[0]
        quiet = not left and not self._writing and not self._reporter.changed
        if quiet or time.monotonic() >= until:
            if left:
                log.error("stopped with %d reports undelivered", left)
            else:
                log.info("stopped; everything was delivered")
            self._code = 0

    # --- changes ------------------------------------------------------------------------------------

    def _take_batch(self, batch: list[Change[Any]] | list[Resource]) -> None:
        now = self._clock()
        for item in batch:
            if isinstance(item, Change):
                try:
                    self._change(item, now)
                except Exception:  # as in the loop: what came along with it is not to be lost
                    log.exception("internal error; going on")
                    self._metrics.errors.inc()
        if self._awaited is None or any(isinstance(item, Resource) for item in batch):
            self._awaited = (self._awaited or set()) | {item for item in batch if isinstance(item, Resource)}
        if not self.synced and not self._awaited:
            self.synced = True
            started()
            if self._shards is None:
                log.info("all kinds are listed; standing by")

    def _change(self, change: Change[Job | Pod | Claim | NodeState], now: float) -> None:
        found = change.object
        if found is None:
            key, watched = (change.resource.group, change.resource.kind), change.what is Happened.LISTED
            (self._listed.add if watched else self._listed.discard)(change.resource)
            if not watched or change.round >= self._round:
                (self._awaited or set()).discard(change.resource)
            if key != self._node_kind:
                self._reporter.apply(KindWatched(key, watched), now)
            elif watched:
                self._reporter.apply(NodesListed(), now)
        elif isinstance(found, NodeState):
            applied = change.what is Happened.APPLIED
            self._reporter.apply(NodeApplied(found) if applied else NodeDeleted(found), now)
        elif not self._namespaces or found.namespace in self._namespaces:
            applied = change.what is Happened.APPLIED
            self._reporter.apply(Applied(found) if applied else Deleted(found), now)

    def _problem(self, problem: Problem) -> None:
        log.warning("%s: %s", problem.object, problem.message)
        self._metrics.problems.inc()

    def _announce(self, said: JobReport | NodeReport) -> None:
        if isinstance(said, NodeReport):
            log.info("node %s has %d NICs", said.node, len(said.nics))
            return
        what = "nodes" if said.nodes else "NICs"
        job = f"{said.kind} {said.namespace}/{said.name}"
        log.info("%s is %s with %d %s", job, said.state.name, len(said.holds), what)

    # --- the checkpoint -----------------------------------------------------------------------------

    def _store(self) -> None:
        """Hand the changed shards to the writer, one round at a time."""
        if self._writing or not self._reporter.changed or time.monotonic() < self._write_due():
            return
        shards = self._reporter.dirty()
        self._writes.put((shards, self._reporter.held_back()))
        self._writing = True
        self._write_after = time.monotonic()
        self._write_pause = sum(map(len, shards.values())) / WRITE_RATE

    def _write_due(self) -> float:
        """When the next write may be, on the monotonic clock."""
        if self._stopping_until is not None:
            return self._write_after + WRITE_URGENT
        return self._write_after + max(WRITE_URGENT if self._reporter.urgent else WRITE_LAZY, self._write_pause)

    def _keep(self, checkpoint: Checkpoint) -> None:
        """The thread of the checkpoint: takes it over, then writes what it is given."""
        try:
            while True:
                try:
                    self._queue.put(TakenOver(checkpoint.take_over()))
                    break
                except ApiError as err:
                    log.error("the checkpoint cannot be taken over: %s; trying again", err)
                    threading.Event().wait(WRITE_RETRY)
            while True:
                shards, held_back = self._writes.get()
                done = self._write(checkpoint, shards)
                left = tuple(shard for shard in shards if shard not in done)
                # What was stored is stored, whatever became of the others.
                self._queue.put(Written(tuple(done), held_back, stored=True))
                if left:
                    self._queue.put(Written(left, {}, stored=False))
        except LostFenceError as err:
            log.error("no longer the one who reports: %s", err)
            self._queue.put(Stop(1))

    def _write(self, checkpoint: Checkpoint, shards: Mapping[int, bytes]) -> list[int]:
        """Store shards, as many as can be; those that are done. Raises LostFenceError."""
        done = []
        for shard, data in shards.items():
            try:
                checkpoint.write(shard, data)
            except TooLargeError as err:
                log.error("reported, but not remembered over a restart: %s", err)
            except ApiError as err:
                log.warning("the checkpoint waits: %s", err)
                if err.code in (404, 409):  # this one's own trouble
                    continue
                break
            done.append(shard)
        return done

    # --- telemetry ----------------------------------------------------------------------------------

    def alive(self) -> str:
        """What is wrong with the loop, for /healthz."""
        silence = time.monotonic() - self.turned
        return f"the loop has not turned for {silence:.0f} s" if silence > STUCK else ""

    def ready(self) -> str:
        """What is not there yet, for /readyz."""
        if self.synced:
            return ""
        if not self._watching:
            return "waiting for the checkpoint, and then for the first lists"
        awaited = sorted(str(resource) for resource in self._awaited or ())
        return "waiting for the first lists of " + (", ".join(awaited) or "the Kubernetes API")

    def look(self) -> Moment:
        """The informer at this moment, for a scrape."""
        now = time.monotonic()
        watches = {
            resource: Watch(watch.restarts, watch.decode_failures, now - watch.heard if watch.heard else 0.0)
            for resource, watch in list(self.watches.states.items())
        }
        backlog, waited = self._reporter.backlog(self._clock())
        return Moment(
            jobs=self._reporter.jobs_by_state(),
            nodes=self._reporter.nodes(),
            leads=self._reporter.leading,
            outbox=self._deliver.depth() + len(self._reporter.held_back()) + backlog,
            oldest=max(self._deliver.oldest_age(), waited),
            watches=watches,
        )


def run(settings: Settings) -> int:
    """`cvji informer`, until SIGTERM or SIGINT. Raises SettingsError. Returns the exit code."""
    metrics = Metrics()
    happenings: queue.Queue[Happening] = queue.Queue(QUEUE_BATCHES)
    token = Token(settings.token, settings.token_file) if settings.cloudvision else None
    client = Client(settings.cloudvision, token) if settings.cloudvision and token else None
    api = Api(settings.context)
    elector = None
    if settings.leader_elect and settings.cloudvision:
        if not settings.state_namespace:
            raise SettingsError("LEADER_ELECT needs STATE_NAMESPACE, where the Lease and the checkpoint are kept")
        identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{uuid.uuid4()}"
        elector = Elector(api, settings.state_namespace, NAME, identity)
    deliver: Deliverer
    if client is None:
        deliver = Printer(sys.stdout)
    else:
        deliver = Delivery(
            client,
            on_attempt=partial(_attempted, metrics, happenings),
            permit=partial(_permit, elector) if elector else lambda: READ_TIMEOUT,
        )
    informer = Informer(settings, api, metrics, deliver, happenings, elector)
    metrics.look(informer.look)
    if settings.health_address:
        from cvji.telemetry import health

        health.serve(settings.health_address, metrics.registry, informer.alive, informer.ready)
    stopping = threading.Event()

    def stop(signum: int, _: object) -> None:
        if stopping.is_set():
            os._exit(1)  # asked twice: at once
        stopping.set()
        log.info("%s: delivering what waits", signal.Signals(signum).name)
        threading.Thread(target=happenings.put, args=(Stop(0),), daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("watching %s for %s", api.host, settings.location)
    if settings.cloudvision and settings.cloudvision.insecure:
        log.warning("API_INSECURE_SKIP_VERIFY: whoever answers at %s gets the token", settings.cloudvision.address)
    return informer.run()


def _permit(elector: Elector) -> float:
    """A leader's requests must be over before its lease is: until then it may begin one."""
    left = elector.valid_for()
    return left + (LEASE_DURATION - RENEW_DEADLINE - 1.0) if left > 0 else 0.0


def _attempted(metrics: Metrics, happenings: "queue.Queue[Happening]", parcel: Parcel, answer: Answer) -> None:
    metrics.reports.labels(answer.verdict.value).inc()
    if answer.verdict is Verdict.DELIVERED:
        metrics.delivery_seconds.observe(time.monotonic() - parcel.since)
        if isinstance(parcel.tag, JobReport | NodeReport):
            happenings.put(Delivered(parcel.tag))
