"""A job in Kubernetes is a right entry in CloudVision; one body for a simulated and a real cluster."""

from typing import Any

import pytest

from tests.e2e.kit import Stage, stamp
from tests.simulator.kubernetes import JOB_KINDS
from tests.simulator.objects import Object, ended, job, pod, pod_status, running

ALL_KINDS = [("batch", "Job"), *((group, kind) for group, _, kind, _ in JOB_KINDS)]


def mac(number: int) -> str:
    return f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"


def test_each_kind_reaches_running_and_each_of_its_ends(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    expected: list[tuple[str, str, str | None, Any]] = []
    start, end = stamp(-100), stamp(-10)
    for number, (group, kind) in enumerate(ALL_KINDS):
        for state in ("COMPLETED", "FAILED", "CANCELLED"):
            name = f"{kind.lower()}-{group.replace('.', '-')}-{state.lower()}"
            made = cluster.create(job(group, kind, name))
            if begun := running(group, kind, start):
                made = cluster.set_status(made, begun)
            cluster.run_pod(pod(f"{name}-0", made, mac(number)), start)
            expected.append((name, state, end if group != "ray.io" or kind != "RayCluster" else None, made))
    for name, *_ in expected:
        (entry,) = stage.wait_for_states(name, "RUNNING")
        assert entry["start_time"] == start
        assert "end_time" not in entry
    for _, state, _, made in expected:
        status = ending(made, state, start, end)
        if status is None:
            cluster.delete(made)
        else:
            cluster.set_status(made, status)
    for name, state, at, made in expected:
        told = ending(made, state, start, end) is not None
        entry = stage.wait_for_states(name, "RUNNING", state if told else "CANCELLED")[-1]
        assert entry["start_time"] == start
        assert entry["interfaces"]["values"]
        if at and told:
            assert entry["end_time"] == at


def ending(made: Object, state: str, start: str, end: str) -> Object | None:
    return ended(made["apiVersion"].split("/")[0], made["kind"], state, start, end)


def test_a_train_job_is_one_entry_and_a_ray_job_succeeds(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    train = cluster.create(job("trainer.kubeflow.org", "TrainJob", "llm"))
    jobset = cluster.create(job("jobset.x-k8s.io", "JobSet", "llm", owner=train))
    for number in range(2):
        child = cluster.create(job("batch", "Job", f"llm-node-{number}", owner=jobset))
        for index in range(2):
            serial = number * 2 + index
            cluster.run_pod(pod(f"llm-node-{number}-{index}", child, mac(serial)))
    ray = cluster.create(job("ray.io", "RayJob", "tune"))
    ray = cluster.set_status(ray, running("ray.io", "RayJob", stamp(-5)))
    ray_cluster = cluster.create(job("ray.io", "RayCluster", "tune-abcde", owner=ray))
    cluster.run_pod(pod("tune-head", ray_cluster, mac(77)))
    (entry,) = stage.wait_for_states("llm", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(n) for n in range(4)]
    assert entry["key"]["id"] == train["metadata"]["uid"]
    stage.wait_for_states("tune", "RUNNING")
    cluster.set_status(ray, ended("ray.io", "RayJob", "COMPLETED", stamp(-5), stamp()) or {})
    cluster.set_status(train, ended("trainer.kubeflow.org", "TrainJob", "COMPLETED", stamp(-5), stamp()) or {})
    stage.wait_for_states("llm", "RUNNING", "COMPLETED")
    stage.wait_for_states("tune", "RUNNING", "COMPLETED")
    assert {entry["name"] for entry in stage.cloudvision.jobs.values()} == {"llm", "tune"}


def test_direct_owners(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer(JOB_OWNER="direct")
    jobset = cluster.create(job("jobset.x-k8s.io", "JobSet", "set"))
    for number in range(2):
        child = cluster.create(job("batch", "Job", f"set-{number}", owner=jobset))
        cluster.run_pod(pod(f"set-{number}-0", child, mac(number)))
    for number in range(2):
        (entry,) = stage.wait_for_states(f"set-{number}", "RUNNING")
        assert entry["interfaces"]["values"] == [mac(number)]
    assert len(stage.cloudvision.jobs) == 2


def test_node_mode_and_one_namespace(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer(JOBCONFIG_MODE="node", NAMESPACE="team")
    for namespace in ("other", "team"):
        made = cluster.create(job("kubeflow.org", "PyTorchJob", f"in-{namespace}", namespace))
        for node in ("n2", "n1"):
            cluster.run_pod(pod(f"in-{namespace}-{node}", made, mac(1), namespace=namespace, node=node))
    (entry,) = stage.wait_for_states("in-team", "RUNNING")
    assert entry["nodes"]["values"] == ["n1", "n2"]
    assert "interfaces" not in entry
    assert stage.cloudvision.states("in-other") == []


def test_a_nic_gained_a_pod_replaced_and_an_end(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    made = cluster.create(job("kubeflow.org", "PyTorchJob", "grow"))
    first = cluster.run_pod(pod("grow-0", made, mac(1)))
    stage.wait_for_states("grow", "RUNNING")
    second = cluster.run_pod(pod("grow-1", made, mac(2), mac(3)))
    entry = stage.wait_for_states("grow", "RUNNING", "RUNNING")[-1]
    assert entry["interfaces"]["values"] == [mac(1), mac(2), mac(3)]
    cluster.delete(first)
    entry = stage.wait_for_states("grow", *["RUNNING"] * 3)[-1]
    assert entry["interfaces"]["values"] == [mac(2), mac(3)]
    cluster.set_status(second, pod_status("Succeeded", stamp(-3), stamp()))
    cluster.set_status(made, ended("kubeflow.org", "PyTorchJob", "COMPLETED", stamp(-3), stamp()) or {})
    entry = stage.wait_for_states("grow", *["RUNNING"] * 3, "COMPLETED")[-1]
    assert entry["interfaces"]["values"] == [mac(2), mac(3)]


def test_a_crd_installed_after_the_start(kubernetes: Any, simulated: Stage) -> None:
    kubernetes.unserve("kubeflow.org", "pytorchjobs")
    simulated.informer()
    kubernetes.serve("kubeflow.org", "v1", "PyTorchJob", "pytorchjobs")
    made = simulated.cluster.create(job("kubeflow.org", "PyTorchJob", "late"))
    simulated.cluster.run_pod(pod("late-0", made, mac(1)))
    simulated.wait_for_states("late", "RUNNING")


@pytest.mark.parametrize("verbs", [("list",), ("watch",)])
def test_a_forbidden_kind_is_said_once_and_stops_nothing(kubernetes: Any, simulated: Stage, verbs: tuple[str]) -> None:
    kubernetes.forbid("ray.io", "rayjobs", *verbs)
    program = simulated.informer()
    made = simulated.cluster.create(job("ray.io", "RayCluster", "alone"))
    simulated.cluster.run_pod(pod("alone-0", made, mac(1)))
    simulated.wait_for_states("alone", "RUNNING")
    program.wait_for_log("rayjobs is forbidden")
    assert program.log.count("rayjobs is forbidden") == 1
