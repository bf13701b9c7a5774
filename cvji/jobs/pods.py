"""Pods, understood: what the rules about jobs need of a pod, in as little memory as possible.

Turns wire objects into the records that the cluster's index keeps. Knows no job and no time.
"""

import enum
import sys

import msgspec

from cvji.jobs.attachments import Note, multus_macs
from cvji.jobs.kinds import Registry
from cvji.kube.objects import PodObject, PodStatus, known_time
from cvji.macs import pack

_POD = msgspec.json.Decoder(PodObject)


class Stage(enum.Enum):
    """How far a pod has come. Only RUNNING holds NICs; SUCCEEDED counts on in its job's run."""

    PENDING = enum.auto()
    RUNNING = enum.auto()
    SUCCEEDED = enum.auto()  # by itself
    FAILED = enum.auto()
    RELEASED = enum.auto()  # it exited with 0 because it was deleted: the kubelet writes Succeeded all the same


# Unknown: the node is lost, and what ran on it may still run.
_STAGES = {
    "Running": Stage.RUNNING,
    "Unknown": Stage.RUNNING,
    "Succeeded": Stage.SUCCEEDED,
    "Failed": Stage.FAILED,
}


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A pod, understood. Times are seconds since the epoch.

    `owner` is the uid of the object that manages it, if that is of a job kind or a pod. `deleting` says that its
    deletion was requested. `created` is the API server's clock; `started`, `ran_from` (its containers' earliest start)
    and `finished` (their latest finish, once it has ended) are the node's. `slot` names its place in the job where the
    operator numbers places. `macs` are packed and come from its annotation; `claims` are names of ResourceClaims in its
    namespace.
    """

    uid: str
    namespace: str
    name: str
    owner: str | None
    stage: Stage
    node: str
    host_network: bool
    deleting: bool
    created: int
    started: int | None
    ran_from: int | None
    finished: int | None
    slot: str
    macs: bytes
    claims: tuple[str, ...]
    problem: str

    @property
    def ran(self) -> bool:
        """Whether its containers ever started. A status without container statuses is believed by its phase."""
        return self.ran_from is not None or self.stage in (Stage.RUNNING, Stage.SUCCEEDED)


def read_pod(registry: Registry, raw: bytes | msgspec.Raw, note: Note = None) -> Pod:
    """Understand one pod. Raises msgspec.ValidationError or msgspec.DecodeError."""
    found = _POD.decode(raw)
    meta, spec, status = found.metadata, found.spec, found.status or PodStatus()
    owner = meta.owner(registry.owners)
    macs: tuple[str, ...] = ()
    problem = slot = ""
    if owner is not None and (notes := meta.annotations):
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
    stage = _STAGES.get(status.phase, Stage.PENDING)
    deleting = meta.deletion_timestamp is not None
    # A pod that has ended is deleted with a grace period of 0 (registry/core/pod/strategy.go, CheckGracefulDelete):
    # where there is one, the deletion was requested before.
    if stage is Stage.SUCCEEDED and deleting and meta.deletion_grace_period_seconds:
        stage = Stage.RELEASED
    ran_from = min((at for run in runs if (at := known_time(run.started_at))), default=None)
    finished = max((at for run in runs if (at := known_time(run.finished_at))), default=None)
    return Pod(
        uid=meta.uid,
        namespace=sys.intern(meta.namespace),
        name=meta.name,
        owner=sys.intern(owner.uid) if owner else None,
        stage=stage,
        node=sys.intern(spec.node_name) if spec else "",
        host_network=bool(spec and spec.host_network),
        deleting=deleting,
        created=known_time(meta.creation_timestamp) or 0,
        started=known_time(status.start_time) or ran_from,
        ran_from=ran_from,
        finished=None if stage in (Stage.PENDING, Stage.RUNNING) else finished,
        slot=sys.intern(slot),
        macs=pack(macs),
        claims=tuple(sorted({tie.resource_claim_name for tie in ties if tie.resource_claim_name})),
        problem=problem,
    )
