"""The manifests against the code: roles and the registry, settings and the command line, versions, hardening."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvji import __version__
from cvji.commands import READ_ELSEWHERE, DiscoverSettings, InformerSettings
from cvji.informer.loop import DRAIN, FLUSH
from cvji.informer.run import NAME
from cvji.jobs.kinds import BUILT_IN
from cvji.kube.trigger import CRDS
from cvji.reports.records import GROUP, RESOURCES
from cvji.settings import NodeConfigMode, declared
from tests.deploy.rendered import CHART, COMPONENTS, NEEDED, Object, helm, names, one, render

INFORMER = {
    "CustomResourceDefinition/jobreports.cloudvision.arista.io",
    "CustomResourceDefinition/nodereports.cloudvision.arista.io",
    "CustomResourceDefinition/nodeinterfacestates.cloudvision.arista.io",
    "ServiceAccount/cv-job-informer",
    "ClusterRole/cv-job-informer",
    "ClusterRoleBinding/cv-job-informer",
    "Role/cv-job-informer",
    "RoleBinding/cv-job-informer",
    "Deployment/cv-job-informer",
    "PodDisruptionBudget/cv-job-informer",
}
DISCOVERY = {
    "ServiceAccount/cv-interface-discovery",
    "ClusterRole/cv-interface-discovery",
    "ClusterRoleBinding/cv-interface-discovery",
    "Role/cv-interface-discovery",
    "RoleBinding/cv-interface-discovery",
    "Role/cv-job-informer-node-states",
    "RoleBinding/cv-job-informer-node-states",
    "DaemonSet/cv-interface-discovery",
}
RESTRICTION = {
    "ValidatingAdmissionPolicy/cv-interface-discovery",
    "ValidatingAdmissionPolicyBinding/cv-interface-discovery",
}
SRIOV = {"ClusterRole/cv-job-informer-sriov", "ClusterRoleBinding/cv-job-informer-sriov"}

CLUSTER_ROLES = {"ClusterRole/cv-job-informer", "ClusterRoleBinding/cv-job-informer"}
CRD_GRANTS = {(CRDS.group, CRDS.plural, verb, "") for verb in ("list", "watch")}
ONE_NAMESPACE = {"Role/cv-job-informer-jobs", "RoleBinding/cv-job-informer-jobs"}

Grant = tuple[str, str, str, str]  # group, resource, verb, name


@pytest.fixture(params=COMPONENTS, ids=[component or "base" for component in COMPONENTS])
def component(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def objects(component: str) -> list[Object]:
    return render(component)


@pytest.fixture
def base() -> list[Object]:
    return render()


def grants(role: Object) -> set[Grant]:
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def pod_specs(objects: list[Object]) -> list[Any]:
    return [item["spec"]["template"]["spec"] for item in objects if item["kind"] in ("Deployment", "DaemonSet")]


# --- roles --------------------------------------------------------------------------------------------------------------


def test_the_cluster_role_of_the_informer_is_the_registry_and_what_jobs_hold(base: list[Object]) -> None:
    resources = {(kind.group, kind.plural) for kind in BUILT_IN} | {("", "pods"), ("resource.k8s.io", "resourceclaims")}
    expected = {(group, plural, verb, "") for group, plural in resources for verb in ("list", "watch")}
    expected |= {("", "events", verb, "") for verb in ("create", "patch")} | CRD_GRANTS
    assert grants(one(base, "ClusterRole", "cv-job-informer")) == expected


def test_the_informer_may_write_its_lease_and_its_reports_alone(base: list[Object]) -> None:
    lease = ("coordination.k8s.io", "leases")
    expected = {(*lease, "create", ""), *((*lease, verb, NAME) for verb in ("get", "update"))}
    for plural in (resource.plural for resource in RESOURCES.values()):
        expected |= {(GROUP, plural, verb, "") for verb in ("list", "get", "create", "update", "delete")}
        expected.add((GROUP, f"{plural}/status", "update", ""))
    assert grants(one(base, "Role", "cv-job-informer")) == expected


def test_the_informer_reads_the_states_of_nodes_in_one_namespace(base: list[Object]) -> None:
    role = one(base, "Role", "cv-job-informer-node-states")
    assert grants(role) == {("cloudvision.arista.io", "nodeinterfacestates", verb, "") for verb in ("list", "watch")}


def test_with_one_namespace_to_watch_its_role_is_the_cluster_role_and_there_is_no_other(base: list[Object]) -> None:
    objects = render("one-namespace")
    role = one(objects, "Role", "cv-job-informer-jobs")
    assert grants(role) == grants(one(base, "ClusterRole", "cv-job-informer")) - CRD_GRANTS
    clusterwide = {item["metadata"]["name"] for item in objects if item["kind"].startswith("Cluster")}
    assert clusterwide == {"cv-interface-discovery"}
    assert one(objects, "RoleBinding", "cv-job-informer-jobs")["metadata"]["namespace"] == "team-a"


def test_the_sriov_operator_s_states_are_readable_where_they_are_read() -> None:
    role = one(render("sriovoperator"), "ClusterRole", "cv-job-informer-sriov")
    states = ("sriovnetwork.openshift.io", "sriovnetworknodestates")
    assert grants(role) == {(*states, verb, "") for verb in ("list", "watch")}


def test_discovery_may_touch_its_states_and_get_nodes(base: list[Object]) -> None:
    group, states = "cloudvision.arista.io", "nodeinterfacestates"
    expected = {(group, states, verb, "") for verb in ("create", "get", "patch")} | {
        (group, f"{states}/status", "patch", "")
    }
    assert grants(one(base, "Role", "cv-interface-discovery")) == expected
    assert grants(one(base, "ClusterRole", "cv-interface-discovery")) == {("", "nodes", "get", "")}


def test_nothing_is_granted_by_wildcard_and_every_binding_is_of_our_own(objects: list[Object]) -> None:
    accounts = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"}
    for item in objects:
        for rule in item.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "roleRef" in item:
            assert f"{item['roleRef']['kind']}/{item['roleRef']['name']}" in names(objects)
            (subject,) = item["subjects"]
            assert subject["kind"] == "ServiceAccount"
            assert subject["name"] in accounts
            assert subject["namespace"] == "cloudvision"


# --- what there is --------------------------------------------------------------------------------------------------------


def test_the_objects_of_each_mode(component: str, objects: list[Object]) -> None:
    more = {
        "sriovoperator": SRIOV,
        "disabled": set(),
        "unprivileged-discovery": DISCOVERY | RESTRICTION,
        "without-restriction": DISCOVERY,
        "": DISCOVERY | RESTRICTION,
        "one-namespace": DISCOVERY | RESTRICTION | ONE_NAMESPACE,
    }
    always = INFORMER - CLUSTER_ROLES if component == "one-namespace" else INFORMER
    assert names(objects) == always | more[component]


def test_every_object_is_labelled_and_in_our_namespace(objects: list[Object]) -> None:
    clusterwide = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    clusterwide |= {name.partition("/")[0] for name in RESTRICTION}
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app"] == "cv-job-informer"
        assert labels["app.kubernetes.io/name"] == "cvji"
        assert labels["app.kubernetes.io/version"] == __version__
        for label in ("component", "part-of", "managed-by"):
            assert labels[f"app.kubernetes.io/{label}"]
        place = "team-a" if names([item]) <= ONE_NAMESPACE else "cloudvision"
        assert item["metadata"].get("namespace") == (None if item["kind"] in clusterwide else place)
        if "template" in item.get("spec", {}):
            pods = item["spec"]["template"]["metadata"]["labels"]
            assert pods.items() >= item["spec"]["selector"]["matchLabels"].items()
            assert pods.items() <= labels.items()


def test_the_mode_of_node_inventory_is_its_component_s(component: str, objects: list[Object]) -> None:
    mode = component if component in ("sriovoperator", "disabled") else "discovery"
    assert NodeConfigMode(environment(one(objects, "Deployment", "cv-job-informer"))["NODECONFIG_MODE"]).value == mode


def environment(workload: Object) -> dict[str, str]:
    """The variables of a workload's container that are plain values."""
    variables = workload["spec"]["template"]["spec"]["containers"][0]["env"]
    return {item["name"]: item["value"] for item in variables if "value" in item}


DECLARED = {one.env: one for kind in (InformerSettings, DiscoverSettings) for one in declared(kind)}


def test_every_variable_of_the_pods_is_a_setting_of_the_program(base: list[Object]) -> None:
    known = {*DECLARED, *READ_ELSEWHERE, "POD_IP", "MALLOC_ARENA_MAX"}
    for spec in pod_specs(base):
        assert {variable["name"] for variable in spec["containers"][0]["env"]} <= known


def test_the_image_has_the_program_s_version(base: list[Object]) -> None:
    for spec in pod_specs(base):
        assert spec["containers"][0]["image"] == f"cv-job-informer:{__version__}"


def test_the_values_defaults_are_the_program_s(base: list[Object]) -> None:
    deployed = environment(one(base, "Deployment", "cv-job-informer"))
    names = "STABILITY_DELAY START_MAX_WAIT KIND_RETRY RESYNC_INTERVAL REPORT_HISTORY JOB_OWNER JOBCONFIG_MODE"
    for name in names.split():
        assert DECLARED[name].shown_default == deployed[name]


def test_chart_and_program_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_helm_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(NEEDED))
    done = subprocess.run(
        [helm(), "lint", "--strict", CHART, "-f", values], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


# --- the pods -------------------------------------------------------------------------------------------------------------


def test_the_informer_meets_the_restricted_pod_security_standard(objects: list[Object]) -> None:
    spec = one(objects, "Deployment", "cv-job-informer")["spec"]["template"]["spec"]
    assert_unprivileged(spec)
    assert "hostNetwork" not in spec
    assert [list(volume) for volume in spec["volumes"]] == [["name", "secret"]]


def assert_unprivileged(spec: Any) -> None:
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("component", ["", "unprivileged-discovery"], ids=["privileged", "unprivileged"])
def test_discovery_sees_the_host_and_writes_nothing_there(component: str, objects: list[Object]) -> None:
    spec = one(objects, "DaemonSet", "cv-interface-discovery")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["hostNetwork"] is True
    assert spec["tolerations"] == [{"operator": "Exists"}]
    (volume,) = spec["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["hostPath"]["path"] == "/sys"
    assert mount["readOnly"] is True
    assert environment(one(objects, "DaemonSet", "cv-interface-discovery"))["SYSFS_ROOT"] == mount["mountPath"]
    if component:
        assert_unprivileged(spec)
    else:
        assert container["securityContext"] == {"privileged": True, "readOnlyRootFilesystem": True}


def test_pods_have_probes_on_the_port_that_they_serve_and_limits(objects: list[Object]) -> None:
    for spec in pod_specs(objects):
        (container,) = spec["containers"]
        (port,) = container["ports"]
        address = next(item["value"] for item in container["env"] if item["name"] == "HEALTH_ADDRESS")
        assert address.endswith(f":{port['containerPort']}")
        for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert container["resources"]["limits"]["memory"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_the_informer_has_time_to_deliver_what_waits(base: list[Object]) -> None:
    spec = one(base, "Deployment", "cv-job-informer")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= DRAIN + FLUSH + 10  # then it releases the Lease


def test_the_token_is_a_file_and_no_variable(base: list[Object]) -> None:
    spec = one(base, "Deployment", "cv-job-informer")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {item["name"]: item for item in container["env"]}
    assert "API_TOKEN" not in environment
    (mount,) = container["volumeMounts"]
    assert environment["API_TOKEN_FILE"]["value"] == f"{mount['mountPath']}/api-token"
    assert "subPath" not in mount  # a subPath is never brought up to date
