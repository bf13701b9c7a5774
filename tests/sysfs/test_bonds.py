"""Bonds and teams (docs/design.md#nodes): members with their own address, the bond as an entry of its own."""

from pathlib import Path

import msgspec
import pytest

from cvji.sysfs.links import Links
from cvji.sysfs.memory import complete
from cvji.sysfs.nics import Bond
from cvji.sysfs.scan import scan
from cvji.sysfs.state import BondState, remembered, state_of
from cvji.sysfs.table import WIDTH, table, wide
from tests.sysfs.trees import EMPTY, NO_LINKS, Host

A, B = "0c:42:a1:00:00:10", "0c:42:a1:00:00:11"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "sys")


def two_ports(host: Host) -> tuple[Path, Path]:
    first = host.netdev(host.pci("0000:3b:00.0"), "ens1f0", A)
    return first, host.netdev(host.pci("0000:3b:00.1"), "ens1f1", B)


def test_members_have_their_permanent_address_and_the_bond_its_addresses(host: Host) -> None:
    host.bond("bond0", *two_ports(host))
    interfaces, bonds, _ = complete(scan(host.root), Links(ips={"bond0": ("10.0.0.5",)}), EMPTY)
    assert [(nic.name, nic.mac, nic.permanent_mac, nic.bond) for nic in interfaces] == [
        ("ens1f0", A, A, "bond0"),
        ("ens1f1", A, B, "bond0"),
    ]
    assert bonds == (Bond("bond0", A, ("10.0.0.5",), "up", ("ens1f0", "ens1f1")),)
    state = state_of(interfaces, bonds, ())
    assert state.bonds == (BondState("bond0", A, "10.0.0.5", ("10.0.0.5",), "up", ("ens1f0", "ens1f1")),)
    assert [nic.mac for _, nic in remembered(state)] == [A, B]  # a member that goes to a pod has its own again


def test_with_roce_lag_both_ports_belong_to_the_one_rdma_device(host: Host) -> None:
    first, second = two_ports(host)
    other = host.netdev(host.pci("0000:5e:00.0", "mlx5_core"), "ens2", "0c:42:a1:00:00:20")
    plain = host.netdev(host.pci("0000:3b:00.2", "ixgbe"), "ens4", "0c:42:a1:00:00:40")
    host.rdma(first.parents[1], "mlx5_bond_0")
    host.bond("bond0", first, second, other, plain)
    interfaces, _, memory = complete(scan(host.root), NO_LINKS, EMPTY)
    found = {nic.name: nic.rdma_device for nic in interfaces}
    assert found == {"ens1f0": "mlx5_bond_0", "ens1f1": "mlx5_bond_0", "ens2": "", "ens4": ""}
    assert memory.nics["0000:3b:00.1"][0].rdma_device == ""  # once it leaves the bond it has a device of its own


@pytest.mark.parametrize("netlink", [True, False])
def test_a_teams_members_have_the_permanent_address_that_netlink_knows(host: Host, netlink: bool) -> None:
    host.team("team0", *two_ports(host))
    links = Links(kinds={"team0": "team"}, permanent={"ens1f0": A, "ens1f1": B}) if netlink else NO_LINKS
    interfaces, bonds, memory = complete(scan(host.root, links.kinds), links, EMPTY)
    assert [(nic.mac, nic.permanent_mac, nic.bond) for nic in interfaces] == (
        [(A, A, "team0"), (A, B, "team0")] if netlink else [(A, "", "team0")] * 2
    )
    assert [bond.name for bond in bonds] == ["team0"]
    # Where nobody says what a member's own address is, the team's is not taken for it.
    assert [port.mac for ports in memory.nics.values() for port in ports] == ([A, B] if netlink else ["", ""])


def test_what_a_member_of_a_team_had_before_it_joined_is_its_own_address(host: Host) -> None:
    ports = two_ports(host)
    _, _, memory = complete(scan(host.root), NO_LINKS, EMPTY)
    host.team("team0", *ports)
    interfaces, _, memory = complete(scan(host.root), NO_LINKS, memory)
    interfaces, _, _ = complete(scan(host.root), NO_LINKS, memory)
    assert interfaces[1].permanent_mac == B


@pytest.mark.parametrize(("kind", "part"), [("bridge", "bridge"), ("openvswitch", ""), ("vrf", "")])
def test_other_masters_are_no_bonds(host: Host, kind: str, part: str) -> None:
    port, _ = two_ports(host)
    master = host.virtual("m0", A if part else "02:00:00:00:00:99")
    if part:
        (master / part).mkdir()
    host.link(port / "master", master)
    for kinds in ({}, {"m0": kind}):
        found = scan(host.root, kinds)
        assert found.bonds == ()
        assert {nic.bond for nic in found.interfaces} == {""}


def test_a_bond_with_an_unprintable_name_costs_itself_and_a_warning(host: Host) -> None:
    name = b"\xff\x07bond".decode("utf-8", "surrogateescape")
    host.bond(name, *two_ports(host))
    found = scan(host.root)
    interfaces, bonds, _ = complete(found, NO_LINKS, EMPTY)
    assert (bonds, {nic.bond for nic in interfaces}) == ((), {""})
    assert [fault.interface for fault in found.warnings] == ["\\udcff\\x07bond"] * 2
    assert b"bond0" not in msgspec.json.encode(state_of(interfaces, bonds, found.warnings))


def test_a_bond_of_vfs_on_the_host_is_one_too(host: Host) -> None:
    pf = host.pf("0000:3b:00.0", "ens1", A)
    vfs = [
        host.vf(pf, number, f"0000:3b:00.{number + 2}", f"ens1v{number}", f"0c:42:a1:00:01:0{number}")
        for number in (0, 1)
    ]
    host.bond("bond1", *(vf / "net" / f"ens1v{number}" for number, vf in enumerate(vfs)))
    interfaces, bonds, _ = complete(scan(host.root), NO_LINKS, EMPTY)
    assert [(vf.permanent_mac, vf.bond) for vf in interfaces[0].vfs] == [
        ("0c:42:a1:00:01:00", "bond1"),
        ("0c:42:a1:00:01:01", "bond1"),
    ]
    assert bonds[0].members == ("ens1v0", "ens1v1")


def test_a_bond_without_a_port_of_the_machine_is_left_out(host: Host) -> None:
    two_ports(host)
    bond = host.virtual("bond0")
    host.write(bond / "bonding", mode="802.3ad 4")
    found = scan(host.root, explain=True)
    assert found.bonds == ()
    assert "bond0: bond" in map(str, found.left_out)


def test_the_tables_show_the_bond_and_the_wide_one_the_permanent_addresses(host: Host) -> None:
    host.bond("bond0", *two_ports(host))
    interfaces, bonds, _ = complete(scan(host.root), Links(ips={"bond0": ("10.0.0.5",)}), EMPTY)
    lines = table(interfaces, bonds)
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1].split() == ["bond0", "bond", "of", "2", A, "up", "10.0.0.5"]
    member = next(line for line in wide(interfaces, bonds, ()) if line.startswith("ens1f1"))
    assert member.split()[-6:] == ["mlx5_core", "1", "100000", "pci", "bond0", B]
