"""What is known of a NIC that is out of sight."""

from pathlib import Path

import pytest

from cvji.sysfs.links import Links
from cvji.sysfs.memory import Memory, complete, recall
from cvji.sysfs.nics import Interface, Source, VirtualFunction
from cvji.sysfs.scan import scan
from cvji.sysfs.state import State, remembered, state_of
from cvji.sysfs.table import WIDTH, table
from tests.sysfs.trees import EMPTY, NO_LINKS, Host

MAC = "0c:42:a1:00:01:00"
LINKS = Links(ips={"ens1v0": ("10.0.0.5", "2001:db8::5")})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path / "sys")
    pf = host.pf("0000:3b:00.0", "ens1", "0c:42:a1:00:00:10")
    host.rdma(host.vf(pf, 0, "0000:3b:00.2", "ens1v0", MAC), "mlx5_2", "ens1v0")
    return host


def look(host: Host, links: Links, memory: Memory) -> tuple[tuple[Interface, ...], VirtualFunction, Memory]:
    interfaces, _, after = complete(scan(host.root), links, memory)
    return interfaces, interfaces[0].vfs[0], after


def leave(host: Host) -> None:
    host.move_away(next(host.root.glob("devices/**/net/ens1v0")))


def test_a_vf_moved_away_keeps_its_line_and_after_a_restart_too(host: Host) -> None:
    interfaces, vf, memory = look(host, LINKS, EMPTY)
    assert (vf.name, vf.mac, vf.ips) == ("ens1v0", MAC, ("10.0.0.5", "2001:db8::5"))
    published = state_of(interfaces, (), ())
    leave(host)
    for known in (memory, recall(remembered(published))):
        interfaces, vf, _ = look(host, NO_LINKS, known)
        assert (vf.name, vf.mac, vf.ips, vf.away) == ("ens1v0", MAC, ("10.0.0.5", "2001:db8::5"), True)
        assert {vf.sources.name, vf.sources.mac, vf.sources.ips} == {Source.REMEMBERED}
        assert [nic.mac for nic in state_of(interfaces, (), ()).interfaces[0].vfs] == [MAC]


def test_the_pfs_own_list_is_newer_than_memory(host: Host) -> None:
    _, _, memory = look(host, LINKS, EMPTY)
    leave(host)
    told = Links(vf_macs={"ens1": {0: "0c:42:a1:00:01:77"}})
    _, vf, _ = look(host, told, memory)
    assert (vf.mac, vf.sources.mac) == ("0c:42:a1:00:01:77", Source.KERNEL)


def test_what_is_seen_here_is_newer_than_the_pfs_list(host: Host) -> None:
    _, vf, _ = look(host, Links(vf_macs={"ens1": {0: "0c:42:a1:00:01:77"}}), EMPTY)
    assert (vf.mac, vf.sources.mac) == (MAC, Source.HERE)


def test_one_that_left_before_its_addresses_were_asked_for_keeps_them(host: Host) -> None:
    _, _, memory = look(host, LINKS, EMPTY)
    for links, ips in ((Links(names=frozenset({"lo"})), LINKS.ips["ens1v0"]), (Links(names=frozenset({"ens1v0"})), ())):
        assert look(host, links, memory)[1].ips == ips


def test_a_vf_that_is_gone_is_forgotten(host: Host) -> None:
    _, _, memory = look(host, LINKS, EMPTY)
    host.no_vfs(host.root / "bus/pci/devices/0000:3b:00.0")
    interfaces, _, memory = complete(scan(host.root), NO_LINKS, memory)
    assert (interfaces[0].vfs, interfaces[0].num_vfs) == ((), 0)
    assert set(memory.nics) == {"0000:3b:00.0"}


def test_a_pf_given_to_a_pod_keeps_its_line(host: Host) -> None:
    _, _, memory = look(host, LINKS, EMPTY)
    host.move_away(next(host.root.glob("devices/**/net/ens1")))
    interfaces, _, _ = complete(scan(host.root), NO_LINKS, memory)
    assert (interfaces[0].name, interfaces[0].mac, interfaces[0].away) == ("ens1", "0c:42:a1:00:00:10", True)


def test_the_list_of_a_nic_that_has_taken_an_absent_pfs_name_is_not_that_pfs(host: Host) -> None:
    _, _, memory = look(host, LINKS, EMPTY)
    leave(host)
    host.move_away(next(host.root.glob("devices/**/net/ens1")))
    other = host.pf("0000:5e:00.0", "ens1", "0c:42:a1:00:00:20")
    host.vf(other, 0, "0000:5e:00.2", driver="vfio-pci")
    links = Links(vf_macs={"ens1": {0: "0c:42:a1:00:02:00"}}, names=frozenset({"ens1"}))
    interfaces, vf, _ = look(host, links, memory)
    assert (interfaces[0].name, interfaces[0].away) == ("ens1", True)
    assert (vf.mac, vf.sources.mac) == (MAC, Source.REMEMBERED)
    assert interfaces[1].vfs[0].mac == "0c:42:a1:00:02:00"


def test_the_state_reads_back_as_it_was_written(host: Host) -> None:
    import msgspec

    interfaces, _, _ = look(host, LINKS, EMPTY)
    state = state_of(interfaces, (), ())
    raw = msgspec.json.encode(state)
    assert msgspec.json.decode(raw, type=State) == state
    fields = msgspec.json.decode(raw)["interfaces"][0]
    assert {"name", "mac", "pciAddress", "totalvfs", "numVfs", "Vfs"} <= set(fields)
    assert {"name", "mac", "ip", "ips", "pciAddress", "rdmaDevice"} <= set(fields["Vfs"][0])


def test_the_table_fits_and_says_where_facts_came_from(host: Host) -> None:
    _, _, memory = look(host, LINKS, EMPTY)
    leave(host)
    interfaces, _, _ = look(host, Links(vf_macs={"ens1": {0: MAC}}), memory)
    lines = table(interfaces)
    assert max(map(len, lines)) <= WIDTH
    (row,) = (line for line in lines if "ens1v0" in line)
    assert all(part in row for part in ("vf0", MAC, "0000:3b:00.2", "mlx5_2", "away", "rkrh"))
