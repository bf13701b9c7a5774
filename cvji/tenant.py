"""`cvji jobconfig send` and `cvji nodeconfig send|delete`: reports from flags or JSON documents. Wiring only."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec

from cvji.cloudvision.payloads import Request, request_line
from cvji.cloudvision.send import (
    CloudVisionClient,
    DeliveryError,
    InvalidReportError,
    NodeInterface,
    job_request,
    node_removal,
    node_request,
)
from cvji.commands import JobSettings, NodeRemovalSettings, NodeSettings, SendSettings
from cvji.output import say, say_or_end
from cvji.settings import LogFormat, SettingsError

T = TypeVar("T")
INPUT_LIMIT = 64 * 1024 * 1024


class JobDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One job, as a document on stdin."""

    id: str
    name: str
    state: str
    location: str = ""
    start_time: str | None = None
    end_time: str | None = None
    nodes: list[str] | None = None
    interfaces: list[str] | None = None
    tenant: bool = False


class NodeDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node, as a document on stdin."""

    node: str
    interfaces: list[NodeInterface]
    location: str = ""


def documents(kind: type[T], file: str) -> list[T]:
    """The document or list of documents in a file, `-` for stdin. Raises SettingsError."""
    name = "stdin" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise SettingsError("stdin is closed: give flags, or a JSON document by --file")
    try:
        data = sys.stdin.buffer.read(INPUT_LIMIT + 1) if file == "-" else Path(file).read_bytes()
        if not data.strip():
            raise SettingsError(f"{name} is empty: give flags, a JSON document or a list of them")
        if len(data) > INPUT_LIMIT:
            raise SettingsError(f"{name} is over {INPUT_LIMIT >> 20} MiB: give fewer documents at a time")
        if data.lstrip().startswith(b"["):
            return msgspec.json.decode(data, type=list[kind])  # type: ignore[valid-type]
        return [msgspec.json.decode(data, type=kind)]
    except OSError as err:
        raise SettingsError(f"{name}: {err.strerror}") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        more = "; several documents go into one list, [{...}, {...}]" if "trailing" in str(err) else ""
        raise SettingsError(f"{name}: {err}{more}") from None


def send_jobs(settings: JobSettings) -> int:
    """`cvji jobconfig send`. Raises SettingsError. Returns the exit code."""
    given = (settings.id, settings.name, settings.state, settings.start_time, settings.end_time)
    found = _documents(JobDocument, settings.file, flags=any((*given, settings.node, settings.interface)))
    if found is None:
        if not settings.id or not settings.state:
            raise SettingsError("give --id, --state and --interface or --node, or a JSON document on stdin")
        found = [
            JobDocument(
                id=settings.id,
                name=settings.name or settings.id,
                state=settings.state,
                start_time=settings.start_time or None,
                end_time=settings.end_time or None,
                nodes=list(settings.node) or None,
                interfaces=list(settings.interface) or None,
            )
        ]
    now = datetime.now(UTC).replace(microsecond=0)
    requests = _each(
        found,
        lambda job: job_request(
            job_id=job.id,
            job_name=job.name,
            location=job.location or settings.location,
            job_state=job.state,
            start_time=job.start_time,
            end_time=job.end_time,
            nodes=job.nodes,
            interfaces=job.interfaces,
            tenant=job.tenant or settings.tenant,
            now=now,
        ),
    )
    return _send(settings, requests)


def send_nodes(settings: NodeSettings) -> int:
    """`cvji nodeconfig send`. Raises SettingsError. Returns the exit code."""
    found = _documents(NodeDocument, settings.file, flags=bool(settings.node or settings.interface))
    if found is None:
        found = [NodeDocument(settings.node, [_interface(text) for text in settings.interface])]
    requests = _each(
        found,
        lambda node: node_request(
            node=node.node, location=node.location or settings.location, interfaces=node.interfaces
        ),
    )
    return _send(settings, requests)


def delete_nodes(settings: NodeRemovalSettings) -> int:
    """`cvji nodeconfig delete`. Raises SettingsError. Returns the exit code."""
    return _send(settings, _each(settings.node, node_removal))


def _documents(kind: type[T], file: str, *, flags: bool) -> list[T] | None:
    """The documents given, or None where flags take their place."""
    if file and flags:
        raise SettingsError("give flags or a JSON document, not both")
    if not file and (flags or sys.stdin is None or sys.stdin.isatty()):
        return None
    return documents(kind, file or "-")


def _interface(text: str) -> NodeInterface:
    """A NIC as --interface has it: NAME=MAC[,IP...]."""
    name, equals, rest = text.partition("=")
    mac, *ips = rest.split(",")
    if not equals:
        raise SettingsError(f"--interface {text!r} must be NAME=MAC or NAME=MAC,IP")
    return NodeInterface(name, mac, tuple(ips))


def _each(found: Iterable[T], make: Callable[[T], Request]) -> list[Request]:
    items = list(found)
    requests = []
    for number, item in enumerate(items):
        try:
            requests.append(make(item))
        except InvalidReportError as err:
            where = f"document {number + 1}: " if len(items) > 1 else ""
            cure = "; give it by --location, LOCATION or in the document" if err.field == "location" else ""
            raise SettingsError(f"{where}{err}{cure}") from None
    return requests


def _send(settings: SendSettings, requests: Sequence[Request]) -> int:
    if settings.dry_run:
        for request in requests:
            say_or_end(request_line(request), sys.stdout)
        return 0
    with CloudVisionClient(
        settings.api_server,
        settings.api_token,
        api_token_file=settings.api_token_file,
        api_ca_file=settings.api_ca_file,
        insecure=settings.api_insecure_skip_verify,
        timeout=settings.timeout,
    ) as client:
        return deliver(client, requests, sys.stdout, as_json=settings.output is LogFormat.JSON)


def deliver(client: CloudVisionClient, requests: Sequence[Request], out: TextIO, *, as_json: bool) -> int:
    """Send all, in order, going on after a failure. Returns the exit code: 1 if any was not delivered.

    Where nobody answered for as long as one may take, or the token is not accepted, the others are not tried. Where
    the outcome cannot be printed, they are.
    """
    code, hopeless, mute = 0, "", False
    for number, request in enumerate(requests):
        status, message, attempts = 0, hopeless, 0
        if not hopeless:
            try:
                attempts = client.deliver(request)
            except DeliveryError as err:
                status, message, attempts, code = err.status, str(err), err.attempts, 1
                _warn(f"not delivered: {message}")
                if status in (0, 401) and (left := len(requests) - number - 1):
                    hopeless = "not tried: an earlier one was not delivered"
                    _warn(f"{left} more not tried")
        if as_json:
            outcome = {"report": request.about, "delivered": not message, "attempts": attempts}
            line = msgspec.json.encode(outcome | ({"status": status, "reason": message} if message else {})).decode()
        else:
            line = "" if message else f"delivered: {request.about}"
        if line and not mute and (wrong := say(line, out)):
            mute = True
            _warn(f"{wrong}; going on")
    return code


def _warn(message: str) -> None:
    print(f"cvji: {message}", file=sys.stderr)  # noqa: T201
