"""The roles are no more than the program needs: with any verb of them taken away, something is refused."""

import copy
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.deploy.conftest import macs, write_credentials
from tests.deploy.rendered import Object, one, render
from tests.deploy.test_manifests import grants
from tests.e2e.kit import QUICK, Program, Stage, stamp
from tests.e2e.test_real_records import VERBS as REPORT_VERBS
from tests.simulator.objects import ended, job, pod
from tests.sysfs.trees import mlx5_host

pytestmark = pytest.mark.cluster

NODE = "cp-0"
SETTINGS = {**QUICK, "LOCATION": "lab", "NODECONFIG_MODE": "discovery"}


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
    resources = {grant[:2] for grant in grants(one(objects, *role.split("/"))) if grant[2] == verb}
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
