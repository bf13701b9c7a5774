"""Node states in Kubernetes are NodeConfigs in CloudVision."""

from typing import Any

import pytest

from tests.e2e.kit import Stage, stamp
from tests.simulator.kinds import NODE_KINDS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod

DISCOVERY, OPERATOR = ((f"{group}/{version}", kind) for group, version, kind, _ in NODE_KINDS)


def node_state(api: str, kind: str, node: str, *macs: str, **extra: Any) -> Object:
    interfaces = [
        {"name": f"rail{n}", "mac": mac, "pciAddress": f"0000:{n:02x}:00.0", **extra} for n, mac in enumerate(macs)
    ]
    meta = {"name": node, "namespace": "cloudvision"}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "status": {"interfaces": interfaces}}


def create(stage: Stage, obj: Object) -> Object:
    return stage.cluster.create({**obj, "status": {}}, obj["status"])


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("discovery", DISCOVERY), ("sriovoperator", OPERATOR)],
    ids=["discovery", "sriovoperator"],
)
def test_sent_at_first_sight_on_change_and_removed(stage: Stage, mode: str, kind: tuple[str, str]) -> None:
    cloudvision = stage.cloudvision
    first = create(stage, node_state(*kind, "n1", "02:00:00:00:00:01"))
    stage.informer(NODECONFIG_MODE=mode)
    second = create(stage, node_state(*kind, "n2", "02:00:00:00:00:02"))
    cloudvision.wait_for(lambda: set(cloudvision.nodes) == {"n1", "n2"})
    stage.cluster.patch(second, {"metadata": {"labels": {"touched": "yes"}}})
    stage.cluster.set_status(first, node_state(*kind, "n1", "02:00:00:00:00:03")["status"])
    cloudvision.wait_for(lambda: len(cloudvision.node_history["n1"]) == 2)
    stage.cluster.delete(second)
    cloudvision.wait_for(lambda: set(cloudvision.nodes) == {"n1"})
    nic = {"name": "rail0", "mac_address": "02:00:00:00:00:03", "ip_addresses": {"values": []}}
    assert cloudvision.nodes["n1"]["data_interfaces"] == {"values": [nic]}
    assert len(cloudvision.node_history["n2"]) == 2


@pytest.mark.parametrize("chosen", ["all", "pf", "vf"])
def test_equal_content_is_held_as_equal_in_both_modes(stage: Stage, chosen: str) -> None:
    """An mlx5 and an i40e port as the SR-IOV operator writes them; two VFs are out of sight, as those in pods are."""
    cloudvision = stage.cloudvision
    vfs: list[Object] = [
        {"name": "ens5f0v0", "mac": "2a:fb:49:58:65:35", "pciAddress": "0000:86:02.0"},
        {"name": "ens5f0v1", "mac": "FA:D6:76:F8:CF:BB", "pciAddress": "0000:86:02.1"},
        {"pciAddress": "0000:86:02.2"},
        {"mac": "32:45:ab:d9:2c:87", "pciAddress": "0000:86:02.3"},
    ]
    port = {"name": "ens5f0", "mac": "40:a6:b7:2b:1f:40", "pciAddress": "0000:86:00.0", "totalvfs": 64, "numVfs": 4}
    other = {"name": "eno1", "mac": "0c:42:a1:bc:68:1c", "pciAddress": "0000:19:00.0"}
    theirs = {"driver": "i40e", "deviceID": "158b", "linkSpeed": "25000 Mb/s", "linkType": "ETH", "mtu": 1500}
    ours = {"driver": "i40e", "operState": "up", "rdmaDevice": "mlx5_0", "speed": 25000}
    meta = {"name": "n1", "namespace": "cloudvision"}
    held: list[Object] = []
    for mode, (api, kind), more in (("discovery", DISCOVERY, ours), ("sriovoperator", OPERATOR, theirs)):
        operators = [vf | {"vfID": number, "mtu": 1500} if mode != "discovery" else vf for number, vf in enumerate(vfs)]
        status = {"interfaces": [other | more, port | more | {"Vfs": operators}], "syncStatus": "Succeeded"}
        made = create(stage, {"apiVersion": api, "kind": kind, "metadata": meta, "status": status})
        program = stage.informer(NODECONFIG_MODE=mode, NODE_INTERFACE_TYPE=chosen)
        cloudvision.wait_for(lambda: "n1" in cloudvision.nodes)
        held.append(cloudvision.node("n1") or {})
        program.stop()
        stage.cluster.delete(made)
        cloudvision.forget()
    assert held[0] == held[1]
    values = held[0]["data_interfaces"]["values"]
    names = {"pf": ["eno1", "ens5f0"], "vf": ["0000:86:02.3", "ens5f0v0", "ens5f0v1"]}
    assert [value["name"] for value in values] == names.get(chosen, sorted(names["pf"] + names["vf"]))


def test_two_operators_states_of_one_node_are_one_entry_a_function_and_one_warning(stage: Stage) -> None:
    states = []
    for namespace, mac in (("cloudvision", "02:00:00:00:00:01"), ("team", "02:00:00:00:00:02")):
        state = node_state(*OPERATOR, "n1", mac)
        state["metadata"]["namespace"] = namespace
        states.append(create(stage, state))
    program = stage.informer(NODECONFIG_MODE="sriovoperator")
    stage.cloudvision.wait_for(lambda: "n1" in stage.cloudvision.nodes)
    assert len(stage.cloudvision.nodes["n1"]["data_interfaces"]["values"]) == 1
    program.wait_for_log("is the other one stale?")
    (warning,) = [line for line in program.log.splitlines() if "stale?" in line]
    assert "cloudvision/n1" in warning
    assert "team/n1" in warning
    stage.cluster.patch(states[0], {"metadata": {"labels": {"touched": "yes"}}})
    stage.cluster.delete(states[1])
    stage.cloudvision.wait_for(
        lambda: stage.cloudvision.nodes["n1"]["data_interfaces"]["values"][0]["mac_address"] == "02:00:00:00:00:01"
    )
    assert program.log.count("stale?") == 1


def test_the_crd_may_come_later_and_a_delete_never_overtakes_a_send(
    kubernetes: KubernetesSimulator, simulated: Stage
) -> None:
    cloudvision = simulated.cloudvision
    kubernetes.unserve("cloudvision.arista.io", "nodeinterfacestates")
    simulated.informer()
    kubernetes.serve(*NODE_KINDS[0])
    cloudvision.delay = 0.3
    made = create(simulated, node_state(*DISCOVERY, "n1", "02:00:00:00:00:01"))
    cloudvision.wait_for(lambda: cloudvision.node_history.get("n1") is not None or cloudvision.requests)
    simulated.cluster.delete(made)
    cloudvision.wait_for(lambda: cloudvision.node_history.get("n1", [0])[-1] is None)
    assert cloudvision.nodes == {}


def test_a_host_network_job_holds_its_nodes_rails(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    states = {}
    for number in range(4):
        obj = node_state(*DISCOVERY, f"h{number}", f"02:00:00:00:01:{number:02x}", f"02:00:00:00:02:{number:02x}")
        obj["status"]["interfaces"][0]["rdmaDevice"] = "mlx5_0"
        states[number] = create(stage, obj)
    made = cluster.create(job("kubeflow.org", "MPIJob", "host"))
    for number in range(3):
        cluster.run_pod(pod(f"host-{number}", made, node=f"h{number}", hostNetwork=True))
    (entry,) = stage.wait_for_states("host", "RUNNING")
    assert entry["interfaces"]["values"] == [f"02:00:00:00:01:{number:02x}" for number in range(3)]
    changed = node_state(*DISCOVERY, "h1", "02:00:00:00:01:99")
    cluster.set_status(states[1], changed["status"])
    entry = stage.wait_for_states("host", "RUNNING", "RUNNING")[-1]
    assert "02:00:00:00:01:99" in entry["interfaces"]["values"]
    assert len(entry["interfaces"]["values"]) == 3
    cluster.set_status(made, ended("kubeflow.org", "MPIJob", "COMPLETED", stamp(-5), stamp()) or {})
    stage.wait_for_states("host", "RUNNING", "RUNNING", "COMPLETED")  # it was one update


def test_our_own_states_are_believed_from_our_own_namespace_alone(stage: Stage) -> None:
    stage.informer(STATE_NAMESPACE="cloudvision")
    forged = node_state(*DISCOVERY, "forged", "02:00:00:00:00:01")
    forged["metadata"]["namespace"] = "team"
    create(stage, forged)
    create(stage, node_state(*DISCOVERY, "n1", "02:00:00:00:00:02"))
    stage.cloudvision.wait_for(lambda: stage.cloudvision.nodes)
    assert set(stage.cloudvision.nodes) == {"n1"}
