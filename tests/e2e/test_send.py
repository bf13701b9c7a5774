"""Reports by hand: `cvji jobconfig send`, `cvji nodeconfig send|delete` and the Python calls."""

import inspect
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cvji.cloudvision import (
    CloudVisionClient,
    DeliveryError,
    InvalidReportError,
    NodeInterface,
    delete_nodeconfig,
    send_jobconfig,
    send_nodeconfig,
)
from tests.e2e.kit import EXECUTABLE, Program
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.server import Fault

MACS = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]


def cvji(cloudvision: CloudVisionSimulator, *arguments: str, stdin: Any = None, **env: str) -> tuple[int, str, str]:
    """Run a command; its exit code, output and errors."""
    settings = {
        "API_SERVER": cloudvision.address,
        "API_TOKEN": cloudvision.token,
        "API_CA_FILE": str(cloudvision.ca_file),
        "LOCATION": "lab",
        **env,
    }
    done = subprocess.run(
        [EXECUTABLE, *arguments],
        env={name: value for name, value in settings.items() if value},
        input="" if stdin is None else stdin if isinstance(stdin, str) else json.dumps(stdin),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert cloudvision.token not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_tenants_job_from_start_to_end(cloudvision: CloudVisionSimulator) -> None:
    send = ("jobconfig", "send", "--id", "42", "--name", "llm", "--tenant", "--start-time", "2026-01-31T12:00:00+01:00")
    assert cvji(cloudvision, *send, "--state", "RUNNING", "--interface", "02-00-00-00-00-0B")[0] == 0
    both = ",".join(mac.upper() for mac in reversed(MACS))
    code, out, _ = cvji(
        cloudvision, *send, "--state", "running", "--interface", both, "--interface", MACS[0], "-o", "json"
    )
    assert (code, json.loads(out)) == (0, {"report": "job llm (42) RUNNING", "delivered": True, "attempts": 1})
    end = ("--state", "JOB_STATE_COMPLETED", "--end-time", "2026-01-31T13:00:00Z")
    assert cvji(cloudvision, *send, *end, "--interface", both)[0] == 0
    history = cloudvision.history["42"]
    assert [entry["interfaces"]["values"] for entry in history] == [MACS[1:], MACS, MACS]
    assert history[-1] == {
        "key": {"id": "42"},
        "name": "llm",
        "location": "lab",
        "state": "JOB_STATE_COMPLETED",
        "type": "JOB_TYPE_TENANT",
        "start_time": "2026-01-31T11:00:00Z",
        "end_time": "2026-01-31T13:00:00Z",
        "interfaces": {"values": MACS},
    }


def test_documents_on_stdin(cloudvision: CloudVisionSimulator, tmp_path: Path) -> None:
    one = {"id": "1", "name": "a", "state": "FAILED", "nodes": ["n2", "n1"], "location": "dc2"}
    assert cvji(cloudvision, "jobconfig", "send", stdin=one)[0] == 0
    assert cloudvision.jobs["1"]["nodes"] == {"values": ["n1", "n2"]}
    assert cloudvision.jobs["1"]["location"] == "dc2"
    assert cloudvision.jobs["1"]["end_time"] >= cloudvision.jobs["1"]["start_time"]
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps([{"id": str(n), "name": "b", "state": "RUNNING", "nodes": ["n"]} for n in range(20)]))
    code, out, _ = cvji(cloudvision, "jobconfig", "send", "-f", str(file))
    assert (code, out.count("delivered: job b")) == (0, 20)
    assert set(cloudvision.jobs) == {str(n) for n in range(20)}


def test_nodes_by_hand(cloudvision: CloudVisionSimulator) -> None:
    nic = f"eth0={MACS[0]},10.0.0.1,fd00::1"
    assert cvji(cloudvision, "nodeconfig", "send", "--node", "n1", "--interface", nic)[0] == 0
    document = {"node": "n2", "interfaces": [{"name": "eth0", "mac": MACS[1].upper(), "ips": ["10.0.0.2"]}]}
    assert cvji(cloudvision, "nodeconfig", "send", stdin=[document])[0] == 0
    assert cloudvision.nodes["n1"]["data_interfaces"]["values"][0]["ip_addresses"] == {
        "values": ["10.0.0.1", "fd00::1"]
    }
    assert cloudvision.nodes["n2"]["data_interfaces"]["values"][0]["mac_address"] == MACS[1]
    assert cvji(cloudvision, "nodeconfig", "delete", "n1", "n2")[0] == 0
    assert cloudvision.nodes == {}


GOOD = ["jobconfig", "send", "--id", "1", "--state", "RUNNING", "--interface", MACS[0]]


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        ([*GOOD, "--interface", "02:00"], None, "interfaces[1]: '02:00' is not a MAC address"),
        ([*GOOD, "--interface", "00:00:00:00:00:00"], None, "interfaces[1]: "),
        ([*GOOD, "--node", "n1"], None, "interfaces: give either interfaces (MACs) or nodes"),
        ([*GOOD[:-2]], None, "interfaces: give either interfaces (MACs) or nodes"),
        ([*GOOD, "--state", "DONE"], None, "state: 'DONE' is unknown: it must be one of RUNNING, COMPLETED"),
        ([*GOOD, "--end-time", "2026-01-01T00:00:00Z"], None, "end_time: a RUNNING job has none"),
        (
            [*GOOD, "--state", "FAILED", "--start-time", "2026-01-02T00:00:00Z", "--end-time", "2026-01-01T00:00:00Z"],
            None,
            "end_time: 2026-01-01T00:00:00Z is before the start",
        ),
        ([*GOOD, "--start-time", "noon"], None, "start_time: 'noon' is not a time"),
        ([*GOOD, "--start-time", "2026-01-02T00:00:00"], None, "start_time: '2026-01-02T00:00:00' is not a time"),
        ([*GOOD, "--location", " "], None, "location: must not be empty"),
        ([*GOOD, "--start-time", "0001-01-01T00:00:00+14:00"], None, "start_time: '0001-01-01T00:00:00+14:00'"),
        ([*GOOD, "--name", "a\nb"], None, "name: 'a\\nb' holds control characters"),
        ([*GOOD, "--name", "\udcff"], None, "name: '\\udcff' holds control characters or is not valid text"),
        ([*GOOD, "--timeout", "x"], None, "--timeout is 'x': it must be a duration"),
        ([*GOOD, "--timeout", "0"], None, "--timeout is '0': it must be more than 0"),
        ([*GOOD, "-o", "xml"], None, "--output is 'xml': it must be one of text, json"),
        ([*GOOD, "-f", "-"], None, "give flags or a JSON document, not both"),
        (["jobconfig", "send"], "", "stdin is empty"),
        (["jobconfig", "send"], "{", "stdin: "),
        (["jobconfig", "send"], {"id": "1"}, "stdin: Object missing required field `name`"),
        (["jobconfig", "send"], [{"id": "1", "name": "a", "state": "RUNNING", "mac": "x"}], "unknown field `mac`"),
        (["jobconfig", "send"], [{"id": "1", "name": "a", "state": 1}], "$[0].state"),
        (
            ["jobconfig", "send"],
            [
                {"id": "1", "name": "a", "state": "RUNNING", "nodes": ["n"]},
                {"id": "2", "name": "a", "state": "RUNNING", "nodes": [""]},
            ],
            "document 2: nodes[0]: must not be empty",
        ),
        (["jobconfig", "send", "-f", "/nonexistent"], None, "/nonexistent: No such file"),
        (["nodeconfig", "send", "--node", "n"], None, "interfaces: give at least one"),
        (["nodeconfig", "send", "--node", "n", "--interface", "eth0"], None, "must be NAME=MAC"),
        (
            ["nodeconfig", "send", "--node", "n", "--interface", f"eth0={MACS[0]},10.0.0.300"],
            None,
            "is not an IP address",
        ),
        (["nodeconfig", "delete", ""], None, "node: must not be empty"),
        (["nodeconfig", "delete", "\udcff"], None, "node: '\\udcff' holds"),
        (["nodeconfig", "delete"], None, "Missing argument"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_sent(
    cloudvision: CloudVisionSimulator, arguments: list[str], stdin: Any, says: str
) -> None:
    code, out, err = cvji(cloudvision, *arguments, stdin=stdin)
    assert (code, out) == (2, "")
    assert err.startswith("cvji: ")
    assert err.count("\n") == 1
    assert says in err
    assert cloudvision.requests == []


@pytest.mark.parametrize("given", ["", "-f -"])
def test_a_closed_stdin_is_one_line(given: str) -> None:
    words = f"{EXECUTABLE} jobconfig send --dry-run {given} <&-"
    done = subprocess.run(["sh", "-c", words], check=False, capture_output=True, text=True, env={})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    # The executable opens /dev/null in its place (Nuitka), which is empty.
    expected = "cvji: stdin is closed: " if given else "cvji: give --id"
    assert done.stderr.startswith((expected, "cvji: stdin is empty: give flags, "))


@pytest.mark.parametrize("proxy", ["socks5://proxy:1", "http://user:pr0xy@proxy:x", "http://user:pr0xy%E2%82%AC@proxy"])
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(
    cloudvision: CloudVisionSimulator, proxy: str
) -> None:
    code, _, err = cvji(cloudvision, *GOOD, HTTPS_PROXY=proxy)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("cvji: HTTPS_PROXY cannot be used: ")
    assert "pr0xy" not in err


def test_a_list_goes_on_after_one_that_is_not_delivered(cloudvision: CloudVisionSimulator) -> None:
    jobs = [{"id": str(n), "name": f"job-{n}", "state": "RUNNING", "interfaces": MACS} for n in range(3)]
    cloudvision.faults.append(Fault(400, b'{"message":"not this one"}'))
    code, out, err = cvji(cloudvision, "jobconfig", "send", "-o", "json", stdin=jobs)
    assert code == 1
    assert set(cloudvision.jobs) == {"1", "2"}
    outcomes = [json.loads(line) for line in out.splitlines()]
    assert [outcome["delivered"] for outcome in outcomes] == [False, True, True]
    assert outcomes[0]["status"] == 400
    assert outcomes[0]["reason"] == "job job-0 (0) RUNNING: HTTP 400: not this one"
    assert err == f"cvji: not delivered: {outcomes[0]['reason']}\n"


def test_the_timeout_covers_every_attempt(cloudvision: CloudVisionSimulator) -> None:
    cloudvision.delay = 30.0
    began = time.monotonic()
    code, _, err = cvji(cloudvision, *GOOD, "--timeout", "1.5s")
    assert code == 1
    assert "no answer" in err
    assert time.monotonic() - began < 25  # less than one answer takes, on a busy machine too


def test_no_token_is_seen_in_a_list_of_processes(cloudvision: CloudVisionSimulator, tmp_path: Path) -> None:
    """While a send waits for its answer, by either way to give it one."""
    cloudvision.delay = 2.0
    file = tmp_path / "token"
    file.write_text(cloudvision.token)
    for given in ({"API_TOKEN": cloudvision.token}, {"API_TOKEN_FILE": str(file)}):
        server = {"API_SERVER": cloudvision.address, "API_CA_FILE": str(cloudvision.ca_file), "LOCATION": "lab"}
        taken = len(cloudvision.requests)
        with Program(*GOOD, env=server | given, folder=tmp_path) as sends:
            sends.wait_for(lambda: connected(cloudvision))
            shown = Path(f"/proc/{sends.process.pid}/cmdline").read_bytes()
            assert b"jobconfig" in shown
            assert cloudvision.token.encode() not in shown
            assert len(cloudvision.requests) == taken  # it was still waiting
            assert sends.process.wait(30) == 0
            assert cloudvision.token not in sends.log + sends.out.read_text()


def connected(cloudvision: CloudVisionSimulator) -> bool:
    with cloudvision.lock:
        return bool(cloudvision._live)


def test_500_twice_then_taken(cloudvision: CloudVisionSimulator) -> None:
    cloudvision.faults.extend([Fault(500)] * 2)
    code, out, _ = cvji(cloudvision, *GOOD, "-o", "json")
    assert code == 0
    assert json.loads(out)["attempts"] == 3


def test_not_delivered_is_exit_1_and_says_why(cloudvision: CloudVisionSimulator) -> None:
    cloudvision.always = Fault(400, b'{"message":"no such location"}')
    code, out, err = cvji(cloudvision, *GOOD, "-o", "json")
    assert code == 1
    assert "HTTP 400: no such location" in err
    assert json.loads(out)["status"] == 400
    cloudvision.always = None
    assert cvji(cloudvision, *GOOD, API_TOKEN="wrong")[0] == 1
    cloudvision.refuse()
    code, _, err = cvji(cloudvision, *GOOD, "--timeout", "1s")
    assert code == 1
    assert "no answer" in err
    assert "trying again for 1 s at most" in err
    assert "Connection(" not in err  # urllib3's own name for it


def documents(count: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "name": f"job-{n}", "state": "RUNNING", "interfaces": MACS} for n in range(count)]


@pytest.mark.parametrize("change", [{"API_TOKEN": "wrong"}, {"API_SERVER": "127.0.0.1:1"}])
def test_a_list_is_given_up_where_nothing_gets_through(
    cloudvision: CloudVisionSimulator, change: dict[str, str]
) -> None:
    send = ("jobconfig", "send", "-o", "json", "--timeout", "1s")
    code, out, err = cvji(cloudvision, *send, stdin=documents(50), **change)
    assert code == 1
    assert "49 more not tried" in err
    outcomes = [json.loads(line) for line in out.splitlines()]
    assert [outcome["delivered"] for outcome in outcomes] == [False] * 50
    assert [outcome["attempts"] > 0 for outcome in outcomes] == [True] + [False] * 49


def test_what_nobody_reads_is_delivered_all_the_same(cloudvision: CloudVisionSimulator) -> None:
    settings = {
        "API_SERVER": cloudvision.address,
        "API_TOKEN": cloudvision.token,
        "API_CA_FILE": str(cloudvision.ca_file),
        "LOCATION": "lab",
    }
    given = json.dumps(documents(20)).encode()
    for number, target in enumerate(("/dev/full", "&-"), 1):
        words = ["sh", "-c", f'"$@" >{target}', "sh", EXECUTABLE, "jobconfig", "send"]
        done = subprocess.run(words, env=settings, input=given, stderr=subprocess.PIPE, timeout=60, check=False)
        assert done.returncode == 0
        assert done.stderr.decode() in ("", "cvji: stdout: No space left on device; going on\n")
        assert len(cloudvision.requests) == 20 * number
    for command in (["jobconfig", "send", "--dry-run"], ["discover", "--once"]):
        words = ["sh", "-c", '"$@" >/dev/full', "sh", EXECUTABLE, *command]
        done = subprocess.run(words, env=settings, input=given, stderr=subprocess.PIPE, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, b"cvji: stdout: No space left on device\n")


def test_dry_run_needs_no_server(cloudvision: CloudVisionSimulator) -> None:
    code, out, _ = cvji(cloudvision, *GOOD, "--dry-run", API_SERVER="", API_TOKEN="")
    assert code == 0
    assert json.loads(out)["body"]["key"] == {"id": "1"}
    assert cloudvision.requests == []


# --- the Python calls ---------------------------------------------------------------------------------


def test_the_call_as_integrators_make_it(cloudvision: CloudVisionSimulator, caplog: pytest.LogCaptureFixture) -> None:
    server: dict[str, Any] = {
        "api_server": cloudvision.address,
        "api_token": cloudvision.token,
        "api_ca_file": str(cloudvision.ca_file),
    }
    job: dict[str, Any] = {
        "job_id": "7",
        "job_name": "tenant-job",
        "location": "lab",
        "job_state": "JOB_STATE_RUNNING",
        "start_time": "2026-01-31T12:00:00Z",
        "end_time": None,
        "nodes": [],
        "interfaces": MACS,
    }
    assert send_jobconfig(**server, **job, isTenantJob=True) is True
    assert cloudvision.jobs["7"]["type"] == "JOB_TYPE_TENANT"
    assert send_jobconfig(**server, **job | {"nodes": ["n1"]}, jobconfig_mode="node") is True
    assert cloudvision.jobs["7"]["nodes"] == {"values": ["n1"]}
    assert send_jobconfig(**server, **job | {"interfaces": ["x"]}) is False
    assert "'x' is not a MAC address" in caplog.text
    for wrong in (
        {"api_server": None},
        {"api_token": None},
        {"timeout": "a"},
        {"timeout": math.nan},
        {"interfaces": 5},
    ):
        assert send_jobconfig(**server | job | wrong) is False
        assert f"{next(iter(wrong))}" in caplog.messages[-1]
    assert send_jobconfig(**server | {"api_token": "wrong"}, **job) is False
    assert send_nodeconfig(**server, node="n", location="lab", interfaces=[NodeInterface("e", MACS[0])]) is True
    assert delete_nodeconfig(**server, node="n") is True
    assert cloudvision.nodes == {}


def test_the_calls_signatures_are_what_integrators_rely_on() -> None:
    names = [
        "api_server",
        "api_token",
        "job_id",
        "job_name",
        "location",
        "job_state",
        "start_time",
        "end_time",
        "nodes",
        "interfaces",
    ]
    signature = inspect.signature(send_jobconfig)
    assert list(signature.parameters)[:12] == [*names, "jobconfig_mode", "isTenantJob"]
    assert signature.parameters["jobconfig_mode"].default == "interface"
    assert signature.parameters["isTenantJob"].default is False
    assert all(part.kind is part.POSITIONAL_OR_KEYWORD for part in list(signature.parameters.values())[:12])
    assert {inspect.signature(call).return_annotation for call in CALLS} == {bool}


CALLS = (send_jobconfig, send_nodeconfig, delete_nodeconfig)


def test_a_client_for_many_calls_with_typed_errors(cloudvision: CloudVisionSimulator) -> None:
    with CloudVisionClient(cloudvision.address, cloudvision.token, api_ca_file=str(cloudvision.ca_file)) as client:
        for number in range(200):
            client.send_jobconfig(
                job_id=str(number), job_name="many", location="lab", job_state="RUNNING", interfaces=MACS
            )
        assert cloudvision.most_connections == 1
        with pytest.raises(InvalidReportError) as invalid:
            client.send_jobconfig(job_id="", job_name="x", location="lab", job_state="RUNNING", interfaces=MACS)
        assert invalid.value.field == "id"
        cloudvision.faults.append(Fault(400, b"{}"))
        with pytest.raises(DeliveryError) as refused:
            client.delete_nodeconfig("n")
        assert refused.value.status == 400
    assert len(cloudvision.jobs) == 200


def test_importing_it_imports_no_kubernetes() -> None:
    code = (
        "import sys; from cvji.cloudvision import send_jobconfig, CloudVisionClient;"
        "print(sorted(m for m in ('kubernetes', 'prometheus_client', 'typer', 'pyroute2') if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
