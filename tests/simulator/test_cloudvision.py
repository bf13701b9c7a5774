"""The simulated CloudVision takes what the contract has (docs/design.md#what-is-sent) and acts as the real one."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.simulator.cloudvision import BASE, CloudVisionSimulator, Run
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
        return self.ask(method, path, body, **headers)[0]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        found = {"Authorization": f"Bearer {self.simulator.token}", "Content-Type": "application/json"} | headers
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        url = f"https://{self.simulator.address}{BASE}{path}"
        answer = self.http.request(method, url, body=data, headers=found)
        return answer.status, answer.data


@pytest.fixture
def call(simulator: CloudVisionSimulator, http: urllib3.PoolManager) -> Caller:
    simulator.forget()
    simulator.contradictions.clear()
    simulator.clock, simulator.fails_after = time.time, None
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
        {**JOB, "nodes": {"values": []}},
        {**JOB, "interfaces": {"values": []}, "nodes": {"values": ["n1"]}},
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
        {**JOB, "interfaces": {"values": []}, "nodes": {"values": []}},
        {**JOB, "startTime": JOB["start_time"]},  # one name twice
        {**JOB, "interfaces": {"values": [MAC.upper()]}},
        {**JOB, "interfaces": {"values": [MAC.replace(":", "-")]}},
        {**JOB, "interfaces": {"values": ["00:00:00:00:00:00"]}},
        {**JOB, "interfaces": {"values": [":".join(["80"] * 20)]}},
        {**JOB, "interfaces": {"values": [MAC, MAC]}},  # twice
        {**JOB, "interfaces": {"values": [MAC, "02:00:00:00:00:01"]}},  # out of order
        {**JOB, "end_time": ENDED["end_time"]},  # an end while it runs
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
        {**NODE, "data_interfaces": {"values": [{"name": "eth0", "mac_address": MAC}]}},
        {**NODE, "data_interfaces": {"values": [{**NIC, "ip_addresses": None}]}},
    ],
)
def test_a_node_otherwise_is_refused(call: Caller, bad: Any) -> None:
    assert call("POST", "NodeConfig", bad) == 400


def test_other_requests_are_refused(call: Caller) -> None:
    assert call("POST", "JobConfig", JOB, Authorization="") == 401
    assert call("POST", "JobConfig", JOB, Authorization=call.simulator.token) == 401
    assert call("POST", "JobConfig", JOB, Authorization="Bearer another") == 401
    assert call("POST", "JobConfig", JOB, **{"Content-Type": "text/plain"}) == 400
    assert call("GET", "JobConfig") == 400
    assert call("POST", "JobConfigs", JOB) == 404
    assert call("PUT", "JobConfig", JOB) == 501
    assert call("DELETE", "JobConfig/all") == 400
    for query in ("", "?id=n1", "?key.id=n1&x=1"):
        assert call("DELETE", f"NodeConfig{query}") == 400
    assert call("DELETE", "NodeConfig?key.id=n1", NODE) == 400


def test_it_is_trusted_by_its_own_ca_alone(simulator: CloudVisionSimulator) -> None:
    with pytest.raises(urllib3.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib3.PoolManager(retries=False).request("POST", f"https://{simulator.address}{BASE}JobConfig")


# --- what it does with what it takes ------------------------------------------------------------------

ID = "u"
GET = f"JobConfig?key.id={ID}"


def test_set_merges_and_what_is_left_out_or_null_keeps_its_value(call: Caller) -> None:
    call("POST", "JobConfig", {**ENDED, "type": "JOB_TYPE_TENANT"})
    call("POST", "JobConfig", {**ENDED, "name": "renamed", "type": None})
    assert call.simulator.held(ID) == {**ENDED, "name": "renamed", "type": "JOB_TYPE_TENANT"}


def test_a_run_that_is_set_running_after_its_end_keeps_the_end_and_is_a_contradiction(call: Caller) -> None:
    """A timestamp cannot be taken away."""
    call("POST", "JobConfig", ENDED)
    for again in (JOB, {**JOB, "end_time": None}):
        assert call("POST", "JobConfig", again) == 200
        assert call.simulator.jobs[ID] == {**ENDED, "state": "JOB_STATE_RUNNING"}
    assert call.simulator.contradictions == [f"{ID} is RUNNING and ended at {ENDED['end_time']}"] * 2


def test_a_list_that_is_there_replaces_and_an_empty_one_clears(call: Caller) -> None:
    call("POST", "JobConfig", {**JOB, "interfaces": {"values": ["02:00:00:00:00:01", MAC]}})
    call("POST", "JobConfig", JOB)
    in_node_mode = {**{k: v for k, v in JOB.items() if k != "interfaces"}, "nodes": {"values": ["n1"]}}
    call("POST", "JobConfig", in_node_mode)
    held = call.simulator.held(ID) or {}
    assert (held["interfaces"], held["nodes"]) == ({"values": [MAC]}, {"values": ["n1"]})
    assert call.simulator.contradictions == [f"{ID} has interfaces and nodes"]
    call("POST", "JobConfig", {**in_node_mode, "interfaces": {"values": []}})
    (run,) = call.simulator.runs("train")
    assert (run.macs, run.nodes) == ((), ("n1",))
    assert len(call.simulator.contradictions) == 1


def test_after_a_delete_a_set_begins_with_nothing(call: Caller) -> None:
    call("POST", "JobConfig", ENDED)
    assert call("DELETE", GET) == 200
    assert call("GET", GET) == 404
    assert call.simulator.held(ID) is None
    call("POST", "JobConfig", JOB)
    assert call.simulator.held(ID) == JOB


def test_names_are_taken_in_either_case_and_answered_in_lower_camel_case(call: Caller) -> None:
    camel = {k: v for k, v in ENDED.items() if not k.endswith("_time")}
    camel |= {"startTime": ENDED["start_time"], "endTime": ENDED["end_time"]}
    status, body = call.ask("POST", "JobConfig", camel)
    assert (status, json.loads(body)["value"]) == (200, camel)
    assert call.simulator.held(ID) == ENDED
    call("POST", "NodeConfig", NODE)
    value = json.loads(call.ask("GET", "NodeConfig?key.id=n1")[1])["value"]
    nic = {"name": "eth0", "macAddress": MAC, "ipAddresses": NIC["ip_addresses"]}
    assert value == {"key": {"id": "n1"}, "location": "lab", "hostname": "n1", "dataInterfaces": {"values": [nic]}}


def test_get_one_has_the_time_of_the_last_change_and_the_value_as_of_a_time(call: Caller) -> None:
    times = iter((1000.0, 2000.5, 3000.0))
    call.simulator.clock = lambda: next(times)
    call("POST", "JobConfig", JOB)
    call("POST", "JobConfig", ENDED)
    call("DELETE", GET)
    found = [call.ask("GET", f"{GET}&time=1970-01-01T00:{at}Z") for at in ("16:39", "16:40", "33:20.5", "50:00")]
    assert [status for status, _ in found] == [404, 200, 200, 404]
    then = [json.loads(body) for _, body in found[1:3]]
    assert [answer["value"]["state"] for answer in then] == ["JOB_STATE_RUNNING", "JOB_STATE_COMPLETED"]
    assert [answer["time"] for answer in then] == ["1970-01-01T00:16:40Z", "1970-01-01T00:33:20.500000Z"]
    held = [call.simulator.held(ID, at) for at in (999.0, 1000.0, 2001.0, 3000.0)]
    assert held == [None, JOB, ENDED, None]
    assert call("GET", f"{GET}&time=noon") == 400
    assert call("GET", f"{GET}&at=1970-01-01T00:16:40Z") == 400


def every(call: Caller, body: Any = None) -> list[str]:
    status, lines = call.ask("GET" if body is None else "POST", "JobConfig/all", body)
    assert status == 200
    results = [json.loads(line)["result"] for line in lines.splitlines()]
    assert all(result.keys() == {"value", "time", "type"} and result["type"] == "INITIAL" for result in results)
    return [result["value"]["key"]["id"] for result in results]


def test_get_all_is_a_document_a_line_and_filters_are_alternatives_of_equal_fields(call: Caller) -> None:
    assert every(call) == []
    for number, base in enumerate((JOB, ENDED, {**ENDED, "name": "other"})):
        call("POST", "JobConfig", {**base, "key": {"id": str(number)}})
    call("POST", "JobConfig", {**JOB, "key": {"id": "gone"}})
    call("DELETE", "JobConfig?key.id=gone")
    assert every(call) == every(call, {}) == every(call, {"partialEqFilter": []}) == ["0", "1", "2"]
    ended = {"state": "JOB_STATE_COMPLETED"}
    assert every(call, {"partialEqFilter": [ended]}) == ["1", "2"]
    assert every(call, {"partial_eq_filter": [{**ended, "name": "other"}, {"key": {"id": "0"}}]}) == ["0", "2"]
    assert every(call, {"partialEqFilter": [{"endTime": ENDED["end_time"], "name": "train"}]}) == ["1"]
    assert call("POST", "JobConfig/all", {"filter": []}) == 400


def test_get_all_may_fail_after_some_documents_and_answers_200_all_the_same(call: Caller) -> None:
    call("POST", "JobConfig", JOB)
    call.simulator.fails_after = 1
    status, lines = call.ask("GET", "JobConfig/all")
    first, last = map(json.loads, lines.splitlines())
    assert (status, first["result"]["value"]["key"]["id"]) == (200, ID)
    assert last == {"error": {"code": 14, "message": "the store is away", "details": []}}


def test_a_token_may_write_and_not_read(call: Caller) -> None:
    call.simulator.readable = False
    try:
        assert call("POST", "JobConfig", JOB) == 200
        assert call("DELETE", "JobConfig?key.id=another") == 200
        for method, path in (("GET", GET), ("GET", "JobConfig/all"), ("POST", "JobConfig/all")):
            status, body = call.ask(method, path, {} if method == "POST" else None)
            assert (status, json.loads(body)["code"]) == (403, 7)
    finally:
        call.simulator.readable = True


def test_runs_are_in_the_order_of_their_numbers(call: Caller) -> None:
    for key in ("b.2", "a.10", "a", "b", "a.2"):
        call("POST", "JobConfig", {**ENDED, "key": {"id": key}})
    runs = call.simulator.runs("train")
    assert [run.id for run in runs] == ["a", "a.2", "a.10", "b", "b.2"]
    assert runs[0] == Run("a", "COMPLETED", ENDED["start_time"], ENDED["end_time"], (MAC,), ())


@pytest.mark.parametrize(
    ("status", "code"), [(400, 3), (401, 16), (403, 7), (404, 5), (409, 10), (429, 8), (500, 13), (503, 14), (504, 4)]
)
def test_errors_are_grpc_statuses(call: Caller, status: int, code: int) -> None:
    for fault in (Fault(status), Fault(status, b'{"message":"why"}')):
        call.simulator.faults.append(fault)
        answered, body = call.ask("POST", "JobConfig", JOB)
        message = "why" if b"why" in fault.body else ""
        assert (answered, json.loads(body)) == (status, {"code": code, "message": message, "details": []})


def test_its_own_refusals_are_grpc_statuses_that_say_why(call: Caller) -> None:
    found = [call.ask("POST", "JobConfig", {**JOB, "job_name": "x"}), call.ask("GET", GET)]
    found.append(call.ask("POST", "JobConfig", JOB, Authorization="Bearer another"))
    assert [(status, json.loads(body)["code"]) for status, body in found] == [(400, 3), (404, 5), (401, 16)]
    assert "job_name" in json.loads(found[0][1])["message"]


# --- its faults ---------------------------------------------------------------------------------------


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
