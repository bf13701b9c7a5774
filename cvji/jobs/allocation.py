"""Which NICs a pod holds: its Multus annotation, its ResourceClaims, or its node's NICs.

Turns wire objects into the compact records the tracker keeps. Knows no job and no time.
"""

from datetime import datetime

import msgspec

from cvji.jobs.attachments import Note, claim_macs, multus_macs
from cvji.jobs.kinds import Registry
from cvji.kube.objects import ClaimObject, PodObject, PodStatus, known_time

POD = msgspec.json.Decoder(PodObject)
CLAIM = msgspec.json.Decoder(ClaimObject)


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
    where = f"claim {found.metadata.namespace}/{found.metadata.name}"
    macs, problem = claim_macs(found, note and (lambda what: note(f"{where}: {what}")))
    return Claim(
        uid=found.metadata.uid,
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        macs=macs,
        reserved_for=tuple(
            (user.uid, user.name) for user in (status.reserved_for if status else None) or () if user.resource == "pods"
        ),
        problem=problem,
    )
