"""Trees of real hosts, where they are at hand; INDEX.md beside them says what each must give."""

import json
import tarfile
from pathlib import Path

import pytest

from cvji.sysfs.nics import Interface, InterfaceType, LeftOut, Scan, VirtualFunction
from cvji.sysfs.scan import scan
from tests.sysfs.trees import by_name

DATA = Path(__file__).parents[3] / "shared/data/sysfs"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real sysfs trees in {DATA}")


def found(name: str, folder: Path) -> Scan:
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "tar_filter", None)  # Debian 12's Python 3.11.2 has none
        archive.extractall(folder)
    (root,) = folder.glob("**/sys")
    return scan(root)


def test_two_pfs_without_vfs_and_rdma_functions_without_a_netdev(tmp_path: Path) -> None:
    whole = found("32intel64-8ve", tmp_path)
    assert whole.warnings == ()
    lines = whole.interfaces
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
    whole = found("ghw-sriov-9058f61", tmp_path)
    assert whole.warnings == ()
    lines = whole.interfaces
    pfs = [line for line in lines if line.totalvfs]
    assert {(pf.type, pf.totalvfs, pf.num_vfs, pf.driver) for pf in pfs} == {(InterfaceType.PF, 7, 4, "igb")}
    assert [[vf.index for vf in pf.vfs] for pf in pfs] == [[0, 1, 2, 3]] * 2
    assert {line.type for line in lines if not line.totalvfs} == {InterfaceType.REGULAR}  # no VF stands alone
    vfs = {line.pci_address: [vf.pci_address[8:] for vf in line.vfs] for line in lines if line.totalvfs}
    assert vfs == {
        "0000:05:00.0": ["10.0", "10.4", "11.0", "11.4"],
        "0000:05:00.1": ["10.1", "10.5", "11.1", "11.5"],
    }


def test_a_mixture_of_hosts(tmp_path: Path) -> None:
    whole = found("node_exporter", tmp_path)
    names = by_name(whole)
    assert set(names) == {"ens10f0"}  # neither bonding_masters, a file, nor the virtual bond0, dmz, int
    assert LeftOut("eth0", "01:01:01:01:01:01 is a group address") in whole.left_out
    port = names["ens10f0"]
    assert (port.mac, port.pci_address, port.totalvfs, port.num_vfs) == ("68:05:ca:f0:cb:12", "0000:45:00.0", 7, 0)
    assert all(not line.pci_address.startswith("0000:01:00") for line in whole.interfaces)  # the NVMe disk with VFs


@pytest.mark.parametrize("name", sorted(path.name.removesuffix(".tar.gz") for path in DATA.glob("*.tar.gz")))
def test_every_netdev_that_an_independent_walk_found_on_a_bus_is_there(name: str, tmp_path: Path) -> None:
    whole = found(name, tmp_path)
    (expected,) = tmp_path.glob("**/EXPECTED.json")
    walked = json.loads(expected.read_text())["interfaces"]
    nics: list[Interface | VirtualFunction] = [*whole.interfaces, *(vf for nic in whole.interfaces for vf in nic.vfs)]
    seen = {nic.name: (nic.mac or None, nic.pci_address, nic.driver or None, nic.oper_state or None) for nic in nics}
    assert seen == {
        name: (nic["mac"], nic["pci"], nic["driver"], nic["oper"])
        for name, nic in walked.items()
        if nic["pci"] and not (nic["mac"] or "").startswith("01:")  # a group address
    }
