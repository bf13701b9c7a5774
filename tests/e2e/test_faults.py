"""Both APIs failing in every way they know, and objects that are wrong: the end is right all the same."""

import json
import time
from pathlib import Path

import pytest

from tests.e2e.kit import Stage, stamp
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import ended, job, pod, running
from tests.simulator.server import Fault

TORCH = ("kubeflow.org", "PyTorchJob")
MAC = "02:00:00:00:00:01"


def start(stage: Stage, name: str, mac: str = MAC) -> dict[str, object]:
    """A running job of one pod."""
    made = stage.cluster.create(job(*TORCH, name))
    stage.cluster.set_status(made, running(*TORCH, stamp(-9)))
    stage.cluster.run_pod(pod(f"{name}-0", made, mac))
    return made


def finish(stage: Stage, made: dict[str, object]) -> None:
    stage.cluster.set_status(made, ended(*TORCH, "COMPLETED", stamp(-9), stamp()) or {})


# --- the Kubernetes API -------------------------------------------------------------------------------


def test_watches_closed_over_and_over(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    simulated.informer()
    made = start(simulated, "a")
    for _ in range(5):
        kubernetes.close_watches()
    simulated.wait_for_states("a", "RUNNING")
    kubernetes.close_watches()
    finish(simulated, made)
    simulated.wait_for_states("a", "RUNNING", "COMPLETED")


def test_410_with_a_deletion_missed_meanwhile(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    simulated.informer()
    gone, stays = start(simulated, "gone"), start(simulated, "stays")
    for name in ("gone", "stays"):
        simulated.wait_for_states(name, "RUNNING")
    kubernetes.stall()
    simulated.cluster.delete(gone)
    finish(simulated, stays)
    kubernetes.compact()
    kubernetes.stall(False)
    simulated.wait_for_states("gone", "RUNNING", "CANCELLED")
    simulated.wait_for_states("stays", "RUNNING", "COMPLETED")


OUTAGE = 30.0  # seconds: by then every watch waits its longest between two attempts


def test_the_api_server_down_for_half_a_minute(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    kubernetes.unserve("apiextensions.k8s.io", "customresourcedefinitions")  # then API discovery is asked all the time
    program = simulated.informer(LOG_LEVEL="debug")
    names = ("gone", "ends", "goes-on")
    gone, _, goes_on = (start(simulated, name) for name in names)
    for name in names:
        simulated.wait_for_states(name, "RUNNING")
    kubernetes.refuse()
    back = time.monotonic() + OUTAGE
    program.wait_for(lambda: program.log.count("trying again") > 50)
    kubernetes.delete(TORCH[0], "pytorchjobs", "team", str(gone["metadata"]["name"]))  # type: ignore[index]
    status = ended(*TORCH, "FAILED", stamp(-9), stamp()) or {}
    kubernetes.patch(TORCH[0], "pytorchjobs", "team", "ends", {"status": status})
    made = job(*TORCH, "begins")
    made["metadata"]["uid"] = "uid-begins"
    kubernetes.create(made)
    kubernetes.create(pod("begins-0", made, MAC) | {"status": {"phase": "Running"}})
    kubernetes.compact()
    program.wait_for(lambda: time.monotonic() > back, timeout=2 * OUTAGE)
    kubernetes.resume()
    simulated.wait_for_states("gone", "RUNNING", "CANCELLED", timeout=40)
    simulated.wait_for_states("ends", "RUNNING", "FAILED", timeout=40)
    simulated.wait_for_states("begins", "RUNNING", timeout=40)
    finish(simulated, goes_on)
    simulated.wait_for_states("goes-on", "RUNNING", "COMPLETED", timeout=40)
    assert sorted(len(reports) for reports in simulated.cloudvision.history.values()) == [1, 2, 2, 2]
    assert program.log.count(" WARNING pods: ") == 1
    warnings = [line for line in program.log.splitlines() if " WARNING Kubernetes API at " in line]
    assert sum("Connection refused" in line for line in warnings) == 1
    assert sum("answers again" in line for line in warnings) == 1


def test_a_kind_no_longer_served_and_served_again(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    program = simulated.informer()
    gone, stays = start(simulated, "gone"), start(simulated, "stays")
    for name in ("gone", "stays"):
        simulated.wait_for_states(name, "RUNNING")
    kubernetes.unserve(TORCH[0], "pytorchjobs")
    program.wait_for_log("pytorchjobs.kubeflow.org: HTTP 404")
    kubernetes.delete(TORCH[0], "pytorchjobs", "team", str(gone["metadata"]["name"]))  # type: ignore[index]
    kubernetes.serve(TORCH[0], "v1", TORCH[1], "pytorchjobs")
    simulated.wait_for_states("gone", "RUNNING", "CANCELLED")
    finish(simulated, stays)
    simulated.wait_for_states("stays", "RUNNING", "COMPLETED")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, b'{"message":"etcd is away"}'),
        Fault(429, b"{}", {"Retry-After": "1"}),
        Fault(200, b"<html>a proxy's login page</html>"),
        Fault(200, b'{"metadata":{"resourceVersion":"5"},"items":[{"meta', drop=True),
        Fault(drop=True),
        Fault(),
    ],
)
def test_lists_that_fail_at_first(kubernetes: KubernetesSimulator, simulated: Stage, fault: Fault) -> None:
    start(simulated, "a")
    kubernetes.faults.extend([fault] * 4)
    simulated.informer()
    simulated.wait_for_states("a", "RUNNING")


def test_pages_and_gzip(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    made = simulated.cluster.create(job(*TORCH, "big"))
    macs = [f"02:00:00:00:{number // 256:02x}:{number % 256:02x}" for number in range(1100)]
    for number, mac in enumerate(macs):
        obj = pod(f"big-{number}", made, mac, padding=600)
        kubernetes.create(obj | {"status": {"phase": "Running"}})
    simulated.informer()
    (entry,) = simulated.wait_for_states("big", "RUNNING")
    assert entry["interfaces"]["values"] == macs
    assert kubernetes.counts["list pods"] == 3


def test_a_kubernetes_token_that_rotates(kubernetes: KubernetesSimulator, simulated: Stage, tmp_path: Path) -> None:
    kubernetes.token = "first"
    token = tmp_path / "token"
    token.write_text("first")
    config = json.loads(simulated.cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"tokenFile": str(token)}
    simulated.cluster.kubeconfig.write_text(json.dumps(config))
    program = simulated.informer(LOG_LEVEL="debug")
    kubernetes.token = "second"
    token.write_text("second")
    kubernetes.close_watches()
    program.wait_for_log("HTTP 401")
    made = job(*TORCH, "a")
    made["metadata"]["uid"] = "uid-a"
    kubernetes.create(made)
    kubernetes.create(pod("a-0", made, MAC) | {"status": {"phase": "Running"}})
    simulated.wait_for_states("a", "RUNNING", timeout=40)
    assert "first" not in program.log
    assert "second" not in program.log


def test_objects_that_are_wrong_are_one_warning_each(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    program = simulated.informer()
    good = start(simulated, "good")
    owner = json.dumps([{"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "uid": "x", "controller": True}])

    def raw(name: str, status: str = "{}", note: str = "", named: bool = True) -> bytes:
        title = f'"name":"{name}",' if named else ""
        text = (
            f'{{"metadata":{{{title}"namespace":"team","uid":"uid-{name}","resourceVersion":"VERSION",'
            f'"ownerReferences":{owner},"annotations":{{"k8s.v1.cni.cncf.io/network-status":{json.dumps(note)}}}}},'
            f'"status":{status}}}'
        )
        return text.encode()

    bad = {
        "badnote": raw("badnote", note="{"),
        "hugenote": raw("hugenote", note="[" + " " * 5_000_000 + "]"),
        "deepnote": raw("deepnote", note='[{"x":' + "[" * 100_000 + "]" * 100_000 + "}]"),
        "badstatus": raw("badstatus", '{"phase":7}'),
        "nameless": raw("nameless", named=False),
        "notutf8": raw("notutf8", '{"phase":"Run"}').replace(b"Run", b"\xff\xfe"),
    }
    for name, body in bad.items():
        kubernetes.put_raw("", "pods", "team", name, body)
    kubernetes.put_raw(TORCH[0], "pytorchjobs", "team", "oddjob", raw("oddjob", '{"conditions":"none"}'))
    # Odd, and nothing to warn of: as deep as the API server takes, and a time that is none in UTC.
    deep = "[" * 9_990 + "]" * 9_990
    kubernetes.put_raw("", "pods", "team", "deepjob-0", raw("deepjob-0", f'{{"odd":{deep}}}'))
    kubernetes.put_raw(TORCH[0], "pytorchjobs", "team", "deepjob", raw("deepjob", f'{{"odd":{deep}}}'))
    late = '{"startTime":"9999-12-31T23:59:59-01:00"}'
    kubernetes.put_raw(TORCH[0], "pytorchjobs", "team", "latejob", raw("latejob", late))
    for name, body in bad.items():  # and once more: still one warning
        kubernetes.put_raw("", "pods", "team", name, body)
    simulated.wait_for_states("good", "RUNNING")
    program.wait_for(lambda: all(name in program.log for name in [*bad, "oddjob"]))
    kubernetes.compact()
    kubernetes.close_watches()
    finish(simulated, good)
    simulated.wait_for_states("good", "RUNNING", "COMPLETED")
    start(simulated, "last")  # its pod is listed after all of them
    simulated.wait_for_states("last", "RUNNING")
    warnings = [line for line in program.log.splitlines() if " WARNING " in line]
    for name in [*bad, "oddjob"]:
        found = [line for line in warnings if name in line]
        assert len(found) == 1, (name, found)
        assert len(found[0]) < 400
    assert "$.status.phase" in next(line for line in warnings if "badstatus" in line)
    assert len(warnings) == len(bad) + 1
    assert " ERROR " not in program.log


# --- CloudVision --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, b'{"message":"try later"}'),
        Fault(503, b"<html>"),
        Fault(429, b"{}", {"Retry-After": "1"}),
        Fault(408),
        Fault(425),
        Fault(drop=True),
        Fault(),
    ],
)
def test_cloudvision_failing_at_first(simulated: Stage, fault: Fault) -> None:
    simulated.cloudvision.faults.extend([fault] * 2)
    simulated.informer()
    made = start(simulated, "a")
    simulated.wait_for_states("a", "RUNNING")
    simulated.cloudvision.faults.append(fault)
    finish(simulated, made)
    simulated.wait_for_states("a", "RUNNING", "COMPLETED")


def test_an_answer_lost_after_the_request_was_taken_is_one_repeated_report(simulated: Stage) -> None:
    simulated.cloudvision.faults.append(Fault(drop=True, after=True))
    simulated.informer()
    start(simulated, "a")
    simulated.wait_for_states("a", "RUNNING", "RUNNING")
    first, second = simulated.cloudvision.by_name("a")
    assert first == second


def test_cloudvision_away_and_back(simulated: Stage) -> None:
    program = simulated.informer()
    simulated.cloudvision.refuse()
    made = start(simulated, "a")
    program.wait_for_log("CloudVision is away")
    finish(simulated, made)
    program.wait_for_log("a is COMPLETED")
    simulated.cloudvision.resume()
    simulated.cloudvision.wait_for(lambda: simulated.cloudvision.states("a")[-1:] == ["COMPLETED"])
    assert program.log.count("CloudVision is away") == 1
    assert simulated.cloudvision.states("a") in (["RUNNING", "COMPLETED"], ["COMPLETED"])


def test_a_refused_report_says_why_and_others_go_on(simulated: Stage) -> None:
    simulated.cloudvision.faults.append(Fault(400, b'{"message":"location lab is not onboarded"}'))
    program = simulated.informer()
    start(simulated, "a")
    program.wait_for_log("HTTP 400: location lab is not onboarded")
    start(simulated, "b")
    simulated.wait_for_states("b", "RUNNING")


def test_a_rotated_api_token_is_picked_up_from_its_file(simulated: Stage, tmp_path: Path) -> None:
    token = tmp_path / "api-token"
    token.write_text("old-token\n")
    program = simulated.informer(API_TOKEN="", API_TOKEN_FILE=str(token))
    start(simulated, "a")
    program.wait_for_log("does not accept the API token: HTTP 401: token is not valid")
    token.write_text(simulated.cloudvision.token + "\n")
    simulated.wait_for_states("a", "RUNNING")
    assert "old-token" not in program.log
    assert simulated.cloudvision.token not in program.log


def test_certificates_are_verified_unless_that_is_switched_off(simulated: Stage) -> None:
    program = simulated.informer(API_CA_FILE="")
    start(simulated, "a")
    program.wait_for_log("CERTIFICATE_VERIFY_FAILED")
    assert simulated.cloudvision.requests == []
    assert program.stop(30) == 0
    program = simulated.informer(API_CA_FILE="", API_INSECURE_SKIP_VERIFY="true")
    simulated.wait_for_states("a", "RUNNING")
    lines = [line for line in program.log.splitlines() if " INFO " not in line]
    assert len(lines) == 1
    assert "whoever answers at" in lines[0]


def test_sigterm_delivers_what_waits(simulated: Stage) -> None:
    simulated.cloudvision.refuse()
    program = simulated.informer()
    for number in range(20):
        start(simulated, f"j{number}")
    program.wait_for(lambda: program.log.count("is RUNNING") == 20)
    program.process.terminate()
    program.wait_for_log("sending pending reports")
    simulated.cloudvision.resume()
    assert program.process.wait(25) == 0
    assert len(simulated.cloudvision.jobs) == 20
    assert "everything was delivered" in program.log


def test_a_thousand_jobs_over_at_most_eight_connections(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    simulated.cloudvision.delay = 0.005
    simulated.informer()
    for number in range(1000):
        made = job(*TORCH, f"j{number}")
        made["metadata"]["uid"] = f"uid-{number}"
        kubernetes.create(made)
        mac = f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"
        kubernetes.create(pod(f"j{number}-0", made, mac) | {"status": {"phase": "Running"}})
    simulated.cloudvision.wait_for(lambda: len(simulated.cloudvision.jobs) == 1000, 60)
    assert simulated.cloudvision.most_connections <= 8
    assert all(len(entries) == 1 for entries in simulated.cloudvision.history.values())
