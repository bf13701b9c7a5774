"""What a sys folder says, on trees of our own; those of real hosts are in test_real_trees."""

import time
from pathlib import Path

import pytest

from cvji.sysfs.scan import InterfaceType, Source, scan
from tests.sysfs.trees import Host, big_host, by_name, mlx5_host


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sys"


def test_a_connectx_with_vfs_here_in_a_pod_and_in_a_virtual_machine(root: Path) -> None:
    mlx5_host(root)
    found = scan(root)
    assert found.warnings == ()
    assert list(by_name(found)) == ["ens1f0np0", "ens1f1np1"]
    pf = by_name(found)["ens1f0np0"]
    assert (pf.type, pf.mac, pf.pci_address) == (InterfaceType.PF, "0c:42:a1:00:00:10", "0000:3b:00.0")
    assert (pf.totalvfs, pf.num_vfs, pf.rdma_device, pf.driver) == (127, 4, "mlx5_0", "mlx5_core")
    assert (pf.vendor, pf.device, pf.numa_node, pf.speed, pf.oper_state) == ("15b3", "101d", 1, 100000, "up")
    here, pod, machine, bare = pf.vfs
    assert (here.name, here.mac, here.rdma_device, here.away) == ("ens1f0v0", "0c:42:a1:00:01:00", "mlx5_2", False)
    assert (pod.name, pod.mac, pod.rdma_device, pod.away) == ("", "", "mlx5_3", True)
    assert (machine.name, machine.driver, machine.away) == ("", "vfio-pci", False)
    assert (bare.name, bare.mac, bare.sources.mac, bare.sources.name) == ("ens1f0v3", "", None, Source.HERE)


def test_vfs_are_in_the_order_of_their_numbers(root: Path) -> None:
    host = Host(root)
    pf = host.pf("0000:3b:00.0", "ens1", "0c:42:a1:00:00:10")
    for index in range(11):
        host.vf(
            pf, index, f"0000:3b:{1 + index // 8:02x}.{7 - index % 8}", f"ens1v{index}", f"0c:42:a1:00:01:{index:02x}"
        )
    (line,) = scan(root).interfaces
    assert [vf.name for vf in line.vfs] == [f"ens1v{index}" for index in range(11)]


def test_what_is_no_port_of_the_machine_is_left_out(root: Path) -> None:
    host = Host(root)
    host.virtual("bond0")
    host.virtual("veth1234")
    usb = host.device("pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0", "usb", "cdc_ether")
    host.netdev(usb, "usb0", "02:00:00:00:00:01")
    nvme = host.pci("0000:5e:00.0", "nvme", **{"class": "0x010802"}, sriov_totalvfs=4, sriov_numvfs=0)
    assert nvme.exists()
    assert scan(root).interfaces == ()


@pytest.mark.parametrize(
    ("bus", "below", "driver"),
    [("vmbus", "", "hv_netvsc"), ("platform", "", "mvneta"), ("virtio", "0000:00:03.0", "virtio_net")],
)
def test_other_buses(root: Path, bus: str, below: str, driver: str) -> None:
    host = Host(root)
    path = "platform/thing0"
    if below:
        host.pci(below, "virtio-pci")
        path = f"pci0000:3a/0000:3a:00.0/{below}/virtio0"
    host.netdev(host.device(path, bus, driver), "eth0", "02:00:00:00:00:01")
    (line,) = scan(root).interfaces
    assert (line.name, line.pci_address) == ("eth0", below)
    assert line.driver == ("virtio-pci" if below else driver)


def test_a_sub_function_is_a_port_and_its_representor_is_not(root: Path) -> None:
    host = Host(root)
    pf = host.pf("0000:3b:00.0", "ens1f0np0", "0c:42:a1:00:00:10")
    function = host.device("pci0000:3a/0000:3a:00.0/0000:3b:00.0/mlx5_core.sf.2", "auxiliary", "mlx5_core.sf")
    host.netdev(function, "ens1f0s88", "0c:42:a1:00:03:00")
    host.netdev(pf, "en3f0pf0sf88", "ae:00:00:00:00:01", "pf0sf88")
    assert list(by_name(scan(root))) == ["ens1f0np0", "ens1f0s88"]
    assert by_name(scan(root))["ens1f0s88"].pci_address == "0000:3b:00.0"


def test_of_two_rdma_devices_on_one_function_each_port_has_its_own(root: Path) -> None:
    host = Host(root)
    card = host.pci("0000:3b:00.0", "mlx4_core")
    host.netdev(card, "ens1", "0c:42:a1:00:00:10")
    host.netdev(card, "ens1d1", "0c:42:a1:00:00:11")
    host.rdma(card, "mlx4_0", "ens1d1")
    host.rdma(card, "mlx4_1", "ens1")
    lines = by_name(scan(root))
    assert (lines["ens1"].rdma_device, lines["ens1d1"].rdma_device) == ("mlx4_1", "mlx4_0")


def test_broken_parts_cost_themselves_and_one_warning_each(root: Path) -> None:
    host = mlx5_host(root)
    (root / "class/net/dangling").symlink_to("../../devices/pci0000:3a/0000:3a:00.0/0000:77:00.0/net/dangling")
    odd = host.pf("0000:4b:00.0", "ens2", "not a mac")
    host.write(odd, sriov_numvfs="many")
    name = b"\xff\xfe\x07"
    folder = host.pci("0000:4c:00.0", "mlx5_core")
    host.netdev(folder, name.decode("utf-8", "surrogateescape"), "0c:42:a1:00:00:33")
    (odd / "net/ens2/operstate").unlink()
    (odd / "net/ens2/operstate").mkdir()
    found = scan(root)
    assert {"ens1f0np0", "ens1f1np1", "ens2"} <= set(by_name(found))
    assert by_name(found)["ens2"].mac == ""
    assert by_name(found)["ens2"].num_vfs == 0
    texts = [str(fault) for fault in found.warnings]
    assert len(texts) == len(set(texts))
    for part in ("not a mac", "many", "\\udcff", "operstate"):
        assert sum(part in text for text in texts) == 1, (part, texts)


def test_no_sys_folder_is_not_a_node_without_nics(tmp_path: Path) -> None:
    assert not scan(tmp_path / "none").readable
    (tmp_path / "empty").mkdir()
    assert scan(tmp_path / "empty").readable


def test_every_vf_of_a_large_node(root: Path) -> None:
    big_host(root)
    began = time.process_time()
    found = scan(root)
    spent = time.process_time() - began
    assert sum(len(line.vfs) for line in found.interfaces) == 8 * 127
    assert spent < 1.0  # the figure is the benchmark's; this only catches another order of magnitude
