"""What only a real control plane shows: its own controllers' pods, garbage collection, restarts, compaction."""

import signal

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.e2e.kit import Stage, stamp
from tests.simulator.objects import Object, ended, job, networks, pod, pod_status

pytestmark = pytest.mark.cluster
TORCH = ("kubeflow.org", "PyTorchJob")


def mac(number: int) -> str:
    return f"02:00:00:00:02:{number:02x}"


def pods_of(stage: Stage, name: str, phase: str = "") -> list[Object]:
    found = stage.cluster.call("GET", f"/api/v1/namespaces/team/pods?labelSelector=job-name={name}")["items"]
    items = [{"apiVersion": "v1", "kind": "Pod", **item} for item in found]
    return [item for item in items if not phase or item["status"]["phase"] == phase]


def batch_job(name: str, *macs: str, **spec: object) -> Object:
    made = job("batch", "Job", name)
    del made["spec"]["managedBy"]
    made["spec"] |= {"backoffLimit": 3, **spec}
    made["spec"]["template"]["metadata"] = {"annotations": {"k8s.v1.cni.cncf.io/network-status": networks(*macs)}}
    made["spec"]["template"]["spec"]["nodeName"] = "worker-0"
    return made


def finished(phase: str) -> Object:
    return pod_status(phase, stamp(-2), stamp())


def test_a_real_job_whose_first_pod_fails_is_reported_running_by_its_retry(real: Stage) -> None:
    real.informer(START_MAX_WAIT="60s")  # longer than the controller's backoff: one run
    made = real.cluster.create(batch_job("retry", mac(1)))
    (first,) = wait_for("the pod", lambda: pods_of(real, "retry"))
    real.cluster.set_status(first, finished("Failed"))

    def retried() -> list[Object]:
        return [item for item in pods_of(real, "retry") if item["metadata"]["uid"] != first["metadata"]["uid"]]

    (second,) = wait_for("the retry", retried)
    note = {"k8s.v1.cni.cncf.io/network-status": networks(mac(2))}
    real.cluster.patch(second, {"metadata": {"annotations": note}})
    real.cluster.set_status(second, pod_status("Running", stamp()))
    (entry,) = real.wait_for_states("retry", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(2)]
    real.cluster.set_status(second, finished("Succeeded"))
    entry = real.wait_for_states("retry", "RUNNING", "COMPLETED")[-1]
    status = real.cluster.call("GET", real.cluster.path(made, "retry"))["status"]
    assert entry["start_time"] == status["startTime"]
    assert entry["end_time"] == status["completionTime"]
    real.cluster.delete(made)
    wait_for("the pods to be collected", lambda: not pods_of(real, "retry"))
    assert real.cloudvision.states("retry") == ["RUNNING", "COMPLETED"]


def test_an_indexed_job_that_fails(real: Stage) -> None:
    real.informer()
    spec = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 0}
    made = real.cluster.create(batch_job("indexed", mac(1), **spec))
    items = wait_for("three pods", lambda: found if len(found := pods_of(real, "indexed")) == 3 else None)
    for item in items:
        real.cluster.set_status(item, pod_status("Running", stamp()))
    real.wait_for_states("indexed", "RUNNING")
    real.cluster.set_status(items[0], finished("Failed"))

    def stopping() -> list[Object]:
        return [item for item in pods_of(real, "indexed") if item["metadata"].get("deletionTimestamp")]

    for item in wait_for("the others' end", lambda: found if len(found := stopping()) == 2 else None):
        real.cluster.set_status(item, finished("Failed"))  # as the kubelet does once its containers have ended
        real.cluster.delete(item)
    entry = real.wait_for_states("indexed", "RUNNING", "FAILED")[-1]
    conditions = real.cluster.call("GET", real.cluster.path(made, "indexed"))["status"]["conditions"]
    failed = next(condition for condition in conditions if condition["type"] == "Failed")
    assert entry["end_time"] == failed["lastTransitionTime"]


def test_a_train_job_deleted_with_everything_below_it_is_cancelled_once(real: Stage) -> None:
    real.informer()
    train = real.cluster.create(job("trainer.kubeflow.org", "TrainJob", "llm"))
    jobset = real.cluster.create(job("jobset.x-k8s.io", "JobSet", "llm", owner=train))
    for part in ("a", "b"):
        child = real.cluster.create(job("batch", "Job", f"llm-{part}", owner=jobset))
        real.cluster.run_pod(pod(f"llm-{part}-0", child, mac(ord(part))))
    real.wait_for_states("llm", "RUNNING")
    real.cluster.delete(train)
    path = real.cluster.path(jobset)
    wait_for("the JobSet to be collected", lambda: not real.cluster.call("GET", path)["items"])
    real.wait_for_states("llm", "RUNNING", "CANCELLED")
    last = real.cluster.create(job(*TORCH, "last"))  # once it is reported, all before it has been judged
    real.cluster.run_pod(pod("last-0", last, mac(1)))
    real.wait_for_states("last", "RUNNING")
    assert {entry["name"] for entry in real.cloudvision.jobs.values()} == {"llm", "last"}


def test_a_deletion_missed_during_a_pause_a_compaction_and_an_api_server_restart(
    prepared_plane: ControlPlane, real: Stage
) -> None:
    if prepared_plane.external:
        pytest.skip("CVJI_TEST_KUBECONFIG names a cluster that is not the tests' own to restart")
    program = real.informer()
    made = {}
    for number, name in enumerate(("gone", "ends", "goes-on")):
        made[name] = real.cluster.create(job(*TORCH, name))
        real.cluster.run_pod(pod(f"{name}-0", made[name], mac(number)))
        real.wait_for_states(name, "RUNNING")
    program.process.send_signal(signal.SIGSTOP)
    real.cluster.delete(made["gone"])
    real.cluster.set_status(made["ends"], ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})
    prepared_plane.compact()
    prepared_plane.restart_apiserver(hard=True)
    program.process.send_signal(signal.SIGCONT)
    real.wait_for_states("gone", "RUNNING", "CANCELLED", timeout=60)
    real.wait_for_states("ends", "RUNNING", "COMPLETED", timeout=60)
    real.cluster.set_status(made["goes-on"], ended(*TORCH, "FAILED", stamp(-5), stamp()) or {})
    real.wait_for_states("goes-on", "RUNNING", "FAILED", timeout=60)
