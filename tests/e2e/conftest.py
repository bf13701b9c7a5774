"""Stages for the end-to-end tests: every test that takes `stage` runs against each kind of cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Cluster, Stage, write_kubeconfig
from tests.simulator.cloudvision import CloudVisionSimulator
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
    yield stage
    stage.close()
    cluster.close()
    assert cloudvision.rejected == []


@pytest.fixture
def stage(simulated: Stage) -> Stage:
    """The stage that test bodies for any cluster play on."""
    return simulated
