"""NodeInterfaceState and SriovNetworkNodeState as they come over the wire: the fields of both that are used."""

import msgspec

from cvji.kube.objects import Metadata, Short, Time, Wire
from cvji.settings import NodeConfigMode

# Group and kind of the node states that each mode reads.
NODE_STATES = {
    NodeConfigMode.DISCOVERY: ("cloudvision.arista.io", "NodeInterfaceState"),
    NodeConfigMode.SRIOVOPERATOR: ("sriovnetwork.openshift.io", "SriovNetworkNodeState"),
}


class StateVf(Wire):
    """A virtual function in a node state; what is not known of it while a pod has it is absent."""

    name: Short = ""
    mac: Short = ""
    ip: Short = ""
    ips: list[Short] | None = None
    pci_address: Short = ""
    permanent_mac: Short = ""
    bond: Short = ""


class StateInterface(StateVf):
    """A NIC in a node state: the fields that both kinds have in common, and the `type` of NodeInterfaceState."""

    type: Short = ""  # pf, vf or regular; a VF stands here by itself where its PF cannot be seen
    rdma_device: Short = ""
    vfs: list[StateVf] | None = msgspec.field(name="Vfs", default=None)


class StateBond(Wire):
    """A bond or team in a NodeInterfaceState; `members` are names of interfaces or VFs."""

    name: Short = ""
    mac: Short = ""
    ip: Short = ""
    ips: list[Short] | None = None
    members: list[Short] | None = None


class NodeStateStatus(Wire):
    """Status of a node state."""

    interfaces: list[StateInterface] | None = None
    bonds: list[StateBond] | None = None


class ManagedFields(Wire):
    """metav1.ManagedFieldsEntry: its time is renewed whenever its manager changes a value."""

    subresource: Short = ""
    time: Time | None = None


class NodeStateMetadata(Metadata):
    """ObjectMeta of a node state, with what says when it was last written."""

    managed_fields: list[ManagedFields] | None = None


class NodeStateObject(Wire):
    """cloudvision.arista.io NodeInterfaceState, or sriovnetwork.openshift.io SriovNetworkNodeState."""

    metadata: NodeStateMetadata
    status: NodeStateStatus | None = None
