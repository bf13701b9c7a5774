"""Kubernetes objects as they come over the wire: structs holding only the fields that are used.

Unknown fields are skipped by the decoder, so a 7 kB pod costs about a kilobyte. Every bound here
is the API server's own or wider: a value outside it is not an object we should trust.
"""

import re
from collections.abc import Container
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Generic, TypeVar

import msgspec

# Names are DNS subdomains (253) and uids are UUIDs (36); 128 leaves room for other writers.
Uid = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Short = Annotated[str, msgspec.Meta(max_length=1024)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Wire(msgspec.Struct, rename="camel", gc=False):
    """Base of everything read from the API: camelCase names, unknown fields skipped, no cycles to collect."""


class OwnerReference(Wire):
    """metav1.OwnerReference: at most one per object has `controller` true."""

    uid: Uid
    kind: Short = ""
    api_version: Short = ""
    controller: bool | None = None

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]


class Metadata(Wire):
    """metav1.ObjectMeta."""

    name: Name
    uid: Uid
    namespace: Annotated[str, msgspec.Meta(max_length=253)] = ""
    resource_version: Short = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    owner_references: list[OwnerReference] | None = None

    def owner(self, known: Container[tuple[str, str]]) -> OwnerReference | None:
        """The owner that manages this object, if it is of a known kind (group, kind).

        That is the controller; where no owner is marked as such, the first one of a known kind.
        """
        owners = self.owner_references or ()
        controller = next((owner for owner in owners if owner.controller), None)
        if controller is not None:
            return controller if (controller.group, controller.kind) in known else None
        return next((owner for owner in owners if (owner.group, owner.kind) in known), None)


class Identity(Wire):
    """The least that names an object; read first, so that a bad field elsewhere can be reported by name."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    resource_version: str = ""


class Identified(Wire):
    """Any object, read for its identity only."""

    metadata: Identity | None = None


# --- pods -------------------------------------------------------------------------------------------


class PodAnnotations(msgspec.Struct, gc=False):
    """The annotations that are read; every other one is skipped without being kept."""

    network_status: str | None = msgspec.field(name="k8s.v1.cni.cncf.io/network-status", default=None)
    networks_status: str | None = msgspec.field(name="k8s.v1.cni.cncf.io/networks-status", default=None)
    completion_index: str | None = msgspec.field(name="batch.kubernetes.io/job-completion-index", default=None)
    volcano_index: str | None = msgspec.field(name="volcano.sh/task-index", default=None)
    volcano_task: str | None = msgspec.field(name="volcano.sh/task-spec", default=None)


class PodLabels(msgspec.Struct, gc=False):
    """The labels by which operators number the replicas of a job."""

    replica_type: str | None = msgspec.field(name="training.kubeflow.org/replica-type", default=None)
    replica_index: str | None = msgspec.field(name="training.kubeflow.org/replica-index", default=None)


class PodMetadata(Metadata):
    """ObjectMeta of a pod, with the annotations and labels that are read."""

    annotations: PodAnnotations | None = None
    labels: PodLabels | None = None


class PodResourceClaim(Wire):
    """core/v1 PodResourceClaim and PodResourceClaimStatus: both name a claim in this field, or not yet."""

    resource_claim_name: Annotated[str, msgspec.Meta(max_length=253)] | None = None


class PodSpec(Wire):
    """core/v1 PodSpec."""

    node_name: Annotated[str, msgspec.Meta(max_length=253)] = ""
    host_network: bool = False
    resource_claims: list[PodResourceClaim] | None = None


class ContainerRun(Wire):
    """core/v1 ContainerStateRunning and ContainerStateTerminated."""

    started_at: Time | None = None
    finished_at: Time | None = None


class ContainerState(Wire):
    """core/v1 ContainerState."""

    running: ContainerRun | None = None
    terminated: ContainerRun | None = None


class ContainerStatus(Wire):
    """core/v1 ContainerStatus."""

    state: ContainerState | None = None


class PodStatus(Wire):
    """core/v1 PodStatus."""

    phase: Short = ""
    start_time: Time | None = None
    container_statuses: list[ContainerStatus] | None = None
    resource_claim_statuses: list[PodResourceClaim] | None = None
    extended_resource_claim_status: PodResourceClaim | None = None


class PodObject(Wire):
    """core/v1 Pod."""

    metadata: PodMetadata
    spec: PodSpec | None = None
    status: PodStatus | None = None


# --- DRA --------------------------------------------------------------------------------------------


class ClaimConsumer(Wire):
    """resource.k8s.io ResourceClaimConsumerReference; `resource` is a plural, such as `pods`."""

    resource: Short = ""
    name: Short = ""
    uid: Short = ""


class NetworkData(Wire):
    """resource.k8s.io NetworkDeviceData (KEP-4817)."""

    hardware_address: str | None = None


class ClaimDevice(Wire):
    """resource.k8s.io AllocatedDeviceStatus; GPUs carry no network data."""

    driver: Short = ""
    pool: Short = ""
    device: Short = ""
    network_data: NetworkData | None = None


class ExactRequest(Wire):
    """resource.k8s.io ExactDeviceRequest."""

    admin_access: bool | None = None


class ClaimRequest(Wire):
    """resource.k8s.io DeviceRequest: `exactly` from v1beta2 on, adminAccess of its own before (KEP-5018)."""

    name: Short = ""
    admin_access: bool | None = None
    exactly: ExactRequest | None = None


class ClaimRequests(Wire):
    """resource.k8s.io DeviceClaim."""

    requests: list[ClaimRequest] | None = None


class ClaimSpec(Wire):
    """resource.k8s.io ResourceClaimSpec."""

    devices: ClaimRequests | None = None


class ClaimResult(Wire):
    """resource.k8s.io DeviceRequestAllocationResult; `request` may name a subrequest after a slash."""

    request: Short = ""
    driver: Short = ""
    pool: Short = ""
    device: Short = ""
    admin_access: bool | None = None


class ClaimResults(Wire):
    """resource.k8s.io DeviceAllocationResult."""

    results: list[ClaimResult] | None = None


class ClaimAllocation(Wire):
    """resource.k8s.io AllocationResult."""

    devices: ClaimResults | None = None


class ClaimStatus(Wire):
    """resource.k8s.io ResourceClaimStatus; the fields used have one shape from v1alpha3 to v1."""

    allocation: ClaimAllocation | None = None
    reserved_for: list[ClaimConsumer] | None = None
    devices: list[ClaimDevice] | None = None


class ClaimObject(Wire):
    """resource.k8s.io ResourceClaim."""

    metadata: Metadata
    spec: ClaimSpec | None = None
    status: ClaimStatus | None = None


# --- job kinds --------------------------------------------------------------------------------------


class RunPolicy(Wire):
    """kubeflow.org RunPolicy."""

    suspend: bool | None = None


class JobSpec(Wire):
    """What every job kind's spec may say about being suspended (Kueue uses exactly these two)."""

    suspend: bool | None = None
    run_policy: RunPolicy | None = None


class Condition(Wire):
    """A status condition."""

    type: Short = ""
    status: Short = ""
    last_transition_time: Time | None = None


StatusT = TypeVar("StatusT")


class JobObject(Wire, Generic[StatusT]):
    """An object of a job kind, its status read in the way of its operator."""

    metadata: Metadata
    spec: JobSpec | None = None
    status: StatusT | None = None


# --- lists, watches, errors -------------------------------------------------------------------------


class ListMetadata(Wire):
    """metav1.ListMeta. (`continue` is a word of Python's.)"""

    resource_version: str = ""
    continue_: str | None = msgspec.field(name="continue", default=None)


class ObjectList(Wire):
    """One page of a list; items are decoded one by one, so that one bad object costs only itself."""

    metadata: ListMetadata
    items: list[msgspec.Raw] | None = None


class WatchEvent(Wire):
    """metav1.WatchEvent: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


class Cause(Wire):
    """metav1.StatusCause: `reason` is its CauseType."""

    reason: str | None = None


class StatusDetails(Wire):
    """metav1.StatusDetails."""

    causes: list[Cause] | None = None


class Status(Wire):
    """metav1.Status, the body of every API error and the object of a watch's ERROR event."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: StatusDetails | None = None


class GroupVersion(Wire):
    """One served version of a group."""

    version: str


class ApiGroup(Wire):
    """metav1.APIGroup."""

    name: str
    versions: list[GroupVersion]
    preferred_version: GroupVersion | None = None


class ApiGroupList(Wire):
    """Body of GET /apis."""

    groups: list[ApiGroup]


class ApiResource(Wire):
    """metav1.APIResource; a `/` in the name marks a subresource."""

    name: str
    kind: str
    namespaced: bool = True


class ApiResourceList(Wire):
    """Body of GET /apis/GROUP/VERSION."""

    resources: list[ApiResource]


# 2001-01-01: no cluster is older. containerd writes 1970 for a container that never started (StartError), and Go's
# zero time, the year 1, means "not set".
_NO_TIME_BEFORE = datetime(2001, 1, 1, tzinfo=UTC)
_CALENDAR_END = 253402300800  # 10000-01-01 in seconds since the epoch; 9999-12-31T23:59:59-01:00 is beyond


@lru_cache(1024)  # the pods of a gang share their seconds, and as a number of its own each takes 32 bytes
def known_time(value: datetime | None) -> int | None:
    """`value` in whole seconds since the epoch; None for a time that means "not set", and where the calendar ends."""
    if value is None or value < _NO_TIME_BEFORE:
        return None
    seconds = int(value.timestamp())
    return seconds if seconds < _CALENDAR_END else None


# Nothing that is read lies deeper than a dozen levels.
DEPTH = 100
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{}]', re.DOTALL)


def shallow(body: bytes) -> bytes:
    """JSON with null in place of whatever lies deeper than DEPTH.

    The API server takes 10,000 levels (encoding/json, maxNestingDepth), the decoder about 1,000: anybody who may
    write an object with free-form fields could otherwise make its whole kind unreadable.
    """
    kept, level, start = [], 0, 0
    for token in _TOKENS.finditer(body):
        if token[0] in (b"[", b"{"):
            level += 1
            if level == DEPTH + 1:
                kept += [body[start : token.start()], b"null"]
        elif token[0] in (b"]", b"}"):
            level -= 1
            if level == DEPTH:
                start = token.end()
    if level <= DEPTH:
        kept.append(body[start:])
    return b"".join(kept)
