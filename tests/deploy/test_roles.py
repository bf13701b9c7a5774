"""The roles are what the program needs, and nothing beside: each workload with its service account's token alone.

What it does with its role is its whole job, without one refusal; and with any verb of it taken away, there is one.
"""

import base64
import copy
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvji.jobs.kinds import BUILT_IN
from tests.cluster.controlplane import ControlPlane, Response, wait_for
from tests.deploy.conftest import PLACE, Deployer
from tests.deploy.rendered import Object, names, one, render
from tests.deploy.test_deploy import DISCOVERY, NAMESPACE, SECRET, everything, pods
from tests.deploy.test_manifests import INFORMER, ONE_NAMESPACE, grants
from tests.e2e.kit import QUICK, Cluster, Program, Stage, free_port, stamp, write_kubeconfig
from tests.e2e.test_real_records import VERBS as REPORT_VERBS
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.objects import ended, job, pod
from tests.sysfs.trees import mlx5_host

pytestmark = pytest.mark.cluster
NODE = "cp-0"
SETTINGS = {**QUICK, "LOCATION": "lab", "NODECONFIG_MODE": "discovery"}


@pytest.fixture
def team(scheduled_plane: ControlPlane) -> Iterator[str]:
    """A namespace for jobs."""
    name = scheduled_plane.create_namespace("team")
    yield name
    scheduled_plane.call("DELETE", f"/api/v1/namespaces/{name}/pods?gracePeriodSeconds=0")
    scheduled_plane.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def stage(scheduled_plane: ControlPlane, cloudvision: CloudVisionSimulator, tmp_path: Path) -> Iterator[Stage]:
    """The cluster as its administrator reaches it, for making jobs; and programs that end with the test."""
    headers = {"Authorization": f"Bearer {scheduled_plane.admin_token}"}
    authority = str(scheduled_plane.ca_file)
    cluster = Cluster(scheduled_plane.server, scheduled_plane.kubeconfig, ca_certs=authority, headers=headers)
    found = Stage(cluster, cloudvision, tmp_path)
    yield found
    found.close()
    cluster.close()


@pytest.fixture
def cloudvision() -> Iterator[CloudVisionSimulator]:
    with CloudVisionSimulator() as simulator:
        yield simulator


def write_credentials(plane: ControlPlane, folder: Path, token: str) -> str:
    """A kubeconfig with this token and nothing else."""
    authority = {"certificate-authority": str(plane.ca_file)}
    return str(write_kubeconfig(folder, plane.server, {"token": token}, **authority))


def pod_token(plane: ControlPlane, deployed: Object) -> str:
    """A pod's own token, as the kubelet asks for it."""
    meta, account = deployed["metadata"], deployed["spec"]["serviceAccountName"]
    pod_itself = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": pod_itself}}
    path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
    token: str = plane.call("POST", path, request)["status"]["token"]
    return token


# --- sufficient -------------------------------------------------------------------------------------------------------------


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


def macs(number: int) -> str:
    return f"02:00:00:00:03:{number:02x}"


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
        assert "HTTP 403" not in container.program.log
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
        assert refused == []
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


# --- tight ------------------------------------------------------------------------------------------------------------------


class Account:
    """A service account in a namespace of its own, with copies of the manifests' roles that lack something."""

    def __init__(self, plane: ControlPlane, objects: list[Object], name: str, lacks: set[tuple[str, str, str]]) -> None:
        """`lacks` are (role, resource, verb); an empty resource is any."""
        self._plane = plane
        self.name = name
        self.namespace = plane.create_namespace("tight")
        plane.call("POST", f"/api/v1/namespaces/{self.namespace}/serviceaccounts", {"metadata": {"name": name}})
        self._made: list[str] = []
        for binding in objects:
            if "roleRef" in binding and binding["subjects"][0]["name"] == name:
                role = one(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
                self._create(without(role, lacks))
                self._create(binding)

    def _create(self, original: Object) -> None:
        made = copy.deepcopy(original)
        plural = f"{made['kind'].lower()}s"
        base = "/apis/rbac.authorization.k8s.io/v1"
        if made["kind"].startswith("Cluster"):
            made["metadata"]["name"] += f"-{self.namespace}"
            if "roleRef" in made:
                made["roleRef"]["name"] += f"-{self.namespace}"
        else:
            base += f"/namespaces/{self.namespace}"
            made["metadata"]["namespace"] = self.namespace
        for subject in made.get("subjects", []):
            subject["namespace"] = self.namespace
        made["metadata"]["labels"] = {"test": "tight"}
        self._plane.call("POST", f"{base}/{plural}", made)
        self._made.append(f"{base}/{plural}/{made['metadata']['name']}")

    def remove(self) -> None:
        for path in self._made:
            self._plane.call("DELETE", path)
        self._plane.call("DELETE", f"/api/v1/namespaces/{self.namespace}")


Lacking = Callable[..., Account]


@pytest.fixture(scope="module")
def own_crds(scheduled_plane: ControlPlane, objects: list[Object]) -> Iterator[list[Object]]:
    crds = [item for item in objects if item["kind"] == "CustomResourceDefinition"]
    scheduled_plane.install_crds(crds)
    yield crds
    paths = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}" for crd in crds]
    for path in paths:
        scheduled_plane.call("DELETE", path)
    wait_for("the CRDs to end", lambda: all(scheduled_plane.request("GET", path).status == 404 for path in paths))


@pytest.fixture
def lacking(scheduled_plane: ControlPlane, objects: list[Object], own_crds: list[Object]) -> Iterator[Lacking]:
    """Makes accounts, where the CRDs are that their roles are about, and removes them."""
    assert own_crds
    made = []

    def make(name: str, *lacks: tuple[str, str, str]) -> Account:
        made.append(Account(scheduled_plane, objects, name, set(lacks)))
        return made[-1]

    yield make
    for account in made:
        account.remove()


def without(role: Object, lacks: set[tuple[str, str, str]]) -> Object:
    """The role, but for those verbs on those resources; one rule each, as `resources` share their verbs."""
    found = copy.deepcopy(role)
    found["rules"] = [
        {**rule, "resources": [resource], "verbs": verbs}
        for rule in role["rules"]
        for resource in rule["resources"]
        if (
            verbs := [
                verb
                for verb in rule["verbs"]
                if not lacks & {(name_of(role), resource, verb), (name_of(role), "", verb)}
            ]
        )
    ]
    return found


def name_of(role: Object) -> str:
    return f"{role['kind']}/{role['metadata']['name']}"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render()


def credentials_of(plane: ControlPlane, stage: Stage, account: Account) -> str:
    folder = stage.folder / account.namespace
    folder.mkdir()
    return write_credentials(plane, folder, plane.token_for(account.namespace, account.name))


@pytest.mark.parametrize("watched", ["all-namespaces", "one-namespace"])
@pytest.mark.parametrize("verb", ["list", "watch"])
def test_without_a_verb_on_what_it_reads_the_informer_is_refused_each_resource(
    verb: str, watched: str, scheduled_plane: ControlPlane, stage: Stage, own_crds: list[Object]
) -> None:
    one_namespace = watched == "one-namespace"
    role = "Role/cv-job-informer-jobs" if one_namespace else "ClusterRole/cv-job-informer"
    objects = render("one-namespace" if one_namespace else "")
    resources = {grant[:2] for grant in grants(one(objects, *role.split("/")))}
    assert own_crds
    account = Account(scheduled_plane, objects, "cv-job-informer", {(role, "", verb)})
    env = {**SETTINGS, "KUBECONFIG": credentials_of(scheduled_plane, stage, account)}
    env["NAMESPACE"] = account.namespace if one_namespace else ""
    program = Program("informer", "--dry-run", env=env, folder=stage.folder)
    stage.programs.append(program)
    for group, plural in sorted(resources):
        program.wait_for_log(f'cannot {verb} resource "{plural}" in API group "{group}"', timeout=60)
    account.remove()


INFORMER_WRITES = [
    ("Role/cv-job-informer", "leases", "create"),
    ("Role/cv-job-informer", "leases", "get"),
    ("Role/cv-job-informer", "leases", "update"),
    ("Role/cv-job-informer-node-states", "nodeinterfacestates", "list"),
    ("Role/cv-job-informer-node-states", "nodeinterfacestates", "watch"),
]
DISCOVERY_VERBS = [
    ("ClusterRole/cv-interface-discovery", "nodes", "get"),
    ("Role/cv-interface-discovery", "nodeinterfacestates", "create"),
    ("Role/cv-interface-discovery", "nodeinterfacestates", "get"),
    ("Role/cv-interface-discovery", "nodeinterfacestates", "patch"),
    ("Role/cv-interface-discovery", "nodeinterfacestates/status", "patch"),
]


def test_every_verb_of_every_role_is_taken_away_below(objects: list[Object]) -> None:
    reports = {("Role/cv-job-informer", *verb) for verb in REPORT_VERBS}  # in the test of the store
    taken = {*INFORMER_WRITES, *DISCOVERY_VERBS, *reports}
    granted = {
        (name_of(role), resource, verb)
        for role in objects
        if role["kind"] in ("Role", "ClusterRole") and name_of(role) != "ClusterRole/cv-job-informer"
        for _, resource, verb, _ in grants(role)
    }
    assert granted == taken


@pytest.mark.parametrize("lacks", INFORMER_WRITES, ids=lambda lacks: "-".join(lacks).replace("/", "-"))
def test_without_a_verb_on_what_it_writes_the_informer_is_refused(
    lacks: tuple[str, str, str], scheduled_plane: ControlPlane, stage: Stage, team: str, lacking: Lacking
) -> None:
    account = lacking("cv-job-informer", lacks)
    env = {
        **SETTINGS,
        "KUBECONFIG": credentials_of(scheduled_plane, stage, account),
        "STATE_NAMESPACE": account.namespace,
        "LEADER_ELECT": "true",
        "NAMESPACE": f"{team},none",
        "API_SERVER": stage.cloudvision.address,
        "API_TOKEN": stage.cloudvision.token,
        "API_CA_FILE": str(stage.cloudvision.ca_file),
    }
    program = Program("informer", env=env, folder=stage.folder)
    stage.programs.append(program)
    _, resource, verb = lacks
    refusal = f'cannot {verb} resource "{resource}"'

    def said(state: str) -> bool:
        return refusal in program.log or state in stage.cloudvision.states("trial")

    made = stage.cluster.create(job("batch", "Job", "trial", team))
    stage.cluster.run_pod(pod("trial-0", made, macs(1), namespace=team))
    program.wait_for(lambda: said("RUNNING"), timeout=60)
    stage.cluster.set_status(made, ended("batch", "Job", "FAILED", stamp(-5), stamp()) or {})
    program.wait_for(lambda: said("FAILED"), timeout=60)
    program.wait_for_log(refusal, timeout=30)


@pytest.mark.parametrize("lacks", DISCOVERY_VERBS, ids=lambda lacks: "-".join(lacks).replace("/", "-"))
def test_without_a_verb_discovery_is_refused(
    lacks: tuple[str, str, str], scheduled_plane: ControlPlane, stage: Stage, lacking: Lacking
) -> None:
    account = lacking("cv-interface-discovery", lacks)
    env = {
        "KUBECONFIG": credentials_of(scheduled_plane, stage, account),
        "STATE_NAMESPACE": account.namespace,
        "NODE_NAME": NODE,
        "SYSFS_ROOT": str(mlx5_host(stage.folder / "sys").root),
    }
    program = Program("discover", env=env, folder=stage.folder)
    stage.programs.append(program)
    program.wait_for_log(f'cannot {lacks[2]} resource "{lacks[1]}"', timeout=60)


@pytest.mark.parametrize("verb", ["", "list", "watch"], ids=["nothing", "list", "watch"])
def test_with_the_sriov_operator_the_informer_needs_its_states(
    verb: str, scheduled_plane: ControlPlane, stage: Stage, team: str
) -> None:
    lacks = ("ClusterRole/cv-job-informer-sriov", "sriovnetworknodestates", verb)
    account = Account(scheduled_plane, render("sriovoperator"), "cv-job-informer", {lacks})
    state = {"interfaces": [{"name": "rail0", "mac": macs(1), "pciAddress": "0000:3b:00.0"}]}
    api = "sriovnetwork.openshift.io/v1"
    body = {"apiVersion": api, "kind": "SriovNetworkNodeState", "metadata": {"name": "gpu-1", "namespace": team}}
    stage.cluster.create(body, state)
    env = {
        **SETTINGS,
        "KUBECONFIG": credentials_of(scheduled_plane, stage, account),
        "STATE_NAMESPACE": account.namespace,
        "LEADER_ELECT": "true",
        "NODECONFIG_MODE": "sriovoperator",
    }
    program = Program("informer", "--dry-run", env=env, folder=stage.folder)
    stage.programs.append(program)
    if verb:
        program.wait_for_log(f'cannot {verb} resource "sriovnetworknodestates"', timeout=60)
    else:
        program.wait_for(lambda: macs(1) in program.out.read_text(), timeout=60)
        assert "HTTP 403" not in program.log
    account.remove()
