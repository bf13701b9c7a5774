"""NICs that move, are renamed or are bonded at every point of a scan: no line is without the address that it had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvji.discover import SCANS, UNSETTLED, Observer
from cvji.sysfs.nics import every_nic
from cvji.sysfs.state import FAILED, SUCCEEDED, State, remembered, state_of
from cvji.sysfs.tree import Tree
from tests.sysfs.trees import Host

Step = Callable[[], object]
READS = ("text", "link", "names", "exists")


class Reads:
    """Counts the reads of a scan, and before each runs what is to happen then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.due: list[tuple[int, Step]] = []
        for name in READS:
            monkeypatch.setattr(Tree, name, self._counted(getattr(Tree, name)))

    def _counted(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            while self.due and self.due[0][0] <= self.count:
                self.due.pop(0)[1]()
            self.count += 1
            return read(*args, **named)

        return counted

    def run(self, observer: Observer, before: State, *due: tuple[int, Step]) -> State:
        """Observe, with each step before the read of that number; steps that were not reached come after it."""
        self.count, self.due = 0, list(due)
        state = observer.observe(before).state
        for _, step in self.due:
            step()
        self.due = []
        return state


class World:
    """One of each kind of device: a PF with two VFs and a sub-function, a card with two ports, two bonded PFs."""

    def __init__(self, folder: Path) -> None:
        self.host = host = Host(folder / "sys")
        self.pf = host.pf("0000:3b:00.0", "ens1", "0c:42:a1:00:00:10")
        for number in (0, 1):
            host.vf(self.pf, number, f"0000:3b:00.{number + 2}", f"ens1v{number}", f"0c:42:a1:00:01:0{number}")
        host.sub_function(self.pf, 2, "ens1s88", "0c:42:a1:00:03:00")
        card = host.pci("0000:4b:00.0", "mlx4_core")
        for port in (0, 1):
            host.netdev(card, f"ens2d{port}", f"0c:42:a1:00:04:0{port}", dev_port=port)
        self.ports = [
            host.netdev(host.pci(f"0000:5b:00.{port}"), f"ens3f{port}", f"0c:42:a1:00:05:0{port}") for port in (0, 1)
        ]
        self.bond = host.bond("bond0", self.ports[0])

    def netdev(self, name: str) -> Path:
        return (self.host.root / "class/net" / name).resolve()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def addresses(state: State) -> dict[tuple[str, str], str]:
    """By device and name of each NIC: the address that is its own."""
    found = {}
    for device, nic in remembered(state):
        found[device, nic.name] = nic.mac
    return found


def settled(observer: Observer) -> State:
    state = observer.observe(State()).state
    assert state.sync_status == SUCCEEDED
    return state


MOVERS = ["ens1", "ens1v0", "ens1v1", "ens1s88", "ens2d0", "ens2d1", "ens3f1"]


@pytest.mark.parametrize("name", MOVERS)
def test_a_nic_that_leaves_or_comes_back_at_any_point_keeps_its_line(world: World, reads: Reads, name: str) -> None:
    observer = Observer(world.host.root, netlink=False)
    before = settled(observer)
    known, total = addresses(before), reads.count
    assert len(known) == 8
    assert "" not in known.values()
    netdev = world.netdev(name)
    world.host.hide(netdev)
    gone = settled(observer)
    world.host.bring_back(netdev)
    for point in range(total + 1):
        for step in (world.host.hide, world.host.bring_back):
            state = reads.run(observer, before, (point, lambda step=step: step(netdev)))  # type: ignore[misc]
            assert addresses(state) == known, (point, step)
            assert state in (before, gone), (point, step)


def test_two_that_swap_places_with_a_pod_at_any_two_points_keep_their_lines(world: World, reads: Reads) -> None:
    observer = Observer(world.host.root, netlink=False)
    before = settled(observer)
    known, total = addresses(before), reads.count
    first, second = world.netdev("ens1v0"), world.netdev("ens2d1")
    for point in range(0, total, 3):
        for later in (point, point + 1, point + 40, point + total):
            state = reads.run(
                observer, before, (point, lambda: world.host.hide(first)), (later, lambda: world.host.hide(second))
            )
            assert addresses(state) == known, (point, later)
            world.host.bring_back(first)
            state = reads.run(observer, before, (point, lambda: world.host.bring_back(second)))
            assert (state.sync_status, addresses(state)) == (SUCCEEDED, known), (point, later)


@pytest.mark.parametrize("name", MOVERS)
def test_a_rename_at_any_point_publishes_the_nic_by_either_name(world: World, reads: Reads, name: str) -> None:
    observer = Observer(world.host.root, netlink=False)
    before = settled(observer)
    macs, total = sorted(addresses(before).values()), reads.count
    old, new = world.netdev(name), world.netdev(name).with_name(f"{name}x")
    world.host.rename(old, new.name)
    renamed = settled(observer)
    world.host.rename(new, old.name)
    for point in range(total + 1):
        for netdev, other in ((old, new), (new, old)):
            state = reads.run(observer, before, (point, lambda a=netdev, b=other: world.host.rename(a, b.name)))  # type: ignore[misc]
            assert sorted(addresses(state).values()) == macs, (point, other)
            assert state in (before, renamed), (point, other)


@pytest.mark.parametrize("gap", [0, 1, 7, 60])
def test_a_port_that_joins_or_leaves_a_bond_at_any_point_keeps_its_own_address(
    world: World, reads: Reads, gap: int
) -> None:
    """The bonding driver changes address and master one after the other."""
    observer = Observer(world.host.root, netlink=False)
    before = settled(observer)
    known, total = addresses(before), reads.count
    port, bond, host = world.ports[1], world.bond, world.host
    joining: tuple[Step, Step] = (
        lambda: host.take_address(port, bond),
        lambda: host.link(port / "master", bond),
    )
    leaving: tuple[Step, Step] = ((port / "master").unlink, lambda: host.give_back_address(port))
    host.enslave(port, bond)
    moments = (before, settled(observer))
    host.release(port)
    for point in range(total + 1):
        for first, second in (joining, leaving):
            state = reads.run(observer, before, (point, first), (point + gap, second))
            assert addresses(state) == known, point
            assert state in moments, point


def test_what_never_stands_still_is_said_and_what_was_known_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each scan another NIC leaves right after the netdevs were listed."""
    observer = Observer(world.host.root, netlink=False)
    before = settled(observer)
    leaving = [world.netdev(name) for name in MOVERS[:SCANS]]
    names, listings = Tree.names, 0

    def listed(tree: Tree, path: str, who: str) -> list[str] | None:
        nonlocal listings
        found = names(tree, path, who)
        if path == "/class/net":
            listings += 1
            if listings % 2 and leaving:  # the second listing of a scan is its last look
                world.host.hide(leaving.pop())
        return found

    monkeypatch.setattr(Tree, "names", listed)
    seen = observer.observe(before)
    assert (seen.state.sync_status, seen.settled) == (FAILED, False)
    assert seen.state.message == UNSETTLED
    assert seen.state.interfaces == before.interfaces
    seen = observer.observe(before)
    assert (seen.state.sync_status, addresses(seen.state)) == (SUCCEEDED, addresses(before))


def test_a_restart_while_everything_is_away_knows_it_all_again(world: World) -> None:
    from cvji.sysfs.memory import recall

    first = Observer(world.host.root, netlink=False)
    state = settled(first)
    for name in MOVERS:
        world.host.hide(world.netdev(name))
    second = Observer(world.host.root, netlink=False)
    second.memory = recall(remembered(state))
    seen = second.observe(state)
    assert addresses(seen.state) == addresses(state)
    assert {nic.name for nic in every_nic(seen.interfaces) if nic.away} == set(MOVERS)
    assert state_of(seen.interfaces, seen.bonds, ()) == seen.state
