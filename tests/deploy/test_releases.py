"""The chart by Helm itself on a real API server: installed, changed, rolled back, taken over from kustomize, removed."""

import json
import os
import subprocess
from typing import Any

import pytest
import yaml

from cvji.nodes.inventory import NodeReport
from cvji.reports.records import Record, write_spec
from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import crd
from tests.deploy.conftest import PLACE, Deployer
from tests.deploy.rendered import CHART, FORMS, NEEDED, Object, helm, merged, names, render, template
from tests.deploy.test_deploy import CRDS, DISCOVERY, NAMESPACE, SECRET, everything, identity, pods, secret, settings
from tests.deploy.test_manifests import CLUSTER_ROLES, INFORMER, ONE_NAMESPACE, SRIOV

pytestmark = pytest.mark.cluster
OBJECTS = INFORMER | DISCOVERY
MONITORING = {
    "PodMonitor/cv-job-informer",
    "PrometheusRule/cv-job-informer",
    "ConfigMap/cv-job-informer-dashboard",
}


@pytest.fixture
def place(scheduled_plane: ControlPlane) -> str:
    scheduled_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": PLACE}})
    return PLACE


def upgrade(deployer: Deployer, values: Object, *more: str) -> str:
    """`helm upgrade --install` that succeeds; what it printed."""
    chart = str(deployer.folder / "project/manifests/chart")
    text = json.dumps(merged(NEEDED, values))
    done = deployer.helm("upgrade", "--install", "cvji", chart, "-f", "-", *more, stdin=text)
    assert done.returncode == 0, done.stderr
    return done.stdout


def identities(plane: ControlPlane) -> set[tuple[str, ...]]:
    return {identity(item) for item in everything(plane)}


def test_a_release_is_installed_upgraded_rolled_back_and_removed(
    scheduled_plane: ControlPlane, deployer: Deployer, place: str
) -> None:
    notes = upgrade(deployer, {})
    assert f"kubectl -n {place} create secret generic cv-job-informer-api-credentials" in notes
    assert "cvji check" in notes
    assert names(everything(scheduled_plane)) == OBJECTS
    first = identities(scheduled_plane)
    upgrade(deployer, {})
    assert identities(scheduled_plane) == first
    upgrade(deployer, {"location": "dc2", "informer": {"replicas": 3}})
    assert settings(scheduled_plane)["LOCATION"] == "dc2"
    wait_for("three replicas", lambda: len(pods(scheduled_plane, "informer")) == 3)
    done = deployer.helm("rollback", "cvji", "1")
    assert done.returncode == 0, done.stderr
    assert settings(scheduled_plane)["LOCATION"] == "dc1"
    done = deployer.helm("uninstall", "cvji")
    assert done.returncode == 0, done.stderr
    wait_for("all but the CRDs to go", lambda: names(everything(scheduled_plane)) == CRDS)
    upgrade(deployer, {"crds": {"keep": False}})  # takes back the CRDs that the release before left
    done = deployer.helm("uninstall", "cvji")
    assert done.returncode == 0, done.stderr
    wait_for("everything to go", lambda: everything(scheduled_plane) == [])
    path = f"/api/v1/namespaces/{place}/secrets"
    assert scheduled_plane.call("GET", path)["items"] == []


def test_every_switch_is_changed_in_place_and_back(
    scheduled_plane: ControlPlane, deployer: Deployer, place: str
) -> None:
    assert place
    wait_for("the watched namespace", lambda: namespace(scheduled_plane, "team-a"))
    group = "monitoring.coreos.com"
    kinds = (("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules"))
    scheduled_plane.install_crds([crd(group, "v1", kind, plural) for kind, plural in kinds])
    upgrade(deployer, {})
    before = {name[:3] for name in identities(scheduled_plane)}
    forms: list[tuple[Object, set[str]]] = [
        (FORMS["sriovoperator"], INFORMER | SRIOV),
        (FORMS["disabled"], INFORMER),
        (FORMS["one-namespace"], OBJECTS - CLUSTER_ROLES | ONE_NAMESPACE),
        (FORMS["unprivileged-discovery"], OBJECTS),
        (FORMS["without-restriction"], {name for name in OBJECTS if "ValidatingAdmission" not in name}),
        ({"networkPolicy": {"enabled": True}}, OBJECTS | {"NetworkPolicy/cv-job-informer"}),
        ({"monitoring": {"podMonitor": True, "prometheusRule": True, "dashboard": True}}, OBJECTS | MONITORING),
        ({"informer": {"replicas": 1}}, OBJECTS - {"PodDisruptionBudget/cv-job-informer"}),
        ({"crds": {"install": False}}, OBJECTS),  # kept, with what is in them
    ]
    for values, expected in forms:
        upgrade(deployer, values)
        assert names(everything(scheduled_plane)) == expected, values
        upgrade(deployer, {})
        assert names(everything(scheduled_plane)) == OBJECTS, values
    after = {name[:3] for name in identities(scheduled_plane)}
    for kind in ("Deployment", "CustomResourceDefinition"):  # the very same objects
        assert {item for item in before if item[0] == kind} == {item for item in after if item[0] == kind}


def namespace(plane: ControlPlane, name: str) -> bool:
    return plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status in (201, 409)


@pytest.mark.parametrize("form", [*FORMS, "namespace"])
def test_the_api_server_takes_every_form_in_a_dry_run(
    form: str, scheduled_plane: ControlPlane, deployer: Deployer, place: str
) -> None:
    values = FORMS.get(form, {"namespace": {"create": True}, "networkPolicy": {"enabled": True}})
    wait_for("the watched namespace", lambda: namespace(scheduled_plane, "team-a"))
    upgrade(deployer, FORMS.get(form, {}), "--dry-run=server")
    text = template(merged(NEEDED, values)).stdout
    how = ["kubectl", "apply", "--dry-run=server", "--server-side", "--validate=strict", "-f", "-"]
    done = apply(scheduled_plane, text, *how)
    assert len(done.stdout.splitlines()) == len(render(values))
    assert "Warning" not in done.stderr.replace(f"Warning: resource namespaces/{place} is missing", "")
    assert everything(scheduled_plane) == []


def apply(plane: ControlPlane, text: str, *command: str) -> subprocess.CompletedProcess[str]:
    full = [command[0], "--kubeconfig", str(plane.kubeconfig), *command[1:]]
    done = subprocess.run(full, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_applying_the_rendered_chart_twice_changes_nothing(
    scheduled_plane: ControlPlane, deployer: Deployer, place: str
) -> None:
    """As Argo CD and Flux do it."""
    text = template(merged(NEEDED, {"namespace": {"create": True}})).stdout
    for _ in range(2):
        apply(scheduled_plane, text, "kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-")
        found = identities(scheduled_plane)
        assert names(everything(scheduled_plane)) == OBJECTS | {NAMESPACE}
        drift = ["kubectl", "diff", "--server-side", "-f", "-"]  # ends with 1 where there is a difference
        apply(scheduled_plane, text, *drift)
        assert identities(scheduled_plane) == found
    assert deployer.plane is scheduled_plane
    assert place


# --- from kustomize ---------------------------------------------------------------------------------------------------------


def kustomized() -> list[Object]:
    """The objects as versions before the chart applied them: settings in ConfigMaps whose names end in a hash."""
    objects = render("without-restriction")
    for item in objects:
        labels = item["metadata"]["labels"]
        labels["app.kubernetes.io/managed-by"] = "kustomize"
        del labels["helm.sh/chart"], labels["app.kubernetes.io/instance"]
        item["metadata"].pop("annotations", None)
        if item["kind"] == "Deployment":
            container = item["spec"]["template"]["spec"]["containers"][0]
            container["env"] = [one for one in container["env"] if one["name"] != "LOCATION"]
            container["envFrom"] = [{"configMapRef": {"name": "cv-job-informer-settings-5f7d2c9b8k"}}]
    config: Any = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"LOCATION": "old"}}
    config["metadata"] = {
        "name": "cv-job-informer-settings-5f7d2c9b8k",
        "namespace": PLACE,
        "labels": objects[0]["metadata"]["labels"],
    }
    return [*objects, config]


def test_a_deploy_takes_over_what_kustomize_made_and_loses_no_record(
    scheduled_plane: ControlPlane, deployer: Deployer, place: str
) -> None:
    text = yaml.safe_dump_all(kustomized())
    apply(scheduled_plane, text, "kubectl", "apply", "--server-side", "--field-manager=cvji-deploy", "-f", "-")
    reports = f"/apis/cloudvision.arista.io/v1/namespaces/{place}/nodereports"
    body = write_spec(Record(("node", "cp-0"), 1, NodeReport("cp-0", ())), place, "", location="lab", term=1)
    wait_for("the CRD to be served", lambda: scheduled_plane.request("POST", reports, json.loads(body)).status == 201)
    record = scheduled_plane.call("GET", f"{reports}/cp-0")

    deployer.deploy()
    assert names(everything(scheduled_plane)) == OBJECTS | {SECRET, NAMESPACE, "NodeReport/cp-0"}
    assert scheduled_plane.call("GET", f"{reports}/cp-0") == record
    assert secret(scheduled_plane)["api-token"] == "token-1"
    deployed = scheduled_plane.call("GET", f"/apis/apps/v1/namespaces/{place}/deployments/cv-job-informer")
    assert "envFrom" not in deployed["spec"]["template"]["spec"]["containers"][0]
    for item in everything(scheduled_plane):
        if names([item]) <= OBJECTS:
            assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
            managers = {field["manager"] for field in item["metadata"]["managedFields"]}
            assert not managers & {"cvji-deploy", "before-first-apply"}, names([item])
    assert "--take-ownership" in deployer.seen.read_text()
    deployer.seen.write_text("")
    deployer.deploy()
    assert "--take-ownership" not in deployer.seen.read_text()


def test_what_another_release_owns_is_not_taken(scheduled_plane: ControlPlane, deployer: Deployer, place: str) -> None:
    upgrade(deployer, {})
    elsewhere = scheduled_plane.create_namespace("elsewhere")
    chart = str(deployer.folder / "project/manifests/chart")
    arguments = ["install", "cvji", chart, "-f", "-", "-n", elsewhere]
    done = deployer.helm(*arguments, stdin=json.dumps(NEEDED))
    assert done.returncode == 1
    assert "invalid ownership metadata" in done.stderr
    assert place in done.stderr


def test_a_deploy_after_one_that_was_killed_says_how_to_mend_it(
    scheduled_plane: ControlPlane, deployer: Deployer, trouble: dict[str, Object], place: str
) -> None:
    trouble["informer"] = {"reason": "ImagePullBackOff"}
    command = [str(helm()), "install", "cvji", str(CHART), "-n", place, "--wait", "--set=location=dc1"]
    env = {**os.environ, "KUBECONFIG": str(scheduled_plane.kubeconfig)}
    pending = f"/api/v1/namespaces/{place}/secrets?labelSelector=status%3Dpending-install"
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        wait_for("the release to be pending", lambda: scheduled_plane.call("GET", pending)["items"])
        program.kill()
    given = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "SKIP_BUILD": "1"}
    done = deployer("deploy", **given)
    assert done.returncode == 1
    assert done.stderr.endswith("or `uninstall cvji` ends one that was interrupted\n")
    assert done.stderr.count("\n") == 1
    trouble.clear()
    assert deployer.helm("uninstall", "cvji").returncode == 0
    deployer.deploy()
