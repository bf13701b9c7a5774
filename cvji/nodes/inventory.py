"""Node states become NodeConfigs: which of a node's NICs are reported, and when.

Takes NodeInterfaceState and SriovNetworkNodeState alike; both are named after their node.
"""

import enum
import ipaddress
from collections.abc import Iterable

import msgspec

from cvji.kube.objects import NodeInterface, NodeStateObject, NodeVf
from cvji.macs import ethernet_mac

_STATE = msgspec.json.Decoder(NodeStateObject)


class InterfaceType(enum.Enum):
    """NODE_INTERFACE_TYPE: which of a node's NICs are reported; a NIC without SR-IOV counts as a PF."""

    ALL = "all"
    PF = "pf"
    VF = "vf"


class Nic(msgspec.Struct, frozen=True, gc=False, order=True):
    """A NIC as it is reported."""

    name: str
    mac: str
    ips: tuple[str, ...]


class NodeState(msgspec.Struct, frozen=True):
    """A node state, understood. `fabric` are the MACs that a pod on the host's network holds."""

    uid: str
    node: str
    namespace: str
    nics: tuple[Nic, ...]
    fabric: tuple[str, ...]

    @property
    def name(self) -> str:
        """The object's name, which is the node's."""
        return self.node


class NodeReport(msgspec.Struct, frozen=True):
    """What CloudVision is to hold of a node; no NICs: nothing any more."""

    node: str
    nics: tuple[Nic, ...]


def read_node_state(chosen: InterfaceType, raw: bytes | msgspec.Raw) -> NodeState:
    """Understand one node state. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = _STATE.decode(raw)
    interfaces = (found.status.interfaces if found.status else None) or []
    parts: list[NodeInterface | NodeVf] = []
    if chosen is not InterfaceType.VF:
        parts += interfaces
    if chosen is not InterfaceType.PF:
        parts += [vf for pf in interfaces for vf in pf.vfs or ()]
    nics = {nic for part in parts if (nic := _nic(part))}
    # A pod on the host's network uses the rails, which are the NICs with RDMA; failing that, any of them.
    rails = [part for part in interfaces if part.rdma_device] or interfaces
    return NodeState(
        uid=found.metadata.uid,
        node=found.metadata.name,
        namespace=found.metadata.namespace,
        nics=tuple(sorted(nics)),
        fabric=tuple(sorted({mac for part in rails if (mac := ethernet_mac(part.mac))})),
    )


def _nic(part: NodeInterface | NodeVf) -> Nic | None:
    """A NIC with a MAC; a VF without a netdev goes by its PCI address."""
    mac = ethernet_mac(part.mac)
    name = part.name or part.pci_address
    return Nic(name, mac, _addresses(part.ips or [part.ip])) if mac and name else None


def _addresses(texts: Iterable[str]) -> tuple[str, ...]:
    """The valid addresses in one form, IPv4 first, without prefix lengths."""
    found = set()
    for text in texts:
        try:
            found.add(ipaddress.ip_interface(text).ip)
        except ValueError:
            continue
    return tuple(str(ip) for ip in sorted(found, key=lambda ip: (ip.version, int(ip))))


class Inventory:
    """What every node has, and what has been said of it."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, NodeState]] = {}  # node -> uid -> state: namespaces may have one each
        self._told: dict[str, tuple[Nic, ...]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def apply(self, state: NodeState) -> NodeReport | None:
        """A node state was made or changed; the report if CloudVision is to hold something else now.

        A state without a single NIC is one in the making or of a failed scan, and says nothing.
        """
        self._states.setdefault(state.node, {})[state.uid] = state
        if not state.nics or self._told.get(state.node) == state.nics:
            return None
        self._told[state.node] = state.nics
        return NodeReport(state.node, state.nics)

    def remove(self, state: NodeState) -> NodeReport | None:
        """A node state was deleted; the report if it was the node's last."""
        states = self._states.get(state.node, {})
        states.pop(state.uid, None)
        if states:
            return None
        self._states.pop(state.node, None)
        return NodeReport(state.node, ()) if self._told.pop(state.node, None) else None

    def fabric(self, node: str) -> tuple[str, ...]:
        """The MACs that a pod on that node's own network holds."""
        return tuple(sorted({mac for state in self._states.get(node, {}).values() for mac in state.fabric}))
