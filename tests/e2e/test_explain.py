"""`cvji explain` beside an informer: both say the same of each state of a run. One body for each kind of cluster."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvji import explain
from cvji.deployed import Deployed
from cvji.jobs.runs import State
from cvji.kube.client import Api
from tests.cluster.controlplane import ControlPlane
from tests.e2e.in_process import InProcess, wait_until
from tests.e2e.kit import EXECUTABLE, POD, QUICK, Stage, stamp, write_kubeconfig
from tests.simulator.cloudvision import Fault
from tests.simulator.kinds import CORE_KINDS, JOB_KINDS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, networks, pod, pod_status, running

TORCH = ("kubeflow.org", "PyTorchJob")
LABEL = {"training.kubeflow.org/job-name": "j"}


def mac(number: int) -> str:
    return f"02:00:00:00:0e:{number:02x}"


@pytest.fixture
def informer(stage: Stage) -> Iterator[InProcess]:
    """One that keeps records."""
    with InProcess(stage, state_namespace="cloudvision") as found:
        yield found


def explained(informer: InProcess, asked: str = "team/j", kind: str = "") -> explain.Answer:
    informer.settle()
    with informer._environment():
        api = Api()
    return explain.answer(api, Deployed({"LOCATION": "lab"}), asked, kind, "cloudvision", informer.clock.now)


def agreed(informer: InProcess, made: Object, *, recorded: bool = False) -> explain.Answer:
    """What explain says, which is what the informer holds; once its report is recorded and answered."""
    found = explained(informer)
    if recorded:
        wait_until(lambda: explained(informer).records, lambda: explained(informer))
        wait_until(lambda: explained(informer).records[-1].delivered, lambda: explained(informer))
        found = explained(informer)
    runs = informer._informer.reporter._tracker.runs(made["metadata"]["uid"])
    state = runs.state if runs else State.IDLE
    assert found.explanation is not None
    assert found.explanation.state == state.value, found
    assert not found.unread
    return found


def begin(informer: InProcess, *pods: tuple[str, str]) -> tuple[Object, list[Object]]:
    """A job with pods, each with a phase and perhaps a MAC."""
    start = informer.stamp()
    made = informer.cluster.create(job(*TORCH, "j"), running(*TORCH, start))
    found = []
    for number, (phase, address) in enumerate(pods):
        body = pod(f"j-{number}", made, *([address] if address else []))
        body["metadata"]["labels"] = LABEL
        found.append(informer.cluster.create(body, pod_status(phase, start if phase == "Running" else "")))
    return made, found


def test_waiting_for_a_pod(informer: InProcess) -> None:
    made, _ = begin(informer, ("Running", mac(1)), ("Pending", mac(2)))
    informer.advance(8)
    found = agreed(informer, made).explanation
    assert found is not None
    assert "pod j-1 is Pending; reported at" in found.waits_for
    assert found.climb == ("2 pods -> kubeflow.org/PyTorchJob j",)


def test_waiting_for_a_mac_address(informer: InProcess) -> None:
    made, (first,) = begin(informer, ("Running", ""))
    informer.advance(8)
    found = agreed(informer, made).explanation
    assert found is not None
    assert found.waits_for == "pod j-0 is running and without a NIC: reported once one has a MAC address"
    note = {"k8s.v1.cni.cncf.io/network-status": networks(mac(1))}
    informer.cluster.patch(first, {"metadata": {"annotations": note}})
    informer.advance(2)
    late = agreed(informer, made).explanation
    assert late is not None
    assert late.pods[0].nics[0].address == mac(1)


def test_waiting_to_be_steady_then_reported_then_changing_then_ended(informer: InProcess) -> None:
    start = informer.stamp()
    made, (first,) = begin(informer, ("Running", mac(1)))
    informer.advance(1)
    found = agreed(informer, made).explanation
    assert found is not None
    assert "must stay the same for 5 s" in found.waits_for
    informer.advance(6)
    reported = agreed(informer, made, recorded=True)
    (record,) = reported.records
    assert (record.state, record.count, record.delivered) == ("RUNNING", 1, True)
    note = {"k8s.v1.cni.cncf.io/network-status": networks(mac(1), mac(2))}
    informer.cluster.patch(first, {"metadata": {"annotations": note}})
    informer.advance(1)
    changing = agreed(informer, made).explanation
    assert changing is not None
    assert changing.waits_for.startswith("it holds 2 NICs now, and 1 are reported")
    informer.advance(6)
    wait_until(lambda: explained(informer).records[-1].count == 2, lambda: explained(informer))
    informer.cluster.set_status(made, ended(*TORCH, "COMPLETED", start, informer.stamp()) or {})
    informer.advance(1)
    wait_until(lambda: explained(informer).records[-1].state == "COMPLETED", lambda: explained(informer))
    done = agreed(informer, made, recorded=True)
    assert done.explanation is not None
    assert done.explanation.waits_for == "nothing: the job has ended, and that is reported"


def test_a_job_that_gained_or_replaced_a_pod_long_after_its_first_report_is_reported(informer: InProcess) -> None:
    made, (first,) = begin(informer, ("Running", mac(1)))
    informer.advance(6)
    agreed(informer, made, recorded=True)
    informer.advance(100)
    for number, gone in ((1, None), (2, first)):
        body = pod(f"j-{number}", made, mac(number + 1))
        body["metadata"]["labels"] = LABEL
        if gone:
            informer.cluster.delete(gone)
        informer.cluster.create(body, pod_status("Running", informer.stamp()))
        informer.advance(8)
        wait_until(lambda: explained(informer).records[-1].count == 2, lambda: explained(informer))
        found = agreed(informer, made, recorded=True).explanation
        assert found is not None
        assert found.waits_for == "nothing: what it holds is reported"


def test_a_run_that_holds_nothing_any_more_says_when_it_ends(informer: InProcess) -> None:
    made, (first,) = begin(informer, ("Running", mac(1)))
    informer.advance(6)
    agreed(informer, made, recorded=True)
    start = informer.stamp(-6)
    informer.cluster.set_status(first, pod_status("Failed", start, informer.stamp()))
    informer.advance(2)
    found = agreed(informer, made).explanation
    assert found is not None
    assert found.state == State.VACANT.value
    assert found.waits_for.endswith("as CANCELLED")
    assert found.pods[0].notes[0] == "failed: it holds nothing any more"


def test_a_run_that_was_too_short_is_never_reported(informer: InProcess) -> None:
    start = informer.stamp()
    made, (first,) = begin(informer, ("Running", mac(1)))
    informer.advance(1)
    informer.cluster.set_status(first, pod_status("Succeeded", start, informer.stamp()))
    informer.cluster.set_status(made, ended(*TORCH, "COMPLETED", start, informer.stamp()) or {})
    informer.advance(70)
    found = agreed(informer, made)
    assert found.explanation is not None
    assert found.explanation.waits_for.startswith("nothing, it is never reported")
    assert found.records == ()


def test_refused_by_cloudvision_in_its_own_words(stage: Stage) -> None:
    stage.cloudvision.always = Fault(400, b'{"message":"location is not known"}')
    stage.informer(STATE_NAMESPACE="cloudvision", NODECONFIG_MODE="disabled")
    made = stage.cluster.create(job(*TORCH, "j"))
    stage.cluster.run_pod(pod("j-0", made, mac(1)))
    kubeconfig = str(stage.cluster.kubeconfig)
    refused = "not delivered: Refused: HTTP 400: location is not known"
    wait_until(lambda: refused in run(kubeconfig, "explain", "team/j")[1], lambda: run(kubeconfig, "explain", "team/j"))
    assert "waits for: CloudVision to take the report" in run(kubeconfig, "explain", "team/j")[1]


def test_a_job_that_is_gone_is_explained_by_its_records(informer: InProcess) -> None:
    made, (first,) = begin(informer, ("Running", mac(1)))
    informer.advance(6)
    agreed(informer, made, recorded=True)
    informer.cluster.delete(first)
    informer.cluster.delete(made)
    informer.advance(2)
    wait_until(lambda: explained(informer).records[-1].state == "CANCELLED", lambda: explained(informer))
    assert explained(informer).explanation is None


def test_a_job_set_is_explained_by_the_name_of_its_child_and_of_a_pod(informer: InProcess) -> None:
    start = informer.stamp()
    train = informer.cluster.create(job("trainer.kubeflow.org", "TrainJob", "llm"))
    jobset = informer.cluster.create(job("jobset.x-k8s.io", "JobSet", "llm", owner=train))
    child = informer.cluster.create(job("batch", "Job", "llm-node-0", owner=jobset))
    informer.cluster.run_pod(pod("llm-node-0-0", child, mac(1)), start)
    informer.advance(6)
    for asked in ("team/llm", "team/llm-node-0", "team/llm-node-0-0"):
        found = explained(informer, asked).explanation
        assert found is not None
        assert found.job == "trainer.kubeflow.org/TrainJob team/llm"
        assert found.climb == (
            "1 pod -> batch/Job llm-node-0 -> jobset.x-k8s.io/JobSet llm -> trainer.kubeflow.org/TrainJob llm",
        )


# --- as a process ----------------------------------------------------------------------------------------------


def run(kubeconfig: str, *arguments: str, **more: str) -> tuple[int, str, str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = {**clean, "KUBECONFIG": kubeconfig, "NO_PROXY": "*", **more}
    done = subprocess.run([EXECUTABLE, *arguments], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_it_takes_a_handful_of_requests_and_no_list_of_all_pods(
    kubernetes: KubernetesSimulator, simulated: Stage
) -> None:
    made = simulated.cluster.create(job(*TORCH, "j"))
    simulated.cluster.run_pod(pod("j-0", made, mac(1)))
    kubernetes.requests.clear()
    code, out, err = run(str(simulated.cluster.kubeconfig), "explain", "team/j", "--kind", "pytorchjob", "-o", "json")
    assert code == 0, err
    assert json.loads(out)["explanation"]["job"] == "kubeflow.org/PyTorchJob team/j"
    lists = [path for _, path in kubernetes.requests if "/pods" in path]
    assert all("/namespaces/team/pods" in path for path in lists)
    assert len([path for _, path in kubernetes.requests if path.count("/") > 3]) <= 8


def test_whoever_may_list_and_not_get_is_answered_too(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    """As the informer's own service account."""
    for group, _, _, plural in (*CORE_KINDS, *JOB_KINDS):
        kubernetes.forbid(group, plural, "get")
    above = simulated.cluster.create(job("jobset.x-k8s.io", "JobSet", "j"))
    made = simulated.cluster.create(job("batch", "Job", "j-0", owner=above))
    simulated.cluster.run_pod(pod("j-0-0", made, mac(1)))
    for asked in ("team/j", "team/j-0-0"):
        code, out, err = run(str(simulated.cluster.kubeconfig), "explain", asked, **POD, LOCATION="lab")
        assert (code, err) == (0, "")
        assert "1 pod -> batch/Job j-0 -> jobset.x-k8s.io/JobSet j" in out
        assert "Not read:" not in out
    kubernetes.forbid("jobset.x-k8s.io", "jobsets", "list")
    code, out, _ = run(str(simulated.cluster.kubeconfig), "explain", "team/j", **POD, LOCATION="lab")
    assert code == 1
    assert "jobsets.jobset.x-k8s.io in namespace team: HTTP 403" in out


def test_names_that_mean_two_jobs_ask_for_the_kind(simulated: Stage) -> None:
    for kind in ("PyTorchJob", "MPIJob"):
        simulated.cluster.create(job("kubeflow.org", kind, "j"))
    code, _, err = run(str(simulated.cluster.kubeconfig), "explain", "team/j")
    assert code == 2
    assert "--kind kubeflow.org/PyTorchJob or --kind kubeflow.org/MPIJob" in err


# --- as the owner of a namespace ------------------------------------------------------------------------------------


@pytest.fixture
def owner(prepared_plane: ControlPlane, tmp_path: Path) -> Iterator[str]:
    """The kubeconfig of one who may read what is in namespace team, and nothing elsewhere."""
    resources = "/apis/rbac.authorization.k8s.io/v1/namespaces/team"
    rule = {"apiGroups": ["", "batch", "kubeflow.org", "resource.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}
    prepared_plane.call("POST", f"{resources}/roles", {"metadata": {"name": "owner"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": "team"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "owner"}
    binding = {"metadata": {"name": "owner"}, "roleRef": reference, "subjects": [subject]}
    prepared_plane.call("POST", f"{resources}/rolebindings", binding)
    folder = tmp_path / "owner"
    folder.mkdir()
    token = prepared_plane.token_for("team", "default")
    authority = {"certificate-authority": str(prepared_plane.ca_file)}
    yield str(write_kubeconfig(folder, prepared_plane.server, {"token": token}, **authority))
    prepared_plane.call("DELETE", f"{resources}/rolebindings/owner")
    prepared_plane.call("DELETE", f"{resources}/roles/owner")


@pytest.fixture
def kubeconfig(stage: Stage, request: pytest.FixtureRequest) -> str:
    """The same on any stage."""
    if stage.simulator is None:
        found: str = request.getfixturevalue("owner")
        return found
    stage.simulator.forbid("cloudvision.arista.io", "jobreports", "get", "list")
    return str(stage.cluster.kubeconfig)


UNREAD = "jobreports.cloudvision.arista.io in namespace cloudvision (what was reported is not known)"


@pytest.mark.cluster
def test_the_owner_of_a_namespace_is_answered_and_learns_what_may_not_be_read(real: Stage, owner: str) -> None:
    made = real.cluster.create(job(*TORCH, "j"))
    real.cluster.run_pod(pod("j-0", made, mac(1)))
    begun = time.monotonic()
    code, out, err = run(owner, "explain", "team/j")
    took = time.monotonic() - begun
    assert code == 0, err
    assert mac(1) in out
    unread = out.partition("Not read:")[2]
    assert UNREAD in unread
    assert "the informer's settings in namespace cloudvision" in unread
    assert "Reported to CloudVision: not known" in out
    token = json.loads(Path(owner).read_text())["users"][0]["user"]["token"]
    assert token not in out + err
    print(f"explain took {took:.2f} s")
    assert took < 5  # under a second by itself; other tests run beside


def two_pods(stage: Stage, *phases: str, macs: tuple[str, ...] = (mac(1),)) -> Object:
    """A job with a pod of each phase."""
    made = stage.cluster.create(job(*TORCH, "j"), running(*TORCH, stamp()))
    for number, phase in enumerate(phases):
        body = pod(f"j-{number}", made, *macs)
        body["metadata"]["labels"] = LABEL
        stage.cluster.create(body, pod_status(phase, *[stamp()] * (1 + (phase == "Succeeded"))))
    return made


def told(stage: Stage) -> Object:
    stage.informer(NODECONFIG_MODE="disabled")
    made = two_pods(stage, "Running")
    stage.wait_for_states("j", "RUNNING")
    return made


def refused(stage: Stage) -> None:
    stage.cloudvision.always = Fault(400, b'{"message":"location is not known"}')
    stage.informer(NODECONFIG_MODE="disabled")
    two_pods(stage, "Running")


def complete(stage: Stage, made: Object, after: float = 0.0) -> None:
    """The job ends `after` seconds from now: times are whole seconds, and a run is to have lasted some."""
    stage.cluster.set_status(made, ended(*TORCH, "COMPLETED", stamp(), stamp(after)) or {})


SLOW = {"STABILITY_DELAY": "10m", "START_MAX_WAIT": "20m"}  # of informers that see no such state pass
STATES: dict[str, tuple[Callable[[Stage], object], dict[str, str], tuple[str, ...]]] = {
    "waiting for a pod": (
        lambda stage: two_pods(stage, "Running", "Pending"), SLOW, ("Run: starting", "pod j-1 is Pending; reported at"),
    ),
    "waiting for a MAC": (
        lambda stage: two_pods(stage, "Running", macs=()), SLOW,
        ("Run: idle", "pod j-0 is running and without a NIC: reported once one has a MAC address"),
    ),
    "waiting for stability": (
        lambda stage: two_pods(stage, "Running"), SLOW, ("Run: starting", "must stay the same for 600 s"),
    ),
    "told": (
        told, QUICK,
        ("Run: reported", "what it holds is reported, by the times of its pods", "Reported to CloudVision: RUNNING with 1 NICs"),
    ),
    "refused": (
        refused, QUICK,
        ("Run: reported", "waits for: CloudVision to take the report: CloudVision refuses the report: HTTP 400: location is"),
    ),
    "ended": (
        lambda stage: complete(stage, told(stage), after=2), QUICK,
        ("Run: ended", "nothing: the job has ended", "Reported to CloudVision: COMPLETED, with 1 NICs"),
    ),
    "never to be told": (
        lambda stage: complete(stage, two_pods(stage, "Succeeded")), SLOW, ("Run: missed", "nothing, it is never reported"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_the_owner_of_a_namespace_is_told_the_state_of_a_run(stage: Stage, kubeconfig: str, state: str) -> None:
    happens, policy, words = STATES[state]
    happens(stage)

    def shown() -> str:
        code, out, err = run(kubeconfig, "explain", "team/j", **POD, LOCATION="lab", **policy)  # the informer's
        assert (code, err) == (0, "")
        return out

    wait_until(lambda: all(word in shown() for word in words), shown)
    assert UNREAD in shown().partition("Not read:")[2]
