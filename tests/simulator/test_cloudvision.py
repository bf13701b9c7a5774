"""The receiver refuses whatever the contract (design 2.1) does not have, so that passing it means something."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.simulator.cloudvision import BASE, CloudVisionSimulator
from tests.simulator.server import Fault

MAC = "02:00:00:00:00:0a"
JOB: dict[str, Any] = {
    "key": {"id": "u"},
    "name": "train",
    "location": "lab",
    "state": "JOB_STATE_RUNNING",
    "start_time": "2026-01-01T00:00:00Z",
    "interfaces": {"values": [MAC]},
}
ENDED = {**JOB, "state": "JOB_STATE_COMPLETED", "end_time": "2026-01-01T01:00:00Z"}
NIC = {"name": "eth0", "mac_address": MAC, "ip_addresses": {"values": ["10.0.0.1", "fd00::1"]}}
NODE: dict[str, Any] = {
    "key": {"id": "n1"},
    "location": "lab",
    "hostname": "n1",
    "data_interfaces": {"values": [NIC]},
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[CloudVisionSimulator]:
    with CloudVisionSimulator() as found:
        yield found


@pytest.fixture(scope="module")
def http(simulator: CloudVisionSimulator) -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(ca_certs=str(simulator.ca_file), retries=False)
    yield pool
    pool.clear()


class Caller:
    def __init__(self, simulator: CloudVisionSimulator, http: urllib3.PoolManager) -> None:
        self.simulator, self.http = simulator, http

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        found = {"Authorization": f"Bearer {self.simulator.token}", "Content-Type": "application/json"} | headers
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        url = f"https://{self.simulator.address}{BASE}{path}"
        return self.http.request(method, url, body=data, headers=found).status


@pytest.fixture
def call(simulator: CloudVisionSimulator, http: urllib3.PoolManager) -> Caller:
    return Caller(simulator, http)


@pytest.mark.parametrize(
    "good",
    [
        JOB,
        ENDED,
        {**JOB, "type": "JOB_TYPE_TENANT"},
        {**ENDED, "state": "JOB_STATE_FAILED"},
        {**ENDED, "state": "JOB_STATE_CANCELLED", "end_time": JOB["start_time"]},
        {**{k: v for k, v in JOB.items() if k != "interfaces"}, "nodes": {"values": ["n1", "n2"]}},
    ],
)
def test_a_job_as_the_contract_has_it_is_taken(call: Caller, good: dict[str, Any]) -> None:
    assert call("POST", "JobConfig", good) == 200
    assert call.simulator.jobs["u"] == good


@pytest.mark.parametrize(
    "bad",
    [
        {**JOB, "job_name": "train"},  # a field more
        {**JOB, "key": {"id": "u", "node_name": "n"}},
        {**JOB, "interfaces": [MAC]},  # flat
        {**JOB, "state": "JOB_STATE_FINISHED"},
        {**JOB, "state": "RUNNING"},
        {**JOB, "type": "TENANT"},
        {**JOB, "nodes": {"values": ["n1"]}},  # both
        {k: v for k, v in JOB.items() if k != "interfaces"},  # neither
        {**JOB, "interfaces": {"values": []}},
        {**JOB, "interfaces": None},
        {**JOB, "interfaces": {"values": [MAC.upper()]}},
        {**JOB, "interfaces": {"values": [MAC.replace(":", "-")]}},
        {**JOB, "interfaces": {"values": ["00:00:00:00:00:00"]}},
        {**JOB, "interfaces": {"values": [":".join(["80"] * 20)]}},
        {**JOB, "interfaces": {"values": [MAC, MAC]}},  # twice
        {**JOB, "interfaces": {"values": [MAC, "02:00:00:00:00:01"]}},  # out of order
        {**JOB, "end_time": ENDED["end_time"]},  # an end while it runs
        {**JOB, "end_time": None},
        {k: v for k, v in ENDED.items() if k != "end_time"},  # an end without its time
        {**ENDED, "end_time": "2025-12-31T23:59:59Z"},  # before the start
        {**JOB, "start_time": "2026-01-01T00:00:00+00:00"},
        {**JOB, "start_time": "2026-01-01 00:00:00Z"},
        {**JOB, "start_time": 1767225600},
        {k: v for k, v in JOB.items() if k != "start_time"},
        {**JOB, "location": ""},
        {**JOB, "key": {"id": ""}},
        [JOB],
        b"{",
        b"",
    ],
)
def test_a_job_otherwise_is_refused(call: Caller, bad: Any) -> None:
    before = len(call.simulator.rejected)
    assert call("POST", "JobConfig", bad) == 400
    assert len(call.simulator.rejected) == before + 1


def test_a_node_is_taken_and_removed(call: Caller) -> None:
    assert call("POST", "NodeConfig", NODE) == 200
    assert call("DELETE", "NodeConfig?key.id=n1") == 200
    assert call.simulator.node_history["n1"] == [NODE, None]
    assert "n1" not in call.simulator.nodes


@pytest.mark.parametrize(
    "bad",
    [
        {**NODE, "interfaces": NODE["data_interfaces"]},
        {**NODE, "hostname": "n2"},
        {**NODE, "location": ""},
        {**NODE, "data_interfaces": {"values": [{**NIC, "mac_address": MAC.upper()}]}},
        {**NODE, "data_interfaces": {"values": [{**NIC, "name": ""}]}},
        {**NODE, "data_interfaces": {"values": [{**NIC, "mac": MAC}]}},
        {**NODE, "data_interfaces": {"values": [{**NIC, "ip_addresses": {"values": ["10.0.0.1/24"]}}]}},
        {**NODE, "data_interfaces": {"values": [{**NIC, "ip_addresses": ["10.0.0.1"]}]}},
    ],
)
def test_a_node_otherwise_is_refused(call: Caller, bad: Any) -> None:
    assert call("POST", "NodeConfig", bad) == 400


def test_other_requests_are_refused(call: Caller) -> None:
    assert call("POST", "JobConfig", JOB, Authorization="") == 401
    assert call("POST", "JobConfig", JOB, Authorization=call.simulator.token) == 401
    assert call("POST", "JobConfig", JOB, Authorization="Bearer another") == 401
    assert call("POST", "JobConfig", JOB, **{"Content-Type": "text/plain"}) == 400
    assert call("GET", "JobConfig") == 404
    assert call("DELETE", "JobConfig?key.id=u") == 404
    assert call("POST", "JobConfigs", JOB) == 404
    for query in ("", "?id=n1", "?key.id=n1&x=1"):
        assert call("DELETE", f"NodeConfig{query}") == 400
    assert call("DELETE", "NodeConfig?key.id=n1", NODE) == 400


def test_it_is_trusted_by_its_own_ca_alone(simulator: CloudVisionSimulator) -> None:
    with pytest.raises(urllib3.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib3.PoolManager(retries=False).request("POST", f"https://{simulator.address}{BASE}JobConfig")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(503, b"<html>"), 503),
        (Fault(200, b"half", drop=True), urllib3.exceptions.ProtocolError),
        (Fault(drop=True), urllib3.exceptions.ProtocolError),
        (Fault(), urllib3.exceptions.ProtocolError),
    ],
)
def test_it_misbehaves_as_told(call: Caller, fault: Fault, status: Any) -> None:
    call.simulator.faults.append(fault)
    if isinstance(status, int):
        assert call("POST", "JobConfig", JOB) == status
    else:
        with pytest.raises(status):
            call("POST", "JobConfig", JOB)
    assert call("POST", "JobConfig", JOB) == 200
