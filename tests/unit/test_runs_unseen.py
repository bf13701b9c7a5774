"""The runs of one job: those that ended before they were reported, or before anybody looked."""

import pytest

from tests.unit.world import COMPLETE, COMPLETED, FAILED, World, at, macs, running, stamp


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
    world.job("c", "ray.io/v1", "RayCluster", status={"state": "failed"})
    assert [(report.state, report.end) for report in world.run()] == [(FAILED, at(55))]


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
