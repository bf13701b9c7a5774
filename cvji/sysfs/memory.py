"""What is known of each NIC, from three sources: seen here, in its PF's own list, or remembered.

Pure. A NIC given to a pod takes its name, addresses and perhaps its RDMA device away from the host; they are kept by
its device and port until the device itself is gone. What could not be read does not overwrite what was known.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TypeVar

import msgspec

from cvji.sysfs.links import Links
from cvji.sysfs.nics import Bond, Interface, Scan, Source, VirtualFunction, every_nic, natural, pci_order

_Nic = TypeVar("_Nic", Interface, VirtualFunction)


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A NIC as it was last seen; `port` is None where only one was ever seen on its device, or none was read."""

    name: str = ""
    mac: str = ""
    ips: tuple[str, ...] = ()
    rdma_device: str = ""
    port: int | None = None


class Memory(msgspec.Struct, frozen=True):
    """NICs by the path of their device (nics.Interface.device_path): one for each port."""

    nics: Mapping[str, tuple[Remembered, ...]] = {}


def complete(found: Scan, links: Links, memory: Memory) -> tuple[tuple[Interface, ...], tuple[Bond, ...], Memory]:
    """The scan's interfaces and bonds with what the scan could not see, and what to remember from now on."""
    done: list[Interface] = []
    # A netdev with an address that is seen somewhere is not also away.
    seen = {_own(nic) for nic in every_nic(found.interfaces)}
    for _, lines in groupby(found.interfaces, key=lambda line: line.device_path):
        for line, past in _ports(list(lines), memory, seen):
            full = _filled(line, links, "", past)
            listed = links.vf_macs.get(line.name, {})  # a name that is remembered may be another NIC's now
            vfs = []
            for _, functions in groupby(full.vfs, key=lambda vf: vf.pci_address):
                for vf, past_vf in _ports(list(functions), memory, seen):
                    vfs.append(_filled(vf, links, listed.get(vf.index, ""), past_vf))
            done.append(msgspec.structs.replace(full, vfs=tuple(vfs)))
    known = [
        (nic.device_path, Remembered(nic.name, _own(nic), nic.ips, nic.rdma_device, nic.port))
        for nic in every_nic(done)
    ]
    memory = recall((device, nic) for device, nic in known if nic != Remembered(port=nic.port))
    done = _shared_rdma(done)
    done.sort(key=lambda line: (pci_order(line.pci_address), line.device_path, natural(line.name)))
    bonds = tuple(msgspec.structs.replace(bond, ips=links.ips.get(bond.name, ())) for bond in found.bonds)
    return tuple(done), bonds, memory


def recall(nics: Iterable[tuple[str, Remembered]]) -> Memory:
    """A memory of these NICs, each with its device path; one without is left out."""
    kept: dict[str, tuple[Remembered, ...]] = {}
    for device, nic in nics:
        if device:
            kept[device] = (*kept.get(device, ()), nic)
    return Memory(kept)


def _own(nic: Interface | VirtualFunction) -> str:
    """The address that is a NIC's own: of a bond's member the permanent one, or none that is known."""
    return nic.permanent_mac if nic.bond else nic.mac


def _ports(lines: list[_Nic], memory: Memory, seen: set[str]) -> list[tuple[_Nic, Remembered]]:
    """The lines of one device, each with what is remembered of it, and one for each port that is remembered alone."""
    past = list(memory.nics.get(lines[0].device_path, ()))
    if not past:
        return [(line, Remembered()) for line in lines]
    if not lines[0].name:  # no netdev is visible: the one line stands for all of them
        first = msgspec.structs.replace(lines[0], port=past[0].port)
        return [(first, past[0])] + [(_beside(first, port, away=first.away), port) for port in past[1:]]
    matched: dict[int, Remembered] = {}
    for same in (_same_name, _same_mac, _same_port):
        for at, line in enumerate(lines):
            hits = [port for port in past if same(line, port)] if at not in matched else []
            if hits:
                matched[at] = hits[0]
                past.remove(hits[0])
    pairs = [(line, matched.get(at, Remembered())) for at, line in enumerate(lines)]
    away = [port for port in past if not port.mac or port.mac not in seen]
    return pairs + [(_beside(lines[0], port, away=True), port) for port in away]


def _same_port(nic: Interface | VirtualFunction, port: Remembered) -> bool:
    return nic.port is None or port.port is None or nic.port == port.port


def _same_name(nic: Interface | VirtualFunction, port: Remembered) -> bool:
    return nic.name == port.name and _same_port(nic, port)


def _same_mac(nic: Interface | VirtualFunction, port: Remembered) -> bool:
    return bool(port.mac) and _own(nic) == port.mac and _same_port(nic, port)


def _beside(nic: _Nic, port: Remembered, *, away: bool) -> _Nic:
    """A port of the same device as `nic` that is not visible."""
    blank = msgspec.structs.replace(
        nic, name="", port=port.port, mac="", unset=False, permanent_mac="", bond="", oper_state="", away=away
    )
    if isinstance(blank, Interface):
        return msgspec.structs.replace(blank, rdma_device="", speed=None, vfs=())
    return msgspec.structs.replace(blank, rdma_device="", sources=type(blank.sources)())


def _filled(nic: _Nic, links: Links, listed: str, past: Remembered) -> _Nic:
    """`nic` with its addresses and with what is remembered; `listed` is its MAC in its PF's own list."""
    here, remembered = Source.HERE, Source.REMEMBERED
    in_sight = bool(nic.name)
    rdma = nic.rdma_device or ("" if in_sight else past.rdma_device)
    # A name that netlink does not know left between the two looks; without netlink no address is known.
    if in_sight and (nic.name in links.names or not links.names):
        ips, ips_from = links.ips.get(nic.name, ()), here
    else:  # a virtual machine's own addresses are not known
        ips, ips_from = (past.ips if in_sight or nic.away else ()), remembered
    kept = "" if nic.unset else past.mac
    mac = nic.mac or listed or kept
    permanent = nic.permanent_mac
    if nic.bond and not permanent:
        permanent = links.permanent.get(nic.name, "") or (past.mac if past.mac != nic.mac else "")
    full = msgspec.structs.replace(
        nic, name=nic.name or past.name, mac=mac, permanent_mac=permanent, ips=ips, rdma_device=rdma
    )
    if not isinstance(full, VirtualFunction):
        return full
    sources = msgspec.structs.replace(
        full.sources,
        name=here if in_sight else remembered if past.name else None,
        mac=here if nic.mac else Source.KERNEL if listed else remembered if kept else None,
        ips=ips_from if ips else None,
        rdma_device=here if nic.rdma_device else remembered if rdma else None,
    )
    return msgspec.structs.replace(full, sources=sources)


def _shared_rdma(lines: list[Interface]) -> list[Interface]:
    """With RoCE LAG the first function of a card has the RDMA device of all bonded ports (mlx5_bond_0 of mlx5_ib)."""

    def card(line: Interface) -> tuple[str, str, str]:
        return line.bond, line.driver, line.pci_address.rpartition(".")[0]

    devices: dict[tuple[str, str, str], set[str]] = {}
    for line in lines:
        if line.bond and line.rdma_device and line.pci_address:
            devices.setdefault(card(line), set()).add(line.rdma_device)
    return [
        msgspec.structs.replace(line, rdma_device=next(iter(shared)))
        if not line.rdma_device and len(shared := devices.get(card(line), ())) == 1
        else line
        for line in lines
    ]
