"""NodeInterfaceState as `cvji discover` writes it. Pure; the field names are the CRD's (`Vfs` with a capital V)."""

from collections.abc import Iterable
from typing import Any

import msgspec

from cvji.sysfs.memory import Remembered
from cvji.sysfs.nics import Bond, Interface, VirtualFunction

API_VERSION = "cloudvision.arista.io/v1"
KIND = "NodeInterfaceState"
PLURAL = "nodeinterfacestates"
SUCCEEDED, FAILED = "Succeeded", "Failed"
_MESSAGE = 1024  # characters


class Vf(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A virtual function."""

    name: str = ""
    mac: str = ""
    permanent_mac: str = ""
    bond: str = ""
    dev_port: int | None = None
    ip: str = ""
    ips: tuple[str, ...] = ()
    pci_address: str = ""
    rdma_device: str = ""
    driver: str = ""
    oper_state: str = ""


class Nic(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A physical interface; `speed` is in Mb/s.

    `mac` is what sysfs shows: of a member of `bond` the bond's address, with its own in `permanent_mac`. `device_path`
    is given where the device is no PCI function itself: several may be on the function of `pci_address`.
    """

    name: str = ""
    type: str = ""
    mac: str = ""
    permanent_mac: str = ""
    bond: str = ""
    device_path: str = ""
    dev_port: int | None = None
    ip: str = ""
    ips: tuple[str, ...] = ()
    pci_address: str = ""
    rdma_device: str = ""
    driver: str = ""
    oper_state: str = ""
    vendor: str = ""
    device: str = ""
    numa_node: int | None = None
    speed: int | None = None
    totalvfs: int | None = msgspec.field(name="totalvfs", default=None)
    num_vfs: int | None = None
    vfs: tuple[Vf, ...] = msgspec.field(name="Vfs", default=())


class BondState(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A bond or team; `members` are names of interfaces or VFs."""

    name: str = ""
    mac: str = ""
    ip: str = ""
    ips: tuple[str, ...] = ()
    oper_state: str = ""
    members: tuple[str, ...] = ()


class State(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """The status: what the node has, and whether it could be read; `message` says what could not.

    The counts are for printer columns, whose paths take the first of many.
    """

    interfaces: tuple[Nic, ...] = ()
    bonds: tuple[BondState, ...] = ()
    sync_status: str = ""
    message: str = ""
    interface_count: int | None = None
    vf_count: int | None = None


def state_of(interfaces: Iterable[Interface], bonds: Iterable[Bond], warnings: Iterable[object]) -> State:
    """The status of a scan that succeeded."""
    nics = tuple(map(_nic, interfaces))
    return State(
        interfaces=nics,
        bonds=tuple(map(_bond, bonds)),
        sync_status=SUCCEEDED,
        message="; ".join(map(str, warnings))[:_MESSAGE],
        interface_count=len(nics),
        vf_count=sum(len(nic.vfs) for nic in nics),
    )


def failed(before: State, reason: str) -> State:
    """The status of a scan that failed: what was known before still stands."""
    return msgspec.structs.replace(before, sync_status=FAILED, message=reason[:_MESSAGE])


def remembered(state: State) -> list[tuple[str, Remembered]]:
    """Every NIC of a status with the path of its device."""
    found = []
    for nic in state.interfaces:
        device = nic.device_path or nic.pci_address
        # Before there was devicePath, these had the address of the function that they live on.
        if nic.device_path or not (nic.driver == "virtio-pci" or nic.driver.endswith(".sf")):
            found.append((device, _remembered(nic)))
        found += [(vf.pci_address, _remembered(vf)) for vf in nic.vfs]
    return found


def _remembered(part: Nic | Vf) -> Remembered:
    mac = part.permanent_mac if part.bond else part.mac
    return Remembered(part.name, mac, part.ips, part.rdma_device, part.dev_port)


def _bond(bond: Bond) -> BondState:
    return BondState(**_same(bond, BondState), ip=next(iter(bond.ips), ""))


def _nic(nic: Interface) -> Nic:
    different = {
        "type": nic.type.value,
        "device_path": nic.device_path if nic.device_path != nic.pci_address else "",
        "dev_port": nic.port,
        "ip": next(iter(nic.ips), ""),
        "vfs": tuple(map(_vf, nic.vfs)),
    }
    return Nic(**_same(nic, Nic) | different)


def _vf(vf: VirtualFunction) -> Vf:
    return Vf(**_same(vf, Vf), dev_port=vf.port, ip=next(iter(vf.ips), ""))


def _same(nic: Interface | VirtualFunction | Bond, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a NIC or bond that `kind` has too, under the same name."""
    return {name: getattr(nic, name) for name in kind.__struct_fields__ if hasattr(nic, name)}
