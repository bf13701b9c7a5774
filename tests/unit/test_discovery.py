"""The loop of `cvji discover`: when it looks, what it says, and what it does when it cannot."""

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from cvji import discover
from cvji.commands import DiscoverSettings
from cvji.discover import Discovery
from cvji.kube.client import ApiError
from cvji.kube.nodestate import NodeStateStore
from cvji.settings import Netlink
from cvji.sysfs.links import Links, LinksError
from cvji.sysfs.nics import Scan
from cvji.sysfs.scan import scan
from cvji.sysfs.state import State
from cvji.telemetry.metrics import DiscoveryMetrics
from tests.e2e.kit import write_kubeconfig
from tests.sysfs.trees import Host, mlx5_host

INTERVAL = 60.0


class Store:
    """A cluster that holds one state, and that may be away."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.away: ApiError | None = None
        self.writes: list[State] = []
        self.reads = 0

    def read(self) -> State | None:
        self.reads += 1
        if self.away:
            raise self.away
        return self.state

    def write(self, state: State) -> bool:
        if self.away:
            raise self.away
        written, self.state = self.state != state, state
        if written:
            self.writes.append(state)
        return written


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return mlx5_host(tmp_path / "sys")


def discovery(host: Host, store: Store, random: float = 0.5, *, netlink: bool = False) -> Discovery:
    asked = Netlink.YES if netlink else Netlink.NO
    settings = DiscoverSettings(node_name="n", sysfs_root=str(host.root), netlink=asked, interval=INTERVAL)
    found = Discovery(settings, DiscoveryMetrics(), lambda: random)
    found._store = cast(NodeStateStore, store)
    return found


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "http://127.0.0.1:9")))


def test_intervals_are_spread_by_a_fifth(host: Host) -> None:
    assert [discovery(host, Store(), random).round(read=True) for random in (0.0, 0.5, 1.0)] == [48.0, 60.0, 72.0]


def test_an_api_server_that_is_away_is_asked_ever_more_seldom_and_its_own_wish_counts(host: Host) -> None:
    store = Store()
    store.away = ApiError(0, "refused")
    loop = discovery(host, store)
    assert [loop.round(read=True) for _ in range(9)] == [0.75, 1.5, 3, 6, 12, 24, 45, 45, 45]
    assert "not written yet" in loop.ready()
    store.away = ApiError(429, "busy", 100.0)
    assert loop.round(read=True) == 125.0  # never earlier than it asked
    store.away = None
    assert loop.round(read=True) == INTERVAL
    assert loop.ready() == ""
    store.away = ApiError(0, "refused")
    assert loop.round(read=True) == 0.75


def test_a_change_of_links_is_published_without_asking_what_stands(host: Host) -> None:
    store = Store()
    loop = discovery(host, store)
    loop.round(read=True)
    host.write(host.root / "class/net/ens1f1np1", operstate="down")
    loop.round(read=False)
    assert (store.reads, len(store.writes)) == (1, 2)
    assert store.writes[1].interfaces[1].oper_state == "down"


def test_a_sys_folder_that_cannot_be_read_is_reported_and_what_was_known_stands(host: Host) -> None:
    store = Store()
    loop = discovery(host, store)
    loop.round(read=True)
    before = store.writes[0]
    hidden = host.root.rename(host.root.with_name("hidden"))
    loop.round(read=True)
    failed = store.writes[1]
    assert (failed.sync_status, failed.interfaces) == ("Failed", before.interfaces)
    assert str(host.root) in failed.message
    assert "no such folder" in failed.message
    hidden.rename(host.root)
    loop.round(read=True)
    assert store.writes[2:] == [before]


@pytest.mark.parametrize(
    "denied", [("/",), ("/class/net",), ("/bus/pci/devices",), ("/bus/auxiliary/devices",), ("/class/net", "/bus/pci")]
)
def test_a_list_that_may_not_be_read_takes_nothing_away(
    host: Host, denied: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    loop = discovery(host, store)
    loop.round(read=True)
    before, memory = store.writes[0], loop._observer.memory
    listed = os.listdir

    def listdir(path: str) -> list[str]:
        if path.startswith(tuple(f"{host.root}{part}" for part in denied)):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    loop.round(read=True)
    assert (store.writes[1].sync_status, store.writes[1].interfaces) == ("Failed", before.interfaces)
    assert "Permission denied" in store.writes[1].message
    assert loop._observer.memory == memory
    monkeypatch.setattr(os, "listdir", listed)
    loop.round(read=True)
    assert store.writes[2:] == [before]


def test_a_folder_that_is_no_sys_folder_takes_nothing_away(host: Host) -> None:
    store = Store()
    loop = discovery(host, store)
    loop.round(read=True)
    hidden = host.root.rename(host.root.with_name("hidden"))
    host.root.mkdir()  # a mount that is not there
    loop.round(read=True)
    assert (store.writes[1].sync_status, store.writes[1].interfaces) == ("Failed", store.writes[0].interfaces)
    assert "neither class/net nor bus/pci/devices" in store.writes[1].message
    host.root.rmdir()
    hidden.rename(host.root)
    loop.round(read=True)
    assert store.writes[2:] == store.writes[:1]


def test_a_kernel_that_does_not_answer_is_reported_and_what_was_known_stands(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discover, "read_links", lambda: Links({"ens1f0np0": ("192.0.2.9",)}))
    store = Store()
    loop = discovery(host, store, netlink=True)
    loop.round(read=True)
    assert store.writes[0].interfaces[0].ip == "192.0.2.9"

    def refuse() -> Links:
        raise LinksError("rtnetlink: Operation not permitted")

    monkeypatch.setattr(discover, "read_links", refuse)
    loop.round(read=True)
    assert (store.writes[1].sync_status, store.writes[1].message) == ("Failed", "rtnetlink: Operation not permitted")
    assert store.writes[1].interfaces == store.writes[0].interfaces


def test_a_node_that_does_not_settle_is_looked_at_again_soon_and_written_once(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    loop = discovery(host, store)
    loop.round(read=True)
    number = 0

    def changing(root: Path, *_: Any, **__: Any) -> Scan:
        nonlocal number
        number += 1
        return msgspec.structs.replace(scan(root), changed=(f"/class/net/ens{number}",))

    monkeypatch.setattr(discover, "scan", changing)
    assert [loop.round(read=False) for _ in range(3)] == [1.0] * 3
    assert number == 3 * discover.SCANS
    assert [state.sync_status for state in store.writes] == ["Succeeded", "Failed"]
    assert store.writes[1].interfaces == store.writes[0].interfaces
    assert len([record for record in caplog.records if "do not agree" in record.getMessage()]) == 1
    monkeypatch.setattr(discover, "scan", scan)
    assert loop.round(read=False) == INTERVAL
    assert store.writes[2] == store.writes[0]


def test_what_could_not_be_read_of_a_node_is_in_its_message_and_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.write(host.root / "bus/pci/devices/0000:3b:00.1", sriov_numvfs="many")
    store = Store()
    loop = discovery(host, store)
    for _ in range(3):
        loop.round(read=True)
    assert store.writes[0].sync_status == "Succeeded"
    assert "'many'" in store.writes[0].message
    assert len([record for record in caplog.records if "'many'" in record.getMessage()]) == 1


class Announced:
    """Stands for the kernel's subscription: readable after `announce`."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._fd

    def announce(self) -> None:
        os.eventfd_write(self._fd, 1)

    def drain(self) -> None:
        os.eventfd_read(self._fd)


class Running:
    """A discovery's loop in a thread, and when it made its rounds."""

    def __init__(self, loop: Discovery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = Announced()
        monkeypatch.setattr(discover, "Subscription", lambda: self.kernel)
        self.rounds: list[float] = []
        self._made = threading.Semaphore(0)
        once = loop.round

        def counted(**words: Any) -> float:
            wait = once(**words)
            self.rounds.append(time.monotonic())
            self._made.release()
            return wait

        monkeypatch.setattr(loop, "round", counted)
        stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=loop.run, args=(stopped,), daemon=True)
        self._thread.start()
        self.next()

    def next(self, timeout: float = 20.0) -> bool:
        """Whether another round was made in time."""
        return self._made.acquire(timeout=timeout)

    def stop(self) -> None:
        os.write(self._stop, b".")
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def running(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(discover, "SETTLE", 1.0)
    monkeypatch.setattr(discover, "SETTLE_MAX", 2.0)
    found = Running(discovery(host, Store()), monkeypatch)
    yield found
    found.stop()


class Busy:
    """A node whose links change every so many seconds, until the loop is stopped; time is a number here."""

    STOP, KERNEL = 1000, 1001  # no file descriptors

    def __init__(self, every: float, until: float) -> None:
        self.now = 0.0
        self._every, self._until = every, until
        self._next = every

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(monotonic=lambda: self.now, process_time=time.process_time)
        monkeypatch.setattr(discover, "time", clock)
        monkeypatch.setattr(discover, "select", SimpleNamespace(poll=lambda: self, POLLIN=0))
        monkeypatch.setattr(discover, "Subscription", lambda: self)

    def register(self, *_: object) -> None:
        """As poll objects do."""

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        self.now = min(self.now + milliseconds / 1000, max(self._next, self.now))
        if self.now >= self._until:
            return [(self.STOP, 0)]
        return [(self.KERNEL, 0)] if self.now >= self._next else []

    def fileno(self) -> int:
        return self.KERNEL

    def drain(self) -> None:
        self._next = self.now + self._every


@pytest.mark.parametrize("every", [0.1, 5.0, 0.6 * INTERVAL, 0.99 * INTERVAL])
def test_what_the_cluster_holds_is_read_once_in_an_interval_however_often_links_change(
    host: Host, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    busy = Busy(every, 10 * INTERVAL)
    busy.install(monkeypatch)
    store = Store()
    reads: list[float] = []

    def read() -> State | None:
        reads.append(busy.now)
        return store.state

    monkeypatch.setattr(store, "read", read)
    assert discovery(host, store).run(busy.STOP) == 0
    gaps = [later - earlier for earlier, later in itertools.pairwise([*reads, busy.now])]
    assert max(gaps) <= INTERVAL + discover.SETTLE_MAX
    assert min(gaps[:-1]) >= INTERVAL - 1


def test_a_burst_of_changes_is_one_round_after_the_last(running: Running) -> None:
    for _ in range(20):
        running.kernel.announce()
        running.next(0.01)
    last = time.monotonic()
    running.kernel.announce()
    assert running.next()
    assert running.rounds[1] - last > 0.9
    assert len(running.rounds) == 2


def test_changes_that_never_end_are_published_all_the_same(running: Running) -> None:
    began = time.monotonic()
    while len(running.rounds) < 2:
        running.kernel.announce()
        running.next(0.05)
        assert time.monotonic() - began < 20
    assert running.rounds[1] - began > 1.5  # not before SETTLE_MAX
