"""Which NICs a pod holds: its Multus annotation, its ResourceClaims, or its node's NICs.

Turns wire objects into the compact records the tracker keeps. Knows no job and no time.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec

from cvji.jobs.kinds import Registry
from cvji.kube.objects import ClaimObject, PodObject, PodStatus, known_time
from cvji.macs import ethernet_mac, infiniband_address

# The API server refuses more than 256 KiB of annotations in all (apimachinery TotalAnnotationSizeLimitB).
ANNOTATION_LIMIT = 256 * 1024
POD = msgspec.json.Decoder(PodObject)
CLAIM = msgspec.json.Decoder(ClaimObject)


# Told what is of use when somebody looks for a NIC that is missing, and of none else; None where nobody listens.
Note = Callable[[str], None] | None


class NetworkStatus(msgspec.Struct, frozen=True, gc=False):
    """One entry of a network-status annotation (Network CRD De-facto Standard, section 4.1.2)."""

    interface: str | None = None
    mac: str | None = None
    default: bool | None = None
    device_info: msgspec.Raw = msgspec.field(name="device-info", default=msgspec.Raw())  # for notes alone


_NETWORKS = msgspec.json.Decoder(list[NetworkStatus])


def multus_macs(annotation: str | None, note: Note = None) -> tuple[tuple[str, ...], str]:
    """The MACs of a pod's secondary attachments, and what is wrong with the annotation ("" if nothing).

    The cluster network's own entry (`default`, or eth0) is not an attachment to the switch fabric.
    """
    if not annotation:
        return (), ""
    if len(annotation) > ANNOTATION_LIMIT:
        return (), f"network-status annotation of {len(annotation)} characters is over {ANNOTATION_LIMIT}"
    try:
        entries = _NETWORKS.decode(annotation)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        return (), f"network-status annotation is not a list of networks: {err}"
    macs = set()
    problem = ""
    for entry in entries:
        if not entry.mac or entry.default or entry.interface == "eth0":
            continue
        if mac := ethernet_mac(entry.mac):
            macs.add(mac)
            if note:
                note(f"{entry.interface} has {mac} {bytes(entry.device_info)[:300].decode('utf-8', 'replace')}")
        elif infiniband_address(entry.mac):
            if note:
                note(f"{entry.interface}: {entry.mac} is an InfiniBand address, on no Ethernet switch")
        else:
            problem = f"network-status annotation: mac {entry.mac[:64]!r} is not an Ethernet address"
    return tuple(sorted(macs)), problem


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A pod, understood. `owner` is its controller's uid if that is of a job kind, else None.

    `slot` names its place in the job where the operator numbers places; `ran_from` and `finished` are its
    containers' earliest start and latest finish. `claims` are names of ResourceClaims in its namespace.
    """

    uid: str
    namespace: str
    name: str
    owner: str | None
    phase: str
    node: str
    host_network: bool
    deleting: bool
    created: datetime | None
    started: datetime | None
    ran_from: datetime | None
    finished: datetime | None
    slot: str
    macs: tuple[str, ...]
    claims: tuple[str, ...]
    problem: str


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A ResourceClaim, understood: the MACs of its devices and the (uid, name) of pods it is reserved for."""

    uid: str
    namespace: str
    name: str
    macs: tuple[str, ...]
    reserved_for: tuple[tuple[str, str], ...]
    problem: str


def read_pod(registry: Registry, raw: bytes | msgspec.Raw, note: Note = None) -> Pod:
    """Understand one pod. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = POD.decode(raw)
    meta, spec, status = found.metadata, found.spec, found.status or PodStatus()
    owner = meta.controller()
    uid = owner.uid if owner is not None and (owner.group, owner.kind) in registry else None
    macs: tuple[str, ...] = ()
    problem = slot = ""
    if uid is not None and (notes := meta.annotations):
        named = note and (lambda what: note(f"pod {meta.namespace}/{meta.name}: {what}"))
        macs, problem = multus_macs(notes.network_status or notes.networks_status, named)
        index = notes.completion_index or notes.volcano_index
        slot = f"{notes.volcano_task or ''}/{index}" if index else ""
    if not slot and (labels := meta.labels) and labels.replica_index:
        slot = f"{labels.replica_type or ''}/{labels.replica_index}"
    runs = [
        run
        for container in status.container_statuses or ()
        if (state := container.state) and (run := state.running or state.terminated)
    ]
    ties = [
        *((spec.resource_claims if spec else None) or ()),
        *(status.resource_claim_statuses or ()),
        *([status.extended_resource_claim_status] if status.extended_resource_claim_status else ()),
    ]
    return Pod(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        owner=uid,
        phase=status.phase,
        node=spec.node_name if spec else "",
        host_network=bool(spec and spec.host_network),
        deleting=meta.deletion_timestamp is not None,
        created=known_time(meta.creation_timestamp),
        started=known_time(status.start_time),
        ran_from=min((at for run in runs if (at := known_time(run.started_at))), default=None),
        finished=max((at for run in runs if (at := known_time(run.finished_at))), default=None),
        slot=slot,
        macs=macs,
        claims=tuple(sorted({tie.resource_claim_name for tie in ties if tie.resource_claim_name})),
        problem=problem,
    )


def read_claim(raw: bytes | msgspec.Raw, note: Note = None) -> Claim:
    """Understand one ResourceClaim. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = CLAIM.decode(raw)
    status = found.status
    macs = set()
    problem = ""
    for device in (status.devices if status else None) or ():
        address = device.network_data.hardware_address if device.network_data else None
        if not address:
            continue
        if mac := ethernet_mac(address):
            macs.add(mac)
        elif infiniband_address(address):
            if note:
                where = f"claim {found.metadata.namespace}/{found.metadata.name}"
                note(f"{where}: {address} is an InfiniBand address, on no Ethernet switch")
        else:
            problem = f"status.devices: hardwareAddress {address[:64]!r} is not an Ethernet address"
    return Claim(
        uid=found.metadata.uid,
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        macs=tuple(sorted(macs)),
        reserved_for=tuple(
            (user.uid, user.name) for user in (status.reserved_for if status else None) or () if user.resource == "pods"
        ),
        problem=problem,
    )
