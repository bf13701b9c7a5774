"""Claims of an older API, and a suspension by the real Job controller, on a real API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane, wait_for
from tests.cluster.crds import crd
from tests.e2e.kit import Cluster, Stage, stamp
from tests.e2e.test_holdings import TORCH, claim, mac, publish
from tests.e2e.test_real import batch_job, pods_of
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kinds import JOB_KINDS
from tests.simulator.objects import job, pod, pod_status

pytestmark = pytest.mark.cluster


@pytest.fixture
def old(control_plane: ControlPlane, cloudvision: CloudVisionSimulator, tmp_path: Path) -> Iterator[Stage]:
    """A stage on a control plane of its own that serves claims as v1beta1 alone."""
    if control_plane.external:
        pytest.skip("CVJI_TEST_KUBECONFIG names a cluster that serves what it serves")
    with ControlPlane(claims=("v1beta1",)) as plane:
        plane.install_crds([crd(*kind) for kind in JOB_KINDS if kind[2] == TORCH[1]])
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team"}})
        headers = {"Authorization": f"Bearer {plane.admin_token}"}
        cluster = Cluster(plane.server, plane.kubeconfig, ca_certs=str(plane.ca_file), headers=headers)
        stage = Stage(cluster, cloudvision, tmp_path)
        yield stage
        stage.close()
        cluster.close()


def test_claims_served_as_v1beta1_alone_are_enough(old: Stage) -> None:
    versions = old.cluster.call("GET", "/apis/resource.k8s.io")["versions"]
    assert [version["version"] for version in versions] == ["v1beta1"]
    old.informer()
    made = old.cluster.create(job(*TORCH, "old"))
    runs = old.cluster.run_pod(pod("old-0", made))
    publish(old, claim(old, "old-nics", [runs], "v1beta1"), mac(1))
    (entry,) = old.wait_for_states("old", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(1)]


def test_a_job_that_the_real_controller_suspends_and_resumes(real: Stage) -> None:
    real.informer()
    made = real.cluster.create(batch_job("paused", mac(1)))
    (first,) = wait_for("the pod", lambda: pods_of(real, "paused"))
    real.cluster.set_status(first, pod_status("Running", stamp()))
    began = real.wait_for_states("paused", "RUNNING")[0]["start_time"]
    real.cluster.patch(made, {"spec": {"suspend": True}})

    def leaving() -> bool:
        return all(item["metadata"].get("deletionTimestamp") for item in pods_of(real, "paused"))

    wait_for("the controller to delete the pod", leaving)
    real.cluster.delete(first)  # as the kubelet does once its containers have ended
    stopped = real.wait_for_states("paused", "RUNNING", "CANCELLED")[-1]
    assert stopped["start_time"] == began
    real.cluster.patch(made, {"spec": {"suspend": False}})

    def again() -> list[dict[str, object]]:
        return [item for item in pods_of(real, "paused") if item["metadata"]["uid"] != first["metadata"]["uid"]]

    (second,) = wait_for("a new pod", again)
    real.cluster.set_status(second, pod_status("Running", stamp()))
    resumed = real.wait_for_states("paused", "RUNNING", "CANCELLED", "RUNNING")[-1]
    status = real.cluster.call("GET", real.cluster.path(made, "paused"))["status"]
    assert resumed["start_time"] == status["startTime"] >= stopped["end_time"]
