"""The runs of one job: those that ended before they were reported, or before anybody looked."""

import pytest

from tests.unit.world import CANCELLED, COMPLETE, COMPLETED, FAILED, RUNNING, World, at, macs, running, stamp


def test_a_job_that_ends_before_it_started_is_never_sent() -> None:
    world = World()
    world.job()
    world.pod("p", "Pending")
    world.run(30)
    world.pod("p", "Running", started=30)
    world.run(3)
    world.job(status=COMPLETE)
    world.pod("p", "Succeeded", started=30, finished=33)
    assert world.run(600) == []
    world.delete_job()
    assert world.run(600) == []


def test_a_job_deleted_before_it_started_is_never_sent() -> None:
    world = World()
    world.job()
    world.pod()
    world.run(2)
    world.delete_job()
    assert world.run(600) == []


def test_a_job_first_seen_ended_is_sent_once_by_what_its_pods_say() -> None:
    world = World()
    world.job(status={"startTime": stamp(0), "completionTime": stamp(90), **COMPLETE})
    world.pod("p", "Succeeded", (1, 2), started=1, finished=89)
    (report,) = world.run(600)
    assert (report.state, report.start, report.end, report.holds) == (COMPLETED, at(0), at(90), macs(1, 2))


def test_a_job_that_ran_while_the_watch_was_away_is_sent_once() -> None:
    world = World()
    world.job()
    world.pod("p", "Pending", (1,))
    world.run(600)
    world.pod("p", "Succeeded", (1,), started=100, finished=400)
    world.job(status=COMPLETE | {"completionTime": stamp(401)})
    assert [(r.state, r.start, r.end) for r in world.run(60)] == [(COMPLETED, at(100), at(401))]


def test_where_the_job_has_no_times_its_pods_do() -> None:
    world = World()
    ray = ("ray.io/v1", "RayCluster", "c")
    world.job("c", "ray.io/v1", "RayCluster")
    world.pod("a", of=ray, started=7)
    world.pod("b", nics=(2,), of=ray, started=5)
    assert [report.start for report in world.run(10)] == [at(5)]
    world.run(50)
    world.pod("a", "Failed", of=ray, started=7, finished=55)
    world.pod("b", "Failed", (2,), of=ray, started=5, finished=50)
    world.job("c", "ray.io/v1", "RayCluster", status={"state": "failed"})
    assert [(report.state, report.end) for report in world.run()] == [(FAILED, at(55))]


def test_where_the_job_has_no_time_of_its_end_it_holds_what_still_runs_until_then() -> None:
    world = World()
    ray = ("ray.io/v1", "RayCluster", "c")
    world.job("c", "ray.io/v1", "RayCluster")
    world.pod("head", of=ray, started=0)
    world.pod("worker", nics=(2,), of=ray, started=0)
    world.run(100)
    world.pod("worker", "Failed", (2,), of=ray, started=0, finished=99)
    world.run(18_000)
    world.job("c", "ray.io/v1", "RayCluster", status={"state": "failed"})
    assert [(report.state, report.end) for report in world.run()] == [(FAILED, at(18_100))]


def test_a_container_that_ended_in_a_pod_that_runs_on_is_no_end() -> None:
    world = World()
    run_ai = ("run.ai/v2alpha1", "TrainingWorkload")
    helper = {"terminated": {"startedAt": stamp(0), "finishedAt": stamp(3)}}
    states = [{"name": "main", "state": {"running": {"startedAt": stamp(0)}}}, {"name": "helper", "state": helper}]
    world.job("t", *run_ai)
    world.pod(of=(*run_ai, "t"), status={"containerStatuses": states, "startTime": stamp(0)})
    world.run(1000)
    assert world.pods["pod"].finished is None
    world.job("t", *run_ai, status={"phase": "Failed"})
    assert [(report.state, report.end) for report in world.run()] == [(FAILED, at(1000))]


@pytest.mark.parametrize("end_time", [None, stamp(100)])
def test_what_outlives_a_job_that_was_never_reported_is_a_job_of_its_own(end_time: str | None) -> None:
    world = World()
    ray_job, cluster = ("ray.io/v1", "RayJob"), ("ray.io/v1", "RayCluster")
    info = {"rayJobInfo": {"endTime": end_time}} if end_time else {}
    status = {"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Running", "startTime": stamp(0), **info}
    world.now = 100
    world.job("ray", *ray_job, status=status)
    world.job("cluster", *cluster, parent=(*ray_job, "ray"))
    world.run(1000)
    world.pod(of=(*cluster, "cluster"), created=1100, started=1101)
    assert [(report.name, report.state, report.start) for report in world.run(36_000)] == [
        ("cluster", RUNNING, at(1101))
    ]
    assert world.tracker.next_deadline() is None
    world.delete_job("ray")
    world.delete_job("cluster")
    assert [(report.name, report.state) for report in world.run(100)] == [("cluster", CANCELLED)]


def test_a_job_that_ended_too_soon_to_be_reported_is_not_reported_when_it_is_deleted() -> None:
    world = World()
    ray_job, cluster = ("ray.io/v1", "RayJob"), ("ray.io/v1", "RayCluster")
    world.job("ray", *ray_job, status={"jobStatus": "RUNNING", "startTime": stamp(0)})
    world.job("cluster", *cluster, parent=(*ray_job, "ray"))
    world.pod(of=(*cluster, "cluster"), started=0)
    world.run(2)
    world.job("ray", *ray_job, status={"jobStatus": "SUCCEEDED", "startTime": stamp(0)})
    world.run(30)
    world.delete_pod()
    world.delete_job("cluster")
    world.delete_job("ray")
    assert world.run(100) == []


def test_an_end_is_never_before_its_start() -> None:
    world = running(status={"startTime": stamp(50)})
    world.job(status={"startTime": stamp(50), "completionTime": stamp(20), **COMPLETE})
    assert [report.end for report in world.run()] == [at(50)]


@pytest.mark.parametrize("late", ["claim", "end"])
def test_a_job_that_ran_is_reported_though_its_nics_or_its_end_were_seen_late(late: str) -> None:
    world = World()
    world.job("job", status={"startTime": stamp(0)})
    world.pod("pod", nics=(), started=0)
    world.run(10)
    if late == "claim":
        world.claim("claim", (7,), (("pod", "pod"),))
        world.run(1)
    world.pod("pod", "Succeeded", nics=(), started=0, finished=11)
    if late == "end":
        world.run(1)
        world.claim("claim", (7,), (("pod", "pod"),))
    world.run(1)
    world.job("job", status={"startTime": stamp(0), **COMPLETE})
    world.run(10)
    assert world.reported() == [("job", COMPLETED, macs(7))]


def test_a_job_whose_pods_were_not_all_there_for_long_enough_was_never_started() -> None:
    world = World()
    world.job("job", status={"startTime": stamp(0)})
    world.pod("pod", started=0)
    world.pod("late", "Pending", nics=(2,))
    world.run(10)
    world.pod("late", nics=(2,), started=10)
    world.run(1)
    world.job("job", status={"startTime": stamp(0), **COMPLETE, "completionTime": stamp(11)})
    assert world.run(10) == []


VOLCANO = ("batch.volcano.sh/v1alpha1", "Job")


def test_a_short_run_with_a_pending_pod_is_never_reported() -> None:
    for seen in ("Aborted", "Running"):
        world = World()
        world.job("job", *VOLCANO, status={"state": {"phase": seen}})
        world.run(10)
        world.job("job", *VOLCANO, status={"state": {"phase": "Running"}})
        world.pod("a", nics=(1,), of=(*VOLCANO, "job"), created=10, started=10)
        world.pod("b", "Pending", nics=(2,), of=(*VOLCANO, "job"), created=10)
        world.run(20)
        world.pod("a", "Succeeded", nics=(1,), of=(*VOLCANO, "job"), created=10, started=10, finished=30)
        world.job("job", *VOLCANO, status={"state": {"phase": "Completed", "lastTransitionTime": stamp(30)}})
        assert world.run(600) == []
