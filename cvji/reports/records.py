"""The structs of JobReport and NodeReport as they go over the wire, and how reports become them and come back.

Pure. What is read back is untrusted: anybody with permission can edit an object by hand.
"""

import enum
import hashlib
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import cast

import msgspec

from cvji.jobs.report import NOTHING, Holds, JobState, Key, KindName, RunReport
from cvji.kube.events import Resource
from cvji.macs import SIZE, pack, split
from cvji.nodes.inventory import Nic, NodeReport
from cvji.reports.objects import (
    NAME_LIMIT,
    AnyReportObject,
    Condition,
    Job,
    JobSpec,
    NodeNic,
    NodeSpec,
    ReportObject,
    ReportStatus,
    StateName,
    WrittenMeta,
    WrittenObject,
)

GROUP = "cloudvision.arista.io"
LABELS = {"app": "cv-job-informer", "app.kubernetes.io/name": "cvji", "app.kubernetes.io/component": "report"}
MESSAGE_LIMIT = 1024  # characters of CloudVision's words that a status keeps
DELIVERED = "Delivered"

RESOURCES: dict[KindName, Resource] = {
    "job": Resource(GROUP, "v1", "JobReport", "jobreports"),
    "node": Resource(GROUP, "v1", "NodeReport", "nodereports"),
}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One report under its key. `revision` counts up, so that nothing is compared by identity or content."""

    key: Key
    revision: int
    report: RunReport | NodeReport


class Reason(enum.Enum):
    """Why a report is delivered or not: the reason of the condition Delivered."""

    ACCEPTED = "Accepted"
    PENDING = "Pending"
    UNREACHABLE = "Unreachable"
    REFUSED = "Refused"


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """What is known of a report's delivery, since `at` (seconds since the epoch). `message` is CloudVision's."""

    reason: Reason
    at: int
    message: str = ""

    @property
    def accepted(self) -> bool:
        """Whether CloudVision holds the report."""
        return self.reason is Reason.ACCEPTED


class Status(msgspec.Struct, frozen=True, gc=False):
    """What an object's status says.

    `since` is when its condition became True or False, `delivered_at` when CloudVision first accepted the newest spec
    that it has accepted (0: none); seconds since the epoch.
    """

    delivery: Delivery
    since: int
    delivered_at: int = 0

    def followed_by(self, newer: Delivery) -> "Status":
        """The status once `newer` is known."""
        since = self.since if self.delivery.accepted == newer.accepted else newer.at
        return Status(newer, since, newer.at if newer.accepted else self.delivered_at)


def first_status(delivery: Delivery) -> Status:
    """The status of an object that has had none."""
    return Status(delivery, delivery.at, delivery.at if delivery.accepted else 0)


class RecordError(Exception):
    """An object does not hold a report that can be used. The message names the object and the field."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What an object in the cluster says about itself, whatever its report looks like."""

    name: str
    version: str
    generation: int
    term: int


class ListedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record read from the cluster.

    `delivered` says that CloudVision was known to hold exactly this. `changed` says that the object is not what this
    process wrote or listed last: somebody has edited it. `location` is the LOCATION that it was written with.
    """

    record: Record
    stored: Stored
    delivered: bool
    status: Status | None
    location: str
    changed: bool = False

    @property
    def reason(self) -> Reason:
        """Why it is delivered or not: Pending where nothing is known yet of its newest spec."""
        found = self.status.delivery.reason if self.status else Reason.PENDING
        return Reason.PENDING if found is Reason.ACCEPTED and not self.delivered else found


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """An object that holds no usable report; `error` names the object and the field."""

    kind: KindName
    stored: Stored
    error: str


# --- names --------------------------------------------------------------------------------------------------

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_HASHED = re.compile(r"sha256-[0-9a-f]{64}", re.ASCII)


def object_name(text: str) -> str:
    """The name of the object for a run's id or a node's name: the same where Kubernetes allows that, else its hash.

    No two texts share a name, as a text that looks like such a hash is hashed too.
    """
    if len(text) <= NAME_LIMIT and _SUBDOMAIN.fullmatch(text) and not _HASHED.fullmatch(text):
        return text
    return f"sha256-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


# --- reports become objects -----------------------------------------------------------------------------------


def spec_of(report: RunReport | NodeReport, *, location: str, term: int) -> JobSpec | NodeSpec:
    """The spec that holds a report."""
    if isinstance(report, NodeReport):
        nics = tuple(NodeNic(nic.name, nic.mac, nic.ips) for nic in report.nics)
        return NodeSpec(report.node, term, len(nics), location, nics)
    group, _, kind = report.kind.rpartition("/")
    held = report.holds.texts()
    by_node = bool(report.holds.nodes)
    return JobSpec(
        job=Job(report.name, kind, report.job, report.namespace, group),
        run=report.run,
        state=cast("StateName", report.state.name),
        start_time=_time(report.start),
        term=term,
        end_time=None if report.end is None else _time(report.end),
        location=location,
        interfaces=None if by_node else held,
        interface_count=None if by_node else len(held),
        nodes=held if by_node else None,
        node_count=len(held) if by_node else None,
        kept=_positions(report.holds, report.kept),
        pods_created_after=_time(report.newest) if report.newest else None,
        last_container_finished=_time(report.finished) if report.finished else None,
        mode_changed=report.switched,
    )


def write_spec(record: Record, namespace: str, version: str, *, location: str, term: int) -> bytes:
    """The body that creates the object (`version` empty), or replaces its spec if it still has that resourceVersion."""
    kind, name = record.key
    meta = WrittenMeta(object_name(name), namespace, version, labels=LABELS)
    spec = spec_of(record.report, location=location, term=term)
    return msgspec.json.encode(WrittenObject(RESOURCES[kind].api_version, RESOURCES[kind].kind, meta, spec=spec))


def write_status(key: Key, namespace: str, version: str, generation: int, status: Status) -> bytes:
    """The body that replaces the object's status, if it still has that resourceVersion."""
    kind, name = key
    delivery = status.delivery
    condition = Condition(
        type=DELIVERED,
        status="True" if delivery.accepted else "False",
        reason=delivery.reason.value,
        message=delivery.message[:MESSAGE_LIMIT],
        last_transition_time=_time(status.since),
        observed_generation=generation,
    )
    delivered_time = _time(status.delivered_at) if status.delivered_at else None
    written = ReportStatus(generation, delivered_time, (condition,))
    meta = WrittenMeta(object_name(name), namespace, version)
    return msgspec.json.encode(WrittenObject(RESOURCES[kind].api_version, RESOURCES[kind].kind, meta, status=written))


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _positions(holds: Holds, kept: Holds) -> str:
    """Where the parts of `kept` stand in `holds`, as in 0-7,12; a second list would double the largest objects."""
    wanted: set[bytes] | set[str] = set(kept.nodes) if holds.nodes else set(split(kept.macs))
    if not wanted:
        return ""
    places = [place for place, part in enumerate(holds.nodes or split(holds.macs)) if part in wanted]
    breaks = [0, *(at for at, (low, high) in enumerate(pairwise(places), 1) if high != low + 1), len(places)]
    runs = [(places[start], places[end - 1]) for start, end in pairwise(breaks) if start < end]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


# --- and come back --------------------------------------------------------------------------------------------

_JOB = msgspec.json.Decoder(ReportObject[JobSpec])
_NODE = msgspec.json.Decoder(ReportObject[NodeSpec])
_VERSION = msgspec.json.Decoder(AnyReportObject)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII)
_MACS = re.compile(r"(?:[0-9a-f]{2}(?::[0-9a-f]{2}){5} )*", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", re.ASCII)
_UNDELIVERED = (Reason.UNREACHABLE, Reason.REFUSED)
_ZERO = "00:00:00:00:00:00"


def read_stored(body: bytes | msgspec.Raw) -> Stored:
    """What any object says about itself. Raises RecordError."""
    try:
        found = _VERSION.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        raise RecordError(f"an object that cannot be read: {err}") from None
    meta = found.metadata
    return Stored(meta.name, meta.resource_version, meta.generation, found.spec.term if found.spec else 0)


def read(kind: KindName, body: bytes | msgspec.Raw) -> ListedRecord:
    """The record, of revision 0, that an object holds. Raises RecordError."""
    try:
        found: ReportObject[JobSpec] | ReportObject[NodeSpec] = (_JOB if kind == "job" else _NODE).decode(body)
        report = _run_report(found.spec) if isinstance(found.spec, JobSpec) else _node_report(found.spec)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError, _FieldError) as err:
        raise RecordError(f"{RESOURCES[kind].kind} {_name(body)}: {err}") from None
    key: Key = (kind, report.node if isinstance(report, NodeReport) else report.id)
    if object_name(key[1]) != found.metadata.name:
        title = f"{RESOURCES[kind].kind} {found.metadata.name}"
        raise RecordError(f"{title}: its spec belongs to {object_name(key[1])} (metadata.name)")
    meta = found.metadata
    stored = Stored(meta.name, meta.resource_version, meta.generation, found.spec.term)
    status = _status(found.status)
    observed = found.status.observed_generation if found.status else 0
    delivered = status is not None and status.delivery.accepted and observed == meta.generation
    return ListedRecord(Record(key, 0, report), stored, delivered, status, found.spec.location)


def read_any(kind: KindName, body: bytes | msgspec.Raw) -> ListedRecord | Unreadable:
    """The record that an object holds, or why it holds none."""
    try:
        return read(kind, body)
    except RecordError as err:
        error = str(err)
    try:
        return Unreadable(kind, read_stored(body), error)
    except RecordError:
        return Unreadable(kind, Stored("", "", 0, 0), error)


def _name(body: bytes | msgspec.Raw) -> str:
    try:
        return read_stored(body).name
    except RecordError:
        return "without a readable name"


class _FieldError(Exception):
    """What is wrong, and with which field."""


def _run_report(spec: JobSpec) -> RunReport:
    state = JobState[spec.state]
    if (spec.end_time is None) != (state is JobState.RUNNING):
        raise _FieldError(f"spec.endTime does not go with the state {spec.state}")
    if bool(spec.interfaces) == bool(spec.nodes):
        raise _FieldError("spec.interfaces or spec.nodes: exactly one of them must be there")
    if spec.interfaces:
        holds = Holds(macs=_packed(spec.interfaces, "spec.interfaces"))
    else:
        holds = Holds(nodes=tuple(sorted(set(spec.nodes or ()))))
    return RunReport(
        job=sys.intern(spec.job.uid),  # the texts that pods and jobs have too are kept once
        run=spec.run,
        name=spec.job.name,
        namespace=sys.intern(spec.job.namespace),
        kind=sys.intern(f"{spec.job.group}/{spec.job.kind}"),
        state=state,
        start=int(spec.start_time.timestamp()),
        end=None if spec.end_time is None else int(spec.end_time.timestamp()),
        holds=holds,
        kept=_at_positions(holds, spec.kept),
        newest=_seconds(spec.pods_created_after),
        finished=_seconds(spec.last_container_finished),
        switched=spec.mode_changed,
    )


def _node_report(spec: NodeSpec) -> NodeReport:
    _check_macs([nic.mac for nic in spec.interfaces], "spec.interfaces", ".mac")
    return NodeReport(spec.node, tuple(sorted(Nic(nic.name, nic.mac, nic.ips) for nic in spec.interfaces)))


def _packed(macs: Sequence[str], field: str) -> bytes:
    _check_macs(macs, field)
    return pack(macs)


def _check_macs(macs: Sequence[str], field: str, part: str = "") -> None:
    """One match for all of them: a takeover reads a million."""
    if _MACS.fullmatch("".join(f"{mac} " for mac in macs)) and _ZERO not in macs:
        return
    for place, mac in enumerate(macs):
        if not _MAC.fullmatch(mac) or mac == _ZERO:
            raise _FieldError(f"{field}[{place}]{part} is no MAC address: {mac!r}")


def _at_positions(holds: Holds, text: str) -> Holds:
    """What `_positions` has written."""
    if not text:
        return NOTHING
    parts: list[str] = []
    macs: list[bytes] = []
    reach = 0
    for piece in text.split(","):
        found = _RANGE.fullmatch(piece)
        low = int(found[1]) if found else -1
        high = int(found[2] or low) if found else -1
        if not reach <= low <= high < len(holds):  # ascending, so that nothing is taken twice
            raise _FieldError(
                f"spec.kept: {piece[:20]!r} is no position among {len(holds)} that follows the one before"
            )
        reach = high + 1
        parts += holds.nodes[low:reach]
        macs.append(holds.macs[low * SIZE : reach * SIZE])
    return Holds(b"".join(macs), tuple(parts))


def _seconds(time: datetime | None) -> int:
    return 0 if time is None else int(time.timestamp())


def _status(status: ReportStatus | None) -> Status | None:
    conditions = status.conditions if status else ()
    found = next((condition for condition in conditions if condition.type == DELIVERED), None)
    if status is None or found is None:
        return None
    since, delivered_at = _seconds(found.last_transition_time), _seconds(status.delivered_time)
    if found.status == "True":
        return Status(Delivery(Reason.ACCEPTED, delivered_at or since), since, delivered_at or since)
    reason = next((reason for reason in _UNDELIVERED if reason.value == found.reason), Reason.PENDING)
    return Status(Delivery(reason, since, found.message[:MESSAGE_LIMIT]), since, delivered_at)
