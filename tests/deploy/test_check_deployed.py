"""`cvji check` and `explain` of what is deployed, as an administrator and in the informer's pod, on a real API server."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.deploy.conftest import PLACE, Deployer, macs, write_credentials
from tests.deploy.test_deploy import pods, settings
from tests.deploy.test_roles import Container, pod_token
from tests.e2e.kit import EXECUTABLE, POD, QUICK, Stage
from tests.simulator.objects import job, pod

pytestmark = pytest.mark.cluster
CLUSTER_ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/cv-job-informer"
REPORTS = f"/apis/cloudvision.arista.io/v1/namespaces/{PLACE}/jobreports"


def check(kubeconfig: str, stage: Stage) -> dict[str, list[tuple[str, str]]]:
    """Names and messages of the results, by level; without a token in them."""
    simulator = stage.cloudvision
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"KUBECONFIG": kubeconfig, "NO_PROXY": "*", "API_SERVER": simulator.address}
    env |= {"API_TOKEN": simulator.token, "API_CA_FILE": str(simulator.ca_file)}
    done = subprocess.run([EXECUTABLE, "check", "-o", "json"], env=env, capture_output=True, text=True, check=False)
    assert simulator.token not in done.stdout + done.stderr
    found: dict[str, list[tuple[str, str]]] = {}
    for result in json.loads(done.stdout):
        found.setdefault(result["level"], []).append((result["name"], result["message"]))
    return found


def test_what_is_deployed_is_checked_and_a_verb_that_is_taken_away_is_the_one_line(
    scheduled_plane: ControlPlane, deployer: Deployer, stage: Stage, tmp_path: Path
) -> None:
    simulator = stage.cloudvision
    known = {"API_SERVER": simulator.address, "API_TOKEN": simulator.token, "API_CA_FILE": str(simulator.ca_file)}
    deployer.deploy(**known, LOCATION="lab", **QUICK)
    (deployed, *_) = pods(scheduled_plane, "informer")
    informer = Container(scheduled_plane, stage, deployed)
    informer.program.wait_for(informer.ready, timeout=60)
    for item in pods(scheduled_plane, "interface-discovery"):
        container = Container(scheduled_plane, stage, item)
        container.program.wait_for(container.ready, timeout=60)

    admin = str(scheduled_plane.kubeconfig)
    begun = time.monotonic()
    found = check(admin, stage)
    took = time.monotonic() - begun
    wrong = found.get("failure", []) + found.get("warning", [])
    assert [name for name, _ in wrong] == ["cloudvision certificate"]  # the simulator's ends in two days
    names = {name for name, _ in found["ok"]}
    assert {"kubernetes", "permissions", "informer", "leader", "discovery", "reports"} <= names
    assert took < 10  # 3 s by itself; other tests run beside

    role = scheduled_plane.call("GET", CLUSTER_ROLE)
    rules = [rule if "pods" not in rule["resources"] else {**rule, "verbs": ["list"]} for rule in role["rules"]]
    scheduled_plane.call("PATCH", CLUSTER_ROLE, {"rules": rules})
    try:
        account = f"system:serviceaccount:{PLACE}:cv-job-informer"
        assert check(admin, stage)["failure"] == [("permissions", f"{account} may not watch pods")]
        folder = tmp_path / "in-pod"
        folder.mkdir()
        own = write_credentials(scheduled_plane, folder, pod_token(scheduled_plane, deployed))
        assert ("permissions", f"{account} may not watch pods") in check(own, stage)["failure"]
    finally:
        scheduled_plane.call("PATCH", CLUSTER_ROLE, {"rules": role["rules"]})
        deployer("delete", "crd=true")


def test_a_job_is_explained_with_the_rights_and_the_settings_of_the_informers_pod(
    scheduled_plane: ControlPlane, deployer: Deployer, stage: Stage, team: str, tmp_path: Path
) -> None:
    deployer.deploy(LOCATION="lab", JOBCONFIG_MODE="node")
    (deployed, *_) = pods(scheduled_plane, "informer")
    above = stage.cluster.create(job("jobset.x-k8s.io", "JobSet", "j", team))
    made = stage.cluster.create(job("batch", "Job", "j-0", team, owner=above))
    stage.cluster.run_pod(pod("j-0-0", made, macs(1), namespace=team))

    folder = tmp_path / "in-pod"
    folder.mkdir()
    own = write_credentials(scheduled_plane, folder, pod_token(scheduled_plane, deployed))
    env = settings(scheduled_plane) | POD | {"KUBECONFIG": own, "NO_PROXY": "*"}
    env |= {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    wait_for("the CRD just installed to be served", lambda: stage.cluster.exists(REPORTS))
    for asked in (f"{team}/j", f"{team}/j-0-0"):
        words = [EXECUTABLE, "explain", asked]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 pod -> batch/Job j-0 -> jobset.x-k8s.io/JobSet j" in done.stdout
        assert "1 nodes held now" in done.stdout
        assert "Not read:" not in done.stdout
