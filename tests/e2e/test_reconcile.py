"""`cvji holders` and `cvji reconcile`, as processes, beside an informer. One body for each kind of cluster."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cvji.jobs.report import JobState, RunReport, of_macs
from cvji.reports.records import Delivery, Reason, Record, first_status, write_spec, write_status
from tests.e2e.in_process import wait_until
from tests.e2e.kit import EXECUTABLE, Stage, stamp
from tests.simulator.kinds import SPARK
from tests.simulator.objects import Object, ended, informer_deployment, job, pod

TORCH = ("kubeflow.org", "PyTorchJob")
GONE = "11111111-2222-4333-8444-555555555555"


def mac(number: int) -> str:
    return f"02:00:00:00:0d:{number:02x}"


def environment(stage: Stage, **more: str) -> dict[str, str]:
    """A laptop's, for this cluster and CloudVision."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = {**clean, "KUBECONFIG": str(stage.cluster.kubeconfig), "NO_PROXY": "*", "LOCATION": "lab", **more}
    env |= {"API_SERVER": stage.cloudvision.address, "API_CA_FILE": str(stage.cloudvision.ca_file)}
    return env | {"API_TOKEN": stage.cloudvision.token}


def run(stage: Stage, *arguments: str, **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [EXECUTABLE, *arguments],
        env=environment(stage, **more),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert stage.cloudvision.token not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def reported(stage: Stage, name: str, number: int) -> Object:
    """A job that runs and is reported, and whose record says that it is delivered."""
    made = stage.cluster.create(job(*TORCH, name))
    stage.cluster.run_pod(pod(f"{name}-0", made, mac(number)))
    stage.wait_for_states(name, "RUNNING")
    path = f"/apis/cloudvision.arista.io/v1/namespaces/cloudvision/jobreports/{made['metadata']['uid']}"

    def delivered() -> bool:
        found = stage.cluster.call("GET", path).get("status", {}).get("conditions", [])
        return any(condition["status"] == "True" for condition in found)

    wait_until(delivered, lambda: stage.cluster.call("GET", path))
    return made


def show(stage: Stage, key: str, **more: Any) -> None:
    """CloudVision has an entry that this cluster has not reported."""
    entry = {"key": {"id": key}, "name": "left-over", "location": "lab", "state": "JOB_STATE_RUNNING"}
    held = {"start_time": stamp(-600), "interfaces": {"values": [mac(9)]}}
    with stage.cloudvision.lock:
        stage.cloudvision._jobs.set(key, {**entry, **held, **more})


def record(stage: Stage, end: int | None, reason: Reason) -> None:
    """A JobReport of what `show` shows as GONE, as an informer leaves it."""
    at, state = int(time.time()), JobState.RUNNING if end is None else JobState.COMPLETED
    held = of_macs([mac(9)])
    report = RunReport(GONE, 1, "left-over", "team", "batch/Job", state, at - 600, end, held)
    written = write_spec(Record(("job", GONE), 1, report), "cloudvision", "", location="lab", term=0)
    path = "/apis/cloudvision.arista.io/v1/namespaces/cloudvision/jobreports"
    made = stage.cluster.call("POST", path, msgspec.json.decode(written))["metadata"]
    status = first_status(Delivery(reason, at, "" if reason is Reason.ACCEPTED else "HTTP 503"))
    body = write_status(("job", GONE), "cloudvision", made["resourceVersion"], made["generation"], status)
    stage.cluster.call("PUT", f"{path}/{GONE}/status", msgspec.json.decode(body))


@pytest.fixture
def deployed(stage: Stage) -> Stage:
    """Where the informer rests, and CloudVision shows an entry as RUNNING."""
    stage.cluster.create(informer_deployment(LOCATION="lab"))
    show(stage, GONE)
    return stage


@pytest.fixture
def watched(stage: Stage) -> Stage:
    stage.informer(STATE_NAMESPACE="cloudvision", NODECONFIG_MODE="disabled")
    stage.cluster.create(informer_deployment(LOCATION="lab"))
    return stage


def test_who_holds_a_mac_address_now_and_then(watched: Stage) -> None:
    made = reported(watched, "first", 1)
    code, out, err = run(watched, "holders", mac(1).upper())
    assert (code, err) == (0, "")
    assert f"RUNNING    kubeflow.org/PyTorchJob team/first  {made['metadata']['uid']}" in out
    code, out, _ = run(watched, "holders", mac(1), "--at", "2020-01-01T00:00:00Z")
    assert (code, out) == (1, f"no run holds {mac(1)}, nor held it as far as is recorded\n")
    code, out, _ = run(watched, "holders", mac(1), "--cloudvision", "-o", "json")
    assert [item["source"] for item in json.loads(out)["holdings"]] == ["records", "cloudvision"]


def test_what_is_left_over_in_cloudvision_is_listed_and_ended_and_nothing_else(watched: Stage) -> None:
    made = reported(watched, "mine", 1)
    assert run(watched, "reconcile")[0] == 0
    show(watched, GONE)
    show(watched, "tenant-1", type="JOB_TYPE_TENANT")
    show(watched, "another-integration")
    show(watched, GONE.replace("1", "2"), location="elsewhere")
    code, out, _ = run(watched, "reconcile")
    assert code == 1
    assert f"RUNNING in CloudVision and not here: left-over ({GONE})" in out
    assert "RUNNING at lab, here and in CloudVision: 1; tenants' jobs and ids of others: 2" in out
    assert run(watched, "reconcile", "--end")[0] == 130  # nobody answers the question
    code, out, err = run(watched, "reconcile", "--end", "--yes")
    assert (code, err) == (0, "")
    assert f"left-over ({GONE}): ended" in out
    states = {key: held["state"] for key, held in watched.cloudvision.jobs.items()}
    assert states.pop(GONE) == "JOB_STATE_CANCELLED"
    assert set(states.values()) == {"JOB_STATE_RUNNING"}
    assert made["metadata"]["uid"] in states


def test_an_end_that_nobody_reads_is_one_line_and_exit_1(simulated: Stage) -> None:
    simulated.cluster.create(informer_deployment(LOCATION="lab"))
    show(simulated, GONE)
    words, pipe = [EXECUTABLE, "reconcile", "--end"], subprocess.PIPE
    with subprocess.Popen(words, env=environment(simulated), stdin=pipe, stdout=pipe, stderr=pipe) as program:
        assert program.stdin
        assert program.stdout
        assert program.stderr
        wait_for_question(program)
        program.stdout.close()
        program.stdin.write(b"y\n")
        program.stdin.close()
        assert program.stderr.read().endswith(b"]:cvji: stdout: Broken pipe\n")
    assert program.returncode == 1
    assert simulated.cloudvision.jobs[GONE]["state"] == "JOB_STATE_CANCELLED"


def test_an_end_that_cloudvision_took_and_does_not_show_is_sent_again_as_recorded(deployed: Stage) -> None:
    end = int(time.time()) - 300
    record(deployed, end, Reason.ACCEPTED)
    code, out, _ = run(deployed, "reconcile")
    assert code == 1
    assert "is recorded, and CloudVision took it: --end sends it again" in out
    assert "no job here has that id" not in out
    code, out, _ = run(deployed, "reconcile", "--end", "--yes")
    assert code == 0
    assert f"left-over ({GONE}): ended, as recorded" in out
    held = deployed.cloudvision.runs("left-over")
    assert [(found.state, found.end) for found in held] == [("COMPLETED", stamp(end - time.time()))]


def test_an_end_that_waits_to_be_delivered_is_said_and_left_to_the_informer(deployed: Stage) -> None:
    record(deployed, int(time.time()) - 300, Reason.UNREACHABLE)
    code, out, _ = run(deployed, "reconcile", "--end", "--yes")
    assert code == 1
    assert "is recorded, and it waits to be delivered" in out
    assert deployed.cloudvision.jobs[GONE]["state"] == "JOB_STATE_RUNNING"


def deliver(stage: Stage) -> None:
    """The informer delivers an end."""
    with stage.cloudvision.lock:
        stage.cloudvision._jobs.set(GONE, {"state": "JOB_STATE_COMPLETED", "end_time": stamp(-60)})


MEANWHILE: dict[str, tuple[Callable[[Stage], None], str, str]] = {
    "ended": (deliver, "COMPLETED", "CloudVision does not show it as RUNNING any more"),
    "recorded": (lambda stage: record(stage, None, Reason.ACCEPTED), "RUNNING", "a JobReport of it has come meanwhile"),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_what_has_changed_while_the_question_waited_is_left_alone(deployed: Stage, what: str) -> None:
    happens, state, words = MEANWHILE[what]
    pipe = subprocess.PIPE
    command = [EXECUTABLE, "reconcile", "--end"]
    with subprocess.Popen(command, env=environment(deployed), stdin=pipe, stdout=pipe, stderr=pipe) as program:
        assert program.stdin
        assert program.stdout
        wait_for_question(program)
        happens(deployed)
        program.stdin.write(b"y\n")
        program.stdin.close()
        assert f"left alone: {words}" in program.stdout.read().decode()
    assert [found.state for found in deployed.cloudvision.runs("left-over")] == [state]


def wait_for_question(program: "subprocess.Popen[bytes]") -> None:
    assert program.stdout
    shown = b""
    while not shown.endswith(b"\n "):  # what follows the question
        more = os.read(program.stdout.fileno(), 65536)
        assert more
        shown += more


def test_an_entry_whose_job_exists_is_never_ended(watched: Stage) -> None:
    made = watched.cluster.create(job(*TORCH, "idle"))
    uid = made["metadata"]["uid"]
    if uid.count("-") != 4 or len(uid) != 36:
        pytest.skip("the simulated API server makes no UUIDs")
    show(watched, uid)
    code, out, _ = run(watched, "reconcile", "--end", "--yes")
    assert code == 1
    assert "its job exists: the informer will report it" in out
    assert watched.cloudvision.jobs[uid]["state"] == "JOB_STATE_RUNNING"


def test_a_job_of_a_kind_that_the_deployed_informer_knows_is_never_ended(stage: Stage) -> None:
    """LOCATION is set here, as it is after `just deploy`."""
    stage.cluster.create(informer_deployment(LOCATION="lab", JOB_KINDS=f"{SPARK[0]}/{SPARK[2]}"))
    made = job(SPARK[0], SPARK[2], "etl")
    made["metadata"]["uid"] = GONE  # a real API server gives its own
    uid = stage.cluster.create(made)["metadata"]["uid"]
    show(stage, uid)
    code, out, _ = run(stage, "reconcile", "--end", "--yes")
    assert code == 1
    assert "its job exists: the informer will report it" in out
    assert stage.cloudvision.jobs[uid]["state"] == "JOB_STATE_RUNNING"


def test_nothing_is_ended_where_the_informer_is_in_another_namespace(stage: Stage) -> None:
    """Neither its records nor the kinds that it counts as jobs are known there."""
    stage.cluster.create(informer_deployment("other", LOCATION="lab"))
    show(stage, GONE)
    code, out, _ = run(stage, "reconcile", "--end", "--yes", "-o", "json")
    assert code == 1
    assert json.loads(out)["unread"][0].startswith("the informer's settings in namespace cloudvision: HTTP 404")
    assert stage.cloudvision.jobs[GONE]["state"] == "JOB_STATE_RUNNING"
    assert run(stage, "reconcile", "--end", "--yes", "--state-namespace", "other")[0] == 0


def test_nothing_is_ended_at_another_location_than_the_informers(deployed: Stage) -> None:
    """LOCATION may still be set from the work on another cluster, whose jobs are not seen from here."""
    show(deployed, GONE, location="far")
    for elsewhere, more in ((["--location", "far"], {}), ([], {"LOCATION": "far"})):
        code, out, err = run(deployed, "reconcile", "--end", "--yes", *elsewhere, **more)
        assert (code, err) == (1, "")
        assert f"left-over ({GONE})" in out
        assert out.endswith("nothing is ended: the informer here reports at lab, so far is another cluster's\n")
    assert deployed.cloudvision.jobs[GONE]["state"] == "JOB_STATE_RUNNING"


def test_a_run_that_cloudvision_has_lost_is_listed(watched: Stage) -> None:
    made = reported(watched, "lost", 1)
    watched.cloudvision.forget()
    code, out, _ = run(watched, "reconcile")
    assert code == 1
    assert f"RUNNING here and not in CloudVision: kubeflow.org/PyTorchJob team/lost ({made['metadata']['uid']})" in out
    watched.cluster.set_status(made, ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})


@pytest.mark.parametrize(
    "command", [["reconcile", "--end", "--yes"], ["holders", mac(9), "--cloudvision"]], ids=" ".join
)
def test_an_answer_that_fails_in_its_middle_is_not_taken_for_complete(deployed: Stage, command: list[str]) -> None:
    show(deployed, GONE.replace("1", "2"))
    deployed.cloudvision.fails_after = 1
    words = "the answer ended before it was complete: the store is away (gRPC code 14)"
    assert run(deployed, *command) == (2, "", f"cvji: CloudVision: {words}\n")
    assert {held["state"] for held in deployed.cloudvision.jobs.values()} == {"JOB_STATE_RUNNING"}


def test_a_token_that_may_not_read_is_an_answer_of_its_own(watched: Stage) -> None:
    watched.cloudvision.readable = False
    code, _, err = run(watched, "reconcile")
    assert code == 1
    assert "may not read computejob" in err
