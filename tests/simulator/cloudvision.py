"""CloudVision's computejob/v1 API as section 2.1 of the design has it, and not a field more."""

import ipaddress
import re
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.simulator.certs import make_tls
from tests.simulator.server import Fault, Handler, SimulatedServer

BASE = "/api/resources/computejob/v1/"
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
State = Literal["JOB_STATE_RUNNING", "JOB_STATE_COMPLETED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"]


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
    ip_addresses: Values | msgspec.UnsetType = msgspec.UNSET


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


def _need(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def _check_macs(values: list[str]) -> None:
    for mac in values:
        _need(MAC.fullmatch(mac) and mac != "00:00:00:00:00:00", f"{mac!r} is no MAC address")


def _check_list(values: list[str]) -> None:
    _need(values, "values is empty")
    _need(values == sorted(set(values)), "values are not sorted and unique")


def _time(text: str) -> datetime:
    _need(TIME.fullmatch(text), f"{text!r} is not RFC3339 UTC with Z")
    return datetime.fromisoformat(text)


def check_job(job: Job) -> None:
    """Raise ValueError where the payload breaks the contract."""
    _need(job.key.id and job.name and job.location, "key.id, name and location must not be empty")
    if isinstance(job.interfaces, Values) == isinstance(job.nodes, Values):
        raise ValueError("exactly one of interfaces and nodes")
    for values in (job.interfaces, job.nodes):
        if isinstance(values, Values):
            _check_list(values.values)
    if isinstance(job.interfaces, Values):
        _check_macs(job.interfaces.values)
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
        if isinstance(interface.ip_addresses, Values):
            for address in interface.ip_addresses.values:
                ipaddress.ip_address(address)


class CloudVisionSimulator(SimulatedServer):
    """A receiver over TLS with its own CA; `jobs` and `nodes` hold the newest accepted state per key."""

    def __init__(self, token: str = "secret-token-of-the-simulator") -> None:
        self.token = token
        self._folder = tempfile.TemporaryDirectory(prefix="cvji-simulator-")
        tls, self.ca_file = make_tls(Path(self._folder.name))
        self.requests: list[Received] = []
        self.rejected: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.node_history: dict[str, list[dict[str, Any] | None]] = {}
        super().__init__(_Handler, tls)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    def wait_for(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        """Return once `condition` holds, looked at after every request. AssertionError if it never does."""
        deadline = time.monotonic() + timeout
        with self.lock:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {timeout} s; rejected {self.rejected}, jobs {self.jobs}")
                self.lock.wait(min(left, 0.25))

    def by_name(self, name: str) -> list[dict[str, Any]]:
        """Everything accepted for jobs of that name, in order."""
        with self.lock:
            return [entry for entries in self.history.values() for entry in entries if entry["name"] == name]

    def states(self, name: str) -> list[str]:
        """The states accepted for the job of that name, in order, without their prefix."""
        return [entry["state"].removeprefix("JOB_STATE_") for entry in self.by_name(name)]

    def handle(self, method: str, path: str, body: bytes, token: str, content_type: str) -> tuple[int, str]:
        """Take one request in; the status and message to answer."""
        url = urlsplit(path)
        if token != f"Bearer {self.token}":
            return 401, "token is not valid"
        try:
            if (method, url.path) == ("POST", BASE + "JobConfig"):
                _need(content_type == "application/json", f"content type {content_type!r}")
                job = msgspec.json.decode(body, type=Job)
                check_job(job)
                self.jobs[job.key.id] = plain = msgspec.json.decode(body)
                self.history.setdefault(job.key.id, []).append(plain)
            elif (method, url.path) == ("POST", BASE + "NodeConfig"):
                _need(content_type == "application/json", f"content type {content_type!r}")
                node = msgspec.json.decode(body, type=Node)
                check_node(node)
                self.nodes[node.key.id] = plain = msgspec.json.decode(body)
                self.node_history.setdefault(node.key.id, []).append(plain)
            elif (method, url.path) == ("DELETE", BASE + "NodeConfig"):
                query = parse_qs(url.query, strict_parsing=True)
                _need(list(query) == ["key.id"] and not body, "only ?key.id=NODE, no body")
                self.nodes.pop(query["key.id"][0], None)
                self.node_history.setdefault(query["key.id"][0], []).append(None)
            else:
                return 404, "no such method"
        except (ValueError, msgspec.MsgspecError) as err:
            self.rejected.append(f"{err}: {body[:300]!r}")
            return 400, str(err)
        return 200, ""


class _Handler(Handler):
    simulator: CloudVisionSimulator

    def _serve(self) -> None:
        simulator = self.simulator
        body = self.body()
        fault = simulator.next_fault(self.command)
        if simulator.delay:
            threading.Event().wait(simulator.delay)
        status, message = 0, ""
        with simulator.lock:
            if fault is None or fault.after:
                token, kind = self.headers.get("Authorization", ""), self.headers.get("Content-Type", "")
                status, message = simulator.handle(self.command, self.path, body, token, kind)
            answered = status if fault is None else fault.status
            simulator.requests.append(
                Received(time.monotonic(), self.command, self.path, body, answered, status == 200)
            )
            simulator.lock.notify_all()
        if fault is not None:
            self.misbehave(fault)
        elif status == 200:
            self.answer(200, body or b"{}")
        else:
            self.answer(status, msgspec.json.encode({"code": status, "message": message}))

    do_POST = do_DELETE = do_GET = _serve


__all__ = ["CloudVisionSimulator", "Fault", "Received"]
