"""The roles are all that the program needs: deployed, it does its whole job with them without one refusal."""

import base64
import json
import urllib.request
from pathlib import Path

import pytest

from cvji.jobs.kinds import BUILT_IN
from cvji.kube.trigger import CRDS
from tests.cluster.controlplane import ControlPlane, Response, wait_for
from tests.deploy.conftest import PLACE, Deployer, macs, write_credentials
from tests.deploy.rendered import Object, names
from tests.deploy.test_deploy import DISCOVERY, NAMESPACE, SECRET, everything, pods
from tests.deploy.test_manifests import INFORMER, ONE_NAMESPACE, grants
from tests.e2e.kit import QUICK, Program, Stage, free_port, stamp
from tests.simulator.objects import ended, job, pod
from tests.sysfs.trees import mlx5_host

pytestmark = pytest.mark.cluster


def pod_token(plane: ControlPlane, deployed: Object) -> str:
    """A pod's own token, as the kubelet asks for it."""
    meta, account = deployed["metadata"], deployed["spec"]["serviceAccountName"]
    pod_itself = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": pod_itself}}
    path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
    token: str = plane.call("POST", path, request)["status"]["token"]
    return token


class Container:
    """A deployed pod's container as a process: with its arguments, environment, files and token, as the kubelet would."""

    def __init__(self, plane: ControlPlane, stage: Stage, deployed: Object) -> None:
        spec = deployed["spec"]
        (container,) = spec["containers"]
        name = deployed["metadata"]["name"]
        folder = stage.folder / name
        self.port = free_port()
        resources = f"/api/v1/namespaces/{PLACE}"
        env: dict[str, str] = {}
        secrets = f"{resources}/secrets/cv-job-informer-api-credentials"
        credentials = {key: base64.b64decode(value) for key, value in plane.call("GET", secrets)["data"].items()}
        fields = {"metadata.name": name, "metadata.namespace": PLACE, "spec.nodeName": spec["nodeName"]}
        fields["status.podIP"] = "127.0.0.1"
        for variable in container["env"]:
            value, source = variable.get("value", ""), variable.get("valueFrom", {})
            if "fieldRef" in source:
                value = fields[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                assert secrets.endswith(source["secretKeyRef"]["name"])
                value = credentials[source["secretKeyRef"]["key"]].decode()
            env[variable["name"]] = value.replace("$$", "$")
        folder.mkdir()
        env["KUBECONFIG"] = write_credentials(plane, folder, pod_token(plane, deployed))
        env["HEALTH_ADDRESS"] = f"127.0.0.1:{self.port}"
        for mount in container["volumeMounts"]:
            here = folder / mount["name"]
            (volume,) = (item for item in spec["volumes"] if item["name"] == mount["name"])
            if "secret" in volume:
                here.mkdir()
                for item in volume["secret"]["items"]:
                    (here / item["path"]).write_bytes(credentials[item["key"]])
            elif mount["name"] == "sys":
                env["NETLINK"] = "no"  # the tree below is not this kernel's
                mlx5_host(here)
            env = {key: value.replace(mount["mountPath"], str(here)) for key, value in env.items()}
        self.program = Program(*container["args"], env=env, folder=stage.folder)
        stage.programs.append(self.program)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.mark.parametrize("watched", ["all-namespaces", "one-namespace"])
def test_what_is_deployed_does_its_whole_job_and_uses_all_that_it_may(
    watched: str, scheduled_plane: ControlPlane, deployer: Deployer, stage: Stage, team: str, audit_log: Path
) -> None:
    simulator = stage.cloudvision
    cloudvision = {"API_SERVER": simulator.address, "API_TOKEN": simulator.token, "API_CA_FILE": str(simulator.ca_file)}
    namespace = team if watched == "one-namespace" else ""
    deployer.deploy(**cloudvision, LOCATION="lab", REPORT_HISTORY="0", NAMESPACE=namespace, **QUICK)
    begun = audit_log.stat().st_size
    informers = [Container(scheduled_plane, stage, item) for item in pods(scheduled_plane, "informer")]
    discovery = pods(scheduled_plane, "interface-discovery")[0]
    discoverer = Container(scheduled_plane, stage, discovery)
    for container in (*informers, discoverer):
        container.program.wait_for(container.ready, timeout=60)

    node = discovery["spec"]["nodeName"]
    simulator.wait_for(lambda: node in simulator.nodes, timeout=60)
    state = {"interfaces": [{"name": "rail0", "mac": macs(99), "pciAddress": "0000:3b:00.0"}]}
    meta = {
        "name": "removed",
        "namespace": PLACE,
        "labels": {"app": "cv-job-informer", "app.kubernetes.io/name": "cvji"},
    }
    api = "cloudvision.arista.io/v1"
    removed = stage.cluster.create({"apiVersion": api, "kind": "NodeInterfaceState", "metadata": meta}, state)
    simulator.wait_for(lambda: "removed" in simulator.nodes, timeout=60)
    made = {}
    for number, kind in enumerate(BUILT_IN):
        name = f"job-{number}"
        made[name] = stage.cluster.create(job(kind.group, kind.kind, name, team))
        stage.cluster.run_pod(pod(f"{name}-0", made[name], macs(number), namespace=team))
    for number in range(len(BUILT_IN)):
        (entry,) = stage.wait_for_states(f"job-{number}", "RUNNING", timeout=60)
        assert entry["interfaces"]["values"] == [macs(number)]
    for report in (f"jobreports/{made['job-0']['metadata']['uid']}", "nodereports/removed"):
        edit_by_hand(scheduled_plane, report)  # the next write conflicts with it
    grown = made["grown"] = stage.cluster.create(job("kubeflow.org", "PyTorchJob", "grown", team))
    for number in range(3):  # its second change is the first Event that repeats, and so is changed
        stage.cluster.run_pod(pod(f"grown-{number}", grown, macs(100 + number), namespace=team))
        stage.wait_for_states("grown", *["RUNNING"] * (number + 1), timeout=60)
    for number, kind in enumerate(BUILT_IN):
        status = ended(kind.group, kind.kind, "FAILED", stamp(-5), stamp())
        assert status
        stage.cluster.set_status(made[f"job-{number}"], status)
        stage.wait_for_states(f"job-{number}", "RUNNING", "FAILED", timeout=60)
    stage.cluster.delete(made.pop("job-0"))
    stage.cluster.delete(removed)
    simulator.wait_for(lambda: "removed" not in simulator.nodes, timeout=60)
    kept = {f"JobReport/{item['metadata']['uid']}" for item in made.values()} | {f"NodeReport/{node}"}
    wait_for("the records of what is gone to go", lambda: names(reports(scheduled_plane)) == kept)
    wait_for("the others to be delivered", lambda: all(map(is_delivered, reports(scheduled_plane))))

    for container in (*informers, discoverer):
        assert container.program.stop(40) == 0
        refused = [line for line in container.program.log.splitlines() if "HTTP 403" in line]
        assert len(refused) == (1 if watched == "one-namespace" and container in informers else 0)
        assert all(f" {CRDS}: HTTP 403" in line for line in refused)
    assert simulator.rejected == []
    everything_used(scheduled_plane, audit_log, begun, namespace)

    written = names(everything(scheduled_plane)) - INFORMER - DISCOVERY - ONE_NAMESPACE
    assert written - kept == {SECRET, NAMESPACE, "Lease/cv-job-informer", f"NodeInterfaceState/{node}"}
    done = deployer("delete", "crd=true")
    assert done.returncode == 0, done.stderr
    assert everything(scheduled_plane) == []
    assert scheduled_plane.request("GET", f"/api/v1/namespaces/{PLACE}").status == 404
    assert node in simulator.nodes  # no informer was left to see its state go


def edit_by_hand(plane: ControlPlane, report: str) -> None:
    path = f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}/{report}"
    plane.call("PATCH", path, {"metadata": {"labels": {"edited": "by-hand"}}})


def is_delivered(report: Object) -> bool:
    status = report.get("status", {"observedGeneration": 0})
    return bool(status["observedGeneration"] == report["metadata"]["generation"]) and [
        (item["type"], item["status"]) for item in status["conditions"]
    ] == [("Delivered", "True")]


def reports(plane: ControlPlane) -> list[Object]:
    base = f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}"
    return [
        {"kind": kind, **item}
        for kind in ("JobReport", "NodeReport")
        for item in plane.call("GET", f"{base}/{kind.lower()}s")["items"]
    ]


def everything_used(plane: ControlPlane, audit_log: Path, begun: int, namespace: str) -> None:
    """Every verb on every resource that is granted was asked for, and none was refused."""
    with audit_log.open() as log:
        log.seek(begun)
        entries = [json.loads(line) for line in log if line.endswith("\n")]
    base = "/apis/rbac.authorization.k8s.io/v1"
    own_roles = f"{base}/namespaces/{PLACE}/roles"
    jobs = f"namespaces/{namespace}/roles/cv-job-informer-jobs" if namespace else "clusterroles/cv-job-informer"
    informer = [f"{base}/{jobs}", f"{own_roles}/cv-job-informer", f"{own_roles}/cv-job-informer-node-states"]
    discovery = [f"{base}/clusterroles/cv-interface-discovery", f"{own_roles}/cv-interface-discovery"]
    for account, paths in (("cv-job-informer", informer), ("cv-interface-discovery", discovery)):
        user = f"system:serviceaccount:{PLACE}:{account}"
        own = [entry for entry in entries if entry["user"]["username"] == user]
        refused = [entry for entry in own if entry["annotations"]["authorization.k8s.io/decision"] != "allow"]
        # CRDs are tried where the role is for one namespace too: it may have been given more.
        assert {entry["objectRef"]["resource"] for entry in refused} <= ({CRDS.plural} if namespace else set())
        own = [entry for entry in own if entry not in refused]
        used = {
            (
                item.get("apiGroup", ""),
                "/".join(filter(None, (item["resource"], item.get("subresource")))),
                entry["verb"],
            )
            for entry in own
            if (item := entry.get("objectRef"))
        }
        granted = {grant[:3] for path in paths for grant in grants(plane.call("GET", path))}
        # An apply that makes the object is authorized as `create` too and written down as `patch`.
        granted -= {("cloudvision.arista.io", "nodeinterfacestates", "create")}
        assert used == granted


def test_a_discovery_pod_writes_the_state_of_its_own_node_alone(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    deployer.deploy()
    first, second, *_ = pods(scheduled_plane, "interface-discovery")
    own, other = first["spec"]["nodeName"], second["spec"]["nodeName"]
    token = pod_token(scheduled_plane, first)

    def write(node: str, part: str = "") -> Response:
        path = f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}/nodeinterfacestates/{node}{part}?fieldManager=test"
        body: Object = {"apiVersion": "cloudvision.arista.io/v1", "kind": "NodeInterfaceState"}
        body |= {"metadata": {"name": node}, "status": {"message": node}}
        return scheduled_plane.request("PATCH", path, body, content_type="application/apply-patch+yaml", token=token)

    # A policy is in force some time after it is made.
    refused = wait_for("a refusal", lambda: answer if (answer := write(other)).status == 403 else None)
    assert "writes the NodeInterfaceState of its own node alone" in refused.text
    assert write(own).status == 201
    assert write(own, "/status").status == 200
    scheduled_plane.call(
        "POST",
        f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}/nodeinterfacestates",
        {"apiVersion": "cloudvision.arista.io/v1", "kind": "NodeInterfaceState", "metadata": {"name": "worker-9"}},
    )
    assert write("worker-9", "/status").status == 403
