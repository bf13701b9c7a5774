"""Runs of jobs that stop and go on, shrink and lose pods: what CloudVision holds. One body for each kind of cluster."""

from collections.abc import Callable

import pytest

from tests.e2e.in_process import InProcess
from tests.simulator.kinds import JOB_KINDS
from tests.simulator.objects import Object, ended, job, pod, pod_status, running

TORCH = ("kubeflow.org", "PyTorchJob")
BATCH = ("batch", "Job")
VOLCANO = ("batch.volcano.sh", "Job")
WORKFLOW = ("argoproj.io", "Workflow")
CLUSTER = ("ray.io", "RayCluster")
RUN_AI = [(group, kind) for group, _, kind, _ in JOB_KINDS if group == "run.ai"]
KUBEFLOW = [(group, kind) for group, _, kind, _ in JOB_KINDS if group == "kubeflow.org"]
OTHERS = [("trainer.kubeflow.org", "TrainJob"), ("jobset.x-k8s.io", "JobSet"), ("ray.io", "RayJob"), CLUSTER]
BY_SPEC = [BATCH, *KUBEFLOW, *OTHERS, WORKFLOW]  # those with a field for it
MAIN = pytest.mark.parametrize("kind", [BATCH, TORCH], ids="-".join)


def mac(number: int) -> str:
    return f"02:00:00:00:06:{number:02x}"


def macs(*numbers: int) -> tuple[str, ...]:
    return tuple(map(mac, numbers))


def begin(informer: InProcess, kind: tuple[str, str], name: str, *numbers: int) -> tuple[Object, list[Object]]:
    """A job whose pods run from now on, each with one NIC, and which is reported: the job and the pods."""
    start = informer.stamp()
    made = informer.cluster.create(job(*kind, name), running(*kind, start) or None)
    pods = [informer.cluster.run_pod(pod(f"{name}-{number}", made, mac(number)), start) for number in numbers]
    informer.advance(6)
    assert informer.states(name) == [("RUNNING", macs(*numbers))]
    return made, pods


def finish(informer: InProcess, kind: tuple[str, str], made: Object, start: str, state: str = "COMPLETED") -> None:
    """The job's object says that it has ended now."""
    informer.cluster.set_status(made, ended(*kind, state, start, informer.stamp()) or {})


def kubelet_ends(informer: InProcess, runs: Object, start: str, phase: str = "Failed") -> None:
    """The kubelet writes the end of a pod that is being deleted, then lets it go."""
    informer.cluster.set_status(runs, pod_status(phase, start, informer.stamp()))
    informer.advance(1)
    informer.cluster.delete(runs)


def suspend(informer: InProcess, kind: tuple[str, str], made: Object, suspended: bool) -> None:
    """As the job's user, or its queue, does; batch's controller takes the start back as the API server insists."""
    spec = {"runPolicy": {"suspend": suspended}} if kind in KUBEFLOW else {"suspend": suspended}
    informer.cluster.patch(made, {"spec": spec})
    if kind == BATCH and suspended:
        informer.cluster.set_status(made, {"startTime": None})


# --- suspended and resumed ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BY_SPEC, ids="-".join)
def test_a_job_that_is_suspended_and_resumed_is_two_closed_runs(informer: InProcess, kind: tuple[str, str]) -> None:
    first = informer.stamp()
    made, (runs,) = begin(informer, kind, "j", 1)
    suspend(informer, kind, made, True)
    informer.cluster.terminate(runs)
    informer.advance(10)
    assert informer.states("j") == [("RUNNING", macs(1))]  # its pod still runs
    before = informer.stamp()
    kubelet_ends(informer, runs, first)
    (stopped,) = informer.runs("j")  # at once
    assert (stopped.state, stopped.macs, stopped.start) == ("CANCELLED", macs(1), first)
    assert stopped.end is not None
    assert before <= stopped.end <= informer.stamp()
    informer.advance(300)
    resume(informer, kind, made, lambda: suspend(informer, kind, made, False), stopped.end)


@pytest.mark.parametrize("kind", [VOLCANO, WORKFLOW, *RUN_AI], ids="-".join)
def test_a_job_whose_status_alone_says_that_it_stopped_and_goes_on_is_two_closed_runs(
    informer: InProcess, kind: tuple[str, str]
) -> None:
    """Volcano's AbortJob and ResumeJob, run.ai's preemption; `argo retry` takes up a Workflow that had failed."""
    first = informer.stamp()
    made, (runs,) = begin(informer, kind, "j", 1)
    informer.cluster.terminate(runs)
    before = informer.stamp()
    kubelet_ends(informer, runs, first)
    stops = {VOLCANO: ended(*VOLCANO, "CANCELLED", first, informer.stamp())}
    stops[WORKFLOW] = ended(*WORKFLOW, "FAILED", first, informer.stamp())
    informer.cluster.set_status(made, stops.get(kind, {"phase": "Preempted"}) or {})
    informer.advance(61)
    (stopped,) = informer.runs("j")
    assert (stopped.state, stopped.start) == ("FAILED" if kind == WORKFLOW else "CANCELLED", first)
    assert stopped.macs == macs(1)
    assert stopped.end is not None
    assert before <= stopped.end <= informer.stamp(-60)
    informer.advance(300)
    resume(informer, kind, made, lambda: None, stopped.end)


def resume(informer: InProcess, kind: tuple[str, str], made: Object, go_on: Callable[[], None], end: str) -> None:
    """The second run of a job from its begin to its end; the first is left as it is."""
    (stopped,) = informer.runs("j")
    go_on()
    second = informer.stamp()
    if goes_on := running(*kind, second) or ({"phase": "Running"} if kind in RUN_AI else None):
        informer.cluster.set_status(made, goes_on)
    runs = informer.cluster.run_pod(pod("j-again", made, mac(2)), second)
    informer.advance(6)
    assert informer.runs("j")[:1] == [stopped]
    (_, again) = informer.runs("j")
    assert again.id == f"{made['metadata']['uid']}.2"
    assert (again.state, again.macs, again.start, again.end) == ("RUNNING", macs(2), second, None)
    assert second >= end
    informer.advance(60)
    informer.cluster.set_status(runs, pod_status("Succeeded", second, informer.stamp()))
    if kind == CLUSTER:  # never succeeds
        informer.cluster.delete(made)
    else:
        finish(informer, kind, made, second)
    (left, last) = informer.runs("j")
    assert left == stopped
    assert (last.id, last.state) == (again.id, "CANCELLED" if kind == CLUSTER else "COMPLETED")
    assert (last.start, last.macs) == (second, macs(2))
    assert last.end == informer.stamp() or kind == CLUSTER
    last_held = informer.stage.cloudvision.held(stopped.id, informer.clock.now - 30)
    assert last_held == informer.stage.cloudvision.held(stopped.id)


@MAIN
def test_a_suspended_job_with_a_pod_stuck_on_a_lost_node_runs_on_with_that_one(
    informer: InProcess, kind: tuple[str, str]
) -> None:
    first = informer.stamp()
    made, pods = begin(informer, kind, "j", 1, 2, 3)
    suspend(informer, kind, made, True)
    for runs in pods:
        informer.cluster.terminate(runs)
    for runs in pods[:2]:
        kubelet_ends(informer, runs, first)
    informer.advance(6)
    assert informer.states("j") == [("RUNNING", macs(3))]
    informer.advance(120)
    assert informer.states("j") == [("RUNNING", macs(3))]
    informer.cluster.delete(pods[2])
    assert informer.states("j") == [("CANCELLED", macs(3))]


# --- pods that are deleted while they run -------------------------------------------------------------


def test_a_ray_cluster_that_is_scaled_down_gives_the_nic_back_though_its_pod_exits_0(informer: InProcess) -> None:
    first = informer.stamp()
    _, pods = begin(informer, CLUSTER, "ray", 1, 2, 3)
    informer.cluster.terminate(pods[2])
    informer.advance(10)
    assert informer.states("ray") == [("RUNNING", macs(1, 2, 3))]  # until it has ended
    kubelet_ends(informer, pods[2], first, "Succeeded")
    informer.advance(6)
    assert informer.states("ray") == [("RUNNING", macs(1, 2))]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_drained_pod_and_its_replacement_are_the_replacements_nic(informer: InProcess, phase: str) -> None:
    first = informer.stamp()
    made, (old,) = begin(informer, BATCH, "j", 1)
    informer.cluster.terminate(old)
    kubelet_ends(informer, old, first, phase)
    new = informer.cluster.run_pod(pod("j-new", made, mac(2)), informer.stamp())
    informer.advance(6)
    assert informer.states("j") == [("RUNNING", macs(2))]
    informer.cluster.set_status(new, pod_status("Succeeded", informer.stamp(-6), informer.stamp()))
    finish(informer, BATCH, made, first)
    (run,) = informer.runs("j")
    assert (run.state, run.macs) == ("COMPLETED", macs(2))
    assert (run.start, run.end) == (first, informer.stamp())


def test_a_pod_that_ended_by_itself_counts_on_when_it_is_gone(informer: InProcess) -> None:
    first = informer.stamp()
    made, pods = begin(informer, BATCH, "j", 1, 2)
    informer.cluster.set_status(pods[0], pod_status("Succeeded", first, informer.stamp()))
    informer.settle()
    informer.cluster.delete(pods[0])
    informer.advance(70)
    assert informer.states("j") == [("RUNNING", macs(1, 2))]
    informer.cluster.set_status(pods[1], pod_status("Succeeded", first, informer.stamp()))
    finish(informer, BATCH, made, first)
    assert informer.states("j") == [("COMPLETED", macs(1, 2))]


def test_a_job_that_waits_ten_minutes_for_capacity_has_given_its_nics_back(informer: InProcess) -> None:
    first = informer.stamp()
    made, pods = begin(informer, TORCH, "waits", 1, 2)
    lost = informer.clock.now
    for runs in pods:
        informer.cluster.delete(runs)
    for number in (1, 2):
        informer.cluster.create(pod(f"waits-new-{number}", made, node=""), {"phase": "Pending"})
    informer.advance(59)
    assert informer.states("waits") == [("RUNNING", macs(1, 2))]
    informer.advance(3)
    (run,) = informer.runs("waits")
    assert (run.state, run.macs, run.start) == ("CANCELLED", macs(1, 2), first)
    assert run.end is not None
    assert informer.stamp(-65) <= run.end <= informer.stamp(-55)
    begin(informer, TORCH, "takes", 1, 2)
    informer.advance(600 - (informer.clock.now - lost))
    again = informer.stamp()
    for number in (1, 2):
        waits = pod(f"waits-new-{number}", made)
        note = pod("", made, mac(number + 2))["metadata"]["annotations"]
        informer.cluster.patch(waits, {"metadata": {"annotations": note}})
        bind(informer, waits)
        informer.cluster.set_status(waits, pod_status("Running", again))
    informer.advance(6)
    assert informer.states("waits") == [("CANCELLED", macs(1, 2)), ("RUNNING", macs(3, 4))]
    second = informer.runs("waits")[1]
    assert (second.id, second.start) == (f"{made['metadata']['uid']}.2", again)
    assert informer.states("takes") == [("RUNNING", macs(1, 2))]


def bind(informer: InProcess, waits: Object, node: str = "worker-0") -> None:
    """As the scheduler does."""
    target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": waits["metadata"]["name"]}}
    path = informer.cluster.path(waits, waits["metadata"]["name"])
    if informer.stage.simulator is None:
        informer.cluster.call("POST", f"{path}/binding", {**target, "target": {"kind": "Node", "name": node}})
    else:
        informer.cluster.call("PATCH", path, {"spec": {"nodeName": node}})
