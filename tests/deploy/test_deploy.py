"""`just deploy` and its companions on a real API server, controller manager and scheduler; the kubelet is played."""

import base64
import gzip
import json
import re
from base64 import b64decode
from typing import Any

import pytest
import yaml

from cvji.kube import lease
from cvji.nodes.inventory import NodeReport
from cvji.reports.records import Record, write_spec
from tests.cluster.controlplane import ControlPlane, Response, wait_for
from tests.deploy import test_manifests
from tests.deploy.conftest import NODES, PLACE, Deployer
from tests.deploy.kubelet import Object
from tests.deploy.rendered import names, one
from tests.deploy.test_manifests import INFORMER, RESTRICTION, SRIOV, environment

pytestmark = pytest.mark.cluster
OURS = "labelSelector=app%3Dcv-job-informer"
DISCOVERY = test_manifests.DISCOVERY | RESTRICTION  # the cluster of the tests is new enough
SECRET = "Secret/cv-job-informer-api-credentials"
NAMESPACE = "Namespace/cloudvision"
CRDS = {name for name in INFORMER if name.startswith("CustomResourceDefinition/")}
MADE_BY_CONTROLLERS = ("Pod", "ReplicaSet", "ControllerRevision", "Event", "EndpointSlice")


def everything(plane: ControlPlane) -> list[Object]:
    """Every object with our label, of every kind that the cluster serves; but for what controllers make of ours."""
    groups = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in plane.call("GET", "/apis")["groups"]]
    found = []
    for base in ["/api/v1", *groups]:
        served = plane.request("GET", base)  # 404 where the last CRD of a group has just gone
        for resource in served.json["resources"] if served.status == 200 else []:
            if "list" in resource["verbs"] and resource["kind"] not in MADE_BY_CONTROLLERS:
                items = listed(plane, f"{base}/{resource['name']}?{OURS}")
                found += [{"kind": resource["kind"], **item} for item in items]
    return found


def listed(plane: ControlPlane, path: str) -> list[Object]:
    """The items there; none where the kind is no longer served. A new CRD's storage answers 429 at first."""

    def answered() -> Response | None:
        answer = plane.request("GET", path)
        return answer if answer.status in (200, 404) else None

    answer = wait_for(path, answered)
    return answer.json["items"] if answer.status == 200 else []


def pods(plane: ControlPlane, component: str) -> list[Any]:
    selector = f"labelSelector=app.kubernetes.io/component%3D{component}"
    items = plane.call("GET", f"/api/v1/namespaces/{PLACE}/pods?{selector}")["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def uids(plane: ControlPlane, component: str) -> set[str]:
    return {item["metadata"]["uid"] for item in pods(plane, component)}


def secret(plane: ControlPlane) -> dict[str, str]:
    found = plane.call("GET", f"/api/v1/namespaces/{PLACE}/secrets/cv-job-informer-api-credentials")
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def settings(plane: ControlPlane, workload: str = "deployments/cv-job-informer") -> dict[str, str]:
    """The variables of a workload's pods that are plain values."""
    return environment(plane.call("GET", f"/apis/apps/v1/namespaces/{PLACE}/{workload}"))


def test_a_deploy_makes_everything_and_a_second_one_changes_nothing(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    said = deployer.deploy()
    first = everything(scheduled_plane)
    assert names(first) == INFORMER | DISCOVERY | {SECRET, NAMESPACE}
    assert secret(scheduled_plane) == {"api-server": "cv.example.com", "api-token": "token-1"}
    assert re.search(r"^deployment.apps/cv-job-informer +2/2 .* cv-job-informer:0.1.0 ", said, re.MULTILINE)
    assert re.search(r"^daemonset.apps/cv-interface-discovery +3 +3 +3 ", said, re.MULTILINE)
    assert "exec deploy/cv-job-informer -- cvji check" in said
    running = uids(scheduled_plane, "informer") | uids(scheduled_plane, "interface-discovery")
    assert len(running) == 5

    deployer.deploy()
    second = everything(scheduled_plane)
    # Statuses come and go by themselves; a write of ours would be a new generation, or a new version of what has none.
    assert {identity(item) for item in second} == {identity(item) for item in first}
    assert uids(scheduled_plane, "informer") | uids(scheduled_plane, "interface-discovery") == running


def identity(item: Object) -> tuple[str, ...]:
    meta = item["metadata"]
    version = str(meta.get("generation") or meta["resourceVersion"])
    return (item["kind"], meta["name"], meta["uid"], version, str(meta["labels"]))


def test_replicas_are_on_two_nodes_and_discovery_on_all(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    for location in ("dc1", "dc2", "dc3"):  # after rollouts too
        deployer.deploy(LOCATION=location)
        places = [pod["spec"]["nodeName"] for pod in pods(scheduled_plane, "informer")]
        assert sorted(places) == ["cp-0", "worker-0"]  # one where it is preferred; none tolerates worker-1's taints
    assert {pod["spec"]["nodeName"] for pod in pods(scheduled_plane, "interface-discovery")} == set(NODES)


def test_changed_settings_replace_the_pods_that_read_them(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    deployer.deploy()
    informers, discovery = uids(scheduled_plane, "informer"), uids(scheduled_plane, "interface-discovery")
    deployer.deploy("LOCATION=a # b = 'c'", "JOBCONFIG_MODE=Node", "NAMESPACE=team-a, team-b")
    set_now = {"LOCATION": "a # b = 'c'", "JOBCONFIG_MODE": "node", "NAMESPACE": "team-a,team-b"}
    assert settings(scheduled_plane).items() >= set_now.items()
    assert not uids(scheduled_plane, "informer") & informers
    assert uids(scheduled_plane, "interface-discovery") == discovery
    assert names(everything(scheduled_plane)) == INFORMER | DISCOVERY | {SECRET, NAMESPACE}

    informers = uids(scheduled_plane, "informer")
    deployer.deploy("LOCATION=a # b = 'c'", "JOBCONFIG_MODE=Node", "NAMESPACE=team-a, team-b", "DISCOVERY_INTERVAL=5m")
    assert settings(scheduled_plane, "daemonsets/cv-interface-discovery")["DISCOVERY_INTERVAL"] == "5m"
    assert not uids(scheduled_plane, "interface-discovery") & discovery
    assert uids(scheduled_plane, "informer") == informers


def test_a_new_token_goes_in_without_a_restart_and_a_new_server_with_one(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    deployer.deploy()
    informers = uids(scheduled_plane, "informer")
    token = deployer.folder / "token"
    token.write_text("token-2\n")
    deployer.deploy(API_TOKEN="", API_TOKEN_FILE=str(token))
    assert secret(scheduled_plane)["api-token"] == "token-2"
    assert uids(scheduled_plane, "informer") == informers
    deployer.deploy("API_SERVER=other.example.com:8443")
    assert secret(scheduled_plane) == {"api-server": "other.example.com:8443", "api-token": "token-1"}
    assert not uids(scheduled_plane, "informer") & informers


def test_the_token_is_in_no_argument_file_annotation_or_output(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    token = "not-to-be-seen"
    encoded = base64.b64encode(token.encode()).decode()
    said = deployer.deploy(API_TOKEN=token)
    calls = deployer.seen.read_text()
    assert "apply --server-side" in calls
    release = deployer.helm("get", "all", "cvji").stdout
    assert "LOCATION" in release
    stored = scheduled_plane.call("GET", f"/api/v1/namespaces/{PLACE}/secrets?labelSelector=owner%3Dhelm")["items"]
    assert stored
    unpacked = [gzip.decompress(b64decode(b64decode(item["data"]["release"]))).decode() for item in stored]
    files = [file for file in deployer.folder.rglob("*") if file.is_file()]
    written = [file.read_text(errors="replace") for file in files]
    for text in (said, calls, release, *unpacked, *written):
        assert token not in text
        assert encoded not in text
    assert secret(scheduled_plane)["api-token"] == token
    held = [item for item in everything(scheduled_plane) if encoded in str(item) or token in str(item)]
    assert names(held) == {SECRET}
    assert "annotations" not in held[0]["metadata"]
    refused = deployer("deploy", f"API_TOKEN={token}", API_SERVER="cv", LOCATION="dc1")
    assert refused.returncode == 2
    assert "API_TOKEN must come from the environment" in refused.stderr
    assert token not in refused.stderr


def test_every_source_of_node_inventory_and_back(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    deployer.deploy()
    state = f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}/nodeinterfacestates"
    labels = {"app": "cv-job-informer", "app.kubernetes.io/name": "cvji"}
    body = {"apiVersion": "cloudvision.arista.io/v1", "kind": "NodeInterfaceState"}
    scheduled_plane.call("POST", state, {**body, "metadata": {"name": "cp-0", "labels": labels}})
    deployer.deploy(NODECONFIG_MODE="sriovoperator")
    assert names(everything(scheduled_plane)) == INFORMER | SRIOV | {SECRET, NAMESPACE}
    assert settings(scheduled_plane)["NODECONFIG_MODE"] == "sriovoperator"
    assert pods(scheduled_plane, "interface-discovery") == []
    assert scheduled_plane.call("GET", state)["items"] == []
    deployer.deploy(NODECONFIG_MODE="disabled")
    assert names(everything(scheduled_plane)) == INFORMER | {SECRET, NAMESPACE}
    assert settings(scheduled_plane)["NODECONFIG_MODE"] == "disabled"
    deployer.deploy(UNPRIVILEGED_DISCOVERY="yes")
    assert names(everything(scheduled_plane)) == INFORMER | DISCOVERY | {SECRET, NAMESPACE}
    (container,) = pods(scheduled_plane, "interface-discovery")[0]["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    deployer.deploy()
    (container,) = pods(scheduled_plane, "interface-discovery")[0]["spec"]["containers"]
    assert container["securityContext"] == {"privileged": True, "readOnlyRootFilesystem": True}


def test_without_discovery_the_pods_pass_the_restricted_level(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    scheduled_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": PLACE, "labels": labels}})
    deployer.deploy(NODECONFIG_MODE="disabled")
    namespace = scheduled_plane.call("GET", f"/api/v1/namespaces/{PLACE}")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(pods(scheduled_plane, "informer")) == 2


def test_more_kinds_of_jobs_may_be_read(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    from tests.cluster.crds import crd

    scheduled_plane.install_crds([crd("example.com", "v1", "Training", "trainingz")])
    deployer.deploy(JOB_KINDS="example.com/Training")
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/cv-job-informer"
    rule = {"apiGroups": ["example.com"], "resources": ["trainingz"], "verbs": ["list", "watch"]}
    assert rule in scheduled_plane.call("GET", path)["rules"]
    assert settings(scheduled_plane)["JOB_KINDS"] == "example.com/Training"
    deployer.deploy()
    assert rule not in scheduled_plane.call("GET", path)["rules"]
    assert "JOB_KINDS" not in settings(scheduled_plane)
    printed = deployer("manifests", JOB_KINDS="example.com/Training")
    assert printed.returncode == 0, printed.stderr
    assert rule in one(list(yaml.safe_load_all(printed.stdout)), "ClusterRole", "cv-job-informer")["rules"]


def test_delete_leaves_nothing_and_the_crds_until_asked(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    deployer.deploy()
    left_by_the_program(scheduled_plane)
    done = deployer("delete")
    assert done.returncode == 0, done.stderr
    assert names(everything(scheduled_plane)) == CRDS
    assert scheduled_plane.request("GET", f"/api/v1/namespaces/{PLACE}").status == 404
    assert "crd=true" in done.stdout
    done = deployer("delete", "crd=true")
    assert done.returncode == 0, done.stderr
    assert everything(scheduled_plane) == []


def left_by_the_program(plane: ControlPlane) -> None:
    lease_path = f"/apis/coordination.k8s.io/v1/namespaces/{PLACE}/leases"
    plane.call("POST", lease_path, {"metadata": {"name": "cv-job-informer", "labels": lease.LABELS}})
    # As versions before the records left them.
    labels = {**lease.LABELS, "app.kubernetes.io/component": "checkpoint"}
    path = f"/api/v1/namespaces/{PLACE}/configmaps"
    plane.call("POST", path, {"metadata": {"name": "cv-job-informer-checkpoint-3", "labels": labels}})
    body = write_spec(Record(("node", "cp-0"), 1, NodeReport("cp-0", ())), PLACE, "", location="lab", term=1)
    reports = f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}/nodereports"
    plane.call("POST", reports, json.loads(body))


def test_delete_keeps_the_namespace_where_there_is_more_in_it(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    deployer.deploy()
    left_by_the_program(scheduled_plane)
    scheduled_plane.call("POST", f"/api/v1/namespaces/{PLACE}/secrets", {"metadata": {"name": "pull"}})
    done = deployer("delete")
    assert done.returncode == 0, done.stderr
    assert "Namespace cloudvision stays, as there is more in it: secret/pull" in done.stdout
    assert names(everything(scheduled_plane)) == CRDS | {NAMESPACE}


def test_delete_keeps_a_namespace_that_was_there_before(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    scheduled_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": PLACE}})
    deployer.deploy()
    done = deployer("delete")
    assert "it was there before" in done.stdout
    assert scheduled_plane.request("GET", f"/api/v1/namespaces/{PLACE}").status == 200


# --- refusals: one line, and nothing is changed -----------------------------------------------------------------------------


def test_a_cluster_that_refuses_is_one_line_before_anything_is_changed(
    scheduled_plane: ControlPlane, deployer: Deployer, tmp_path: Any
) -> None:
    from tests.e2e.kit import write_kubeconfig

    token = scheduled_plane.token_for("default", "default")
    authority = str(scheduled_plane.ca_file)
    config = write_kubeconfig(
        tmp_path, scheduled_plane.server, user={"token": token}, **{"certificate-authority": authority}
    )
    env = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "SKIP_BUILD": "1", "KUBECONFIG": str(config)}
    done = deployer("deploy", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("deploy: Error from server (Forbidden): ")
    assert "is forbidden: User " in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    done = deployer("delete", KUBECONFIG=str(config))
    assert done.stderr.startswith("delete: the cluster refuses: Error from server (Forbidden): ")
    away = write_kubeconfig(tmp_path, "https://127.0.0.1:9")
    done = deployer("deploy", **{**env, "KUBECONFIG": str(away)})
    assert done.returncode == 1
    assert done.stderr.startswith("deploy: the cluster cannot be reached: ")
    assert done.stderr.count("\n") == 1
    assert everything(scheduled_plane) == []
    assert scheduled_plane.request("GET", f"/api/v1/namespaces/{PLACE}").status == 404


def test_a_kind_that_is_not_served_is_refused(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    env = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "SKIP_BUILD": "1"}
    done = deployer("deploy", "JOB_KINDS=example.org/Nothing", **env)
    assert done.returncode == 1
    assert done.stderr == "deploy: JOB_KINDS: the cluster does not serve example.org/Nothing: install its CRD first\n"
    assert everything(scheduled_plane) == []


# --- looking ----------------------------------------------------------------------------------------------------------------


def test_status_describe_and_restart(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    done = deployer("status")
    assert done.returncode == 1
    assert done.stderr == "status: nothing of it runs in namespace cloudvision: `just deploy` makes one\n"
    deployer.deploy()
    left_by_the_program(scheduled_plane)
    status = deployer("status").stdout
    assert "cv-interface-discovery" in status
    assert "HOLDER" in status
    assert "cv-interface-discovery" not in deployer("status", "COMPONENT=job").stdout
    assert "cv-job-informer-" not in deployer("status", COMPONENT="node").stdout
    assert deployer("status", COMPONENT="nodes").returncode == 2
    described = deployer("describe", COMPONENT="job").stdout
    assert "API_TOKEN_FILE" in described
    assert "DaemonSet" not in described
    informers, discovery = uids(scheduled_plane, "informer"), uids(scheduled_plane, "interface-discovery")
    done = deployer("restart", COMPONENT="node")
    assert done.returncode == 0, done.stderr
    assert uids(scheduled_plane, "informer") == informers
    assert not uids(scheduled_plane, "interface-discovery") & discovery
    deployer("logs", "COMPONENT=job", "TAIL=5")
    assert re.search(r"logs --prefix --tail=5 .* -l \S+component=informer$", deployer.seen.read_text(), re.MULTILINE)
