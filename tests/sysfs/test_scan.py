"""What a sys folder says, on trees of our own; those of real hosts are in test_real_trees."""

import shutil
import time
from pathlib import Path

import msgspec
import pytest

from cvji.sysfs.memory import complete
from cvji.sysfs.nics import InterfaceType, Source
from cvji.sysfs.scan import scan
from cvji.sysfs.state import state_of
from tests.sysfs.trees import EMPTY, NO_LINKS, Host, big_host, by_name, mlx5_host


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


ODD = b"\xff\xfe\x07".decode("utf-8", "surrogateescape")


def test_broken_parts_cost_themselves_and_one_warning_each(root: Path) -> None:
    host = mlx5_host(root)
    (root / "class/net/dangling").symlink_to("../../devices/pci0000:3a/0000:3a:00.0/0000:77:00.0/net/dangling")
    odd = host.pf("0000:4b:00.0", "ens2", "not a mac")
    host.write(odd, sriov_numvfs="many")
    (odd / "virtfn0").symlink_to("../0000:4b:00.1")
    (odd / "virtfn1").symlink_to(f"../{ODD}.vf")
    (odd / "driver").unlink()
    (odd / "driver").symlink_to(f"../{ODD}.driver")
    host.rdma(odd, f"{ODD}.rdma", "ens2")
    host.netdev(host.pci("0000:4c:00.0", "mlx5_core"), f"{ODD}.net", "0c:42:a1:00:00:33")
    (odd / "net/ens2/operstate").unlink()
    (odd / "net/ens2/operstate").mkdir()
    found = scan(root)
    assert list(by_name(found)) == ["ens1f0np0", "ens1f1np1", "ens2"]
    pf = by_name(found)["ens2"]
    assert (pf.mac, pf.num_vfs, pf.vfs, pf.driver, pf.rdma_device, pf.oper_state) == ("", 2, (), "", "", "")
    texts = [str(fault) for fault in found.warnings]
    parts = ("dangling", "not a mac", "many", "virtfn0", "virtfn1", ".driver", ".rdma", ".net", "operstate")
    assert [sum(part in text for text in texts) for part in parts] == [1] * len(parts), texts
    assert len(texts) == len(parts)
    msgspec.json.encode(state_of(found.interfaces, found.bonds, found.warnings))


@pytest.mark.parametrize("what", ["gone", "a folder", "a loop", "bytes", "a long text", "nothing"])
def test_whatever_stands_in_the_place_of_one_file_the_other_port_is_published(root: Path, what: str) -> None:
    """Each file and link of everything else in turn, by what it may be by accident."""
    mlx5_host(root)
    whole = by_name(scan(root))["ens1f1np1"]
    spared = ("0000:3b:00.1", "ens1f1np1", "mlx5_1")
    places = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    places = [path for path in places if not any(part in str(path) for part in spared)]
    assert len(places) > 100
    for path in places:
        kept = path.rename(root.parent / "kept")
        if what == "a folder":
            path.mkdir()
        elif what == "a loop":
            path.symlink_to(path.name)
        elif what != "gone":
            path.write_bytes({"bytes": b"\xff\x00\x1b[2J", "a long text": b"9" * 5000, "nothing": b""}[what])
        found = scan(root)
        assert by_name(found)["ens1f1np1"] == whole, path
        msgspec.json.encode(state_of(found.interfaces, found.bonds, found.warnings))
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        kept.rename(path)


def test_no_sys_folder_is_not_a_node_without_nics(tmp_path: Path) -> None:
    root = tmp_path / "sys"
    assert scan(root).unread == f"{root}: no such folder"
    root.mkdir()
    assert scan(root).unread == f"{root}: holds neither class/net nor bus/pci/devices"
    (root / "class/net").mkdir(parents=True)
    assert scan(root).unread == ""


def test_a_tree_with_either_list_is_read(root: Path) -> None:
    """A virtual machine or container may have no PCI at all, and a copied tree no class folder."""
    host = Host(root)
    host.netdev(host.device("vmbus/one", "vmbus", "hv_netvsc"), "eth0", "00:0d:3a:00:00:01")
    shutil.rmtree(root / "bus/pci")
    assert [line.name for line in scan(root).interfaces] == ["eth0"]
    assert scan(root).unread == ""
    host.netdev(host.pci("0000:3b:00.0"), "ens1", "0c:42:a1:00:00:10")
    shutil.rmtree(root / "class/net")
    assert "ens1" in by_name(scan(root))
    assert scan(root).unread == ""


def test_every_vf_of_a_large_node_is_read_in_under_100_milliseconds(root: Path) -> None:
    """8 PFs with 127 VFs each, bonded in pairs, from the folders to the bytes to be sent; the least of some tries."""
    big_host(root)
    tries = []
    memory = EMPTY
    for _ in range(5):
        began = time.process_time()
        found = scan(root)
        interfaces, bonds, memory = complete(found, NO_LINKS, memory)
        msgspec.json.encode(state_of(interfaces, bonds, found.warnings))
        tries.append(time.process_time() - began)
        assert (sum(len(line.vfs) for line in interfaces), len(bonds)) == (8 * 127, 4)
        assert not found.changed
    print(f"{min(tries) * 1e3:.0f} ms of CPU")
    assert min(tries) < 0.1
