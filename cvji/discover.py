"""`cvji discover`: scan, complete, publish; at start, when the kernel says that links changed, and in intervals."""

import logging
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec

from cvji.backoff import backoff
from cvji.commands import DiscoverSettings
from cvji.output import say_or_end
from cvji.settings import Netlink, NodeOutput, SettingsError
from cvji.sysfs.links import Links, LinksError, Subscription, read_links
from cvji.sysfs.memory import Memory, complete, recall
from cvji.sysfs.nics import Bond, Fault, Interface, LeftOut, Scan, every_nic
from cvji.sysfs.scan import scan
from cvji.sysfs.state import API_VERSION, FAILED, KIND, SUCCEEDED, State, failed, remembered, state_of

if TYPE_CHECKING:
    from cvji.telemetry.metrics import DiscoveryMetrics

log = logging.getLogger(__name__)

SETTLE = 0.4  # seconds without a further change of links before a scan ...
SETTLE_MAX = 3.0  # ... or since the first of them, on a node where they never end
RETRY_FIRST, RETRY_MAX = 1.0, 60.0  # seconds
SCANS = 3  # at once one after another, where something changes during the scan
# In the state's message: it names no NIC, so that the state is not written again for each one that moves.
UNSETTLED = f"{SCANS} scans do not agree: NICs come, go or are renamed all the time"
STUCK = 90.0  # seconds; longer than every timeout of one round
JITTER = 0.2  # of the interval


class Observation(msgspec.Struct, frozen=True):
    """What an observer saw. `settled` is False where the NICs kept changing, so that it is worth looking again soon."""

    state: State
    interfaces: tuple[Interface, ...] = ()
    bonds: tuple[Bond, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    settled: bool = True


class Observer:
    """Sees this node, and remembers what it saw."""

    def __init__(self, root: Path, *, netlink: bool) -> None:
        self._root = root
        self._netlink = netlink
        self._warned: set[Fault] = set()
        self._trouble = ""
        self.memory = Memory()

    def observe(self, before: State, *, explain: bool = False) -> Observation:
        """What the node has now; `before` stands where that is not known. With `explain`, all that was left out."""
        found, links, trouble = self._look(explain=explain)
        trouble = found.unread or trouble
        if found.unread and not found.interfaces:
            return Observation(failed(before, trouble))
        interfaces, bonds, memory = complete(found, links, self.memory)
        if trouble != self._trouble and trouble:
            log.warning("%s%s", trouble, f" ({', '.join(found.changed[:3])} ...)" if found.changed else "")
        self._trouble = trouble
        if trouble:  # with something missing, or of no one moment, it is not what the node has; memory stays
            return Observation(failed(before, trouble), interfaces, bonds, found.left_out, settled=trouble != UNSETTLED)
        for fault in found.warnings:
            if fault not in self._warned:
                log.warning("%s", fault)
        self._warned = set(found.warnings)
        self.memory = memory
        return Observation(state_of(interfaces, bonds, found.warnings), interfaces, bonds, found.left_out)

    def _look(self, *, explain: bool) -> tuple[Scan, Links, str]:
        """Scan until nothing changes meanwhile, or two scans agree; and what went wrong ("" if nothing)."""
        before: object = None
        found, links = Scan(()), Links()
        for _ in range(SCANS):
            try:
                if self._netlink:
                    links = read_links()
            except LinksError as err:
                return scan(self._root, explain=explain), Links(), str(err)
            found = scan(self._root, links.kinds, explain=explain)
            names = {nic.name for nic in every_nic(found.interfaces) if nic.name}
            unlisted = names - links.names if self._netlink else set()
            if (not found.changed and not unlisted) or before == (found, unlisted):
                return found, links, ""
            before = (found, unlisted)
        return found, links, UNSETTLED


def uses_netlink(settings: DiscoverSettings) -> bool:
    """Whether the tree and the kernel's answers are about the same network namespace.

    Every network namespace has a sysfs of its own (kernfs_super_info's ns tag), so the device number shows it.
    """
    if settings.netlink is not Netlink.AUTO:
        return settings.netlink is Netlink.YES
    try:
        return Path(settings.sysfs_root).stat().st_dev == Path("/sys").stat().st_dev
    except OSError:
        return False


def once(settings: DiscoverSettings, out: TextIO) -> int:
    """`cvji discover --once`: print what the node has, and with --apply write it too. Returns the exit code."""
    observer = Observer(Path(settings.sysfs_root), netlink=uses_netlink(settings))
    store = None
    before = State()
    if settings.apply:
        from cvji.kube.client import Api, ApiError
        from cvji.kube.nodestate import NodeStateStore

        store = NodeStateStore(Api(settings.context), settings.state_namespace, settings.node)
        try:
            before = store.read() or State()
        except ApiError as err:
            log.error("%s %s: %s", KIND, settings.node, err)
            return 1
        observer.memory = recall(remembered(before))
    seen = observer.observe(before, explain=settings.output is NodeOutput.WIDE)
    state = seen.state
    if not seen.interfaces and state.sync_status == FAILED:
        raise SettingsError(f"SYSFS_ROOT {settings.sysfs_root} cannot be read: {state.message}")
    say_or_end(_printed(seen, settings.node, settings.state_namespace, settings.output), out)
    if store is not None:
        try:
            store.write(state)
        except ApiError as err:
            log.error("%s %s: %s", KIND, settings.node, err)
            return 1
    return 0


def _printed(seen: Observation, node: str, namespace: str, output: NodeOutput) -> str:
    if output in (NodeOutput.TABLE, NodeOutput.WIDE):
        from cvji.sysfs.table import table, wide

        if output is NodeOutput.TABLE:
            return "\n".join(table(seen.interfaces, seen.bonds))
        return "\n".join(wide(seen.interfaces, seen.bonds, seen.left_out))
    metadata = {"name": node, "namespace": namespace}
    shown = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": seen.state}
    if output is NodeOutput.YAML:
        import yaml  # noqa: F401  # msgspec needs it, and raises no ModuleNotFoundError, for which cli.py has the words
        from msgspec.yaml import encode

        return encode(shown).decode().rstrip("\n")
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


class Discovery:
    """The loop of the DaemonSet."""

    def __init__(self, settings: DiscoverSettings, metrics: "DiscoveryMetrics", rng: Callable[[], float]) -> None:
        """Raises SettingsError if there are no usable credentials."""
        from cvji.kube.client import Api
        from cvji.kube.nodestate import NodeStateStore

        self._settings = settings
        self._metrics = metrics
        self._random = rng
        self._observer = Observer(Path(settings.sysfs_root), netlink=uses_netlink(settings))
        self._store = NodeStateStore(Api(settings.context), settings.state_namespace, settings.node)
        self._current: State | None = None  # what the cluster holds, as far as is known
        self._seeded = False
        self._failures = 0
        self.published = False
        self.turned = time.monotonic()

    def round(self, *, read: bool) -> float:
        """Observe and publish. Returns the seconds until the next round is due.

        `read` asks the cluster first for what it holds, which repairs an object that someone deleted or changed.
        """
        from cvji.kube.client import ApiError

        try:
            if read or not self._seeded:
                self._current = self._store.read()
                if not self._seeded and self._current is not None:
                    # What we remembered before a restart: a job may hold VFs since then.
                    self._observer.memory = recall(remembered(self._current))
                self._seeded = True
            began = time.process_time()
            seen = self._observer.observe(self._current or State())
            state = seen.state
            self._metrics.scan_seconds.observe(time.process_time() - began)
            vfs = sum(len(nic.vfs) for nic in state.interfaces)
            self._metrics.show(len(state.interfaces), vfs, synced=state.sync_status == SUCCEEDED)
            if self._store.write(state):
                self._metrics.writes.labels("written").inc()
                log.info("%s: %d interfaces, %d VFs, %s", KIND, len(state.interfaces), vfs, state.sync_status)
            else:
                self._metrics.writes.labels("unchanged").inc()
                log.debug("%s is unchanged", KIND)
        except ApiError as err:
            self._metrics.writes.labels("failed").inc()
            log.warning("%s %s waits: %s", KIND, self._settings.node, err)
            self._failures += 1
            jitter = self._random()  # so that 5,000 nodes do not all retry at once; Retry-After is the least to wait
            return max(backoff(RETRY_FIRST, RETRY_MAX, self._failures, jitter), err.retry_after * (1 + jitter / 2))
        self._current = state
        self._failures = 0
        self.published = True
        if not seen.settled:
            return RETRY_FIRST * (0.5 + self._random())
        return self._settings.interval * (1 + JITTER * (self._random() * 2 - 1))

    def run(self, stop: int) -> int:
        """Until the file descriptor `stop` is readable."""
        subscription = Subscription()  # first, so that nothing changes unseen between it and the scan
        poll = select.poll()
        poll.register(subscription, select.POLLIN)
        poll.register(stop, select.POLLIN)
        changed = False
        read_due = 0.0  # when the object is read at the latest, however often links change
        while True:
            self.turned = began = time.monotonic()
            read = not changed or began >= read_due
            wait = self.round(read=read)
            due = time.monotonic() + wait
            if read and not self._failures:
                read_due = began + self._settings.interval
            elif not self._failures:
                due = min(due, read_due)
            changed = False
            settled = latest = 0.0
            while (now := time.monotonic()) < due:
                self.turned = now
                # Woken at times even where nothing is due, so that the probe sees a loop that turns.
                ready = {fd for fd, _ in poll.poll(min(due - now, STUCK / 3) * 1000)}
                if stop in ready:
                    return 0
                if subscription.fileno() in ready:
                    subscription.drain()
                    now = time.monotonic()
                    if not changed:
                        changed, latest = True, now + SETTLE_MAX
                    settled = now + SETTLE
                    # A failing API server keeps its distance; the change is part of its next attempt.
                    if not self._failures:
                        due = min(settled, latest)

    def alive(self) -> str:
        """What is wrong with the loop, for /healthz."""
        silence = time.monotonic() - self.turned
        return f"the loop has not turned for {silence:.0f} s" if silence > STUCK else ""

    def ready(self) -> str:
        """What is not there yet, for /readyz."""
        return "" if self.published else f"{KIND} {self._settings.node} is not written yet"


def run(settings: DiscoverSettings) -> int:
    """`cvji discover`, until SIGTERM or SIGINT. Raises SettingsError. Returns the exit code."""
    if settings.once:
        return once(settings, sys.stdout)
    from cvji.telemetry.metrics import DiscoveryMetrics

    metrics = DiscoveryMetrics()
    discovery = Discovery(settings, metrics, random.random)
    if settings.health_address:
        from cvji.telemetry import health

        health.serve(settings.health_address, metrics.registry, discovery.alive, discovery.ready)
    stopped, stop = os.pipe2(os.O_CLOEXEC)

    def ask(_: int, __: object) -> None:
        os.write(stop, b".")

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    log.info("watching the NICs of %s under %s", settings.node, settings.sysfs_root)
    try:
        return discovery.run(stopped)
    except LinksError as err:
        print(f"cvji: {err}", file=sys.stderr)  # noqa: T201
        return 1
