"""Netdevs behind which no switch port is (docs/design.md#nodes), and what `-o wide` says of them."""

from pathlib import Path

import pytest

from cvji.sysfs.memory import complete
from cvji.sysfs.nics import LeftOut
from cvji.sysfs.scan import scan
from cvji.sysfs.table import wide
from tests.sysfs.trees import EMPTY, NO_LINKS, Host, by_name

MAC = "0c:42:a1:00:00:10"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "sys")


def test_wifi_here_and_in_another_namespace(host: Host) -> None:
    card = host.pci("0000:02:00.0", "iwlwifi", **{"class": "0x028000"})
    netdev = host.netdev(card, "wlan0", MAC)
    (card / "ieee80211").mkdir()
    (netdev / "phy80211").mkdir()
    assert (scan(host.root).interfaces, scan(host.root).left_out) == ((), (LeftOut("wlan0", "Wi-Fi"),))
    host.move_away(netdev)
    assert scan(host.root).interfaces == ()


def test_a_vf_under_a_synthetic_nic_has_that_ones_address(host: Host) -> None:
    """Azure: the VF appears on a PCI bus of its own, enslaved to the netvsc NIC that has the same MAC."""
    synthetic = host.device("LNXSYSTM:00/ACPI0004:00/VMBUS:00/000d3a6c", "vmbus", "hv_netvsc")
    eth0 = host.netdev(synthetic, "eth0", MAC)
    vf = host.netdev(host.pci("7870:00:02.0", "mlx5_core"), "enP30832p0s2", MAC)
    host.link(vf / "master", eth0)
    found = scan(host.root)
    assert [(nic.name, nic.mac) for nic in found.interfaces] == [("eth0", MAC)]
    assert found.left_out == (LeftOut("enP30832p0s2", "enslaved to the NIC eth0, which has its address"),)


@pytest.mark.parametrize("name", ["tmfifo_net0", "eth0"])
def test_a_dpus_link_to_its_host(host: Host, name: str) -> None:
    fifo = host.device("platform/MLNXBF01:00", "platform", "mlxbf-tmfifo")
    netdev = host.netdev(host.device("platform/MLNXBF01:00/virtio1", "virtio", "virtio_net"), name, "00:1a:ca:ff:ff:01")
    assert scan(host.root).interfaces == ()
    assert scan(host.root).left_out == (LeftOut(name, "tmfifo, a DPU's link to its host"),)
    host.move_away(netdev)
    assert scan(host.root).interfaces == ()
    assert fifo.exists()


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"])
def test_a_group_address_is_no_nics(host: Host, mac: str) -> None:
    host.netdev(host.pci("0000:02:00.0"), "ens2", mac)
    pf = host.pf("0000:3b:00.0", "ens1", mac)
    host.vf(pf, 0, "0000:3b:00.2", "ens1v0", mac)
    found = scan(host.root)
    assert [(nic.name, nic.mac, nic.vfs[0].name, nic.vfs[0].mac) for nic in found.interfaces] == [
        ("", "", "ens1v0", "")
    ]
    assert list(found.left_out) == [LeftOut(name, f"{mac} is a group address") for name in ("ens1", "ens2")]


def test_everything_else_with_its_reason(host: Host) -> None:
    pf = host.pf("0000:3b:00.0", "ens1", MAC)
    host.netdev(pf, "ens1r0", "ae:00:00:00:00:01", "pf0vf0")
    usb = host.device("pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0", "usb", "cdc_ether")
    host.netdev(usb, "usb0", "02:00:00:00:00:01")
    host.netdev(host.pci("0000:5b:00.0"), "can0", "", type=280)
    host.virtual("lo", "00:00:00:00:00:00", type=772)
    for name, part in (("docker0", "bridge"), ("tap0", ""), ("veth1", ""), ("odd0", "")):
        netdev = host.virtual(name)
        if part:
            (netdev / part).mkdir()
    host.write(host.root / "devices/virtual/net/tap0", tun_flags="0x1002")
    found = scan(host.root, {"veth1": "veth"}, explain=True)
    assert list(by_name(found)) == ["ens1"]
    assert [str(entry) for entry in found.left_out] == [
        "can0: neither Ethernet nor InfiniBand (type 280)",
        "docker0: bridge",
        "ens1r0: representor of a function",
        "lo: loopback",
        "odd0: virtual",
        "tap0: tun",
        "usb0: on the usb bus",
        "veth1: veth",
    ]
    interfaces, bonds, _ = complete(found, NO_LINKS, EMPTY)
    lines = wide(interfaces, bonds, found.left_out)
    assert lines[lines.index("left out:") + 2] == "  docker0: bridge"
    # The daemon does not look at a thousand virtual netdevs in every scan.
    assert {entry.name for entry in scan(host.root).left_out} == {"can0", "ens1r0", "usb0"}
