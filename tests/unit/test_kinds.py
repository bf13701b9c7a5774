"""How each kind says that it ended, and when (docs/design.md#job-kinds), from objects in the shape of each operator."""

import json
from typing import Any

import msgspec
import pytest

from cvji.jobs.kinds import Registry
from cvji.jobs.report import End, JobState
from tests.unit.world import CANCELLED, COMPLETED, FAILED, at, stamp

CONDITION_KINDS = [
    ("batch", "Job", "Complete"),
    *(
        ("kubeflow.org", kind, "Succeeded")
        for kind in ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob")
    ),
    ("trainer.kubeflow.org", "TrainJob", "Complete"),
    ("jobset.x-k8s.io", "JobSet", "Completed"),
]
RUN_AI = [kind.key for kind in Registry() if kind.group == "run.ai"]
REGISTRY = Registry([("example.com", "Training")])
KINDS = {kind.key: kind for kind in REGISTRY}


def read(group: str, kind: str, status: Any, **body: Any) -> tuple[Any, End | None]:
    raw = {"metadata": {"name": "j", "uid": "u"}, "status": status, **body}
    job = REGISTRY.read(KINDS[group, kind], json.dumps(raw).encode())
    return job.started, job.end


def condition(type_: str, status: str = "True", seconds: float = 50) -> dict[str, str]:
    return {"type": type_, "status": status, "lastTransitionTime": stamp(seconds)}


def test_the_table_is_the_designs() -> None:
    assert [kind.key for kind in Registry()] == [
        ("batch", "Job"),
        *(key[:2] for key in CONDITION_KINDS[1:7]),
        ("trainer.kubeflow.org", "TrainJob"),
        ("jobset.x-k8s.io", "JobSet"),
        ("argoproj.io", "Workflow"),
        *RUN_AI,
        ("batch.volcano.sh", "Job"),
        ("ray.io", "RayJob"),
        ("ray.io", "RayCluster"),
    ]
    assert len(RUN_AI) == 8


@pytest.mark.parametrize(("group", "kind", "success"), CONDITION_KINDS)
def test_kinds_with_conditions(group: str, kind: str, success: str) -> None:
    assert read(group, kind, {}) == (None, None)
    assert read(group, kind, {"startTime": stamp(3), "conditions": [condition("Created")]}) == (at(3), None)
    assert read(group, kind, {"conditions": [condition(success, "False"), condition("Failed", "Unknown")]})[1] is None
    assert read(group, kind, {"conditions": [condition(success)]})[1] == End(COMPLETED, at(50))
    assert read(group, kind, {"conditions": [condition("Failed", seconds=60)]})[1] == End(FAILED, at(60))
    ended = {"conditions": [condition(success)], "completionTime": stamp(49)}
    assert read(group, kind, ended)[1] == End(COMPLETED, at(49))


def test_jobset_terminal_state() -> None:
    assert read("jobset.x-k8s.io", "JobSet", {"terminalState": "Failed"})[1] == End(FAILED, None)
    assert read("jobset.x-k8s.io", "JobSet", {"terminalState": ""})[1] is None


@pytest.mark.parametrize(
    ("phase", "state"),
    [("Succeeded", COMPLETED), ("Failed", FAILED), ("Error", FAILED), ("Running", None), ("", None)],
)
def test_workflow(phase: str, state: JobState | None) -> None:
    finished = stamp(70) if state else None  # an explicit null while it runs
    started, end = read("argoproj.io", "Workflow", {"phase": phase, "startedAt": stamp(2), "finishedAt": finished})
    assert started == at(2)
    assert end == (End(state, at(70)) if state else None)


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("Completed", COMPLETED),
        ("Failed", FAILED),
        ("Terminated", FAILED),
        ("Aborted", None),
        ("Running", None),
        ("Restarting", None),
        ("Completing", None),
    ],
)
def test_volcano_state_is_an_object_and_conditions_have_no_type(phase: str, state: JobState | None) -> None:
    status = {
        "state": {"phase": phase, "lastTransitionTime": stamp(40)},
        "conditions": [{"status": phase, "lastTransitionTime": stamp(40)}],
    }
    assert read("batch.volcano.sh", "Job", status)[1] == (End(state, at(40)) if state else None)


@pytest.mark.parametrize(
    ("deployment", "job", "state"),
    [
        ("Complete", "SUCCEEDED", COMPLETED),
        ("Complete", "STOPPED", CANCELLED),
        ("Complete", "FAILED", FAILED),
        ("Failed", "RUNNING", FAILED),
        ("Failed", "", FAILED),
        ("Retrying", "FAILED", None),
        ("Running", "FAILED", None),
        ("ValidationFailed", "", None),
    ],
)
def test_rayjob_ends_by_its_deployment_status(deployment: str, job: str, state: JobState | None) -> None:
    status = {
        "jobDeploymentStatus": deployment,
        "jobStatus": job,
        "startTime": stamp(1),
        "endTime": stamp(30),
    }
    assert read("ray.io", "RayJob", status) == (at(1), End(state, at(30)) if state else None)


def test_raycluster_can_only_fail() -> None:
    assert read("ray.io", "RayCluster", {"state": "failed"})[1] == End(FAILED, None)
    assert read("ray.io", "RayCluster", {"state": "ready"})[1] is None


@pytest.mark.parametrize(("group", "kind"), [*RUN_AI, ("example.com", "Training")])
def test_kinds_read_by_convention(group: str, kind: str) -> None:
    assert read(group, kind, {"phase": "Running"})[1] is None
    for word, state in {
        "Succeeded": COMPLETED,
        "Completed": COMPLETED,
        "Failed": FAILED,
        "Error": FAILED,
    }.items():
        assert read(group, kind, {"phase": word, "completionTime": stamp(9)})[1] == End(state, at(9))
        assert read(group, kind, {"state": word})[1] == End(state, None)
        assert read(group, kind, {"state": {"phase": word}})[1] == End(state, None)
    for word, state in {"Complete": COMPLETED, "Succeeded": COMPLETED, "Failed": FAILED}.items():
        assert read(group, kind, {"conditions": [condition(word)], "phase": "?"})[1] == End(state, at(50))


@pytest.mark.parametrize("status", [{"conditions": "no"}, {"startTime": "yesterday"}, {"conditions": [7]}, 5])
def test_a_status_of_the_wrong_type_names_its_field(status: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.status"):
        read("batch", "Job", status)


def test_zero_times_and_nulls_are_no_times() -> None:
    status = {"startTime": "0001-01-01T00:00:00Z", "completionTime": None, "conditions": None}
    assert read("batch", "Job", status) == (None, None)


@pytest.mark.parametrize("spec", [{"suspend": True}, {"runPolicy": {"suspend": True}}])
def test_suspension(spec: Any) -> None:
    raw = json.dumps({"metadata": {"name": "j", "uid": "u"}, "spec": spec}).encode()
    assert REGISTRY.read(KINDS["kubeflow.org", "PyTorchJob"], raw).stopped
