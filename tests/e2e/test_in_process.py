"""The kit itself: what the informer has seen and done when the test goes on."""

from tests.e2e.in_process import InProcess
from tests.e2e.kit import Stage
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import ended, job, pod, running

TORCH = ("kubeflow.org", "PyTorchJob")
MAC = "02:00:00:00:05:01"


def test_a_job_is_reported_when_the_clock_has_gone_on_for_the_default_delay(informer: InProcess) -> None:
    start = informer.stamp()
    made = informer.cluster.create(job(*TORCH, "a"), running(*TORCH, start))
    informer.cluster.run_pod(pod("a-0", made, MAC), start)
    informer.advance(4)
    assert informer.runs("a") == []
    informer.advance(2)
    assert informer.states("a") == [("RUNNING", (MAC,))]
    told = informer.clock.now
    informer.advance(600)
    informer.cluster.set_status(made, ended(*TORCH, "COMPLETED", start, informer.stamp()) or {})
    (run,) = informer.runs("a")
    assert (run.state, run.start, run.end) == ("COMPLETED", start, informer.stamp())
    held = informer.stage.cloudvision.held(run.id, told)
    assert held is not None
    assert held["state"] == "JOB_STATE_RUNNING"
    assert informer.stage.cloudvision.held(run.id, told - 3) is None


def test_a_deletion_has_been_seen_too(informer: InProcess) -> None:
    made = informer.cluster.create(job(*TORCH, "a"), running(*TORCH, informer.stamp()))
    informer.cluster.run_pod(pod("a-0", made, MAC), informer.stamp())
    informer.advance(6)
    informer.cluster.delete(made)
    assert informer.states("a") == [("CANCELLED", (MAC,))]


def test_the_loop_never_waits_for_room_in_its_own_queue(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    kubernetes.unserve("cloudvision.arista.io", "jobreports")
    with InProcess(simulated, queue_size=3, state_namespace="cloudvision") as informer:
        for number in range(20):
            made = informer.cluster.create(job(*TORCH, f"a{number}"), running(*TORCH, informer.stamp()))
            informer.cluster.run_pod(pod(f"a{number}-0", made, f"02:00:00:00:06:{number:02x}"), informer.stamp())
        informer.advance(6)
        assert {informer.states(f"a{number}")[0][0] for number in range(20)} == {"RUNNING"}
