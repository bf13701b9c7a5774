"""What a sys folder says about a node's NICs: physical interfaces, SR-IOV functions, bonds, RDMA devices.

Pure over a root path: the live /sys, a host's mounted elsewhere and a test's tree are read alike. Knows no
netlink socket and no memory: a NIC that sits in another network namespace is listed here without its name.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from cvji.sysfs.netdevs import Netdevs, tmfifo
from cvji.sysfs.nics import (
    PCI,
    Fault,
    Interface,
    InterfaceType,
    LeftOut,
    Netdev,
    Scan,
    Source,
    Sources,
    VirtualFunction,
    every_nic,
    natural,
    pci_order,
)
from cvji.sysfs.tree import Members, Tree, base, members, printable

# Buses whose netdevs are a node's own NICs. USB is not among them: a BMC shows one to its host.
_BUSES = frozenset({"pci", "virtio", "vmbus", "platform", "auxiliary"})
# Of the thousands of devices on the auxiliary bus the sub-functions, which are the ones that have netdevs.
_SUB_FUNCTION = ".sf."
_VIRTFN = re.compile(r"virtfn(\d{1,5})", re.ASCII)
_INT_MAX = (1 << 31) - 1


def scan(root: Path, kinds: Mapping[str, str] | None = None, *, explain: bool = False) -> Scan:
    """Read every physical interface under `root`, which is the sys folder itself.

    `kinds` are rtnetlink's words for virtual netdevs, where the tree is this network namespace's own. With `explain`,
    virtual netdevs are among what was left out.
    """
    tree = Tree(root)
    listed = tree.names("/bus/pci/devices", "")
    if listed is None and tree.names("/class/net", "") is None:  # either may be missing: no PCI, a copy
        why = "holds neither class/net nor bus/pci/devices" if tree.exists("/") else "no such folder"
        return Scan((), warnings=tuple(tree.faults.values()) or (Fault("", printable(str(root)), why),))
    netdevs = Netdevs(tree, kinds or {})
    reader = _Reader(tree, netdevs, members(tree, "infiniband")[0])
    functions = {name: f"/bus/pci/devices/{name}" for name in listed or ()}
    others = _devices(tree)
    for device in netdevs.by_device:
        own = base(device)
        if PCI.fullmatch(own):
            functions[own] = device
        elif (bus := base(tree.link(f"{device}/subsystem", own))) in _BUSES:
            others[device] = bus
        else:
            netdevs.leave_out(device, f"on the {bus} bus" if bus else "on no known bus")
    found: list[Interface] = []
    # A VF's routing id is above its PF's (SR-IOV 1.1, 2.1.2): in this order every VF is claimed by its PF
    # before its own turn comes. The last line is for trees in which that does not hold.
    for address in sorted(functions, key=pci_order):
        if address not in reader.claimed:
            found += reader.function(address, functions[address])
    lines = [line for line in found if line.pci_address not in reader.claimed]
    lines += [line for device, bus in others.items() for line in reader.on_bus(device, bus)]
    lines.sort(key=lambda line: (pci_order(line.pci_address), line.device_path, natural(line.name)))
    bonds = netdevs.bonds()
    addresses = {bond.mac for bond in bonds}
    for nic in every_nic(lines):
        if nic.mac and not nic.bond:
            # One address twice: the bonding driver sets it before the master, and takes the master away before it.
            if nic.mac in addresses:
                tree.gone(f"/class/net/{nic.name}/master")
            addresses.add(nic.mac)
    netdevs.compare()
    if explain:
        netdevs.explain()
    left_out = tuple(sorted(LeftOut(name, reason) for name, reason in netdevs.left_out.items()))
    return Scan(tuple(lines), bonds, left_out, tuple(tree.faults.values()), tuple(tree.changed))


def device_path(device: str) -> str:
    """A device's path from its PCI function on, which is its PCI address where it is one; else below /devices."""
    parts = device.split("/")
    return device.removeprefix("/devices/") if (at := _function_at(parts)) is None else "/".join(parts[at:])


def _function_at(parts: list[str]) -> int | None:
    """Where in a path the PCI function is that a device is or lives on."""
    return next((at for at in range(len(parts) - 1, -1, -1) if PCI.fullmatch(parts[at])), None)


def _devices(tree: Tree) -> dict[str, str]:
    """The devices that have or had a netdev on buses other than PCI, with their bus."""
    found = {}
    for bus in sorted(_BUSES - {"pci"}):
        for name in tree.names(f"/bus/{bus}/devices", "") or ():
            entry = f"/bus/{bus}/devices/{name}"
            if (bus != "auxiliary" or _SUB_FUNCTION in name) and tree.exists(f"{entry}/net"):
                found[tree.link(entry, name, listed=True)] = bus
    found.pop("", None)
    return found


class _Reader:
    """Reads devices of one tree. `claimed` are the PCI addresses of VFs that are listed under a PF."""

    def __init__(self, tree: Tree, netdevs: Netdevs, rdma: Members) -> None:
        self._tree = tree
        self._netdevs = netdevs
        self._rdma = rdma
        self.claimed: set[str] = set()

    def on_bus(self, device: str, bus: str) -> list[Interface]:
        """The interfaces of a device that is not a PCI function itself, though it may live on one."""
        if bus == "virtio" and tmfifo(self._tree, device):
            self._netdevs.leave_out(device, "tmfifo, a DPU's link to its host")
            return []
        ports, away = self._netdevs.ports(device)
        parts = device.split("/")
        card = device if (at := _function_at(parts)) is None else "/".join(parts[: at + 1])
        # virtio-pci is what binds the PCI function; a sub-function's driver is its own, not its PF's.
        bound = card if bus == "virtio" else device
        return self._interfaces(ports, device, bound, card, bus, away=away)

    def function(self, address: str, device: str) -> list[Interface]:
        """The interfaces of a PCI function with its VFs; nothing where it is no NIC or only an RDMA device."""
        tree = self._tree
        if device.startswith("/bus/"):
            if not (folder := tree.link(device, address, listed=True)):
                return []
            device = folder
        # PCI_BASE_CLASS_NETWORK is asked of a function without netdevs: there are many of them.
        if device not in self._netdevs.by_device and not tree.text(f"{device}/class", address).startswith("0x02"):
            return []
        ports, away = self._netdevs.ports(device)
        who = next(iter(ports), address)
        total = tree.value(f"{device}/sriov_totalvfs", who, _count, None)
        vfs, live = self._virtual(device, who) if total else ((), None)
        found = self._interfaces(ports, device, device, device, "pci", away=away)
        if not found and vfs:
            found = [self._interface("", "", device, device, device, "pci")]
        if total:
            sriov = {"type": InterfaceType.PF, "totalvfs": total, "num_vfs": live}
            # Of several ports on one function the first carries the VFs, so that each is listed once.
            return [
                msgspec.structs.replace(line, **sriov, vfs=() if place else vfs) for place, line in enumerate(found)
            ]
        if found and tree.link(f"{device}/physfn", who):
            return [msgspec.structs.replace(line, type=InterfaceType.VF) for line in found]
        return found

    def _virtual(self, device: str, who: str) -> tuple[tuple[VirtualFunction, ...], int]:
        """A PF's VFs in the order of their numbers, and how many it says are live."""
        entries = self._tree.names(device, who) or ()
        numbers = sorted(int(match[1]) for name in entries if (match := _VIRTFN.fullmatch(name)))
        live = self._tree.value(f"{device}/sriov_numvfs", who, _count, None)
        if live is None:
            live = len(numbers)
        if live != len(numbers):  # VFs are being made or removed
            self._tree.gone(f"{device}/sriov_numvfs")
        found: list[VirtualFunction] = []
        for index in numbers:
            link = f"{device}/virtfn{index}"
            folder = self._tree.link(link, who, listed=True)
            if not folder:
                continue
            if not PCI.fullmatch(base(folder)):
                self._tree.fault(who, link, "leads to no PCI function")
                continue
            self.claimed.add(base(folder))
            if index < live:
                found += self._vf(index, folder, link, who)
        return tuple(found), live

    def _vf(self, index: int, device: str, link: str, pf: str) -> list[VirtualFunction]:
        """A VF: one entry, or one for each port of a function with several."""
        tree, address = self._tree, base(device)
        netdevs: Mapping[str, str] | None = self._netdevs.by_device.get(device)
        away = False
        if netdevs is None or len(netdevs) > 1:  # the one netdev of a VF is its port: a thousand reads are saved
            netdevs, away = self._netdevs.ports(device)
        driver = self._driver(device, next(iter(netdevs), address))
        if not driver and not netdevs and not tree.exists(device):
            tree.fault(pf, link, "leads nowhere")
            tree.gone(link)
            return []
        here = Source.HERE
        found = []
        for name, folder in netdevs.items() if netdevs else [("", "")]:
            netdev = self._netdevs.read(name, folder) if name else Netdev()
            rdma = self._rdma_device(device, netdev.name)
            vf = VirtualFunction(
                index=index,
                pci_address=address,
                port=self._port(name, folder) if len(netdevs) > 1 else None,
                rdma_device=rdma,
                driver=driver,
                away=away,
                **msgspec.structs.asdict(netdev),
                sources=Sources(
                    name=here if netdev.name else None,
                    mac=here if netdev.mac else None,
                    rdma_device=here if rdma else None,
                ),
            )
            found.append(vf)
        return found

    def _port(self, name: str, folder: str) -> int | None:
        """The number by which netdevs of one device differ (Documentation/ABI/testing/sysfs-class-net, dev_port)."""
        return self._tree.value(f"{folder}/dev_port", name, _count, None)

    def _driver(self, device: str, who: str) -> str:
        link = f"{device}/driver"
        return self._netdevs.shown(base(self._tree.link(link, who)), link)

    def _interfaces(
        self, ports: Mapping[str, str], device: str, bound: str, card: str, bus: str, *, away: bool
    ) -> list[Interface]:
        """A line for each port, or one without a name where the device has a netdev that is away."""
        lines = [self._interface(name, folder, device, bound, card, bus) for name, folder in ports.items()]
        return [self._interface("", "", device, bound, card, bus, away=True)] if away else lines

    def _interface(
        self, name: str, folder: str, device: str, bound: str, card: str, bus: str, *, away: bool = False
    ) -> Interface:
        """One line. `bound` is the device whose driver counts, `card` the one with PCI ids and NUMA node."""
        tree, who = self._tree, name or base(device)
        netdev = self._netdevs.read(name, folder) if name else Netdev()
        numa = tree.value(f"{card}/numa_node", who, int, -1)
        # Asking a port that is down costs a firmware command in some drivers and says nothing.
        speed = tree.value(f"{folder}/speed", who, int, -1) if netdev.oper_state in ("up", "unknown") else -1
        return Interface(
            type=InterfaceType.REGULAR,
            device_path=printable(device_path(device)),
            port=self._port(name, folder) if name else None,
            pci_address=base(card) if PCI.fullmatch(base(card)) else "",
            driver=self._driver(bound, who),
            bus=bus,
            vendor=tree.text(f"{card}/vendor", who).removeprefix("0x"),
            device=tree.text(f"{card}/device", who).removeprefix("0x"),
            numa_node=numa if 0 <= numa < _INT_MAX else None,
            # SPEED_UNKNOWN is -1, which some drivers print as unsigned (include/uapi/linux/ethtool.h).
            speed=speed if 0 < speed < _INT_MAX else None,
            rdma_device=self._rdma_device(device, name),
            away=away,
            **msgspec.structs.asdict(netdev),
        )

    def _rdma_device(self, device: str, netdev: str) -> str:
        """The RDMA device over `netdev`, or of its PCI function while the netdev is away.

        Where one function has several, the one with a port whose GIDs are of this netdev
        (Documentation/ABI/stable/sysfs-class-infiniband, gid_attrs/ndevs).
        """
        names: Iterable[str] | None = self._rdma.get(device)
        if names is None:
            names = self._tree.names(f"{device}/infiniband", netdev or base(device)) or ()
        names = [name for name in names if self._netdevs.shown(name, f"{device}/infiniband/{name}")]
        if len(names) == 1:
            return names[0]
        if not netdev:
            return ""
        return next(
            (name for name in sorted(names, key=natural) if self._serves(f"{device}/infiniband/{name}", netdev)), ""
        )

    def _serves(self, rdma: str, netdev: str) -> bool:
        ports = self._tree.names(f"{rdma}/ports", netdev) or ()
        return any(
            self._tree.text(f"{rdma}/ports/{port}/gid_attrs/ndevs/{slot}", netdev) == netdev
            for port in sorted(ports, key=natural)
            for slot in self._tree.names(f"{rdma}/ports/{port}/gid_attrs/ndevs", netdev) or ()
        )


def _count(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise ValueError("not a count")
    return int(text)
