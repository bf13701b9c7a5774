"""Rollouts of `just deploy` that fail: what is said, and what is taken back."""

import base64
import re

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.deploy.conftest import PLACE, Deployer
from tests.deploy.kubelet import Object
from tests.deploy.rendered import names
from tests.deploy.test_deploy import CRDS, NAMESPACE, SECRET, everything, secret, settings

pytestmark = pytest.mark.cluster


def test_a_rollout_that_fails_says_why_and_is_taken_back(
    scheduled_plane: ControlPlane, deployer: Deployer, trouble: dict[str, Object]
) -> None:
    trouble["informer"] = {"reason": "ImagePullBackOff", "message": "Back-off pulling image cv-job-informer"}
    env = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "SKIP_BUILD": "1", "ROLLOUT_TIMEOUT": "3s"}
    done = deployer("deploy", **env)
    assert done.returncode == 1
    assert "ImagePullBackOff: Back-off pulling image cv-job-informer" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "deployment/cv-job-informer did not become ready within 3s" in last
    assert "release cvji was removed again" in last
    assert names(everything(scheduled_plane)) == CRDS | {NAMESPACE}
    trouble.clear()
    deployer.deploy()
    trouble["informer"] = {"reason": "CrashLoopBackOff"}
    done = deployer("deploy", **{**env, "LOCATION": "dc2"})
    assert done.returncode == 1
    assert "CrashLoopBackOff" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("; release cvji and its Secret are as before")
    assert settings(scheduled_plane)["LOCATION"] == "dc1"


def test_a_rollout_that_fails_leaves_the_secret_as_it_was(
    scheduled_plane: ControlPlane, deployer: Deployer, trouble: dict[str, Object]
) -> None:
    authority = deployer.folder / "ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    deployer.deploy(API_CA_FILE=str(authority))
    before = secret(scheduled_plane)
    assert set(before) == {"api-server", "api-token", "api-ca"}
    trouble["informer"] = {"reason": "CrashLoopBackOff"}
    moved = {"API_SERVER": "new.example.com", "API_TOKEN": "token-2", "LOCATION": "dc1"}
    done = deployer("deploy", **moved, SKIP_BUILD="1", ROLLOUT_TIMEOUT="3s")
    assert done.returncode == 1
    assert settings(scheduled_plane)["API_SERVER"] == "cv.example.com"
    assert secret(scheduled_plane) == before
    for token in ("token-1", "token-2"):
        for text in (token, base64.b64encode(token.encode()).decode()):
            assert text not in done.stdout + done.stderr + deployer.seen.read_text()
    trouble.clear()
    deployer.deploy()  # and what was put back does not hold on to what a later one leaves out
    assert secret(scheduled_plane) == {"api-server": "cv.example.com", "api-token": "token-1"}


def test_a_first_rollout_that_fails_leaves_somebody_s_own_secret_as_it_was(
    scheduled_plane: ControlPlane, deployer: Deployer, trouble: dict[str, Object]
) -> None:
    scheduled_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": PLACE}})
    own = {"metadata": {"name": SECRET.partition("/")[2]}, "stringData": {"api-token": "own", "more": "more"}}
    scheduled_plane.call("POST", f"/api/v1/namespaces/{PLACE}/secrets", own)
    trouble["informer"] = {"reason": "CrashLoopBackOff"}
    env = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "SKIP_BUILD": "1", "ROLLOUT_TIMEOUT": "3s"}
    assert deployer("deploy", **env).returncode == 1
    assert secret(scheduled_plane) == {"api-token": "own", "more": "more"}
    assert SECRET not in names(everything(scheduled_plane))  # not labelled, so `just delete` does not take it


def test_a_deploy_whose_upgrade_does_not_begin_leaves_the_release_as_it_is(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    for location in ("dc1", "dc2"):
        deployer.deploy(LOCATION=location)
    helm = deployer.folder / "bin/helm"
    refusal = """case "$*" in *--dry-run*) ;; "upgrade "*) echo "Error: timeout" >&2; exit 1 ;; esac"""
    helm.write_text(helm.read_text().replace("exec ", f"{refusal}\nexec "))
    env = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc3", "SKIP_BUILD": "1"}
    done = deployer("deploy", **env)
    assert (done.returncode, done.stderr) == (1, "deploy: Error: timeout; release cvji and its Secret are as before\n")
    assert settings(scheduled_plane)["LOCATION"] == "dc2"
    assert secret(scheduled_plane)["api-token"] == "token-1"


def test_pods_that_may_not_be_made_are_explained(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    scheduled_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": PLACE}})
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    scheduled_plane.call("POST", f"/api/v1/namespaces/{PLACE}/resourcequotas", quota)
    env = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "SKIP_BUILD": "1", "ROLLOUT_TIMEOUT": "5s"}
    done = deployer("deploy", **env)
    assert done.returncode == 1
    assert "event: ReplicaSet cv-job-informer-" in done.stderr
    assert "exceeded quota: none" in done.stderr


def test_a_node_that_is_down_is_passed_over(
    scheduled_plane: ControlPlane, deployer: Deployer, trouble: dict[str, Object]
) -> None:
    node = "/api/v1/nodes/worker-1"
    condition = {"type": "Ready", "status": "Unknown"}
    scheduled_plane.call("PATCH", f"{node}/status", {"status": {"conditions": [condition]}})
    trouble["discovery@worker-1"] = {"reason": "ContainerCreating"}
    try:
        said = deployer.deploy(ROLLOUT_TIMEOUT="5s")
    finally:
        scheduled_plane.call("PATCH", f"{node}/status", {"status": {"conditions": [{**condition, "status": "True"}]}})
    assert "Nodes that are not ready are passed over; discovery begins there when they are: worker-1" in said
    assert re.search(r"^daemonset.apps/cv-interface-discovery +3 +3 +2 ", said, re.MULTILINE)
