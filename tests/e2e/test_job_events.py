"""Events on the objects of jobs, as `kubectl describe` shows them. One body for each kind of cluster."""

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.e2e.in_process import wait_until
from tests.e2e.kit import Stage, stamp
from tests.simulator.cloudvision import Fault
from tests.simulator.objects import Object, ended, job, pod

TORCH = ("kubeflow.org", "PyTorchJob")
MAC = "02:00:00:00:0c:01"


def events(stage: Stage, made: Object) -> list[tuple[str, str]]:
    """Reason and message of the Events on an object, as describe finds them."""
    found = stage.cluster.call("GET", "/api/v1/namespaces/team/events")["items"]
    about = [item for item in found if item["involvedObject"].get("uid") == made["metadata"]["uid"]]
    return sorted((item["reason"], item["message"]) for item in about)


def test_a_jobs_owner_reads_what_became_of_it(stage: Stage) -> None:
    refused = Fault(400, b'{"message":"location is not known"}')
    stage.cloudvision.faults.append(refused)
    stage.informer(NODECONFIG_MODE="disabled")
    made = stage.cluster.create(job(*TORCH, "described"))
    stage.cluster.run_pod(pod("described-0", made, MAC))
    words = ("CloudVisionRefused", "CloudVision refuses the report: HTTP 400: location is not known")
    wait_until(lambda: words in events(stage, made), lambda: events(stage, made))


def test_reported_and_ended_are_two_events(stage: Stage) -> None:
    stage.informer(NODECONFIG_MODE="disabled")
    made = stage.cluster.create(job(*TORCH, "described"))
    stage.cluster.run_pod(pod("described-0", made, MAC))
    running = ("CloudVisionReported", "Reported to CloudVision: RUNNING with 1 NICs")
    wait_until(lambda: events(stage, made) == [running], lambda: events(stage, made))
    stage.cluster.set_status(made, ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})
    expected = [("CloudVisionEnded", "Reported to CloudVision: COMPLETED, with 1 NICs"), running]
    wait_until(lambda: events(stage, made) == expected, lambda: events(stage, made))


@pytest.mark.cluster
def test_a_namespace_that_is_being_deleted_takes_events_from_no_other(
    prepared_plane: ControlPlane, real: Stage
) -> None:
    informer = real.informer(NODECONFIG_MODE="disabled")
    namespace = prepared_plane.create_namespace("doomed")
    body = job(*TORCH, "doomed", namespace)
    body["metadata"]["finalizers"] = ["example.com/held"]  # so that the namespace waits for it
    doomed = real.cluster.create(body)
    real.cluster.run_pod(pod("doomed-0", doomed, MAC, namespace=namespace))
    real.wait_for_states("doomed", "RUNNING")
    real.cluster.call("DELETE", f"/api/v1/namespaces/{namespace}")
    real.cluster.set_status(doomed, ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})
    real.wait_for_states("doomed", "RUNNING", "COMPLETED")
    made = real.cluster.create(job(*TORCH, "described"))
    real.cluster.run_pod(pod("described-0", made, MAC))
    wait_until(lambda: events(real, made), lambda: informer.log)
    assert "Events on jobs" not in informer.log
    real.cluster.delete(doomed)  # now: the namespace's controller may come back to it much later
    real.cluster.patch(doomed, {"metadata": {"finalizers": []}})
    wait_until(lambda: not real.cluster.exists(real.cluster.path(doomed, "doomed")), lambda: "the job is still there")


def test_events_can_be_switched_off(simulated: Stage) -> None:
    simulated.informer(NODECONFIG_MODE="disabled", EVENTS="false")
    made = simulated.cluster.create(job(*TORCH, "silent"))
    simulated.cluster.run_pod(pod("silent-0", made, MAC))
    simulated.wait_for_states("silent", "RUNNING")
    simulated.cluster.set_status(made, ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})
    simulated.wait_for_states("silent", "RUNNING", "COMPLETED")
    assert events(simulated, made) == []


@pytest.mark.parametrize("fault", ["forbidden", "not served"])
def test_reporting_goes_on_where_no_event_can_be_written(simulated: Stage, fault: str) -> None:
    assert simulated.simulator is not None
    if fault == "forbidden":
        simulated.simulator.forbid("", "events", "create")
    else:
        simulated.simulator.unserve("", "events")
    simulated.informer(NODECONFIG_MODE="disabled")
    made = simulated.cluster.create(job(*TORCH, "j"))
    simulated.cluster.run_pod(pod("j-0", made, MAC))
    simulated.wait_for_states("j", "RUNNING")
    simulated.cluster.set_status(made, ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})
    simulated.wait_for_states("j", "RUNNING", "COMPLETED")
