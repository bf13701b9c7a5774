"""JobReport and NodeReport as they go over the wire; their CRDs describe every field."""

from typing import Annotated, Generic, Literal, TypeVar

import msgspec

from cvji.kube.objects import Time

NAME_LIMIT = 253  # characters of an object's name (RFC 1123 subdomain, as the API server checks it)

SpecT = TypeVar("SpecT", bound="JobSpec | NodeSpec")
StateName = Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LIMIT)]
_MacText = Annotated[str, msgspec.Meta(max_length=17)]


class _Wire(msgspec.Struct, rename="camel", frozen=True, gc=False, omit_defaults=True):
    """Read and written: unknown fields are skipped, absent ones stay absent."""


class Job(_Wire, frozen=True):
    """`spec.job`: the job's object."""

    name: _Name
    kind: _Name
    uid: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    namespace: Annotated[str, msgspec.Meta(max_length=NAME_LIMIT)] = ""
    group: Annotated[str, msgspec.Meta(max_length=NAME_LIMIT)] = ""


class JobSpec(_Wire, frozen=True):
    """`spec` of a JobReport; the CRD describes each field."""

    job: Job
    run: Annotated[int, msgspec.Meta(ge=1)]
    state: StateName
    start_time: Time
    term: _Count
    end_time: Time | None = None
    location: _Text = ""
    interfaces: tuple[_MacText, ...] | None = None
    interface_count: int | None = None
    nodes: tuple[_Name, ...] | None = None
    node_count: int | None = None
    kept: str = ""
    pods_created_after: Time | None = None
    last_container_finished: Time | None = None
    mode_changed: bool = False


class NodeNic(_Wire, frozen=True):
    """`spec.interfaces[]` of a NodeReport."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    mac: _MacText
    ips: tuple[Annotated[str, msgspec.Meta(max_length=1024)], ...] = ()


class NodeSpec(_Wire, frozen=True):
    """`spec` of a NodeReport; the CRD describes each field."""

    node: _Name
    term: _Count
    interface_count: int
    location: _Text = ""
    interfaces: tuple[NodeNic, ...] = ()


class Condition(_Wire, frozen=True):
    """metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: Time
    observed_generation: int = 0


class ReportStatus(_Wire, frozen=True):
    """`status` of both kinds."""

    observed_generation: int = 0
    delivered_time: Time | None = None
    conditions: tuple[Condition, ...] = ()


class ObjectMeta(_Wire, frozen=True):
    """What is read of metav1.ObjectMeta."""

    name: str
    namespace: str = ""
    resource_version: str = ""
    generation: int = 0


class WrittenMeta(ObjectMeta, frozen=True):
    """What is written of metav1.ObjectMeta."""

    labels: dict[str, str] | None = None


class ReportObject(_Wire, Generic[SpecT], frozen=True):
    """A JobReport or a NodeReport."""

    metadata: ObjectMeta
    spec: SpecT
    status: ReportStatus | None = None


class WrittenObject(_Wire, frozen=True):
    """An object as it is written: its spec, or its status."""

    api_version: str
    kind: str
    metadata: WrittenMeta
    spec: JobSpec | NodeSpec | None = None
    status: ReportStatus | None = None


class Term(_Wire, frozen=True):
    """The part of any spec that says who wrote it."""

    term: int = 0


class AnyReportObject(_Wire, frozen=True):
    """Either kind, read only for its version and term."""

    metadata: ObjectMeta
    spec: Term | None = None
