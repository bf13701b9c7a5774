"""Every way a job holds NICs besides Multus: one body for each kind of cluster."""

from pathlib import Path

import pytest
import yaml

from tests.e2e.kit import Stage, stamp
from tests.simulator.kinds import CLAIMS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod

TORCH = ("kubeflow.org", "PyTorchJob")


def mac(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def unallocated(stage: Stage, name: str, version: str = "v1", request: str = "nic") -> Object:
    """A ResourceClaim as its user makes it."""
    device = {"deviceClassName": "nic"}
    requested = {"name": request, "exactly": device} if version in ("v1", "v1beta2") else {"name": request, **device}
    return stage.cluster.create(
        {
            "apiVersion": f"resource.k8s.io/{version}",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"devices": {"requests": [requested]}},
        }
    )


def claim(stage: Stage, name: str, users: list[Object], version: str = "v1", **extra: object) -> Object:
    """A ResourceClaim of a NIC and a GPU, reserved for pods, with nothing published of its devices yet."""
    made = unallocated(stage, name, version)
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
    alone = stage.cluster.create(job(*TORCH, "alone"))
    publish(stage, claim(stage, "gpu-only", [only_gpus, stage.cluster.run_pod(pod("alone-0", alone))]))
    for name, expected in (("first", [mac(5)]), ("second", [mac(5)]), ("gpus", [mac(7)])):
        (entry,) = stage.wait_for_states(name, "RUNNING")
        assert entry["interfaces"]["values"] == expected
    stage.cluster.set_status(alone, ended(*TORCH, "COMPLETED", stamp(-5), stamp()) or {})
    after = stage.cluster.create(job(*TORCH, "after"))  # once it is reported, all before it has been judged
    stage.cluster.run_pod(pod("after-0", after, mac(8)))
    stage.wait_for_states("after", "RUNNING")
    assert stage.cloudvision.states("alone") == []


def named(name: str) -> Object:
    return {"resourceClaims": [{"name": "nic", "resourceClaimName": name}]}


def test_every_tie_from_a_claim_to_its_pod(stage: Stage) -> None:
    """By the pod's spec, by either of its statuses, and by the claim's own reservation; each claim has no other tie."""
    cluster = stage.cluster
    stage.informer()
    claims = {name: claim(stage, name, []) for name in ("by-spec", "by-status", "by-extended", "by-uid", "another-s")}
    for number, made in enumerate(claims.values()):
        publish(stage, made, mac(number))
    made = cluster.create(job(*TORCH, "tied"))
    template = {"name": "made", "resourceClaimTemplateName": "nics"}
    asks = pod("tied-0", made, resourceClaims=[*named("by-spec")["resourceClaims"], template])
    asks["spec"]["containers"][0]["resources"] = {"limits": {"example.com/nic": "1"}}
    runs = cluster.run_pod(asks)
    mapping = {"containerName": "main", "resourceName": "example.com/nic", "requestName": "nic"}
    cluster.set_status(
        runs,
        {
            "resourceClaimStatuses": [{"name": "made", "resourceClaimName": "by-status"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "by-extended", "requestMappings": [mapping]},
        },
    )
    reserved = {"resource": "pods", "name": "tied-0", "uid": runs["metadata"]["uid"]}
    cluster.set_status(claims["by-uid"], {"reservedFor": [reserved]})
    macs = [mac(number) for number in range(4)]
    cloudvision = stage.cloudvision
    cloudvision.wait_for(lambda: (cloudvision.by_name("tied") or [{}])[-1].get("interfaces") == {"values": macs})


def test_a_claim_that_is_deleted_takes_nothing_from_a_pod_that_runs(stage: Stage) -> None:
    stage.informer()
    made = stage.cluster.create(job(*TORCH, "less"))
    runs = stage.cluster.run_pod(pod("less-0", made, mac(1)))
    nics = claim(stage, "less-nics", [runs])
    publish(stage, nics, mac(9))
    assert stage.wait_for_states("less", "RUNNING")[0]["interfaces"]["values"] == [mac(1), mac(9)]
    stage.cluster.delete(nics)  # its protection taken off by hand: the NIC is in the pod all the same
    stage.cluster.run_pod(pod("less-1", made, mac(2)))
    assert stage.wait_for_states("less", "RUNNING", "RUNNING")[-1]["interfaces"]["values"] == [mac(1), mac(2), mac(9)]


DRANET = Path(__file__).parents[3] / "shared/data/objects/resourceclaim-dranet-status.yaml"


@pytest.mark.skipif(not DRANET.is_file(), reason=f"no {DRANET}")
def test_a_claim_as_dranet_publishes_it(stage: Stage) -> None:
    """Its own example; the reservation gets the uid that the API requires and the example leaves out."""
    status = yaml.safe_load(DRANET.read_text())["status"]
    del status["allocation"]["devices"]["results"][0]["adminAccess"]  # null there
    stage.informer()
    made = stage.cluster.create(job(*TORCH, "dranet"))
    runs = stage.cluster.run_pod(pod("pod3", made, **named("dummy-interface-static-ip")))
    nics = unallocated(stage, "dummy-interface-static-ip", request="req-dummy")
    reserved = [status["reservedFor"][0] | {"uid": runs["metadata"]["uid"]}]
    stage.cluster.set_status(nics, status | {"reservedFor": reserved})
    (entry,) = stage.wait_for_states("dranet", "RUNNING")
    assert entry["interfaces"]["values"] == ["86:d7:86:e6:f3:dd"]


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
