"""Trees of real hosts, where they are at hand; INDEX.md beside them says what each must give."""

import tarfile
from pathlib import Path

import pytest

from cvji.sysfs.scan import Scan, scan
from tests.sysfs.trees import by_name

DATA = Path(__file__).parents[3] / "shared/data/sysfs"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real sysfs trees in {DATA}")


def found(name: str, folder: Path) -> Scan:
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="tar")
    (root,) = folder.glob("**/sys")
    return scan(root)


def test_two_pfs_without_vfs_and_rdma_functions_without_a_netdev(tmp_path: Path) -> None:
    lines = found("32intel64-8ve", tmp_path).interfaces
    assert [(line.name, line.mac, line.pci_address, line.oper_state) for line in lines] == [
        ("enp96s0f0", "ac:1f:6b:8a:5f:c8", "0000:60:00.0", "up"),
        ("enp96s0f1", "ac:1f:6b:8a:5f:c9", "0000:60:00.1", "down"),
    ]
    assert {(line.type.value, line.totalvfs, line.num_vfs, line.driver) for line in lines} == {("pf", 64, 0, "i40e")}


def test_a_virtio_nic_has_its_parents_address(tmp_path: Path) -> None:
    (line,) = found("2pa-pcidomain32bits", tmp_path).interfaces
    assert (line.name, line.mac, line.pci_address) == ("ens3", "06:7a:4c:00:00:22", "0000:00:03.0")
    assert line.driver == "virtio-pci"


def test_vfs_without_a_class_folder_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    lines = found("ghw-sriov-9058f61", tmp_path).interfaces
    vfs = {line.pci_address: [vf.pci_address[8:] for vf in line.vfs] for line in lines if line.totalvfs}
    assert vfs == {
        "0000:05:00.0": ["10.0", "10.4", "11.0", "11.4"],
        "0000:05:00.1": ["10.1", "10.5", "11.1", "11.5"],
    }


def test_a_mixture_of_hosts(tmp_path: Path) -> None:
    names = by_name(found("node_exporter", tmp_path))
    assert not {"bonding_masters", "bond0", "dmz", "int"} & set(names)
