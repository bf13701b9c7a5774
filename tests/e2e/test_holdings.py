"""Every way a job holds NICs besides Multus, and jobs that stop and go on: one body for each kind of cluster."""

import pytest

from tests.e2e.kit import Stage, stamp
from tests.simulator.kubernetes import CLAIMS, KubernetesSimulator
from tests.simulator.objects import Object, job, pod, running

TORCH = ("kubeflow.org", "PyTorchJob")


def mac(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def claim(stage: Stage, name: str, users: list[Object], version: str = "v1", **extra: object) -> Object:
    """A ResourceClaim of a NIC and a GPU, reserved for pods, with nothing published of its devices yet."""
    request = {"name": "nic", "exactly": {"deviceClassName": "nic"}}
    if version == "v1beta1":
        request = {"name": "nic", "deviceClassName": "nic"}
    spec = {"devices": {"requests": [request]}}
    made = stage.cluster.create(
        {
            "apiVersion": f"resource.k8s.io/{version}",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "team"},
            "spec": spec,
        }
    )
    results = [
        {"request": "nic", "driver": driver, "pool": "worker-0", "device": device}
        for driver, device in (("dra.net", "dev-1"), ("gpu.example.com", "gpu-0"))
    ]
    reserved = [{"resource": "pods", "name": p["metadata"]["name"], "uid": p["metadata"]["uid"]} for p in users]
    status = {"allocation": {"devices": {"results": results}}, "reservedFor": reserved, **extra}
    return stage.cluster.set_status(made, status)


def publish(stage: Stage, made: Object, *macs: str) -> None:
    """What the DRA driver says of the devices once the pod's network is set up."""
    gpu = {"driver": "gpu.example.com", "pool": "worker-0", "device": "gpu-0"}
    nics = [
        {"driver": "dra.net", "pool": "worker-0", "device": f"dev-{n + 1}"}
        | {"networkData": {"interfaceName": f"eth{n}", "hardwareAddress": address, "ips": ["169.254.169.13/32"]}}
        for n, address in enumerate(macs)
    ]
    stage.cluster.set_status(made, {"devices": [*nics, gpu]})


def test_a_claims_mac_that_comes_after_the_pod_runs_is_one_report(stage: Stage) -> None:
    stage.informer()
    made = stage.cluster.create(job(*TORCH, "late"))
    runs = stage.cluster.run_pod(pod("late-0", made))
    nics = claim(stage, "late-nics", [runs])
    publish(stage, nics, mac(1).upper())
    (entry,) = stage.wait_for_states("late", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(1)]
    publish(stage, nics, mac(2))
    entry = stage.wait_for_states("late", "RUNNING", "RUNNING")[-1]
    assert entry["interfaces"]["values"] == [mac(2)]


def test_the_same_mac_by_multus_and_claim_counts_once(stage: Stage) -> None:
    stage.informer()
    made = stage.cluster.create(job(*TORCH, "both"))
    runs = stage.cluster.run_pod(pod("both-0", made, mac(0xAB), mac(2)))
    publish(stage, claim(stage, "both-nics", [runs]), mac(0xAB).upper())
    (entry,) = stage.wait_for_states("both", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(2), mac(0xAB)]


def test_a_pod_of_the_same_name_does_not_inherit_a_reservation(stage: Stage) -> None:
    stage.informer()
    made = stage.cluster.create(job(*TORCH, "again"))
    old = stage.cluster.run_pod(pod("again-0", made, mac(1)))
    publish(stage, claim(stage, "again-nics", [old]), mac(9))
    assert stage.wait_for_states("again", "RUNNING")[0]["interfaces"]["values"] == [mac(1), mac(9)]
    stage.cluster.delete(old)
    stage.cluster.run_pod(pod("again-0", made, mac(2)))
    entry = stage.wait_for_states("again", "RUNNING", "RUNNING")[-1]
    assert entry["interfaces"]["values"] == [mac(2)]


def test_a_claim_of_gpus_alone_adds_nothing_and_one_shared_by_two_jobs_counts_for_each(stage: Stage) -> None:
    stage.informer()
    first, second, gpus = (stage.cluster.create(job(*TORCH, name)) for name in ("first", "second", "gpus"))
    pods = [stage.cluster.run_pod(pod(f"{owner['metadata']['name']}-0", owner)) for owner in (first, second)]
    publish(stage, claim(stage, "shared", pods), mac(5))
    only_gpus = stage.cluster.run_pod(pod("gpus-0", gpus, mac(7)))
    publish(stage, claim(stage, "gpu-only", [only_gpus]))
    for name, expected in (("first", [mac(5)]), ("second", [mac(5)]), ("gpus", [mac(7)])):
        (entry,) = stage.wait_for_states(name, "RUNNING")
        assert entry["interfaces"]["values"] == expected


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1", "v1alpha3"])
def test_an_older_claim_api_alone_is_enough(kubernetes: KubernetesSimulator, simulated: Stage, version: str) -> None:
    kubernetes.serve("resource.k8s.io", version, *CLAIMS[2:])
    simulated.informer()
    made = simulated.cluster.create(job(*TORCH, "old"))
    runs = simulated.cluster.run_pod(pod("old-0", made))
    publish(simulated, claim(simulated, "old-nics", [runs], version), mac(1))
    simulated.wait_for_states("old", "RUNNING")


@pytest.mark.parametrize("forbidden", [True, False])
def test_without_the_claim_api_multus_is_enough(
    kubernetes: KubernetesSimulator, simulated: Stage, forbidden: bool
) -> None:
    if forbidden:
        kubernetes.forbid("resource.k8s.io", "resourceclaims", "list")
    else:
        kubernetes.unserve("resource.k8s.io", "resourceclaims")
    program = simulated.informer()
    made = simulated.cluster.create(job(*TORCH, "plain"))
    simulated.cluster.run_pod(pod("plain-0", made, mac(1)))
    simulated.wait_for_states("plain", "RUNNING")
    lines = [line for line in program.log.splitlines() if "resourceclaims" in line]
    assert len(lines) == (1 if forbidden else 0)


SUSPENDABLE = [
    (("batch", "Job"), ("spec",)),
    (("kubeflow.org", "PyTorchJob"), ("spec", "runPolicy")),
    (("kubeflow.org", "MPIJob"), ("spec", "runPolicy")),
    (("jobset.x-k8s.io", "JobSet"), ("spec",)),
    (("trainer.kubeflow.org", "TrainJob"), ("spec",)),
    (("ray.io", "RayJob"), ("spec",)),
    (("ray.io", "RayCluster"), ("spec",)),
]


def test_suspended_and_resumed_is_cancelled_and_running_with_a_new_start(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    jobs = {}
    for number, (kind, path) in enumerate(SUSPENDABLE):
        name = "-".join(kind).lower().replace(".", "-")
        made = cluster.create(job(*kind, name), running(*kind, stamp(-100)) or None)
        runs = cluster.run_pod(pod(f"{name}-0", made, mac(number)), stamp(-100))
        jobs[name] = (kind, path, made, runs, number)
    for name, (_, path, made, runs, _) in jobs.items():
        (entry,) = stage.wait_for_states(name, "RUNNING")
        assert entry["start_time"] <= stamp(-99)
        change: Object = {"suspend": True}
        for part in reversed(path):
            change = {part: change}
        cluster.patch(made, change)
        cluster.delete(runs)
    for name, (kind, path, made, _, number) in jobs.items():
        entry = stage.wait_for_states(name, "RUNNING", "CANCELLED")[-1]
        assert stamp(-60) <= entry["end_time"] <= stamp(1)
        if kind == ("batch", "Job"):  # its controller takes the start back, and the API insists on that order
            cluster.set_status(made, {"startTime": None})
        change = {"suspend": False}
        for part in reversed(path):
            change = {part: change}
        cluster.patch(made, change)
        if status := running(*kind, stamp(2)):
            cluster.set_status(made, status)
        cluster.run_pod(pod(f"{name}-1", made, mac(number + 100)), stamp(2))
    for name, (*_, number) in jobs.items():
        entry = stage.wait_for_states(name, "RUNNING", "CANCELLED", "RUNNING")[-1]
        assert entry["start_time"] > stamp(-60)
        assert entry["interfaces"]["values"] == [mac(number + 100)]
        assert "end_time" not in entry
