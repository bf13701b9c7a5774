"""NodeInterfaceState as `cvji discover` writes it. Pure; the field names are the CRD's (`Vfs` with a capital V)."""

from collections.abc import Iterable

import msgspec

from cvji.sysfs.memory import Remembered
from cvji.sysfs.scan import Interface, VirtualFunction

API_VERSION = "cloudvision.arista.io/v1"
KIND = "NodeInterfaceState"
PLURAL = "nodeinterfacestates"
SUCCEEDED, FAILED = "Succeeded", "Failed"
_MESSAGE = 1024  # characters


class Vf(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A virtual function."""

    name: str = ""
    mac: str = ""
    ip: str = ""
    ips: tuple[str, ...] = ()
    pci_address: str = ""
    rdma_device: str = ""
    driver: str = ""
    oper_state: str = ""


class Nic(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A physical interface; `speed` is in Mb/s."""

    name: str = ""
    type: str = ""
    mac: str = ""
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


class State(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """The status: what the node has, and whether it could be read; `message` says what could not.

    The counts are for printer columns, whose paths take the first of many.
    """

    interfaces: tuple[Nic, ...] = ()
    sync_status: str = ""
    message: str = ""
    interface_count: int | None = None
    vf_count: int | None = None


def state_of(interfaces: Iterable[Interface], warnings: Iterable[object]) -> State:
    """The status of a scan that succeeded."""
    message = "; ".join(map(str, warnings))
    nics = tuple(map(_nic, interfaces))
    return State(nics, SUCCEEDED, message[:_MESSAGE], len(nics), sum(len(nic.vfs) for nic in nics))


def failed(before: State, reason: str) -> State:
    """The status of a scan that failed: what was known before still stands."""
    return msgspec.structs.replace(before, sync_status=FAILED, message=reason[:_MESSAGE])


def remembered(state: State) -> list[tuple[str, Remembered]]:
    """Every NIC of a status with its PCI address."""
    parts: list[Nic | Vf] = [*state.interfaces, *(vf for nic in state.interfaces for vf in nic.vfs)]
    return [(part.pci_address, Remembered(part.name, part.mac, part.ips, part.rdma_device)) for part in parts]


def _nic(interface: Interface) -> Nic:
    return Nic(
        name=interface.name,
        type=interface.type.value,
        mac=interface.mac,
        ip=next(iter(interface.ips), ""),
        ips=interface.ips,
        pci_address=interface.pci_address,
        rdma_device=interface.rdma_device,
        driver=interface.driver,
        oper_state=interface.oper_state,
        vendor=interface.vendor,
        device=interface.device,
        numa_node=interface.numa_node,
        speed=interface.speed,
        totalvfs=interface.totalvfs,
        num_vfs=interface.num_vfs,
        vfs=tuple(map(_vf, interface.vfs)),
    )


def _vf(vf: VirtualFunction) -> Vf:
    return Vf(
        name=vf.name,
        mac=vf.mac,
        ip=next(iter(vf.ips), ""),
        ips=vf.ips,
        pci_address=vf.pci_address,
        rdma_device=vf.rdma_device,
        driver=vf.driver,
        oper_state=vf.oper_state,
    )
