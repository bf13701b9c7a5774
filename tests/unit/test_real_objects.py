"""Objects of real clusters, where they are at hand: each gives the right kind, state, times, NICs."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvji.jobs.attachments import multus_macs
from cvji.jobs.kinds import Job, Registry
from cvji.jobs.nics import read_claim
from cvji.jobs.report import End, JobState
from cvji.macs import unpack
from cvji.nodes.inventory import Nic, NodeState, read_node_state
from cvji.settings import NodeInterfaceType
from tests.unit.world import COMPLETED, FAILED, World

DATA = Path(__file__).parents[3] / "shared/data/objects"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real objects in {DATA}")
KINDS = {kind.key: kind for kind in Registry()}


def load(name: str, metadata: dict[str, Any] | None = None) -> bytes:
    """A sample as the API gives it; what excerpts leave out of the metadata is put in."""
    found = yaml.safe_load((DATA / f"{name}.yaml").read_text())
    found["metadata"] = {"name": "sample", "uid": "u", **(found.get("metadata") or metadata or {})}
    return json.dumps(found, default=lambda at: at.isoformat()).encode()  # unquoted times are times in YAML


def read(name: str, group: str, kind: str) -> Job:
    return Registry().read(KINDS[group, kind], load(name))


def utc(text: str) -> int | None:
    return int(datetime.fromisoformat(text).timestamp()) if text else None


KUBEFLOW, WORKFLOW = "kubeflow.org", ("argoproj.io", "Workflow")
JOBS: list[tuple[str, str, str, str, JobState | None, str]] = [
    ("job-active", "batch", "Job", "2026-04-26T18:35:42Z", None, ""),
    ("job-complete", "batch", "Job", "2026-04-26T18:35:42Z", COMPLETED, "2026-04-26T18:37:06Z"),
    ("job-failed", "batch", "Job", "2026-04-26T18:35:42Z", FAILED, "2026-04-26T18:47:32Z"),
    ("pytorchjob-succeeded", KUBEFLOW, "PyTorchJob", "2018-12-16T21:40:45Z", COMPLETED, "2018-12-16T21:43:27Z"),
    ("xgboostjob-succeeded", KUBEFLOW, "XGBoostJob", "", COMPLETED, "2021-09-06T18:34:23Z"),
    ("mpijob-v2beta1-succeeded", KUBEFLOW, "MPIJob", "2019-07-09T22:15:51Z", COMPLETED, "2019-07-09T22:17:06Z"),
    ("jobset-completed", "jobset.x-k8s.io", "JobSet", "", COMPLETED, "2024-02-26T19:43:56Z"),
    ("workflow-succeeded", *WORKFLOW, "2024-09-19T02:43:30Z", COMPLETED, "2024-09-19T02:43:44Z"),
    ("workflow-failed", *WORKFLOW, "2020-09-16T16:07:54Z", FAILED, "2020-09-16T16:09:32Z"),
    ("volcano-job-running-status", "batch.volcano.sh", "Job", "", None, ""),
    ("volcano-job-terminated-status", "batch.volcano.sh", "Job", "", FAILED, "2020-09-25T07:01:07Z"),
    ("rayjob-failed-jobstatus-running", "ray.io", "RayJob", "2024-08-20T01:49:18Z", FAILED, "2024-08-20T01:55:40Z"),
]


@pytest.mark.parametrize(("name", "group", "kind", "start", "state", "end"), JOBS)
def test_a_real_job_says_how_it_stands_and_since_when(
    name: str, group: str, kind: str, start: str, state: JobState | None, end: str
) -> None:
    job = read(name, group, kind)
    assert (job.started, job.end) == (utc(start), End(state, utc(end)) if state else None)
    assert not job.stopped


def test_every_sample_of_a_job_is_read_by_a_test() -> None:
    read_here = {name for name, *_ in JOBS} | {
        "rayjob-printcolumns",
        "pod-multus-network-status",
        "resourceclaim-dranet-status",
        "sriovnetworknodestate-i40e-vfs-in-pods",
        "sriovnetworknodestate-mlx5-vfs",
    }
    assert {file.stem for file in DATA.iterdir()} <= read_here


def test_a_real_job_without_a_start_began_with_its_pods_or_its_creation() -> None:
    sample = json.loads(load("xgboostjob-succeeded"))
    ended, uid = sample.pop("status"), sample["metadata"]["uid"]
    for started in (None, -1_000_000.0):
        world = World()
        identity = (sample["apiVersion"], sample["kind"])
        parts = {"metadata": {"creationTimestamp": sample["metadata"]["creationTimestamp"]}, "spec": sample["spec"]}
        world.job(uid, *identity, **parts)
        world.pod(of=(*identity, uid), started=started)
        world.run(10)
        world.job(uid, *identity, **parts, status=ended)
        world.run(10)
        first, last = (report for _, report in world.reports)
        created = utc(sample["metadata"]["creationTimestamp"])
        assert first.start == last.start == (created if started is None else world.pods["pod"].started)
        assert last.end == max(utc(ended["completionTime"]) or first.start, first.start)


FIELDS = {  # how many words a line has, and what those between the name and the age are
    3: ("jobDeploymentStatus",),
    5: ("jobStatus", "jobDeploymentStatus", "startTime"),
    6: ("jobStatus", "jobDeploymentStatus", "startTime", "endTime"),
}


def test_four_moments_of_a_ray_jobs_life() -> None:
    found = []
    for line in (DATA / "rayjob-printcolumns.txt").read_text().splitlines()[2:]:
        _, *words, _ = line.split()
        status = dict(zip(FIELDS[len(words) + 2], words, strict=True))
        raw = {"metadata": {"name": "j", "uid": "u"}, "status": status}
        job = Registry().read(KINDS["ray.io", "RayJob"], json.dumps(raw).encode())
        found.append((job.started, job.end))
    start, end = utc("2024-02-01T17:55:49Z"), utc("2024-02-01T17:56:05Z")
    assert found == [(None, None), (None, None), (start, None), (start, End(COMPLETED, end))]


def test_a_real_network_status_gives_the_secondary_attachment_alone() -> None:
    text = (DATA / "pod-multus-network-status.txt").read_text()
    note = text.partition("network-status:")[2]
    assert multus_macs(note) == (("86:1d:96:ff:55:0d",), "")


def test_a_real_claims_status_gives_its_mac_and_its_pod() -> None:
    claim = read_claim(load("resourceclaim-dranet-status", {"name": "c", "uid": "u", "namespace": "default"}))
    assert (unpack(claim.macs), claim.reserved_for, claim.problem) == (("86:d7:86:e6:f3:dd",), (("", "pod3"),), "")


def node(name: str, chosen: NodeInterfaceType) -> NodeState:
    return read_node_state(chosen, load(f"sriovnetworknodestate-{name}", {"name": "worker", "uid": "u"}))


def test_a_real_node_state_whose_vfs_are_in_part_in_pods() -> None:
    pfs = {"eno1": "0c:42:a1:bc:68:1c", "eno2": "0c:42:a1:bc:68:1d", "ens5f0": "40:a6:b7:2b:1f:40"}
    vfs = {
        "ens5f0v0": "2a:fb:49:58:65:35",
        "ens5f0v1": "fa:d6:76:f8:cf:bb",
        "ens5f0v4": "32:45:ab:d9:2c:87",
        "ens5f0v5": "1e:55:b3:77:fe:9f",
    }
    for chosen, nics in ((NodeInterfaceType.ALL, pfs | vfs), (NodeInterfaceType.PF, pfs), (NodeInterfaceType.VF, vfs)):
        assert set(node("i40e-vfs-in-pods", chosen).nics) == {Nic(name, mac, ()) for name, mac in nics.items()}
    assert node("i40e-vfs-in-pods", NodeInterfaceType.VF).fabric == tuple(sorted(pfs.values()))


def test_a_real_node_state_without_a_single_mac_says_nothing() -> None:
    assert node("mlx5-vfs", NodeInterfaceType.ALL).nics == ()
