"""Stages for the end-to-end tests: every test that takes `stage` runs against each kind of cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.crds import all_crds
from tests.e2e.in_process import InProcess
from tests.e2e.kit import Cluster, Stage, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kinds import CLAIMS, JOB_KINDS, NODE_KINDS, REPORT_KINDS, SPARK
from tests.simulator.kubernetes import KubernetesSimulator


@pytest.fixture
def cloudvision() -> Iterator[CloudVisionSimulator]:
    with CloudVisionSimulator() as simulator:
        yield simulator


@pytest.fixture
def kubernetes() -> Iterator[KubernetesSimulator]:
    with KubernetesSimulator() as simulator:
        simulator.serve_all()
        yield simulator


@pytest.fixture
def simulated(kubernetes: KubernetesSimulator, cloudvision: CloudVisionSimulator, tmp_path: Path) -> Iterator[Stage]:
    server = f"http://{kubernetes.address}"
    cluster = Cluster(server, write_kubeconfig(tmp_path, server))
    stage = Stage(cluster, cloudvision, tmp_path)
    stage.simulator = kubernetes
    yield stage
    stage.close()
    cluster.close()
    assert (cloudvision.rejected, cloudvision.contradictions) == ([], [])


LEASES = ("coordination.k8s.io", "v1", "Lease", "leases")
NAMESPACES = ("team", "other", "cloudvision")


@pytest.fixture(scope="session")
def prepared_plane(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with every CRD and the namespaces that tests use."""
    control_plane.install_crds(all_crds())
    for name in NAMESPACES:
        control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return control_plane


def empty(plane: ControlPlane) -> None:
    """Delete every object that a test may have left."""
    kinds = [
        ("", "v1", "Pod", "pods"),
        ("", "v1", "ConfigMap", "configmaps"),
        ("apps", "v1", "Deployment", "deployments"),
        ("batch", "v1", "Job", "jobs"),
        LEASES,
        CLAIMS,
        SPARK,
        *JOB_KINDS,
        *NODE_KINDS,
        *REPORT_KINDS,
    ]
    for group, version, _, plural in kinds:
        base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        for namespace in NAMESPACES:
            query = "?gracePeriodSeconds=0&propagationPolicy=Background"
            plane.call("DELETE", f"{base}/namespaces/{namespace}/{plural}{query}")


@pytest.fixture
def real(prepared_plane: ControlPlane, cloudvision: CloudVisionSimulator, tmp_path: Path) -> Iterator[Stage]:
    """A stage on the real control plane."""
    headers = {"Authorization": f"Bearer {prepared_plane.admin_token}"}
    cluster = Cluster(
        prepared_plane.server, prepared_plane.kubeconfig, ca_certs=str(prepared_plane.ca_file), headers=headers
    )
    stage = Stage(cluster, cloudvision, tmp_path)
    yield stage
    stage.close()
    cluster.close()
    empty(prepared_plane)
    assert (cloudvision.rejected, cloudvision.contradictions) == ([], [])


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.cluster)])
def stage(request: pytest.FixtureRequest) -> Stage:
    """The stage that test bodies for any cluster play on."""
    found: Stage = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def informer(stage: Stage) -> Iterator[InProcess]:
    """An informer with the default delays on any stage, and a clock that the test moves."""
    with InProcess(stage) as found:
        yield found
