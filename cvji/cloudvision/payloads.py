"""The bodies that CloudVision's computejob/v1 API takes, and how reports become them.

Field names are the service's own. Knows no HTTP.
"""

from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from cvji.jobs.report import RunReport
from cvji.nodes.inventory import NodeReport

JOB_CONFIG = "/api/resources/computejob/v1/JobConfig"
NODE_CONFIG = "/api/resources/computejob/v1/NodeConfig"
TENANT = "JOB_TYPE_TENANT"


class EntryKey(msgspec.Struct, frozen=True):
    """What an entry is found by."""

    id: str = ""


class Values(msgspec.Struct, frozen=True):
    """The service's way of writing a list of strings."""

    values: tuple[str, ...] = ()


class JobConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """One job. Exactly one of `interfaces` and `nodes`; `end_time` in every state but RUNNING."""

    key: EntryKey
    name: str
    location: str
    state: str
    start_time: str
    end_time: str | None = None
    interfaces: Values | None = None
    nodes: Values | None = None
    type: str | None = None


class DataInterface(msgspec.Struct, frozen=True):
    """One NIC of a node. One without an address has `ip_addresses` with no values: Set keeps what is left out."""

    name: str
    mac_address: str
    ip_addresses: Values


class DataInterfaces(msgspec.Struct, frozen=True):
    """The service's way of writing a list of interfaces."""

    values: tuple[DataInterface, ...]


class NodeConfig(msgspec.Struct, frozen=True):
    """One node and its NICs."""

    key: EntryKey
    location: str
    hostname: str
    data_interfaces: DataInterfaces


class Request(msgspec.Struct, frozen=True):
    """One call of the API: what the outbox keeps and the client sends. `about` names it in logs."""

    method: str
    path: str
    body: bytes
    about: str


def request_line(request: Request) -> str:
    """The call as a line of JSON, for a dry run."""
    body = msgspec.Raw(request.body or b"null")
    return msgspec.json.encode({"method": request.method, "path": request.path, "body": body}).decode()


def rfc3339(time: datetime) -> str:
    """A time as the service takes it: UTC, with a Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def job_config(report: RunReport, *, location: str) -> JobConfig:
    """The payload for a run. After a change of JOBCONFIG_MODE the list of the other mode goes with it, empty: what a
    request leaves out keeps its value.
    """
    values, other = Values(report.holds.texts()), Values(()) if report.switched else None
    by_node = bool(report.holds.nodes)
    return JobConfig(
        key=EntryKey(report.id),
        name=report.name,
        location=location,
        state=report.state.value,
        start_time=rfc3339(datetime.fromtimestamp(report.start, UTC)),
        end_time=None if report.end is None else rfc3339(datetime.fromtimestamp(report.end, UTC)),
        interfaces=other if by_node else values,
        nodes=values if by_node else other,
    )


def node_config(report: NodeReport, *, location: str) -> NodeConfig:
    """The payload for a node that has NICs."""
    nics = tuple(DataInterface(nic.name, nic.mac, Values(nic.ips)) for nic in report.nics)
    return NodeConfig(EntryKey(report.node), location, report.node, DataInterfaces(nics))


def post_job(config: JobConfig) -> Request:
    """The call that sets a job's entry."""
    about = f"job {config.name} ({config.key.id}) {config.state.removeprefix('JOB_STATE_')}"
    return Request("POST", JOB_CONFIG, msgspec.json.encode(config), about)


def post_node(config: NodeConfig) -> Request:
    """The call that sets a node's entry."""
    return Request("POST", NODE_CONFIG, msgspec.json.encode(config), f"node {config.hostname}")


def delete_node(name: str) -> Request:
    """The call that removes a node's entry."""
    return Request("DELETE", f"{NODE_CONFIG}?key.id={quote(name, safe='')}", b"", f"removal of node {name}")
