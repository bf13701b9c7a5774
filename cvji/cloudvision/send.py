"""Reports by hand: what tenant schedulers call, from Python or through `cvji jobconfig send`.

The same payloads, TLS, token, proxy and retry rules as the informer's, with the caller waiting for the outcome.
"""

import ipaddress
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

import msgspec

from cvji.backoff import backoff
from cvji.cloudvision.client import Client, Token, Verdict
from cvji.cloudvision.outbox import BACKOFF_FIRST, BACKOFF_MAX
from cvji.cloudvision.payloads import (
    TENANT,
    EntryKey,
    JobConfig,
    Request,
    Values,
    delete_node,
    node_config,
    post_job,
    post_node,
    rfc3339,
)
from cvji.jobs.report import JobState
from cvji.macs import ethernet_mac
from cvji.nodes.inventory import Nic, NodeReport
from cvji.settings import CloudVision, SettingsError, address

log = logging.getLogger(__name__)
TIMEOUT = 60.0  # seconds for a delivery, retries included


class InvalidReportError(ValueError):
    """The report itself is wrong; the message names the field and what would be right. Nothing was sent."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class DeliveryError(Exception):
    """CloudVision did not take the report. `status` is the last HTTP status, 0 if none came."""

    def __init__(self, message: str, status: int, attempts: int) -> None:
        super().__init__(message)
        self.status = status
        self.attempts = attempts


class NodeInterface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A NIC of a node, as a tenant's scheduler gives it."""

    name: str
    mac: str
    ips: tuple[str, ...] = ()


Time = str | datetime | None


def job_request(
    *,
    job_id: str,
    job_name: str,
    location: str,
    job_state: str,
    start_time: Time = None,
    end_time: Time = None,
    nodes: Iterable[str] | None = None,
    interfaces: Iterable[str] | None = None,
    tenant: bool = False,
    now: datetime,
) -> Request:
    """The call for one job; times default to `now`. Raises InvalidReportError."""
    state = _state(job_state)
    start = _time("start_time", start_time, now)
    end = None
    if state is not JobState.RUNNING:
        end = _time("end_time", end_time, max(now, start))
        if end < start:
            raise InvalidReportError("end_time", f"{end_time} is before the start, {start.isoformat()}")
    elif end_time is not None:
        raise InvalidReportError("end_time", "a RUNNING job has none; give COMPLETED, FAILED or CANCELLED")
    node_names, macs = _strings("nodes", nodes), _strings("interfaces", interfaces)
    if bool(node_names) == bool(macs):
        raise InvalidReportError("interfaces", "give either interfaces (MACs) or nodes, and at least one")
    interfaces_held = {_mac(f"interfaces[{n}]", mac) for n, mac in enumerate(macs)}
    config = JobConfig(
        key=EntryKey(_text("id", job_id)),
        name=_text("name", job_name),
        location=_text("location", location),
        state=state.value,
        start_time=rfc3339(start),
        end_time=rfc3339(end) if end else None,
        interfaces=Values(tuple(sorted(interfaces_held))) if macs else None,
        nodes=Values(tuple(sorted(set(node_names)))) if node_names else None,
        type=TENANT if tenant else None,
    )
    return post_job(config)


def node_request(*, node: str, location: str, interfaces: Iterable[NodeInterface]) -> Request:
    """The call for one node. Raises InvalidReportError."""
    nics = []
    for number, nic in enumerate(interfaces):
        where = f"interfaces[{number}]"
        ips = tuple(_address(f"{where}.ips", ip) for ip in nic.ips)
        nics.append(Nic(_text(f"{where}.name", nic.name), _mac(f"{where}.mac", nic.mac), ips))
    if not nics:
        raise InvalidReportError("interfaces", "give at least one; `nodeconfig delete` removes a node")
    report = NodeReport(_text("node", node), tuple(sorted(nics)))
    return post_node(node_config(report, location=_text("location", location)))


# What would break lines or colours where it is printed, and halves of characters, which have no encoding.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidReportError(field, f"must be text, not {type(value).__name__}")
    if not value.strip():
        raise InvalidReportError(field, "must not be empty")
    if _CONTROL.search(value.strip()):
        raise InvalidReportError(field, f"{value[:64]!r} holds control characters or is not valid text")
    return value.strip()


def node_removal(node: str) -> Request:
    """The call that removes one node. Raises InvalidReportError."""
    return delete_node(_text("node", node))


def _strings(field: str, values: Iterable[str] | None) -> list[str]:
    if isinstance(values, str) or not isinstance(values or (), Iterable):
        raise InvalidReportError(field, "must be a list of strings")
    return [_text(f"{field}[{number}]", value) for number, value in enumerate(values or ())]


def _mac(field: str, text: str) -> str:
    mac = ethernet_mac(text)
    if mac is None:
        raise InvalidReportError(field, f"{text[:64]!r} is not a MAC address such as 0c:42:a1:00:00:01")
    return mac


def _address(field: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidReportError(field, f"{text[:64]!r} is not an IP address") from None


def _state(text: str) -> JobState:
    try:
        return JobState["" if not isinstance(text, str) else text.strip().upper().removeprefix("JOB_STATE_")]
    except KeyError:
        known = ", ".join(state.name for state in JobState)
        raise InvalidReportError("state", f"{text!r} is unknown: it must be one of {known}") from None


def _time(field: str, value: Time, default: datetime) -> datetime:
    if value is None or value == "":
        return default
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        found = None
    if found is not None and found.tzinfo is not None:
        with suppress(OverflowError):  # the first and last hours of the calendar are not in every zone
            return found.astimezone(UTC)
    raise InvalidReportError(field, f"{value!r} is not a time such as 2026-01-31T12:00:00Z, zone included")


class CloudVisionClient:
    """Sends many reports over one kept-alive connection. Not for several threads at once.

    Its methods return how many attempts it took, and raise InvalidReportError or DeliveryError.
    """

    def __init__(
        self,
        api_server: str,
        api_token: str = "",
        *,
        api_token_file: str = "",
        api_ca_file: str = "",
        insecure: bool = False,
        timeout: float = TIMEOUT,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout` is seconds for each delivery with its retries. Raises settings.SettingsError."""
        for name, value in (("api_server", api_server), ("api_token", api_token)):
            if not isinstance(value, str):
                raise SettingsError(f"{name} must be text, not {type(value).__name__}")
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise SettingsError(f"timeout is {timeout!r}: it must be a number of seconds, more than 0")
        try:
            server = CloudVision(address(api_server), api_ca_file, insecure)
        except ValueError as err:
            raise SettingsError(f"api_server is {api_server!r}: it must be {err}") from None
        self._client = Client(server, Token(api_token, api_token_file), connections=1)
        self._timeout = timeout
        self._pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def send_jobconfig(
        self,
        *,
        job_id: str,
        job_name: str,
        location: str,
        job_state: str,
        start_time: Time = None,
        end_time: Time = None,
        nodes: Iterable[str] | None = None,
        interfaces: Iterable[str] | None = None,
        tenant: bool = False,
    ) -> int:
        """Report one job."""
        request = job_request(
            job_id=job_id,
            job_name=job_name,
            location=location,
            job_state=job_state,
            start_time=start_time,
            end_time=end_time,
            nodes=nodes,
            interfaces=interfaces,
            tenant=tenant,
            now=datetime.now(UTC).replace(microsecond=0),
        )
        return self.deliver(request)

    def send_nodeconfig(self, *, node: str, location: str, interfaces: Iterable[NodeInterface]) -> int:
        """Report one node's NICs."""
        return self.deliver(node_request(node=node, location=location, interfaces=interfaces))

    def delete_nodeconfig(self, node: str) -> int:
        """Remove one node."""
        return self.deliver(node_removal(node))

    def deliver(self, request: Request) -> int:
        """Send one request, again while CloudVision is away or busy. Raises DeliveryError."""
        deadline = time.monotonic() + self._timeout
        attempts = 0
        while True:
            answer = self._client.send(request, within=max(deadline - time.monotonic(), 0.1))
            attempts += 1
            if answer.verdict is Verdict.DELIVERED:
                return attempts
            wait = backoff(BACKOFF_FIRST, BACKOFF_MAX, attempts, random.random())  # noqa: S311
            wait = max(wait, answer.retry_after)
            retriable = answer.verdict in (Verdict.BUSY, Verdict.RETRY)
            if not retriable or time.monotonic() + wait > deadline:
                reason = answer.reason if answer.status else f"no answer: {answer.message}"
                raise DeliveryError(f"{request.about}: {reason}", answer.status, attempts)
            if attempts == 1:
                log.warning("%s: %s; trying again for %.0f s at most", request.about, answer.reason, self._timeout)
            self._pause(wait)


def send_jobconfig(
    api_server: str,
    api_token: str,
    job_id: str,
    job_name: str,
    location: str,
    job_state: str,
    start_time: Time = None,
    end_time: Time = None,
    nodes: Sequence[str] | None = None,
    interfaces: Sequence[str] | None = None,
    jobconfig_mode: str = "interface",
    isTenantJob: bool = False,  # noqa: N803  the name integrators use
    *,
    api_ca_file: str = "",
    timeout: float = TIMEOUT,
) -> bool:
    """Report one job; True if CloudVision took it. Why not is logged. `jobconfig_mode` chooses the list."""

    def send(client: CloudVisionClient) -> int:
        if jobconfig_mode not in ("interface", "node"):
            raise InvalidReportError("jobconfig_mode", f"{jobconfig_mode!r} must be interface or node")
        return client.send_jobconfig(
            job_id=job_id,
            job_name=job_name,
            location=location,
            job_state=job_state,
            start_time=start_time,
            end_time=end_time,
            nodes=nodes if jobconfig_mode == "node" else None,
            interfaces=interfaces if jobconfig_mode == "interface" else None,
            tenant=isTenantJob,
        )

    return _succeeds(send, api_server, api_token, api_ca_file, timeout)


def send_nodeconfig(
    api_server: str,
    api_token: str,
    node: str,
    location: str,
    interfaces: Iterable[NodeInterface],
    *,
    api_ca_file: str = "",
    timeout: float = TIMEOUT,
) -> bool:
    """Report one node's NICs; True if CloudVision took it. Why not is logged."""
    return _succeeds(
        lambda client: client.send_nodeconfig(node=node, location=location, interfaces=interfaces),
        api_server, api_token, api_ca_file, timeout,
    )  # fmt: skip


def delete_nodeconfig(
    api_server: str, api_token: str, node: str, *, api_ca_file: str = "", timeout: float = TIMEOUT
) -> bool:
    """Remove one node; True if CloudVision took it. Why not is logged."""
    return _succeeds(lambda client: client.delete_nodeconfig(node), api_server, api_token, api_ca_file, timeout)


def _succeeds(
    send: Callable[[CloudVisionClient], int],
    api_server: str,
    api_token: str,
    api_ca_file: str,
    timeout: float,
) -> bool:
    try:
        with CloudVisionClient(api_server, api_token, api_ca_file=api_ca_file, timeout=timeout) as client:
            send(client)
    except (InvalidReportError, DeliveryError, SettingsError) as err:
        log.error("not sent: %s", err)
        return False
    return True
