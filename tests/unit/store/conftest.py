"""A simulated API server, and leaders that write their records to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvji.kube.client import Api
from tests.e2e.kit import write_kubeconfig
from tests.simulator.kinds import REPORT_KINDS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.unit.store.leader import Leader


@pytest.fixture
def simulator() -> Iterator[KubernetesSimulator]:
    with KubernetesSimulator() as found:
        for kind in REPORT_KINDS:
            found.serve(*kind)
        yield found


@pytest.fixture
def api(simulator: KubernetesSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, f"http://{simulator.address}")))
    return Api()


@pytest.fixture(autouse=True)
def _no_leader_goes_on() -> Iterator[None]:
    yield
    while Leader.made:
        Leader.made.pop().store.close()


@pytest.fixture
def lead(api: Api) -> Callable[[int], Leader]:
    """Makes leaders of a term."""

    def make(term: int) -> Leader:
        leader = Leader(api)
        leader.take_over(term)
        return leader

    return make


@pytest.fixture
def leader(lead: Callable[[int], Leader]) -> Leader:
    return lead(1)
