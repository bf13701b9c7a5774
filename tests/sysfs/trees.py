"""Small sys folders built in code: what the kernel shows of PFs, VFs, RDMA devices and virtual links."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cvji.sysfs.links import Links
from cvji.sysfs.memory import Memory
from cvji.sysfs.nics import Interface, Scan

NO_LINKS = Links()
EMPTY = Memory()


class Host:
    """A sys folder. Every `add` method answers the folder of the device or netdev that it made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("class/net", "class/infiniband", "bus/pci/devices", "bus/pci/drivers"):
            (root / folder).mkdir(parents=True)

    def write(self, folder: Path, **attributes: str | int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in attributes.items():
            (folder / name).write_text(f"{value}\n")
        return folder

    def link(self, at: Path, to: Path) -> None:
        """A relative link, as every link in sysfs is."""
        at.parent.mkdir(parents=True, exist_ok=True)
        at.symlink_to(_up(at, to))

    def device(self, path: str, bus: str, driver: str = "", **attributes: str | int) -> Path:
        folder = self.write(self.root / "devices" / path, **attributes)
        self.link(folder / "subsystem", self.root / "bus" / bus)
        if driver:
            self.link(folder / "driver", self.root / "bus" / bus / "drivers" / driver)
        self.link(self.root / "bus" / bus / "devices" / folder.name, folder)
        return folder

    def pci(self, address: str, driver: str = "mlx5_core", **attributes: str | int) -> Path:
        """A PCI function: a ConnectX on NUMA node 1, if nothing else is said."""
        values = {"class": "0x020000", "vendor": "0x15b3", "device": "0x101d", "numa_node": 1, **attributes}
        return self.device(f"pci0000:3a/0000:3a:00.0/{address}", "pci", driver, **values)

    def netdev(
        self, device: Path, name: str, mac: str = "", port: str = "", state: str = "up", **more: str | int
    ) -> Path:
        values = {"type": 1, "operstate": state, "speed": 100000 if state == "up" else -1, **more}
        folder = self.write(device / "net" / name, address=mac, phys_port_name=port, **values)
        self.link(folder / "device", device)
        self.link(self.root / "class/net" / name, folder)
        return folder

    def virtual(self, name: str, mac: str = "02:00:00:00:00:99", **more: str | int) -> Path:
        folder = self.root / "devices/virtual/net" / name
        self.write(folder, **{"type": 1, "operstate": "up", "address": mac, **more})
        self.link(self.root / "class/net" / name, folder)
        return folder

    def bond(self, name: str, *members: Path) -> Path:
        """A bond with the address of its first member."""
        bond = self.virtual(name, (members[0] / "address").read_text().strip())
        self.write(bond / "bonding", mode="802.3ad 4")
        for member in members:
            self.enslave(member, bond)
        return bond

    def team(self, name: str, *members: Path) -> Path:
        """A team, of which sysfs says no more than that it is the members' master."""
        team = self.virtual(name, (members[0] / "address").read_text().strip())
        for member in members:
            self.write(member, address=(team / "address").read_text().strip())
            self.link(member / "master", team)
        return team

    def enslave(self, member: Path, bond: Path) -> None:
        self.take_address(member, bond)
        self.link(member / "master", bond)

    def take_address(self, member: Path, bond: Path) -> None:
        """The first half of enslaving (drivers/net/bonding, bond_enslave)."""
        own = (member / "address").read_text().strip()
        self.write(member / "bonding_slave", perm_hwaddr=own)
        self.write(member, address=(bond / "address").read_text().strip())

    def release(self, member: Path) -> None:
        (member / "master").unlink()
        self.give_back_address(member)

    def give_back_address(self, member: Path) -> None:
        """The second half of releasing (__bond_release_one)."""
        self.write(member, address=(member / "bonding_slave/perm_hwaddr").read_text().strip())
        shutil.rmtree(member / "bonding_slave")

    def sub_function(self, parent: Path, number: int, name: str, mac: str) -> Path:
        """A sub-function of mlx5: a device on the auxiliary bus, beneath its PCI function."""
        function = self.device(str((parent / f"mlx5_core.sf.{number}").relative_to(self.root / "devices")), "auxiliary")
        self.link(function / "driver", self.root / "bus/auxiliary/drivers/mlx5_core.sf")
        return self.netdev(function, name, mac)

    def rdma(self, device: Path, name: str, *ports: str) -> Path:
        """An RDMA device whose port N has GIDs of netdev ports[N - 1]."""
        folder = self.write(device / "infiniband" / name)
        for number, netdev in enumerate(ports, 1):
            self.write(folder / f"ports/{number}/gid_attrs/ndevs", **{"0": netdev, "1": ""})
        self.link(self.root / "class/infiniband" / name, folder)
        return folder

    def pf(self, address: str, name: str, mac: str, total: int = 127, port: str = "p0") -> Path:
        folder = self.pci(address, sriov_totalvfs=total, sriov_numvfs=0)
        if name:
            self.netdev(folder, name, mac, port)
        return folder

    def vf(self, pf: Path, index: int, address: str, name: str = "", mac: str = "", driver: str = "mlx5_core") -> Path:
        """VF number `index`. Without a name its net folder is empty: it is in another namespace."""
        folder = self.pci(address, driver, device="0x101e")
        self.link(pf / f"virtfn{index}", folder)
        self.link(folder / "physfn", pf)
        if name:
            self.netdev(folder, name, mac)
        elif driver == "mlx5_core":
            (folder / "net").mkdir()
        self.count(pf)
        return folder

    def count(self, pf: Path) -> None:
        self.write(pf, sriov_numvfs=len(list(pf.glob("virtfn*"))))

    def move_away(self, netdev: Path) -> None:
        """What is seen of a netdev that goes to another network namespace: nothing, its net folder stays."""
        (self.root / "class/net" / netdev.name).unlink()
        shutil.rmtree(netdev)

    def rename(self, netdev: Path, name: str) -> Path:
        """As udev does; the kernel renames the folder and what leads to it."""
        (self.root / "class/net" / netdev.name).unlink()
        renamed = netdev.rename(netdev.with_name(name))
        self.link(self.root / "class/net" / name, renamed)
        return renamed

    def hide(self, netdev: Path) -> None:
        """As move_away, but it can be brought back."""
        (self.root / "class/net" / netdev.name).unlink()
        netdev.rename(self._hidden(netdev))

    def bring_back(self, netdev: Path) -> None:
        self._hidden(netdev).rename(netdev)
        self.link(self.root / "class/net" / netdev.name, netdev)

    def _hidden(self, netdev: Path) -> Path:
        return self.root.with_name(f"hidden-{netdev.name}")

    def no_vfs(self, pf: Path) -> None:
        """sriov_numvfs set to 0."""
        for link in pf.glob("virtfn*"):
            folder = pf / link.readlink()
            for netdev in (folder / "net").glob("*"):
                self.move_away(netdev)
            for rdma in (folder / "infiniband").glob("*"):
                (self.root / "class/infiniband" / rdma.name).unlink()
            (self.root / "bus/pci/devices" / link.readlink().name).unlink()
            shutil.rmtree(folder.resolve())
            link.unlink()
        self.count(pf)


def _up(at: Path, to: Path) -> str:
    return os.path.relpath(to, at.parent)


def mlx5_host(root: Path) -> Host:
    """Two ConnectX ports in switchdev mode.

    ens1f0np0 has four VFs: one here, one in a pod, one on vfio-pci, one here that never had a MAC.
    """
    host = Host(root)
    pf = host.pf("0000:3b:00.0", "ens1f0np0", "0c:42:a1:00:00:10", port="p0")
    host.write(pf / "net/ens1f0np0", phys_switch_id="1000a100000042a1")
    host.rdma(pf, "mlx5_0", "ens1f0np0")
    for index, (name, mac, driver) in enumerate(
        (
            ("ens1f0v0", "0c:42:a1:00:01:00", "mlx5_core"),
            ("", "", "mlx5_core"),
            ("", "", "vfio-pci"),
            ("ens1f0v3", "00:00:00:00:00:00", "mlx5_core"),
        )
    ):
        vf = host.vf(pf, index, f"0000:3b:00.{index + 2}", name, mac, driver)
        if driver == "mlx5_core":
            host.rdma(vf, f"mlx5_{index + 2}", name)
        host.netdev(pf, f"ens1f0npf0vf{index}", f"ae:00:00:00:00:0{index}", f"pf0vf{index}")
    second = host.pf("0000:3b:00.1", "ens1f1np1", "0c:42:a1:00:00:11", port="p1")
    host.rdma(second, "mlx5_1", "ens1f1np1")
    host.virtual("bond0")
    host.write(host.root / "class/net", bonding_masters="bond0")
    return host


def bonded_host(root: Path) -> Host:
    """Two ConnectX ports in a bond with RoCE LAG, and a NIC of the management network."""
    host = Host(root)
    ports = [
        host.netdev(host.pci(f"0000:3b:00.{number}"), f"ens1f{number}np{number}", f"0c:42:a1:00:00:1{number}")
        for number in (0, 1)
    ]
    host.rdma(ports[0].parents[1], "mlx5_bond_0")
    host.bond("bond0", *ports)
    host.netdev(host.pci("0000:19:00.0", "igb", device="0x1521"), "eno1", "3c:ec:ef:00:00:0a", speed=1000)
    return host


def sriov_host(root: Path) -> Host:
    """A ConnectX port with two VFs: one here, one in a pod and of an address that its PF's driver knows."""
    host = Host(root)
    pf = host.pf("0000:3b:00.0", "ens1f0np0", "0c:42:a1:00:00:10")
    host.rdma(pf, "mlx5_0")
    host.rdma(host.vf(pf, 0, "0000:3b:00.2", "ens1f0v0", "0c:42:a1:00:01:00"), "mlx5_2")
    host.rdma(host.vf(pf, 1, "0000:3b:00.3"), "mlx5_3")
    return host


def sub_function_host(root: Path) -> Host:
    """A ConnectX port in switchdev mode with a sub-function, and that one's representor."""
    host = Host(root)
    pf = host.pf("0000:3b:00.0", "ens1f0np0", "0c:42:a1:00:00:10")
    host.rdma(pf, "mlx5_0", "ens1f0np0")
    function = host.sub_function(pf, 2, "ens1f0s88", "0c:42:a1:00:03:00").parents[1]
    host.rdma(function, "mlx5_2", "ens1f0s88")
    host.netdev(pf, "en3f0pf0sf88", "ae:00:00:00:00:01", "pf0sf88")
    return host


def big_host(root: Path, pfs: int = 8, vfs: int = 127) -> Host:
    """Many PFs, bonded in pairs, with all their VFs, each with a netdev, an RDMA and three auxiliary devices."""
    host = Host(root)
    auxiliary = host.root / "bus/auxiliary/devices"
    for port in range(pfs):
        bus = 0x10 + 8 * port
        pf = host.pf(f"0000:{bus:02x}:00.0", f"ens{port}np0", f"0c:42:a1:{port:02x}:ff:00")
        host.rdma(pf, f"mlx5_{port}", f"ens{port}np0")
        for index in range(vfs):
            slot = index + 1
            address = f"0000:{bus:02x}:{slot // 8:02x}.{slot % 8}"
            name = f"ens{port}v{index}"
            vf = host.vf(pf, index, address, name, f"0c:42:a1:{port:02x}:00:{index:02x}")
            host.rdma(vf, f"mlx5_{pfs + port * vfs + index}", name)
            for kind in ("eth", "rdma", "vnet"):
                entry = f"mlx5_core.{kind}.{port * vfs + index}"
                host.link(auxiliary / entry, vf / entry)
    ports = [host.root.joinpath("class/net", f"ens{port}np0").resolve() for port in range(pfs)]
    for pair in range(pfs // 2):
        host.bond(f"bond{pair}", *ports[2 * pair : 2 * pair + 2])
    return host


def by_name(scan: Scan) -> dict[str, Interface]:
    return {line.name: line for line in scan.interfaces}
