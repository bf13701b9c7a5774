"""The runs of one job: how they end, in which state and at what time."""

import pytest

from cvji.jobs.policy import Policy
from cvji.jobs.report import JobState
from cvji.jobs.tracker import Tracker
from tests.unit.test_tracker import RUNAI, TORCH, TORCH_DONE, workload
from tests.unit.world import (
    BROKEN,
    CANCELLED,
    COMPLETE,
    COMPLETED,
    FAILED,
    RUNNING,
    World,
    at,
    deleting,
    macs,
    running,
    stamp,
)


def test_the_end_carries_what_was_reported_and_what_still_counts() -> None:
    world = World()
    world.job(status={"startTime": stamp(1)})
    world.pod("a", nics=(1,))
    world.pod("b", nics=(2,))
    world.run(6)
    world.delete_pod("a")
    world.pod("c", nics=(3,))
    world.job(status={"startTime": stamp(1), "completionTime": stamp(90), **COMPLETE})
    (report,) = world.run(0)
    assert (report.state, report.start, report.end, report.holds) == (COMPLETED, at(1), at(90), macs(1, 2, 3))
    assert world.run(600) == []


def test_a_failed_batch_job_ended_when_its_condition_turned() -> None:
    world = running(status={"startTime": stamp(1)})
    world.job(status={"startTime": stamp(1), **BROKEN})
    (report,) = world.run()
    assert (report.state, report.end) == (FAILED, at(80))


@pytest.mark.parametrize("early", ["SuccessCriteriaMet", "FailureTarget", "Suspended"])
def test_a_condition_that_announces_an_end_is_not_the_end(early: str) -> None:
    world = running()
    world.job(status={"conditions": [{"type": early, "status": "True"}, {"type": "Complete", "status": "False"}]})
    assert world.run(600) == []


def test_a_deleted_running_job_is_cancelled_now() -> None:
    world = running()
    world.now = 42
    world.delete_job()
    (report,) = world.run(600)
    assert (report.state, report.end, report.holds) == (CANCELLED, at(42), macs(1))


def test_a_job_deleted_while_it_holds_something_again_ends_at_its_deletion() -> None:
    world = running()
    world.now = 42
    world.delete_pod()
    world.run(10)
    world.pod("next", nics=(2,), created=43)
    world.delete_job()
    (report,) = world.run(600)
    assert (report.state, report.end, report.holds) == (CANCELLED, at(52), macs(1, 2))


def test_a_finished_job_deleted_later_sends_nothing_more() -> None:
    world = running()
    world.job(status=COMPLETE)
    assert len(world.run(60)) == 1
    world.delete_pod()
    world.delete_job()
    assert world.run(600) == []


def test_a_job_suspended_and_then_deleted_sends_nothing_more() -> None:
    world = running()
    world.job(spec={"suspend": True})
    world.delete_pod()
    world.run(10)
    world.delete_job()
    world.run(10)
    assert [state for _, state, _ in world.reported()] == [RUNNING, CANCELLED]


RAYCLUSTER = ("ray.io/v1", "RayCluster")


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_a_job_that_completes_and_is_deleted_is_completed(apart: float) -> None:
    world = running()
    world.now = 100
    world.pod(phase="Succeeded", started=0, finished=89)
    world.job(status={**COMPLETE, "completionTime": stamp(90)})
    world.run(apart)
    world.delete_pod()
    world.delete_job()
    world.run(600)
    assert world.runs() == {"job": (COMPLETED, 0, 90, macs(1))}


def test_an_end_that_comes_with_the_deletion_alone_is_the_end() -> None:
    world = running()
    tracker, world.tracker = world.tracker, Tracker(Policy())
    world.job(status={**COMPLETE, "completionTime": stamp(90)})  # not seen
    world.tracker = tracker
    world.delete_job()
    world.run()
    assert world.runs() == {"job": (COMPLETED, 0, 90, macs(1))}


def test_a_suspended_job_holds_what_is_stuck_and_ends_its_run_with_its_last_pod() -> None:
    world = World()
    world.job()
    for number in range(3):
        world.pod(f"p{number}", nics=(number,))
    world.run(10)
    world.job(spec={"suspend": True})
    for number in range(2):
        world.delete_pod(f"p{number}")
    world.pod("p2", nics=(2,), metadata=deleting())
    assert [report.holds for report in world.run(600)] == [macs(2)]
    world.delete_pod("p2")
    assert [(report.state, report.end) for report in world.run()] == [(CANCELLED, at(610))]


def test_an_ended_job_owns_nothing_and_what_runs_on_below_it_is_a_job_of_its_own() -> None:
    world = World()
    ray = ("ray.io/v1", "RayJob", "ray")
    world.job("ray", *ray[:2], status={"startTime": stamp(0)})
    world.job("cluster", *RAYCLUSTER, parent=ray)
    world.pod(of=(*RAYCLUSTER, "cluster"), started=1)
    world.run(100)
    world.job("ray", *ray[:2], status={"startTime": stamp(0), "jobStatus": "SUCCEEDED", "endTime": stamp(100)})
    world.run(50)
    assert set(world.runs()) == {"ray"}
    world.run(50)
    world.delete_job("ray")
    world.run(100)
    world.delete_job("cluster")
    world.run()
    assert world.runs() == {"ray": (COMPLETED, 0, 100, macs(1)), "cluster": (CANCELLED, 100, 300, macs(1))}


def test_a_ray_job_that_succeeded_is_completed_though_its_deployment_runs_for_ever() -> None:
    world = World()
    ray = ("ray.io/v1", "RayJob", "job")
    world.job("job", *ray[:2], status={"startTime": stamp(0), "jobDeploymentStatus": "Running"})
    world.pod(of=ray)
    world.run(50)
    end = {"rayJobInfo": {"endTime": stamp(49)}}
    world.job("job", *ray[:2], status={"startTime": stamp(0), "jobStatus": "SUCCEEDED", **end})
    world.run(600)
    world.delete_job()
    world.run()
    assert world.runs() == {"job": (COMPLETED, 0, 49, macs(1))}


def test_a_ray_job_deleted_after_a_failed_attempt_has_failed() -> None:
    world = World()
    ray = ("ray.io/v1", "RayJob", "job")
    world.job("job", *ray[:2], status={"startTime": stamp(0)})
    world.pod(of=ray)
    world.run(50)
    world.job("job", *ray[:2], status={"startTime": stamp(0), "jobStatus": "FAILED", "jobDeploymentStatus": "Retrying"})
    assert world.run(10) == []
    world.delete_job()
    assert [(report.state, report.end) for report in world.run()] == [(FAILED, at(60))]


@pytest.mark.parametrize(("phase", "state"), [("completed", COMPLETED), ("Stopped", CANCELLED), ("FAILED", FAILED)])
def test_phases_are_read_in_any_letter_case(phase: str, state: JobState) -> None:
    world = World()
    of = ("run.ai/v1", "WorkloadRunner", "job")
    world.job("job", *of[:2], status={"phase": "running"})
    world.pod(of=of)
    world.run(10)
    world.delete_pod()
    world.job("job", *of[:2], status={"phase": phase})
    assert [report.state for report in world.run()] == [state]


def test_an_owner_that_comes_with_the_deletion_alone_is_the_owner() -> None:
    world, jobset = World(), ("jobset.x-k8s.io/v1alpha2", "JobSet")
    world.job("set", *jobset)
    world.job("child")
    world.pod(of=("batch/v1", "Job", "child"))
    tracker, world.tracker = world.tracker, Tracker(Policy())
    world.job("child", parent=(*jobset, "set"))  # not seen
    world.tracker = tracker
    world.delete_job("child")
    world.run(10)
    assert world.reported() == [("set", RUNNING, macs(1))]


TORCH_FAILED = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": stamp(50)}]}


@pytest.mark.parametrize("together", [True, False])
def test_a_child_that_failed_and_is_gone_says_nothing_of_the_one_made_in_its_place(together: bool) -> None:
    world = workload()
    world.run(40)
    world.job("child", *TORCH, parent=(*RUNAI, "w"), status=TORCH_FAILED)
    world.run(20)
    world.delete_job("child")  # its pod is on a lost node
    world.job("again", *TORCH, parent=(*RUNAI, "w"), metadata={"creationTimestamp": stamp(60)})
    world.pod("next", nics=(2,), of=(*TORCH, "again"), created=60, started=61)
    world.run(30)
    if together:
        world.delete_job("w")
        world.delete_job("again")
    else:
        world.job("again", *TORCH, parent=(*RUNAI, "w"), status=TORCH_DONE)
    world.run(10)
    assert {run[0] for run in list(world.runs().values())[-1:]} == {CANCELLED if together else COMPLETED}
