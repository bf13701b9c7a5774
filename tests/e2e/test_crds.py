"""CRDs that come and go while the informer runs: their kinds are watched at once, and nothing is asked in between."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import crd
from tests.e2e.kit import Program, Stage, write_kubeconfig
from tests.simulator.kinds import CRDS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod, pod_status

KIND = ("example.com", "v1", "Training", "trainings")
OBJECTS = "/apis/example.com/v1/namespaces/team/trainings"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainings.example.com"
WATCHING = "trainings.example.com: watching"
SOON = 2.0  # seconds
NEVER = "24h"  # in which nothing is found by polling


class Definition:
    """The CRD of a job kind that JOB_KINDS names, on any cluster."""

    def __init__(self, stage: Stage, plane: ControlPlane | None) -> None:
        self._stage, self._plane = stage, plane
        self._names = itertools.count()

    def install(self) -> None:
        """Make the CRD; return once the API server serves it."""
        if self._plane is not None:
            self._plane.install_crds([crd(*KIND)])
        else:
            self._simulator.serve(*KIND)

    def remove(self) -> None:
        """Remove the CRD with all objects; return once it is gone."""
        if self._plane is not None:
            plane = self._plane
            plane.request("DELETE", DEFINITION)
            wait_for("the CRD to go", lambda: plane.request("GET", DEFINITION).status == 404)
            return
        for namespace, name in self._simulator.names(KIND[0], KIND[3]):
            self._simulator.delete(KIND[0], KIND[3], namespace, name)
            self._stage.wait_for_states(name, "RUNNING", "CANCELLED")  # a real server shows it before it ends the watch
        self._simulator.unserve(KIND[0], KIND[3])

    @property
    def _simulator(self) -> KubernetesSimulator:
        assert self._stage.simulator is not None
        return self._stage.simulator

    def start(self, name: str) -> None:
        """Create a job of this kind with a pod that runs."""
        body = {"apiVersion": "example.com/v1", "kind": "Training", "metadata": {"name": name, "namespace": "team"}}
        made = self._stage.cluster.call("POST", OBJECTS, body)
        self._stage.cluster.run_pod(pod(f"{name}-0", made, f"02:00:00:00:04:{next(self._names):02x}"))


@pytest.fixture
def definition(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Definition]:
    real = stage.simulator is None
    found = Definition(stage, request.getfixturevalue("prepared_plane") if real else None)
    yield found
    stage.close()
    if real:
        found.remove()


def informer(stage: Stage, **env: str) -> Program:
    """One that wants the kind, and says what it watches."""
    settings: dict[str, Any] = {"JOB_KINDS": "example.com/Training", "KIND_RETRY": NEVER, "LOG_LEVEL": "debug", **env}
    return stage.informer(**settings)


def watches(program: Program, times: int) -> None:
    """Return once the kind has been watched so many times; AssertionError unless that is soon."""
    program.wait_for(lambda: program.log.count(WATCHING) == times, SOON)


def test_a_crd_installed_after_the_start_is_watched_as_soon_as_it_is_served(
    stage: Stage, definition: Definition
) -> None:
    program = informer(stage)
    definition.install()
    watches(program, 1)
    definition.start("own")
    stage.wait_for_states("own", "RUNNING")
    stage.cluster.call("PATCH", f"{OBJECTS}/own/status", {"status": {"state": {"phase": "Succeeded"}}})
    stage.wait_for_states("own", "RUNNING", "COMPLETED")


def test_a_crd_that_is_removed_and_installed_later_is_watched_again(stage: Stage, definition: Definition) -> None:
    definition.install()
    program = informer(stage)
    for number in (1, 2, 3):
        watches(program, number)
        definition.start(f"own-{number}")
        stage.wait_for_states(f"own-{number}", "RUNNING")
        definition.remove()
        stage.wait_for_states(f"own-{number}", "RUNNING", "CANCELLED")
        program.wait_for(lambda: program.log.count("trainings.example.com: HTTP 404") == number)  # noqa: B023
        definition.install()
    watches(program, 4)


def test_a_crd_that_is_replaced_at_once_is_watched_again(stage: Stage, definition: Definition) -> None:
    """Whether its watch ends or goes on with the new one is a race, here and in life."""
    definition.install()
    informer(stage)
    for name in ("own-1", "own-2", "own-3"):
        definition.start(name)
        stage.wait_for_states(name, "RUNNING")
        definition.remove()
        definition.install()
        stage.wait_for_states(name, "RUNNING", "CANCELLED")


def looks(kubernetes: KubernetesSimulator) -> int:
    """How often the API server was asked which groups it serves."""
    return sum(path == "/apis" for _, path in list(kubernetes.requests))


def settled(program: Program, kubernetes: KubernetesSimulator) -> None:
    """Return after the look that follows the first list of CRDs."""
    program.wait_for(lambda: kubernetes.counts[f"watch {CRDS[3]}"] and looks(kubernetes) == 2)


def play(stage: Stage, name: str) -> None:
    """A job from start to end: at least three seconds, in which KIND_RETRY passes twice."""
    made = stage.cluster.create(job("batch", "Job", name))
    runs = stage.cluster.run_pod(pod(f"{name}-0", made, "02:00:00:00:04:ff"))
    stage.wait_for_states(name, "RUNNING")
    stage.cluster.set_status(runs, pod_status("Succeeded", "2024-01-01T00:00:00Z", "2024-01-01T00:00:09Z"))
    stage.cluster.set_status(
        made, ended("batch", "Job", "COMPLETED", "2024-01-01T00:00:00Z", "2024-01-01T00:00:09Z") or {}
    )
    stage.wait_for_states(name, "RUNNING", "COMPLETED")


def test_an_idle_informer_asks_nothing(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    kubernetes.unserve("ray.io", "rayjobs")  # a kind that is wanted and missing
    program = informer(simulated, KIND_RETRY="1s", STABILITY_DELAY="3s")
    settled(program, kubernetes)
    lists = {name: count for name, count in kubernetes.counts.items() if name.startswith("list ")}
    play(simulated, "meanwhile")
    assert looks(kubernetes) == 2
    assert {name: count for name, count in kubernetes.counts.items() if name.startswith("list ")} == lists


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_where_crds_are_forbidden_kinds_are_looked_for_in_intervals(
    kubernetes: KubernetesSimulator, simulated: Stage, verb: str
) -> None:
    kubernetes.forbid(CRDS[0], CRDS[3], verb)
    program = informer(simulated, KIND_RETRY="1s", STABILITY_DELAY="3s")
    program.wait_for_log("CRDs cannot be watched: new kinds are looked for every 1 s")
    before = looks(kubernetes)
    play(simulated, "meanwhile")
    assert looks(kubernetes) >= before + 2
    kubernetes.serve(*KIND)
    watches(program, 1)
    assert " WARNING customresourcedefinitions" not in program.log


def test_a_kind_in_a_group_that_is_slow_to_be_served_is_looked_for_until_it_is(
    kubernetes: KubernetesSimulator, simulated: Stage
) -> None:
    """The CRD is there, and not established yet; it is established without another change that the watch shows."""
    program = informer(simulated)
    settled(program, kubernetes)
    metadata = {"apiVersion": CRDS[0] + "/v1", "kind": CRDS[2], "metadata": {"name": "trainings.example.com"}}
    kubernetes.create(metadata)
    program.wait_for(lambda: looks(kubernetes) >= 4)
    kubernetes.stall()  # so that it is not told of the change that `serve` makes
    kubernetes.serve(*KIND)
    watches(program, 1)
    kubernetes.stall(stalled=False)


@pytest.mark.cluster
def test_an_account_that_may_not_watch_crds_polls(prepared_plane: ControlPlane, real: Stage, tmp_path: Path) -> None:
    found = Definition(real, prepared_plane)
    name = prepared_plane.create_namespace("polls")
    rules = [
        {"apiGroups": [group], "resources": ["*"], "verbs": ["list", "watch"]} for group in ("", "batch", "example.com")
    ]
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    prepared_plane.call("POST", roles, {"metadata": {"name": name}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject: Object = {"kind": "ServiceAccount", "name": "default", "namespace": name}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    prepared_plane.call("POST", roles.replace("roles", "rolebindings"), binding)
    token = prepared_plane.token_for(name, "default")
    wait_for("the role", lambda: prepared_plane.request("GET", "/api/v1/pods?limit=1", token=token).status == 200)
    authority: dict[str, Any] = {"certificate-authority": str(prepared_plane.ca_file)}
    folder = tmp_path / "account"
    folder.mkdir()
    kubeconfig = write_kubeconfig(folder, prepared_plane.server, {"token": token}, **authority)
    try:
        program = informer(real, KUBECONFIG=str(kubeconfig), KIND_RETRY="1s")
        program.wait_for_log("customresourcedefinitions.apiextensions.k8s.io: HTTP 403")
        program.wait_for_log("CRDs cannot be watched")
        found.install()
        watches(program, 1)
        found.start("own")
        real.wait_for_states("own", "RUNNING")
    finally:
        real.close()
        found.remove()
        for kind in ("clusterroles", "clusterrolebindings"):
            prepared_plane.call("DELETE", f"{roles.rpartition('/')[0]}/{kind}/{name}")
        prepared_plane.call("DELETE", f"/api/v1/namespaces/{name}")
