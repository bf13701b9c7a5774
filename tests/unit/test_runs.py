"""The runs of one job (docs/design.md#runs): when one begins, and when the next."""

import re
from pathlib import Path
from typing import Any

import pytest

from cvji.jobs import runs
from tests.unit.world import CANCELLED, COMPLETE, COMPLETED, FAILED, RUNNING, World, at, macs, running, stamp


def test_a_job_is_reported_once_it_has_been_steady() -> None:
    world = World()
    world.job(status={"startTime": stamp(0)})
    world.pod("p1", "Pending", (1,))
    assert world.run(20) == []
    world.pod("p1", "Running", (1,))
    assert world.run(4.9) == []
    (report,) = world.run(0.2)
    assert (report.state, report.start, report.end, report.holds) == (RUNNING, at(0), None, macs(1))
    assert world.run(3600) == []


def test_64_pods_whose_nics_come_one_by_one_are_one_report() -> None:
    world = World()
    world.job()
    for number in range(64):
        world.pod(f"p{number}", nics=())
    for number in range(64):
        world.run(8 / 64)
        world.pod(f"p{number}", nics=(number,))
    reports = world.run(60)
    assert [report.holds for report in reports] == [macs(*range(64))]
    world.pod("p0", nics=(0, 100))
    reports = world.run(60)
    assert [(report.state, report.holds) for report in reports] == [(RUNNING, macs(*range(64), 100))]


def test_nics_that_never_settle_are_reported_after_the_longest_wait() -> None:
    world = World()
    world.job()
    for second in range(0, 90, 3):
        world.pod(nics=(second,))
        world.run(3)
    assert world.reports[0][0] == pytest.approx(60, abs=1)


def test_without_a_mac_nothing_is_sent_until_there_is_one() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    assert world.run(600) == []
    world.pod(nics=(7,))
    assert [report.holds for report in world.run(6)] == [macs(7)]


def test_suspended_and_resumed_is_cancelled_and_running_again_with_a_new_start() -> None:
    world = running(status={"startTime": stamp(0)})
    world.now = 100
    world.job(spec={"suspend": True}, status={})
    assert world.run(10) == []  # its pod is still there
    world.delete_pod()
    (report,) = world.run(50)
    assert (report.state, report.start, report.end) == (CANCELLED, at(0), at(110))
    world.job(spec={"suspend": False}, status={"startTime": stamp(160)})
    world.pod("again", nics=(2,), started=161)
    (report,) = world.run(6)
    assert (report.state, report.start, report.end, report.holds) == (RUNNING, at(160), None, macs(2))


def test_an_aborted_volcano_job_can_start_again() -> None:
    world = World()
    api = "batch.volcano.sh/v1alpha1"
    world.job("v", api, "Job", status={"state": {"phase": "Running", "lastTransitionTime": stamp(0)}})
    world.pod(of=(api, "Job", "v"), started=2)
    world.run(10)
    world.job("v", api, "Job", status={"state": {"phase": "Aborted", "lastTransitionTime": stamp(9)}})
    world.run(10)
    world.delete_pod()
    world.run(1)
    world.job("v", api, "Job", status={"state": {"phase": "Running", "lastTransitionTime": stamp(30)}})
    world.pod("again", of=(api, "Job", "v"), created=30, started=31)
    world.run(10)
    assert [(r.state, r.start, r.end) for _, r in world.reports] == [
        (RUNNING, at(2), None),
        (CANCELLED, at(2), at(20)),
        (RUNNING, at(31), None),
    ]


@pytest.mark.parametrize(
    ("api", "kind", "stopped", "resumed"),
    [
        ("batch/v1", "Job", {"spec": {"suspend": True}}, {}),
        ("kubeflow.org/v1", "PyTorchJob", {"spec": {"runPolicy": {"suspend": True}}}, {}),
        ("jobset.x-k8s.io/v1alpha2", "JobSet", {"spec": {"suspend": True}}, {}),
        ("ray.io/v1", "RayCluster", {"spec": {"suspend": True}}, {}),
        ("ray.io/v1", "RayJob", {"status": {"jobStatus": "STOPPED", "jobDeploymentStatus": "Suspended"}}, {}),
        ("batch.volcano.sh/v1alpha1", "Job", {"status": {"state": {"phase": "Aborted"}}}, {}),
        ("run.ai/v2alpha1", "TrainingWorkload", {"status": {"phase": "Preempted"}}, {}),
    ],
)
def test_stopped_and_resumed_is_two_closed_runs_each_with_its_own_nics(
    api: str, kind: str, stopped: dict[str, Any], resumed: dict[str, Any]
) -> None:
    world = World()
    of = (api, kind, "job")
    world.job("job", api, kind)
    world.pod("a", nics=(1,), of=of, started=0)
    world.run(100)
    world.job("job", api, kind, **stopped)
    world.run(10)
    world.delete_pod("a")
    world.run(50)
    world.job("job", api, kind, **resumed)
    world.pod("b", nics=(2,), of=of, created=160, started=161)
    world.run(40)
    world.delete_job()
    world.run()
    assert world.runs() == {
        "job": (CANCELLED, 0, 110, macs(1)),
        "job.2": (CANCELLED, 161, 200, macs(2)),
    }


def test_a_workflow_that_is_retried_after_its_failure_is_two_runs() -> None:
    world = World()
    api, kind = "argoproj.io/v1alpha1", "Workflow"
    started = {"startedAt": stamp(0)}
    world.job("job", api, kind, status={"phase": "Running", **started})
    world.pod("a", nics=(1,), of=(api, kind, "job"), started=0)
    world.run(10)
    world.pod("a", "Failed", nics=(1,), of=(api, kind, "job"), started=0, finished=10)
    world.job("job", api, kind, status={"phase": "Failed", **started, "finishedAt": stamp(11)})
    world.run(90)
    world.job("job", api, kind, status={"phase": "Running", **started, "finishedAt": None})
    world.pod("b", nics=(2,), of=(api, kind, "job"), created=100, started=101)
    world.run(10)
    world.job("job", api, kind, status={"phase": "Succeeded", **started, "finishedAt": stamp(110)})
    world.run()
    assert world.runs() == {"job": (FAILED, 0, 11, macs(1)), "job.2": (COMPLETED, 101, 110, macs(2))}


def test_a_job_that_lost_all_its_pods_is_cancelled_and_runs_again() -> None:
    world = World()
    of = ("kubeflow.org/v1", "PyTorchJob", "job")
    world.job("job", *of[:2], status={"startTime": stamp(0)})
    world.pod("a", nics=(1,), of=of)
    world.run(100)
    world.delete_pod("a")
    world.pod("b", "Pending", nics=(), of=of, created=101)
    assert world.run(59) == []
    world.run(541)
    world.pod("b", nics=(2,), of=of, created=101, started=700)
    world.run(10)
    world.pod("b", "Succeeded", nics=(2,), of=of, created=101, started=700, finished=710)
    world.run(1)
    world.job("job", *of[:2], status={"startTime": stamp(0), "completionTime": stamp(711), **COMPLETE})
    world.run()
    assert world.runs() == {"job": (CANCELLED, 0, 100, macs(1)), "job.2": (COMPLETED, 700, 711, macs(2))}


def test_every_rule_of_the_state_machine_names_a_test_that_exists() -> None:
    named = set(re.findall(r"test_\w+", runs.__doc__ or "")) - {"test_runs"}
    assert len(named) == 11
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_runs*.py"))
    assert [name for name in named if f"def {name}(" not in tests] == []
