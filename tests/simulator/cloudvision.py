"""CloudVision's computejob/v1 API: it takes what docs/design.md#what-is-sent has and not a field more, and does with
it what CloudVision does (tests/simulator/resources.py).
"""

import ipaddress
import re
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.simulator.certs import make_tls
from tests.simulator.resources import Change, Object, Resources, camel_case, rfc3339, snake_case
from tests.simulator.server import Fault, Handler, SimulatedServer

BASE = "/api/resources/computejob/v1/"
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
State = Literal["JOB_STATE_RUNNING", "JOB_STATE_COMPLETED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"]
# google.rpc.Code by HTTP status, as the gRPC gateway has it; UNKNOWN for the rest.
GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 408: 4, 409: 10, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}

_NOTHING = Fault().body  # of a fault whose body a test leaves open


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """Unknown fields are refused."""


class Key(Strict):
    id: str


class Values(Strict):
    values: list[str]


class Job(Strict):
    key: Key
    name: str
    location: str
    state: State
    start_time: str
    end_time: str | msgspec.UnsetType = msgspec.UNSET
    interfaces: Values | msgspec.UnsetType = msgspec.UNSET
    nodes: Values | msgspec.UnsetType = msgspec.UNSET
    type: Literal["JOB_TYPE_TENANT"] | msgspec.UnsetType = msgspec.UNSET


class Interface(Strict):
    name: str
    mac_address: str
    ip_addresses: Values


class Interfaces(Strict):
    values: list[Interface]


class Node(Strict):
    key: Key
    location: str
    hostname: str
    data_interfaces: Interfaces


class Received(msgspec.Struct):
    """One request: what it was, what was answered (0: nothing), and whether it took effect."""

    at: float
    method: str
    path: str
    body: bytes
    status: int
    taken: bool


class Run(msgspec.Struct, frozen=True):
    """One run of a job as CloudVision holds it. `state` is without its prefix; times are as they were sent."""

    id: str
    state: str
    start: str
    end: str | None
    macs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def number(self) -> int:
        """1 for the id `UID`, n for `UID.n`."""
        _, dot, number = self.id.rpartition(".")
        return int(number) if dot and number.isdigit() else 1


class RefusalError(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _need(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def _check_macs(values: list[str]) -> None:
    for mac in values:
        _need(MAC.fullmatch(mac) and mac != "00:00:00:00:00:00", f"{mac!r} is no MAC address")


def _values(values: Values | msgspec.UnsetType) -> list[str]:
    return values.values if isinstance(values, Values) else []


def _time(text: str) -> datetime:
    _need(TIME.fullmatch(text), f"{text!r} is not RFC3339 UTC with Z")
    return datetime.fromisoformat(text)


def check_job(job: Job) -> None:
    """Raise ValueError where the payload breaks the contract."""
    _need(job.key.id and job.name and job.location, "key.id, name and location must not be empty")
    lists = _values(job.interfaces), _values(job.nodes)
    _need(bool(lists[0]) != bool(lists[1]), "exactly one of interfaces and nodes must have values")
    for values in lists:
        _need(values == sorted(set(values)), "values are not sorted and unique")
    _check_macs(lists[0])
    start = _time(job.start_time)
    running = job.state == "JOB_STATE_RUNNING"
    _need((job.end_time is msgspec.UNSET) == running, "end_time in terminal states only")
    if isinstance(job.end_time, str):
        _need(_time(job.end_time) >= start, "end_time is before start_time")


def check_node(node: Node) -> None:
    """Raise ValueError where the payload breaks the contract."""
    _need(node.key.id and node.key.id == node.hostname and node.location, "key.id must be hostname, both set")
    for interface in node.data_interfaces.values:
        _need(interface.name, "name must not be empty")
        _check_macs([interface.mac_address])
        for address in interface.ip_addresses.values:
            ipaddress.ip_address(address)


def run_of(held: Object) -> Run:
    """A JobConfig that CloudVision holds, as a run."""
    macs, nodes = (tuple(held.get(name, {}).get("values", ())) for name in ("interfaces", "nodes"))
    state = held["state"].removeprefix("JOB_STATE_")
    return Run(held["key"]["id"], state, held["start_time"], held.get("end_time"), macs, nodes)


class CloudVisionSimulator(SimulatedServer):
    """A CloudVision over TLS with its own CA.

    `jobs` and `nodes` are what it holds by key; `history` and `node_history` what it held after each change. A
    request that the API does not take is in `rejected`; one that left a resource contradicting itself is in
    `contradictions`. With `readable` False, the token may write and not read. A read of all resources fails after
    `fails_after` of them. `clock` dates the changes.
    """

    def __init__(self, token: str = "secret-token-of-the-simulator", certificate_days: float = 2) -> None:
        self.token = token
        self.readable = True
        self.fails_after: int | None = None
        self.clock: Callable[[], float] = time.time
        self._folder = tempfile.TemporaryDirectory(prefix="cvji-simulator-")
        tls, self.ca_file = make_tls(Path(self._folder.name), certificate_days)
        self.requests: list[Received] = []
        self.rejected: list[str] = []
        self.contradictions: list[str] = []
        self._jobs, self._nodes = (Resources(lambda: self.clock()) for _ in range(2))
        self.jobs, self.nodes = self._jobs.held, self._nodes.held
        super().__init__(_Handler, tls)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    # --- for tests ----------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        """Return once `condition` holds, looked at after every request. AssertionError if it never does."""
        deadline = time.monotonic() + timeout
        with self.lock:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {timeout} s; rejected {self.rejected}, jobs {self.jobs}")
                self.lock.wait(min(left, 0.25))

    def held(self, job_id: str, at: float | None = None) -> Object | None:
        """The JobConfig of that id, now or at a time in seconds since 1970; None where there is none then."""
        with self.lock:
            found = self._jobs.get(job_id, at)
            return found.value if found else None

    def runs(self, name: str) -> list[Run]:
        """The runs that are held of jobs of that name, the n-th of a job after its first."""
        with self.lock:
            found = [run_of(held) for held in self.jobs.values() if held["name"] == name]
        return sorted(found, key=lambda run: (run.id.removesuffix(f".{run.number}"), run.number))

    def node(self, name: str) -> Object | None:
        """The NodeConfig of that name, if one is held."""
        with self.lock:
            return self.nodes.get(name)

    @property
    def history(self) -> dict[str, list[Object]]:
        """What each JobConfig was after each Set, by id."""
        with self.lock:
            return {
                key: [value for value in values if value is not None] for key, values in self._jobs.history().items()
            }

    @property
    def node_history(self) -> dict[str, list[Object | None]]:
        """What each NodeConfig was after each change, by name; None after a deletion."""
        with self.lock:
            return self._nodes.history()

    def by_name(self, name: str) -> list[Object]:
        """What the JobConfigs of that name were after each Set: those of one id in order, then the next id's."""
        return [entry for entries in self.history.values() for entry in entries if entry["name"] == name]

    def states(self, name: str) -> list[str]:
        """The states of `by_name`, without their prefix."""
        return [entry["state"].removeprefix("JOB_STATE_") for entry in self.by_name(name)]

    def forget(self) -> None:
        """Lose every resource and its history."""
        with self.lock:
            self._jobs.forget()
            self._nodes.forget()
            self.requests.clear()

    # --- the API ------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, body: bytes, token: str, content_type: str) -> bytes:
        """The answer to one request. Raises RefusalError."""
        if token != f"Bearer {self.token}":
            raise RefusalError(401, "token is not valid")
        url = urlsplit(path)
        kind, _, every = url.path.removeprefix(BASE).partition("/")
        resources = {"JobConfig": self._jobs, "NodeConfig": self._nodes}.get(kind)
        if resources is None or not url.path.startswith(BASE) or every not in ("", "all"):
            raise RefusalError(404, "no such method")
        try:
            if method == "POST":
                _need(content_type == "application/json", f"content type {content_type!r}")
            if every:
                return self._get_all(resources, method, body)
            if method == "POST":
                return self._set(resources, body)
            query = {name: values[0] for name, values in parse_qs(url.query, strict_parsing=True).items()}
            allowed = {"key.id", "time"} if method == "GET" else {"key.id"}
            _need("key.id" in query and query.keys() <= allowed and not body, "only ?key.id=ID, no body")
            if method == "GET":
                return self._get(resources, query["key.id"], query.get("time"))
            at = resources.delete(query["key.id"])
            return msgspec.json.encode({"key": {"id": query["key.id"]}, "time": rfc3339(at)})
        except (ValueError, msgspec.MsgspecError) as err:
            self.rejected.append(f"{err}: {body[:300]!r}")
            raise RefusalError(400, str(err)) from None

    def _set(self, resources: Resources, body: bytes) -> bytes:
        change = snake_case(msgspec.json.decode(body))
        if resources is self._jobs:
            check_job(msgspec.convert(change, Job))
        else:
            check_node(msgspec.convert(change, Node))
        key = change["key"]["id"]
        at = resources.set(key, change)
        if resources is self._jobs:
            run = run_of(self.jobs[key])
            if run.state == "RUNNING" and run.end:
                self.contradictions.append(f"{key} is RUNNING and ended at {run.end}")
            if run.macs and run.nodes:
                self.contradictions.append(f"{key} has interfaces and nodes")
        return msgspec.json.encode({"value": camel_case(change), "time": rfc3339(at)})

    def _get(self, resources: Resources, key: str, at: str | None) -> bytes:
        self._check_readable()
        found = resources.get(key, _time(at).timestamp() if at else None)
        if found is None:
            raise RefusalError(404, "resource not found")
        return msgspec.json.encode(_answer(found))

    def _get_all(self, resources: Resources, method: str, body: bytes) -> bytes:
        self._check_readable()
        asked = snake_case(msgspec.json.decode(body)) if method == "POST" and body else {}
        _need(method in ("GET", "POST") and isinstance(asked, dict), "not a request for all resources")
        _need(asked.keys() <= {"partial_eq_filter"}, f"fields that are not known: {list(asked)}")
        found = resources.matching(asked.get("partial_eq_filter", []))
        lines = [msgspec.json.encode({"result": {**_answer(change), "type": "INITIAL"}}) for change in found]
        if self.fails_after is not None:  # the status is sent with the first line, so it stays 200
            lines = [*lines[: self.fails_after], b'{"error":%s}' % error_body(503, "the store is away")]
        return b"".join(line + b"\n" for line in lines)

    def _check_readable(self) -> None:
        if not self.readable:
            raise RefusalError(403, "permission denied: the token may not read computejob")


def _answer(change: Change) -> Object:
    return {"value": camel_case(change.value), "time": rfc3339(change.at)}


def error_body(status: int, message: str) -> bytes:
    """A gRPC status as the gateway writes it."""
    return msgspec.json.encode({"code": GRPC_CODES.get(status, 2), "message": message, "details": []})


def as_answered(fault: Fault) -> Fault:
    """A fault whose body is JSON, or not given, is an error of CloudVision's own: a gRPC status. Others stay."""
    if fault.status < 400 or fault.drop or (fault.body not in (_NOTHING, b"") and fault.body[:1] != b"{"):
        return fault
    message = msgspec.json.decode(fault.body).get("message", "") if fault.body[:1] == b"{" else ""
    return msgspec.structs.replace(fault, body=error_body(fault.status, message))


class _Handler(Handler):
    simulator: CloudVisionSimulator

    def _serve(self) -> None:
        simulator = self.simulator
        body = self.body()
        fault = simulator.next_fault(self.command)
        if simulator.delay:
            threading.Event().wait(simulator.delay)
        status, answer = 0, b""
        with simulator.lock:
            if fault is None or fault.after:
                token, kind = self.headers.get("Authorization", ""), self.headers.get("Content-Type", "")
                try:
                    status, answer = 200, simulator.handle(self.command, self.path, body, token, kind)
                except RefusalError as refusal:
                    status, answer = refusal.status, error_body(refusal.status, str(refusal))
            answered = status if fault is None else fault.status
            simulator.requests.append(
                Received(time.monotonic(), self.command, self.path, body, answered, status == 200)
            )
            simulator.lock.notify_all()
        if fault is not None:
            self.misbehave(as_answered(fault))
        else:
            self.answer(status, answer)

    do_POST = do_DELETE = do_GET = _serve


__all__ = ["CloudVisionSimulator", "Fault", "Received", "Run"]
