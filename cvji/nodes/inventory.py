"""Node states become NodeConfigs: which of a node's NICs are reported, and when.

Takes NodeInterfaceState and SriovNetworkNodeState alike; both are named after their node.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from cvji.kube.objects import NodeInterface, NodeStateObject, NodeVf
from cvji.macs import ethernet_mac
from cvji.settings import NodeInterfaceType

_STATE = msgspec.json.Decoder(NodeStateObject)


class Nic(msgspec.Struct, frozen=True, gc=False, order=True):
    """A NIC as it is reported."""

    name: str
    mac: str
    ips: tuple[str, ...]


class NodeState(msgspec.Struct, frozen=True):
    """A node state, understood. `fabric` are the MACs that a pod on the host's network holds.

    `none` says that the node has NICs, and none of the chosen type: that is knowledge, and no NICs at all is none.
    """

    uid: str
    node: str
    namespace: str
    nics: tuple[Nic, ...]
    fabric: tuple[str, ...]
    none: bool = False

    @property
    def name(self) -> str:
        """The object's name, which is the node's."""
        return self.node


class NodeReport(msgspec.Struct, frozen=True):
    """What CloudVision is to hold of a node; no NICs: nothing any more."""

    node: str
    nics: tuple[Nic, ...]


def read_node_state(chosen: NodeInterfaceType, raw: bytes | msgspec.Raw) -> NodeState:
    """Understand one node state. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = _STATE.decode(raw)
    interfaces = (found.status.interfaces if found.status else None) or []
    parts: list[NodeInterface | NodeVf] = []
    if chosen is not NodeInterfaceType.VF:
        parts += interfaces
    if chosen is not NodeInterfaceType.PF:
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
        none=bool(interfaces) and not parts,
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


def fingerprint(nics: tuple[Nic, ...]) -> bytes:
    """Eight bytes that stand for what CloudVision holds of a node; none for a node without NICs."""
    return hashlib.blake2b(msgspec.msgpack.encode(nics), digest_size=8).digest() if nics else b""


class Inventory:
    """What every node has, and what has been said of it. Level-triggered, as the tracker is."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, NodeState]] = {}  # node -> uid -> state: namespaces may have one each
        self._told: dict[str, bytes] = {}  # node -> fingerprint
        self._dirty: dict[str, None] = {}
        self._complete = False  # a node without a state is gone, and not just yet to be listed

    def __len__(self) -> int:
        return len(self._states)

    def apply(self, state: NodeState) -> None:
        """A node state was made or changed."""
        self._states.setdefault(state.node, {})[state.uid] = state
        self._dirty[state.node] = None

    def remove(self, state: NodeState) -> None:
        """A node state was deleted."""
        states = self._states.get(state.node, {})
        states.pop(state.uid, None)
        if not states:
            self._states.pop(state.node, None)
        self._dirty[state.node] = None

    def restore(self, told: Mapping[str, bytes]) -> None:
        """Go on from what was told before a restart."""
        self._told.update(told)
        self._dirty.update(dict.fromkeys([*self._states, *told]))

    def listed(self) -> None:
        """Every node state that exists has been applied."""
        self._complete = True
        self._dirty.update(dict.fromkeys(self._told))

    def advance(self) -> list[NodeReport]:
        """What CloudVision is to hold from now on, of nodes where that is something else than before.

        A state without a single NIC is one in the making or of a failed scan, and says nothing; nor do VFs whose MACs
        are out of sight.
        """
        dirty, self._dirty = self._dirty, {}
        reports = []
        for node in dirty:
            if node not in self._states:
                if self._complete and self._told.pop(node, None) is not None:
                    reports.append(NodeReport(node, ()))
                continue
            report = self.current(node)
            if report.nics and self._told.get(node) != (mark := fingerprint(report.nics)):
                self._told[node] = mark
                reports.append(report)
            elif all(state.none for state in self._states[node].values()) and self._told.pop(node, None) is not None:
                reports.append(report)
        return reports

    def current(self, node: str) -> NodeReport:
        """What CloudVision is to hold of a node."""
        nics = {nic for state in self._states.get(node, {}).values() for nic in state.nics}
        return NodeReport(node, tuple(sorted(nics)))

    def fabric(self, node: str) -> tuple[str, ...]:
        """The MACs that a pod on that node's own network holds."""
        return tuple(sorted({mac for state in self._states.get(node, {}).values() for mac in state.fabric}))
