"""A control plane of its own for these tests, with a scheduler, fake nodes and an audit log; and the script."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvji.reports.records import GROUP
from tests.cluster.controlplane import ControlPlane, ControlPlaneUnavailable, wait_for
from tests.cluster.crds import all_crds
from tests.deploy.kubelet import Kubelet, Object, node
from tests.deploy.rendered import ROOT, helm, needs
from tests.e2e.kit import Cluster, Stage, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator

PLACE = "cloudvision"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
NODES = {
    "cp-0": node("cp-0", labels={CONTROL_PLANE: ""}, taints=(f"{CONTROL_PLANE}:NoSchedule",)),
    "worker-0": node("worker-0"),
    "worker-1": node("worker-1", taints=("example.com/gpu:NoSchedule", "example.com/broken:NoExecute")),
}
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": [f"system:serviceaccounts:{PLACE}"]}, {"level": "None"}],
}
# Written down beside what it does: every argument of every kubectl and helm, and whether the token is in its environment.
PROGRAM = """#!/bin/sh
printf '%s\\n' "{name} $*" "API_TOKEN=${{API_TOKEN-}}" >>{seen}
exec {path} "$@"
"""


class Deployer:
    """Runs the project's recipes in a copy of what they need, as somebody with an empty environment would."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self.seen = folder / "calls"
        folder.mkdir(exist_ok=True)
        self.seen.touch()
        shutil.copytree(ROOT / "manifests", folder / "project/manifests")
        (folder / "project/cvji").mkdir()
        for name in ("justfile", "cvji/__init__.py"):
            shutil.copy(ROOT / name, folder / "project" / name)
        (folder / "project/build").mkdir()
        shutil.copy(ROOT / "build/push.sh", folder / "project/build/push.sh")
        (folder / "bin").mkdir()
        for name, path in (("kubectl", shutil.which("kubectl")), ("helm", helm())):
            program = folder / "bin" / name
            program.write_text(PROGRAM.format(name=name, seen=self.seen, path=path))
            program.chmod(0o755)

    def __call__(self, recipe: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`just RECIPE`, or the program itself where just is not installed."""
        just = shutil.which("just", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
        return self._run([just, recipe, *arguments], env) if just else self.script(recipe, *arguments, **env)

    def script(self, recipe: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The program itself."""
        return self._run([sys.executable, "-B", "-m", "deploy", recipe, *arguments], {"PYTHONPATH": "manifests", **env})

    def helm(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Helm in our namespace, as an operator without `just deploy` would run it."""
        return self._run(["helm", "-n", PLACE, *arguments], {}, stdin)

    def _run(self, command: list[str], env: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        settings = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.plane.kubeconfig),
            **env,
        }
        project = self.folder / "project"
        return subprocess.run(
            command, cwd=project, env=settings, input=stdin, capture_output=True, text=True, check=False, timeout=300
        )

    def deploy(self, *arguments: str, **env: str) -> str:
        """A deploy that succeeds; what it said."""
        settings = {
            "API_SERVER": "cv.example.com",
            "API_TOKEN": "token-1",
            "LOCATION": "dc1",
            "SKIP_BUILD": "true",
            "ROLLOUT_TIMEOUT": "2m",
            **env,
        }
        done = self("deploy", *arguments, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What our service accounts asked of the API server, a line each."""
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="session")
def scheduled_plane(audit_log: Path) -> Iterator[ControlPlane]:
    """The control plane that is deployed to."""
    needs("kubectl")
    if "CVJI_TEST_KUBECONFIG" in os.environ:
        pytest.skip("CVJI_TEST_KUBECONFIG names a cluster that is not the tests' own to deploy to")
    policy = audit_log.with_name("policy.json")
    policy.write_text(json.dumps(AUDIT_POLICY))
    plane = ControlPlane(scheduler=True, apiserver=[f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}"])
    try:
        plane.start()
    except ControlPlaneUnavailable as reason:
        if os.environ.get("CI_REQUIRE_CLUSTER") == "1":
            pytest.fail(f"no control plane: {reason}")
        pytest.skip(f"no control plane: {reason}")
    try:
        plane.install_crds([found for found in all_crds() if found["spec"]["group"] != GROUP])  # the manifests' part
        for name, made in NODES.items():
            plane.call("POST", "/api/v1/nodes", made)
            # Admission taints new nodes until a node lifecycle controller, which is off here, sees them ready.
            plane.call("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": made["spec"]["taints"]}})
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def trouble() -> dict[str, Object]:
    """What containers wait for instead of running, by the name of the container; for tests to fill."""
    return {}


@pytest.fixture
def deployer(scheduled_plane: ControlPlane, trouble: dict[str, Object], tmp_path: Path) -> Iterator[Deployer]:
    """The recipes, a kubelet, and a cluster that nothing is left in afterwards."""

    def wrong(pod: Object) -> Any:
        name = pod["spec"]["containers"][0]["name"]
        return trouble.get(name) or trouble.get(f"{name}@{pod['spec']['nodeName']}")

    with Kubelet(scheduled_plane, PLACE, trouble=wrong):
        yield Deployer(scheduled_plane, tmp_path)
        trouble.clear()
        done = Deployer(scheduled_plane, tmp_path / "after")("delete", "crd=true")
        assert done.returncode == 0, done.stdout + done.stderr
        namespace = f"/api/v1/namespaces/{PLACE}"
        scheduled_plane.request("DELETE", namespace)
        wait_for("the namespace to end", lambda: scheduled_plane.request("GET", namespace).status == 404)


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


def macs(number: int) -> str:
    return f"02:00:00:00:03:{number:02x}"
