"""`cvji discover` on a real API server: what garbage collection, field managers and restarts do to a node's state."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import own_crd
from tests.e2e.kit import Program, Stage
from tests.e2e.test_discover import NODE, STATES, discover, make_node, published, state
from tests.simulator.objects import Object
from tests.sysfs.trees import Host, mlx5_host

pytestmark = pytest.mark.cluster
MANAGER = "cv-interface-discovery"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return mlx5_host(tmp_path / "sys")


@pytest.fixture
def node(real: Stage) -> Iterator[Object]:
    yield make_node(real)
    real.close()
    gone(real)


def gone(stage: Stage) -> None:
    """Remove the Node and wait until the garbage collector has taken its state along."""
    nodes = stage.cluster.call("GET", "/api/v1/nodes")["items"]
    if any(item["metadata"]["name"] == NODE for item in nodes):
        stage.cluster.call("DELETE", f"/api/v1/nodes/{NODE}")
    wait_for("the state to be collected", lambda: not stage.cluster.call("GET", STATES)["items"])


def version(stage: Stage) -> str:
    found: str = state(stage)["metadata"]["resourceVersion"]
    return found


def rounds(program: Program, more: int) -> None:
    """Let it look at the cluster that many more times."""
    before = program.log.count("is unchanged")
    program.wait_for(lambda: program.log.count("is unchanged") >= before + more)


def test_a_state_goes_with_its_node_and_comes_with_a_new_one(real: Stage, host: Host, node: Object) -> None:
    cloudvision = real.cloudvision
    real.informer()
    program = discover(real, host)
    published(program, real)
    cloudvision.wait_for(lambda: NODE in cloudvision.nodes)
    real.cluster.call("DELETE", f"/api/v1/nodes/{NODE}")
    program.wait_for_log(f"there is no Node {NODE}", timeout=60)
    cloudvision.wait_for(lambda: cloudvision.nodes == {}, timeout=60)
    assert real.cluster.call("GET", STATES)["items"] == []
    again = make_node(real)
    program.wait_for(lambda: real.cluster.call("GET", STATES)["items"], timeout=60)
    (owner,) = state(real)["metadata"]["ownerReferences"]
    assert owner["uid"] == again["metadata"]["uid"] != node["metadata"]["uid"]
    cloudvision.wait_for(lambda: NODE in cloudvision.nodes, timeout=60)


def test_the_status_is_written_by_its_subresource_alone(real: Stage, host: Host, node: Object) -> None:
    assert node
    published(discover(real, host), real)
    owned = {
        entry.get("subresource", ""): set(entry["fieldsV1"])
        for entry in state(real)["metadata"]["managedFields"]
        if entry["manager"] == MANAGER
    }
    assert owned == {"": {"f:metadata"}, "status": {"f:status"}}


def test_nothing_is_written_where_nothing_changed_even_by_the_next_process(
    real: Stage, host: Host, node: Object
) -> None:
    assert node
    program = discover(real, host, LOG_LEVEL="debug")
    published(program, real)
    before = version(real)
    rounds(program, 2)
    assert program.stop() == 0
    rounds(discover(real, host, LOG_LEVEL="debug"), 2)
    assert version(real) == before


def test_fields_that_somebody_else_took_are_taken_back_and_theirs_are_left(
    real: Stage, host: Host, node: Object
) -> None:
    assert node
    program = discover(real, host, LOG_LEVEL="debug")
    first = published(program, real)
    rounds(program, 1)
    theirs: dict[str, Any] = {"apiVersion": first["apiVersion"], "kind": first["kind"]}
    labels = {"app": "theirs", "team": "network"}
    query = "fieldManager=somebody&force=true"
    change = theirs | {"metadata": {"name": NODE, "labels": labels}}
    real.cluster.call("PATCH", f"{STATES}/{NODE}?{query}", change, patch="apply")
    change = theirs | {"metadata": {"name": NODE}, "status": {"syncStatus": "Failed", "interfaces": [{"name": "x"}]}}
    real.cluster.call("PATCH", f"{STATES}/{NODE}/status?{query}", change, patch="apply")
    program.wait_for(lambda: state(real)["status"] == first["status"])
    program.wait_for(lambda: state(real)["metadata"]["labels"] == first["metadata"]["labels"] | {"team": "network"})
    assert state(real)["metadata"]["ownerReferences"] == first["metadata"]["ownerReferences"]
    rounds(program, 1)
    whole = state(real)  # and one who knows nothing of field managers, and writes the whole object
    whole["status"]["interfaces"][0]["mac"] = "00:00:00:00:00:01"
    whole["metadata"]["annotations"] = {"theirs": "kept"}
    real.cluster.call("PUT", f"{STATES}/{NODE}/status", whole)
    real.cluster.patch(first, {"metadata": {"annotations": {"theirs": "kept"}, "ownerReferences": None}})
    program.wait_for(lambda: state(real)["status"] == first["status"])
    program.wait_for(lambda: "ownerReferences" in state(real)["metadata"])
    assert state(real)["metadata"]["annotations"] == {"theirs": "kept"}
    rounds(program, 2)


def test_a_definition_installed_later_is_noticed_by_discover_and_informer(
    prepared_plane: ControlPlane, real: Stage, host: Host, node: Object
) -> None:
    assert node
    cloudvision = real.cloudvision
    name = own_crd()["metadata"]["name"]
    real.cluster.call("DELETE", f"{CRD}/{name}")
    try:
        wait_for("the definition to be gone", lambda: prepared_plane.request("GET", f"{CRD}/{name}").status == 404)
        real.informer()
        program = discover(real, host)
        program.wait_for_log("is the nodeinterfacestates CRD installed")
    finally:
        prepared_plane.install_crds([own_crd()])
    published(program, real)
    cloudvision.wait_for(lambda: NODE in cloudvision.nodes, timeout=60)


def test_an_api_server_that_goes_and_comes_back(
    prepared_plane: ControlPlane, real: Stage, host: Host, node: Object
) -> None:
    assert node
    if prepared_plane.external:
        pytest.skip("CVJI_TEST_KUBECONFIG names a cluster that is not the tests' own to restart")
    program = discover(real, host)
    published(program, real)
    prepared_plane.stop_apiserver(hard=True)
    try:
        program.wait_for_log(f"{NODE} waits: ")
        host.write(host.root / "class/net/ens1f1np1", operstate="down")
        late = discover(real, host, LOG_LEVEL="debug")  # and one that starts meanwhile
        late.wait_for_log(f"{NODE} waits: ")
    finally:
        prepared_plane.start_apiserver()
    program.wait_for(lambda: state(real)["status"]["interfaces"][1]["operState"] == "down", timeout=90)
    rounds(late, 1)
    assert "Traceback" not in program.log + late.log


def test_the_columns_that_kubectl_prints(real: Stage, host: Host, node: Object) -> None:
    assert node
    published(discover(real, host), real)
    table = real.cluster.call("GET", STATES, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    columns = [column["name"] for column in table["columnDefinitions"]]
    cells = dict(zip(columns, table["rows"][0]["cells"], strict=True))
    age = cells.pop("Age")
    assert age.endswith("s")
    assert cells == {"Name": NODE, "Interfaces": 2, "VFs": 4, "Sync": "Succeeded", "Message": None}
