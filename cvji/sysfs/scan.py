"""What a sys folder says about a node's NICs: physical interfaces, SR-IOV functions, RDMA devices.

Pure over a root path: the live /sys, a host's mounted elsewhere and a test's tree are read alike. Knows no
netlink and no memory: a VF that sits in another network namespace is listed here without its name.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from posixpath import dirname, normpath
from typing import TypeVar

import msgspec


class InterfaceType(Enum):
    """What a NIC is to SR-IOV; a VF appears on its own only where its PF cannot be seen."""

    PF = "pf"
    VF = "vf"
    REGULAR = "regular"


class Source(Enum):
    """Where a fact about a VF came from: seen here, the kernel's list in its PF, or remembered."""

    HERE = "here"
    KERNEL = "kernel"
    REMEMBERED = "remembered"


class Sources(msgspec.Struct, frozen=True, gc=False):
    """Where each fact of a VF came from; None where the fact is not known."""

    name: Source | None = None
    mac: Source | None = None
    ips: Source | None = None
    rdma_device: Source | None = None


class VirtualFunction(msgspec.Struct, frozen=True):
    """A VF, under its PF. `index` is the number in virtfnN, by which the kernel's own list names it too.

    `away` means that it has a netdev, in another network namespace. A VF given to a virtual machine
    (`driver` vfio-pci) has none at all, so it is not away.
    """

    index: int
    pci_address: str
    name: str = ""
    mac: str = ""
    ips: tuple[str, ...] = ()
    rdma_device: str = ""
    driver: str = ""
    oper_state: str = ""
    away: bool = False
    sources: Sources = Sources()


class Interface(msgspec.Struct, frozen=True):
    """A physical interface. Text that is not known is empty, a number that is not known is None.

    `name` is empty while the netdev is `away` in another network namespace, and for a PF with VFs but
    without a netdev of its own. `mac` has 6 bytes, or 20 for InfiniBand. `vendor` and `device` are PCI ids
    (hexadecimal, without 0x), `speed` is in Mb/s, `oper_state` is the kernel's word (RFC 2863).
    `pci_address` of a virtio device or a sub-function is that of the PCI function it lives on.
    """

    name: str
    type: InterfaceType
    mac: str = ""
    ips: tuple[str, ...] = ()
    pci_address: str = ""
    driver: str = ""
    oper_state: str = ""
    vendor: str = ""
    device: str = ""
    numa_node: int | None = None
    speed: int | None = None
    rdma_device: str = ""
    totalvfs: int | None = None
    num_vfs: int | None = None
    vfs: tuple[VirtualFunction, ...] = ()
    away: bool = False


class Fault(msgspec.Struct, frozen=True):
    """One thing that could not be read. `interface` is empty where the fault is the tree's own."""

    interface: str
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.interface + ': ' if self.interface else ''}{self.file}: {self.reason}"


class Scan(msgspec.Struct, frozen=True):
    """What was found, in order of PCI address and name, and each thing that could not be read, once.

    `readable` is False where there is no sys folder at all: then nothing is known, which is not the same
    as a node without NICs.
    """

    interfaces: tuple[Interface, ...]
    warnings: tuple[Fault, ...] = ()
    readable: bool = True


# Buses whose netdevs are a node's own NICs. USB is not among them: a BMC shows one to its host.
_BUSES = frozenset({"pci", "virtio", "vmbus", "platform", "auxiliary"})
# ARPHRD_ETHER and ARPHRD_INFINIBAND (include/uapi/linux/if_arp.h).
_INFINIBAND = "32"
_LINK_TYPES = frozenset({"", "1", _INFINIBAND})
# Names of ports seen through an eswitch (net/devlink/port.c, __devlink_port_phys_port_name_get): a port of
# the wire is p0, or p0s1 when split; these are the ends of functions.
_REPRESENTOR = re.compile(r"(c\d+)?pf\d+((vf|sf)\d+)?", re.ASCII)
# A PCI domain is 16 bits wide, or up to 32 where an intermediary such as VMD adds its own.
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}((:[0-9a-f]{2}){14})?", re.ASCII)
_VIRTFN = re.compile(r"virtfn(\d{1,5})", re.ASCII)
# What reading an attribute answers where it simply does not apply: absent, link down, not supported by
# the driver, or the device went away in between.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV})
_INT_MAX = (1 << 31) - 1
_SHORT = 4096  # a sysfs attribute is at most one page (Documentation/filesystems/sysfs.rst)

T = TypeVar("T")


def known_mac(text: str) -> str:
    """An Ethernet (6 bytes) or InfiniBand (20 bytes) address in lower case; "" where none is set (all zero).

    Raises ValueError where it is neither.
    """
    mac = text.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError("not a hardware address")
    return mac if mac.strip("0:") else ""


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key in which eth2 comes before eth10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))


def pci_order(address: str) -> tuple[int, ...]:
    """A sort key for PCI addresses of any domain width; what has no address comes last."""
    if not _PCI.fullmatch(address):
        return (1 << 32,)
    return tuple(int(part, 16) for part in re.split(r"[:.]", address))


def scan(root: Path) -> Scan:
    """Read every physical interface under `root`, which is the sys folder itself."""
    tree = _Tree(root)
    if tree.names("/", "") is None:
        return Scan((), (Fault("", str(root), "no such folder"),), readable=False)
    netdevs = _members(tree, "net")
    reader = _Reader(tree, netdevs, _members(tree, "infiniband"))
    functions = {name: f"/bus/pci/devices/{name}" for name in tree.names("/bus/pci/devices", "") or ()}
    others: list[Interface] = []
    found: list[Interface] = []
    for device in netdevs:
        own = _base(device)
        if _PCI.fullmatch(own):
            functions[own] = device
        elif (bus := _base(tree.link(f"{device}/subsystem", own))) in _BUSES:
            others += reader.on_bus(device, bus)
    # A VF's routing id is above its PF's (SR-IOV 1.1, 2.1.2): in this order every VF is claimed by its PF
    # before its own turn comes. The last line is for trees in which that does not hold.
    for address in sorted(functions, key=pci_order):
        if address not in reader.claimed:
            found += reader.function(address, functions[address])
    lines = [line for line in found if line.pci_address not in reader.claimed] + others
    lines.sort(key=lambda line: (pci_order(line.pci_address), natural(line.name)))
    return Scan(tuple(lines), tuple(tree.faults.values()))


class _Tree:
    """A sys folder: reads that stay inside it, by paths that begin at its root; and what went wrong."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self.faults: dict[tuple[str, str], Fault] = {}

    def fault(self, who: str, path: str, reason: str) -> None:
        """Note a fault, once for each interface and file."""
        who, shown = _printable(who), _printable(path)
        self.faults.setdefault((who, shown), Fault(who, shown, reason))

    def text(self, path: str, who: str) -> str:
        """An attribute without its line end; "" where it does not apply or cannot be read."""
        try:
            fd = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                raw = os.read(fd, _SHORT)
            finally:
                os.close(fd)
        except OSError as err:
            self._failed(err, path, who)
            return ""
        try:
            text = raw.decode("ascii").strip()
        except UnicodeDecodeError:
            text = "\0"
        if text.isprintable():
            return text
        self.fault(who, path, "not text")
        return ""

    def value(self, path: str, who: str, kind: Callable[[str], T], fallback: T) -> T:
        """An attribute read as `kind`, or `fallback`; text that `kind` refuses is a fault."""
        if not (text := self.text(path, who)):
            return fallback
        try:
            return kind(text)
        except ValueError:
            self.fault(who, path, f"{text[:64]!r} is not what belongs here")
            return fallback

    def link(self, path: str, who: str) -> str:
        """Where a link leads, as a path from the root of the tree; "" where there is no link."""
        try:
            target = os.readlink(self._root + path)  # noqa: PTH115 (as below)
        except OSError as err:
            self._failed(err, path, who)
            return ""
        if target.startswith("/"):  # never in sysfs itself; a copied tree may have them
            return normpath(target.removeprefix("/sys"))
        return normpath(f"{dirname(path)}/{target}")

    def names(self, path: str, who: str) -> list[str] | None:
        """What a folder holds; None where there is no such folder."""
        try:
            return os.listdir(self._root + path)  # noqa: PTH208 (a Path for each of 1,000 VFs costs more)
        except OSError as err:
            self._failed(err, path, who)
            return None

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        return os.access(self._root + path, os.F_OK)

    def _failed(self, err: OSError, path: str, who: str) -> None:
        if err.errno not in _NOT_THERE:
            self.fault(who, path, os.strerror(err.errno or 0))


_Members = Mapping[str, Mapping[str, str]]


def _members(tree: _Tree, kind: str) -> _Members:
    """Members of class/KIND, name to folder, by the device they belong to.

    The link that each member is says all of it: .../DEVICE/KIND/NAME. Virtual ones are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for name in tree.names(f"/class/{kind}", "") or ():
        path = f"/class/{kind}/{name}"
        folder = tree.link(path, _printable(name))
        if folder.startswith("/devices/virtual/"):
            continue
        if folder.endswith(f"/{kind}/{name}"):
            device = folder[: -len(kind) - len(name) - 2]
        else:  # a copied tree: a plain folder, or a link to one that is not under its device
            folder = folder or path
            device = tree.link(f"{folder}/device", _printable(name))
        if device:
            found.setdefault(device, {})[name] = folder
    return found


class _Reader:
    """Reads devices of one tree. `claimed` are the PCI addresses of VFs that are listed under a PF."""

    def __init__(self, tree: _Tree, netdevs: _Members, rdma: _Members) -> None:
        self._tree = tree
        self._netdevs = netdevs
        self._rdma = rdma
        self.claimed: set[str] = set()

    def on_bus(self, device: str, bus: str) -> list[Interface]:
        """The interfaces of a device that is not a PCI function itself, though it may live on one."""
        function = device
        while function != "/" and not _PCI.fullmatch(_base(function)):
            function = dirname(function)
        address = "" if function == "/" else _base(function)
        ports = self._ports(device)
        card = function if address else device
        # virtio-pci is what binds the PCI function; a sub-function's driver is its own, not its PF's.
        bound = card if bus == "virtio" else device
        return [self._interface(name, folder, device, bound, card) for name, folder in ports.items()]

    def function(self, address: str, device: str) -> list[Interface]:
        """The interfaces of a PCI function with its VFs; nothing where it is no NIC or only an RDMA device."""
        if device.startswith("/bus/"):
            if not (folder := self._tree.link(device, address)):
                return []
            device = folder
        ports, away = self._ports(device), False
        if not ports:
            if not self._tree.text(f"{device}/class", address).startswith("0x02"):  # PCI_BASE_CLASS_NETWORK
                return []
            # The folder stays, without an entry, while the netdev is in another network namespace
            # (entries of the net class are tagged with theirs: net/core/net-sysfs.c).
            away = self._tree.names(f"{device}/net", address) == []
        who = next(iter(ports), address)
        total = self._tree.value(f"{device}/sriov_totalvfs", who, _count, None)
        vfs, live = self._virtual(device, who) if total else ((), None)
        found = [self._interface(name, folder, device, device, device) for name, folder in ports.items()]
        if not found and (vfs or away):
            found = [self._interface("", "", device, device, device, away=away)]
        if total:
            # Of several ports on one function the first carries the VFs, so that each is listed once.
            return [
                msgspec.structs.replace(
                    line,
                    type=InterfaceType.PF,
                    totalvfs=total,
                    num_vfs=live,
                    vfs=() if place else vfs,
                )
                for place, line in enumerate(found)
            ]
        if found and self._tree.link(f"{device}/physfn", who):
            return [msgspec.structs.replace(line, type=InterfaceType.VF) for line in found]
        return found

    def _virtual(self, device: str, who: str) -> tuple[tuple[VirtualFunction, ...], int]:
        """A PF's VFs in the order of their numbers, and how many it says are live."""
        entries = self._tree.names(device, who) or ()
        numbers = sorted(int(match[1]) for name in entries if (match := _VIRTFN.fullmatch(name)))
        live = self._tree.value(f"{device}/sriov_numvfs", who, _count, None)
        if live is None:
            live = len(numbers)
        found = []
        for index in numbers:
            link = f"{device}/virtfn{index}"
            folder = self._tree.link(link, who)
            if not folder:
                continue
            if not _PCI.fullmatch(_base(folder)):
                self._tree.fault(who, link, "leads to no PCI function")
                continue
            self.claimed.add(_base(folder))
            if index < live and (vf := self._vf(index, folder, link, who)):
                found.append(vf)
        return tuple(found), live

    def _vf(self, index: int, device: str, link: str, pf: str) -> VirtualFunction | None:
        tree, address = self._tree, _base(device)
        netdevs, away = self._netdevs.get(device), False
        if netdevs is None:
            names = tree.names(f"{device}/net", address)
            away = names == []
            netdevs = {name: f"{device}/net/{name}" for name in names or ()}
        who, folder = min(netdevs.items(), key=lambda item: natural(item[0]), default=("", ""))
        driver = self._driver(device, who or address)
        if not driver and not folder and not tree.exists(device):
            tree.fault(pf, link, "leads nowhere")
            return None
        if name := self._name(who, folder):
            mac = tree.value(f"{folder}/address", name, known_mac, "")
            state = tree.text(f"{folder}/operstate", name)
        else:
            mac = state = ""
        rdma = self._rdma_device(device, name)
        here = Source.HERE
        return VirtualFunction(
            index=index,
            pci_address=address,
            name=name,
            mac=mac,
            rdma_device=rdma,
            driver=driver,
            oper_state=state,
            away=away,
            sources=Sources(name=here if name else None, mac=here if mac else None, rdma_device=here if rdma else None),
        )

    def _driver(self, device: str, who: str) -> str:
        link = f"{device}/driver"
        return self._name(_base(self._tree.link(link, who)), link)

    def _name(self, name: str, folder: str) -> str:
        """The name, or "" and a fault where it has bytes that neither JSON nor a terminal can show."""
        if name.isprintable():
            return name
        self._tree.fault(_printable(name), folder, "a name with unprintable bytes")
        return ""

    def _ports(self, device: str) -> dict[str, str]:
        """The netdevs of a device that are ports of the machine, name to folder, in natural order."""
        netdevs = self._netdevs.get(device)
        if netdevs is None:
            names = self._tree.names(f"{device}/net", _base(device)) or ()
            netdevs = {name: f"{device}/net/{name}" for name in names}
        return {name: netdevs[name] for name in sorted(netdevs, key=natural) if self._is_port(name, netdevs[name])}

    def _is_port(self, name: str, folder: str) -> bool:
        tree = self._tree
        if not self._name(name, folder):
            return False
        kind = tree.text(f"{folder}/type", name)
        if not kind and not tree.exists(folder):
            tree.fault(name, folder, "leads nowhere")
            return False
        if kind not in _LINK_TYPES:
            return False
        if kind == _INFINIBAND:  # a P_Key child links to the same device as its parent (ipoib_vlan.c)
            return tree.text(f"{folder}/iflink", name) == tree.text(f"{folder}/ifindex", name)
        port = tree.text(f"{folder}/phys_port_name", name)
        # Before Linux 5.1 a representor of mlx5 was named by the VF's number alone.
        bare = port.isdecimal() and bool(tree.text(f"{folder}/phys_switch_id", name))
        return not (bare or _REPRESENTOR.fullmatch(port))

    def _interface(
        self, name: str, folder: str, device: str, bound: str, card: str, *, away: bool = False
    ) -> Interface:
        """One line. `bound` is the device whose driver counts, `card` the one with PCI ids and NUMA node."""
        tree, who = self._tree, name or _base(device)
        state = tree.text(f"{folder}/operstate", who) if folder else ""
        numa = tree.value(f"{card}/numa_node", who, int, -1)
        # Asking a port that is down costs a firmware command in some drivers and says nothing.
        speed = tree.value(f"{folder}/speed", who, int, -1) if state in ("up", "unknown") else -1
        return Interface(
            name=name,
            type=InterfaceType.REGULAR,
            mac=tree.value(f"{folder}/address", who, known_mac, "") if folder else "",
            pci_address=_base(card) if _PCI.fullmatch(_base(card)) else "",
            driver=self._driver(bound, who),
            oper_state=state,
            vendor=tree.text(f"{card}/vendor", who).removeprefix("0x"),
            device=tree.text(f"{card}/device", who).removeprefix("0x"),
            numa_node=numa if 0 <= numa < _INT_MAX else None,
            # SPEED_UNKNOWN is -1, which some drivers print as unsigned (include/uapi/linux/ethtool.h).
            speed=speed if 0 < speed < _INT_MAX else None,
            rdma_device=self._rdma_device(device, name),
            away=away,
        )

    def _rdma_device(self, device: str, netdev: str) -> str:
        """The RDMA device over `netdev`, or of its PCI function while the netdev is away.

        Where one function has several, the one with a port whose GIDs are of this netdev
        (Documentation/ABI/stable/sysfs-class-infiniband, gid_attrs/ndevs).
        """
        names: Iterable[str] | None = self._rdma.get(device)
        if names is None:
            names = self._tree.names(f"{device}/infiniband", netdev or _base(device)) or ()
        names = sorted((name for name in names if self._name(name, f"{device}/infiniband/{name}")), key=natural)
        if len(names) == 1:
            return names[0]
        if not netdev:
            return ""
        return next((name for name in names if self._serves(f"{device}/infiniband/{name}", netdev)), "")

    def _serves(self, rdma: str, netdev: str) -> bool:
        ports = self._tree.names(f"{rdma}/ports", netdev) or ()
        return any(
            self._tree.text(f"{rdma}/ports/{port}/gid_attrs/ndevs/{slot}", netdev) == netdev
            for port in sorted(ports, key=natural)
            for slot in self._tree.names(f"{rdma}/ports/{port}/gid_attrs/ndevs", netdev) or ()
        )


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _count(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise ValueError("not a count")
    return int(text)


def _printable(text: str) -> str:
    """`text` with what no terminal or JSON can show written as escapes."""
    return text if text.isprintable() else ascii(text)[1:-1]
