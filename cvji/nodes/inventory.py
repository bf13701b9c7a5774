"""Node states become NodeConfigs: which of a node's NICs are reported, and when.

Takes NodeInterfaceState and SriovNetworkNodeState alike; both are named after their node.
"""

import hashlib
import ipaddress
import sys
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from cvji.kube.objects import known_time
from cvji.macs import ethernet_mac
from cvji.nodes.objects import NodeStateMetadata, NodeStateObject, StateBond, StateVf
from cvji.settings import NodeInterfaceType

_STATE = msgspec.json.Decoder(NodeStateObject)
_Part = StateVf | StateBond  # of a node state that may be reported; an interface is all that a VF is, and more


class Nic(msgspec.Struct, frozen=True, gc=False, order=True):
    """A NIC as it is reported."""

    name: str
    mac: str
    ips: tuple[str, ...]


class NodeState(msgspec.Struct, frozen=True):
    """A node state, understood. `fabric` are the MACs that a pod on the host's network holds: a bond's may be there
    twice, of the bond and of a port (Inventory.fabric gives each once).

    `none`: the node has NICs, but none of the chosen type. (No NICs at all means that the scan failed or is not done.)
    `functions` and `fabric_functions` say of each NIC and each MAC which PCI function or bond it is ("" if not known),
    and `written` when the state was last changed: of two states of one node the newer one is right about a function.
    """

    uid: str
    node: str
    namespace: str
    nics: tuple[Nic, ...]
    fabric: tuple[str, ...]
    none: bool = False
    functions: tuple[str, ...] = ()
    fabric_functions: tuple[str, ...] = ()
    written: int = 0


class NodeReport(msgspec.Struct, frozen=True):
    """What CloudVision is to hold of a node; no NICs: nothing any more."""

    node: str
    nics: tuple[Nic, ...]


def read_node_state(chosen: NodeInterfaceType, raw: bytes | msgspec.Raw) -> NodeState:
    """Understand one node state. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = _STATE.decode(raw)
    interfaces = (found.status.interfaces if found.status else None) or []
    bonds = (found.status.bonds if found.status else None) or []
    parts: list[StateVf] = []
    if chosen is not NodeInterfaceType.VF:
        parts += [nic for nic in interfaces if nic.type != "vf"]
    if chosen is not NodeInterfaceType.PF:
        parts += [nic for nic in interfaces if nic.type == "vf"]
        parts += [vf for pf in interfaces for vf in pf.vfs or ()]
    names = {part.name for part in parts}
    reported: list[_Part] = [*parts]
    reported += [bond for bond in bonds if not names.isdisjoint(bond.members or ())]
    nics = sorted({(nic, _function(part)) for part in reported if (nic := _nic(part))})
    # A pod on the host's network uses the rails, which are the NICs with RDMA; failing that, any of them. Its frames
    # carry the address of the port or, where the port is bonded, of the bond.
    rails = [part for part in interfaces if part.rdma_device] or interfaces
    bonded = {part.bond for part in rails}
    held: list[_Part] = [*rails, *(bond for bond in bonds if bond.name in bonded)]
    fabric = sorted({(mac, _function(part)) for part in held if (mac := _own_mac(part))})
    return NodeState(
        uid=found.metadata.uid,
        node=found.metadata.name,
        namespace=found.metadata.namespace,
        nics=tuple(nic for nic, _ in nics),
        fabric=tuple(mac for mac, _ in fabric),
        none=bool(interfaces) and not parts,
        functions=tuple(function for _, function in nics),
        fabric_functions=tuple(function for _, function in fabric),
        written=_written(found.metadata),
    )


def _written(metadata: NodeStateMetadata) -> int:
    """When a state's content last changed, in seconds since the epoch, by its managedFields: nothing else says it."""
    entries = [entry for entry in metadata.managed_fields or () if known_time(entry.time)]
    entries = [entry for entry in entries if entry.subresource == "status"] or entries
    times = [entry.time for entry in entries] or [metadata.creation_timestamp]
    return max(known_time(time) or 0 for time in times)


def _own_mac(part: _Part) -> str | None:
    """The address by which a switch knows a port: a member of a bond shows the bond's, and has its own beside it."""
    if not isinstance(part, StateBond) and part.bond:
        return ethernet_mac(part.permanent_mac)
    return ethernet_mac(part.mac)


def _function(part: _Part) -> str:
    """What may be only once on a node. A cluster's nodes have the same ones, so the text is kept once."""
    return sys.intern(f"bond {part.name}" if isinstance(part, StateBond) else part.pci_address)


def _nic(part: _Part) -> Nic | None:
    """A NIC with a MAC; a VF without a netdev goes by its PCI address."""
    mac = _own_mac(part)
    name = part.name or ("" if isinstance(part, StateBond) else part.pci_address)
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
    """What every node has, and what was reported of it. Level-triggered, as the tracker is."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, NodeState]] = {}  # node -> uid -> state: namespaces may have one each
        self._reported: dict[str, bytes] = {}  # node -> fingerprint
        self._dirty: dict[str, None] = {}
        self._warned: dict[str, set[frozenset[str]]] = {}  # node -> uids of the two states
        self._complete = False  # a node without a state is gone, and not just yet to be listed

    def apply(self, state: NodeState) -> str:
        """A node state was made or changed. Returns what to warn of ("" if nothing), once for each two states."""
        states = self._states.setdefault(state.node, {})
        states[state.uid] = state
        self._dirty[state.node] = None
        return self._conflict(state) if len(states) > 1 else ""

    def remove(self, state: NodeState) -> None:
        """A node state was deleted."""
        states = self._states.get(state.node, {})
        states.pop(state.uid, None)
        if not states:
            self._states.pop(state.node, None)
        if warned := self._warned.pop(state.node, None):
            self._warned[state.node] = {pair for pair in warned if state.uid not in pair}
        self._dirty[state.node] = None

    def restore(self, reported: Mapping[str, bytes]) -> None:
        """Continue from what was reported before a restart."""
        self._reported.update(reported)
        self._dirty.update(dict.fromkeys([*self._states, *reported]))

    def listed(self) -> None:
        """Every node state that exists has been applied."""
        self._complete = True
        self._dirty.update(dict.fromkeys(self._reported))

    def advance(self) -> list[NodeReport]:
        """What CloudVision is to hold from now on, of nodes where that is something else than before.

        A state without any NIC is of a scan that failed or is not done, and changes nothing; nor do VFs whose MACs are
        not visible.
        """
        dirty, self._dirty = self._dirty, {}
        reports = []
        for node in dirty:
            if node not in self._states:
                if self._complete and self._reported.pop(node, None) is not None:
                    reports.append(NodeReport(node, ()))
                continue
            report = self.current(node)
            if report.nics and self._reported.get(node) != (mark := fingerprint(report.nics)):
                self._reported[node] = mark
                reports.append(report)
            elif (
                all(state.none for state in self._states[node].values()) and self._reported.pop(node, None) is not None
            ):
                reports.append(report)
        return reports

    def current(self, node: str) -> NodeReport:
        """What CloudVision is to hold of a node."""
        nics = {
            nic
            for state, superseded in self._newest_first(node)
            for nic, function in zip(state.nics, state.functions or [""] * len(state.nics), strict=True)
            if function not in superseded
        }
        return NodeReport(node, tuple(sorted(nics)))

    def fabric(self, node: str) -> tuple[str, ...]:
        """The MACs that a pod on that node's own network holds."""
        macs = {
            mac
            for state, superseded in self._newest_first(node)
            for mac, function in zip(state.fabric, state.fabric_functions or [""] * len(state.fabric), strict=True)
            if function not in superseded
        }
        return tuple(sorted(macs))

    def _newest_first(self, node: str) -> Iterator[tuple[NodeState, set[str]]]:
        """The states of a node, each with the functions that a newer one has an entry of."""
        superseded: set[str] = set()
        for state in sorted(self._states.get(node, {}).values(), key=_age, reverse=True):
            yield state, superseded
            superseded = superseded | {function for function in state.functions + state.fabric_functions if function}

    def _conflict(self, state: NodeState) -> str:
        """One warning that names two states of a node with different MACs of one function."""
        macs = _macs(state)
        for other in self._states[state.node].values():
            pair = frozenset((state.uid, other.uid))
            if other is state or pair in self._warned.get(state.node, ()):
                continue
            others = _macs(other)
            if functions := sorted(name for name in macs.keys() & others.keys() if macs[name] != others[name]):
                self._warned.setdefault(state.node, set()).add(pair)
                older, newer = sorted((state, other), key=_age)
                return (
                    f"{older.namespace}/{older.node} and {newer.namespace}/{newer.node} have different MACs of "
                    f"{functions[0]}: the newer one counts, {newer.namespace}/{newer.node}; is the other one stale?"
                )
        return ""


def _age(state: NodeState) -> tuple[int, str]:
    return state.written, state.uid


def _macs(state: NodeState) -> dict[str, set[str]]:
    """MACs by function: two ports of one function have one each."""
    found: dict[str, set[str]] = {}
    for nic, function in zip(state.nics, state.functions, strict=False):
        if function:
            found.setdefault(function, set()).add(nic.mac)
    return found
