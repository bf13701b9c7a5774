"""Random histories of the program itself: CloudVision equals the truth, now and before. Seeds repeat a history."""

import os

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.e2e.conftest import *  # noqa: F403  its fixtures
from tests.e2e.kit import Stage
from tests.simulator.kubernetes import KubernetesSimulator
from tests.torture.real import RealHistory
from tests.torture.worlds import ClusterWorld, SimulatedWorld

# A minute each, most of it waiting, and one with a Lease; CVJI_HISTORIES asks for more of them too.
MANY = int(os.environ.get("CVJI_HISTORIES", "0"))
FIRST = int(os.environ.get("CVJI_FIRST_SEED", "0"))


def play(history: RealHistory) -> None:
    history.run()
    wrong = history.judge()
    assert not wrong, "\n".join(wrong)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(MANY // 50, 6)))
def test_histories_of_the_program(kubernetes: KubernetesSimulator, simulated: Stage, seed: int) -> None:
    play(RealHistory(seed, simulated, SimulatedWorld(kubernetes), busy=250))


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(MANY // 250, 1)))
def test_histories_of_two_programs_and_a_lease(kubernetes: KubernetesSimulator, simulated: Stage, seed: int) -> None:
    play(RealHistory(seed, simulated, SimulatedWorld(kubernetes), busy=600, leaders=True))


@pytest.mark.cluster
@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(MANY // 250, 2)))
def test_histories_on_a_real_api_server(prepared_plane: ControlPlane, real: Stage, seed: int) -> None:
    if prepared_plane.external:
        pytest.skip("CVJI_TEST_KUBECONFIG names a cluster that is not the tests' own to restart")
    play(RealHistory(seed, real, ClusterWorld(real, prepared_plane), busy=250))
