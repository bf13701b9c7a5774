"""A node's NICs as a scan of its sys folder describes them: interfaces, their VFs, bonds, and what was left out."""

import re
from collections.abc import Iterable, Iterator
from enum import Enum

import msgspec

# A PCI domain is 16 bits wide, or up to 32 where an intermediary such as VMD adds its own.
PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.ASCII)


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


class Netdev(msgspec.Struct, frozen=True, gc=False):
    """What a netdev says of itself. `mac` has 6 bytes, or 20 for InfiniBand.

    `unset` says that the kernel itself shows the address as all zero. `bond` is the bond or team that it is a member
    of, and `permanent_mac` then its own address: `mac` is the bond's. `oper_state` is the kernel's word (RFC 2863).
    """

    name: str = ""
    mac: str = ""
    unset: bool = False
    permanent_mac: str = ""
    bond: str = ""
    oper_state: str = ""


class AnyNic(Netdev, frozen=True, kw_only=True):
    """What interfaces and VFs have in common. Text that is not known is empty, a number that is not known is None.

    `port` is the number that several netdevs of one device differ in (dev_port). `away`: its netdev is in another
    network namespace, and `name` is empty meanwhile.
    """

    port: int | None = None
    ips: tuple[str, ...] = ()
    pci_address: str = ""
    rdma_device: str = ""
    driver: str = ""
    away: bool = False


class VirtualFunction(AnyNic, frozen=True, kw_only=True):
    """A VF, under its PF. `index` is the number in virtfnN, by which the kernel's own list names it too.

    A VF given to a virtual machine (`driver` vfio-pci) has no netdev at all, so it is not away.
    """

    index: int
    sources: Sources = Sources()

    @property
    def device_path(self) -> str:
        """Which device this is: always a PCI function."""
        return self.pci_address


class Interface(AnyNic, frozen=True, kw_only=True):
    """A physical interface; its name is also empty for a PF with VFs but without a netdev of its own.

    A netdev is identified by its device and port: `device_path` is the device's path in sysfs from its PCI
    function on (or below /devices). `pci_address` of a virtio device or a sub-function is that of the PCI function it
    lives on. `vendor` and `device` are PCI ids (hexadecimal, without 0x), `speed` is in Mb/s.
    """

    type: InterfaceType
    device_path: str = ""
    bus: str = ""
    vendor: str = ""
    device: str = ""
    numa_node: int | None = None
    speed: int | None = None
    totalvfs: int | None = None
    num_vfs: int | None = None
    vfs: tuple[VirtualFunction, ...] = ()


class Bond(msgspec.Struct, frozen=True):
    """A bond or team with at least one member among the NICs; data frames carry its `mac`."""

    name: str
    mac: str = ""
    ips: tuple[str, ...] = ()
    oper_state: str = ""
    members: tuple[str, ...] = ()


class LeftOut(msgspec.Struct, frozen=True, order=True):
    """A netdev that is no NIC with a switch port behind it, and why not."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Fault(msgspec.Struct, frozen=True):
    """One thing that could not be read. `interface` is empty where the fault is the tree's own."""

    interface: str
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.interface + ': ' if self.interface else ''}{self.file}: {self.reason}"


class Scan(msgspec.Struct, frozen=True):
    """What was found, in order of PCI address and name, and each thing that could not be read, once.

    `changed` are files that were there and then were not: the scan shows no one moment, and is worth repeating.
    """

    interfaces: tuple[Interface, ...]
    bonds: tuple[Bond, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[Fault, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def unread(self) -> str:
        """The lists of devices that cannot be read ("" if all can): what is missing may be there all the same.

        That is not the same as a node without NICs. A part that is merely absent is no fault: not every node has PCI.
        """
        return "; ".join(str(fault) for fault in self.warnings if not fault.interface)


def every_nic(lines: Iterable[Interface]) -> Iterator[Interface | VirtualFunction]:
    """Each interface, followed by its VFs."""
    for line in lines:
        yield line
        yield from line.vfs


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key in which eth2 comes before eth10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))


def pci_order(address: str) -> tuple[bool, int, str]:
    """A sort key for PCI addresses of any domain width, which has no zeros before it; no address comes last."""
    return not address, len(address), address
