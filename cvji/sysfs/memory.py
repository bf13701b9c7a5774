"""What is known of each NIC, from three sources: seen here, told by its PF's driver, or remembered.

Pure. A NIC given to a pod takes its name, addresses and perhaps its RDMA device out of sight; what it was is kept by
PCI address until the function itself is gone.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from cvji.sysfs.links import Links
from cvji.sysfs.scan import Interface, Scan, Source, VirtualFunction

_Nic = TypeVar("_Nic", Interface, VirtualFunction)


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A NIC as it last was in sight."""

    name: str = ""
    mac: str = ""
    ips: tuple[str, ...] = ()
    rdma_device: str = ""


class Memory(msgspec.Struct, frozen=True):
    """NICs by PCI address; of several ports at one address only the first."""

    nics: Mapping[str, Remembered] = {}


def complete(found: Scan, links: Links, memory: Memory) -> tuple[tuple[Interface, ...], Memory]:
    """The scan's interfaces with what the scan could not see, and what to remember from now on."""
    kept: dict[str, Remembered] = {}
    done = []
    for interface in found.interfaces:
        full = _filled(interface, links, "", memory)
        told = links.vf_macs.get(full.name, {})
        vfs = tuple(_filled(vf, links, told.get(vf.index, ""), memory) for vf in interface.vfs)
        nics: list[Interface | VirtualFunction] = [full, *vfs]
        for nic in nics:
            if nic.pci_address:
                kept.setdefault(nic.pci_address, Remembered(nic.name, nic.mac, nic.ips, nic.rdma_device))
        done.append(msgspec.structs.replace(full, vfs=vfs))
    return tuple(done), Memory(kept)


def _filled(nic: _Nic, links: Links, told: str, memory: Memory) -> _Nic:
    """`nic` with its addresses and with what is remembered; `told` is the MAC that the PF's driver says it has."""
    if nic.name:
        ips = links.ips.get(nic.name, ())
        past = Remembered()
    else:
        past = memory.nics.get(nic.pci_address, Remembered())
        ips = past.ips if nic.away else ()  # a virtual machine's own addresses are not known
    mac = nic.mac or told or past.mac
    full = msgspec.structs.replace(
        nic, name=nic.name or past.name, mac=mac, ips=ips, rdma_device=nic.rdma_device or past.rdma_device
    )
    if not isinstance(nic, VirtualFunction):
        return full
    here, remembered = Source.HERE, Source.REMEMBERED
    sources = msgspec.structs.replace(
        nic.sources,
        name=here if nic.name else remembered if past.name else None,
        mac=here if nic.mac else Source.KERNEL if told else remembered if past.mac else None,
        ips=None if not ips else here if nic.name else remembered,
        rdma_device=here if nic.rdma_device else remembered if past.rdma_device else None,
    )
    return msgspec.structs.replace(full, sources=sources)


def recall(nics: Iterable[tuple[str, Remembered]]) -> Memory:
    """A memory of what was known before a restart, by PCI address; what has none is left out."""
    return Memory({address: nic for address, nic in nics if address})
