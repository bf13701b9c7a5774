"""Which NIC it is: its device and port, not its PCI address alone (docs/design.md#nodes)."""

from pathlib import Path

import pytest

from cvji.sysfs.memory import Memory, complete, recall
from cvji.sysfs.scan import scan
from cvji.sysfs.state import Nic, State, Vf, remembered, state_of
from tests.sysfs.trees import EMPTY, NO_LINKS, Host

PF, SF = "0c:42:a1:00:00:10", "0c:42:a1:00:03:00"
Line = tuple[str, str, str, bool]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "sys")


def lines(host: Host, memory: Memory) -> tuple[list[Line], Memory, Memory]:
    """The lines of a scan, the memory after it, and the one that a restart has."""
    interfaces, bonds, after = complete(scan(host.root), NO_LINKS, memory)
    restarted = recall(remembered(state_of(interfaces, bonds, ())))
    return [(nic.name, nic.mac, nic.device_path, nic.away) for nic in interfaces], after, restarted


def test_a_sub_function_in_a_pod_stays_and_its_pf_is_not_taken_for_it(host: Host) -> None:
    pf = host.pf("0000:3b:00.0", "ens1", PF)
    netdev = host.sub_function(pf, 2, "ens1s88", SF)
    path = "0000:3b:00.0/mlx5_core.sf.2"
    seen, *memories = lines(host, EMPTY)
    assert seen == [("ens1", PF, "0000:3b:00.0", False), ("ens1s88", SF, path, False)]
    host.move_away(netdev)
    for memory in memories:
        assert lines(host, memory)[0] == [("ens1", PF, "0000:3b:00.0", False), ("ens1s88", SF, path, True)]
    host.move_away(pf / "net/ens1")
    for memory in memories:
        assert lines(host, memory)[0] == [("ens1", PF, "0000:3b:00.0", True), ("ens1s88", SF, path, True)]
    assert lines(host, EMPTY)[0] == [("", "", "0000:3b:00.0", True), ("", "", path, True)]


def test_a_sub_function_that_is_deleted_is_forgotten(host: Host) -> None:
    import shutil

    pf = host.pf("0000:3b:00.0", "ens1", PF)
    netdev = host.sub_function(pf, 2, "ens1s88", SF)
    _, memory, _ = lines(host, EMPTY)
    host.move_away(netdev)
    (host.root / "bus/auxiliary/devices/mlx5_core.sf.2").unlink()
    shutil.rmtree(pf / "mlx5_core.sf.2")
    seen, memory, _ = lines(host, memory)
    assert [name for name, *_ in seen] == ["ens1"]
    assert set(memory.nics) == {"0000:3b:00.0"}


@pytest.mark.parametrize("leaves", [0, 1])
@pytest.mark.parametrize("numbered", [True, False])
def test_of_two_ports_on_one_function_the_one_in_a_pod_stays(host: Host, leaves: int, numbered: bool) -> None:
    """MANA and mlx4; a driver that numbers no ports has them told apart by name and address."""
    card = host.pci("7870:00:00.0", "mana")
    names, macs = ("enP1s1", "enP1s1d1"), (PF, SF)
    ports = [
        host.netdev(card, name, mac, dev_port=number if numbered else 0)
        for number, (name, mac) in enumerate(zip(names, macs, strict=True))
    ]
    seen, *memories = lines(host, EMPTY)
    host.move_away(ports[leaves])
    for memory in memories:
        found, again, _ = lines(host, memory)
        assert [(name, mac) for name, mac, _, _ in found] == list(zip(names, macs, strict=True))
        assert [name for name, _, _, away in found if away] == [names[leaves]]
        assert lines(host, again)[0] == found
    host.move_away(ports[1 - leaves])
    found, _, _ = lines(host, again)
    assert [(name, mac, away) for name, mac, _, away in found] == [
        (name, mac, True) for name, mac in zip(names, macs, strict=True)
    ]
    assert len(seen) == 2


def test_a_port_that_is_renamed_and_gets_another_address_is_the_same_port(host: Host) -> None:
    card = host.pci("7870:00:00.0", "mana")
    ports = [host.netdev(card, f"eth{number}", f"0c:42:a1:00:00:1{number}", dev_port=number) for number in (0, 1)]
    _, memory, _ = lines(host, EMPTY)
    host.write(host.rename(ports[1], "rail1"), address="02:00:00:00:00:07")
    found, memory, _ = lines(host, memory)
    assert [(name, mac) for name, mac, _, _ in found] == [("eth0", "0c:42:a1:00:00:10"), ("rail1", "02:00:00:00:00:07")]
    assert len(memory.nics["7870:00:00.0"]) == 2


def test_a_virtio_nic_and_one_without_a_pci_function_stay_too(host: Host) -> None:
    host.pci("0000:00:03.0", "virtio-pci")
    virtio = host.device("pci0000:3a/0000:3a:00.0/0000:00:03.0/virtio0", "virtio", "virtio_net")
    soc = host.device("platform/thing0", "platform", "mvneta")
    netdevs = [host.netdev(virtio, "ens3", PF), host.netdev(soc, "eth0", SF)]
    seen, *memories = lines(host, EMPTY)
    assert seen == [("ens3", PF, "0000:00:03.0/virtio0", False), ("eth0", SF, "platform/thing0", False)]
    for netdev in netdevs:
        host.move_away(netdev)
    for memory in memories:
        assert lines(host, memory)[0] == [(name, mac, path, True) for name, mac, path, _ in seen]


def test_only_the_kernels_own_zero_address_takes_a_mac_away(host: Host) -> None:
    netdev = host.netdev(host.pci("0000:3b:00.0"), "ens1", PF)
    _, memory, _ = lines(host, EMPTY)
    (netdev / "address").unlink()
    assert lines(host, memory)[0][0][1] == PF
    host.write(netdev, address="garbage")
    assert lines(host, memory)[0][0][1] == PF
    host.write(netdev, address="00:00:00:00:00:00")
    found, memory, _ = lines(host, memory)
    assert found[0][1] == ""
    assert memory.nics["0000:3b:00.0"][0].mac == ""


def test_a_state_of_before_there_were_device_paths_is_taken_in(host: Host) -> None:
    pf = host.pf("0000:3b:00.0", "", "")
    host.vf(pf, 0, "0000:3b:00.2")
    (pf / "net").mkdir()
    host.sub_function(pf, 2, "ens1s88", SF)
    old = State(
        interfaces=(
            Nic(name="ens1", mac=PF, pci_address="0000:3b:00.0", driver="mlx5_core", vfs=(
                Vf(name="ens1v0", mac="0c:42:a1:00:01:00", pci_address="0000:3b:00.2"),
            )),
            Nic(name="ens1s88", mac=SF, pci_address="0000:3b:00.0", driver="mlx5_core.sf"),
        )
    )  # fmt: skip
    interfaces, _, _ = complete(scan(host.root), NO_LINKS, recall(remembered(old)))
    assert [(nic.name, nic.mac, nic.away) for nic in interfaces] == [("ens1", PF, True), ("ens1s88", SF, False)]
    assert [(vf.name, vf.mac, vf.away) for vf in interfaces[0].vfs] == [("ens1v0", "0c:42:a1:00:01:00", True)]


def test_a_vf_with_two_ports_has_two_entries(host: Host) -> None:
    pf = host.pf("0000:3b:00.0", "ens1", PF)
    vf = host.vf(pf, 0, "0000:3b:00.2", "ens1v0", "0c:42:a1:00:01:00")
    second = host.netdev(vf, "ens1v0d1", "0c:42:a1:00:01:01", dev_port=1)
    (line,), _, memory = complete(scan(host.root), NO_LINKS, EMPTY)
    assert [(vf.name, vf.port) for vf in line.vfs] == [("ens1v0", None), ("ens1v0d1", 1)]
    host.move_away(second)
    (line,), _, _ = complete(scan(host.root), NO_LINKS, memory)
    assert [(vf.name, vf.mac, vf.away) for vf in line.vfs] == [
        ("ens1v0", "0c:42:a1:00:01:00", False),
        ("ens1v0d1", "0c:42:a1:00:01:01", True),
    ]
