"""The runs of one job: ends that are taken back, objects that come again or leave their owner, a clock that is set back."""

from typing import Any

import pytest

from tests.unit.world import (
    BATCH,
    CANCELLED,
    COMPLETED,
    FAILED,
    RUNNING,
    World,
    at,
    macs,
    running,
    stamp,
)

JOBSET = ("jobset.x-k8s.io/v1alpha2", "JobSet")
RAYJOB, RAYCLUSTER = ("ray.io/v1", "RayJob"), ("ray.io/v1", "RayCluster")


@pytest.mark.parametrize(
    ("kind", "failed"),
    [
        (("run.ai/v2alpha1", "TrainingWorkload"), {"phase": "Failed"}),
        (("argoproj.io/v1alpha1", "Workflow"), {"phase": "Failed", "finishedAt": stamp(100)}),
    ],
)
@pytest.mark.parametrize("reported", [True, False])
def test_a_pod_that_ran_on_while_its_job_had_ended_counts_in_the_next_run(
    kind: tuple[str, str], failed: dict[str, Any], reported: bool
) -> None:
    world = World()
    of = (*kind, "job")
    world.job("job", *kind, status={"phase": "Running"})
    begun = 0 if reported else 97
    world.run(begun)
    for number, pod in enumerate(("a", "b")):
        world.pod(pod, nics=(number,), of=of, started=begun, created=begun)
    world.run(100 - begun)
    world.job("job", *kind, status=failed)
    world.run(10)
    world.job("job", *kind, status={"phase": "Running"})
    world.run(10)
    world.pod("b", "Succeeded", nics=(1,), of=of, started=begun, created=begun, finished=120)
    world.run(100)
    world.pod("c", nics=(2,), of=of, created=220, started=220)
    assert [(report.state, report.holds) for report in world.run(100)] == [(RUNNING, macs(0, 1, 2))]
    ended = [report.id for _, report in world.reports if report.state is FAILED]
    assert ended == (["job"] if reported else [])


def test_an_object_that_is_seen_again_after_its_deletion_begins_another_run() -> None:
    world = running()
    world.run(1000)
    job = world.jobs["job"]
    world.delete_job()
    assert [(report.id, report.state) for report in world.run(100)] == [("job", CANCELLED)]
    world.job("job")
    assert world.jobs["job"] == job
    assert [(report.id, report.state, report.start) for report in world.run(100)] == [("job.2", RUNNING, at(1006))]


def test_an_ended_job_that_is_seen_again_is_not_reported_again() -> None:
    world = running()
    status = {"completionTime": stamp(50), "conditions": [{"type": "Complete", "status": "True"}]}
    world.job(status=status)
    world.pod("pod", "Succeeded", started=0, finished=49)
    assert [report.state for report in world.run(10)] == [COMPLETED]
    world.delete_job()
    world.run(600)
    world.job(status=status)
    assert world.run(600) == []


def test_what_an_owner_lets_go_begins_where_its_part_in_the_owners_job_ends() -> None:
    world = World()
    world.job("set", *JOBSET)
    world.job("child", parent=(*JOBSET, "set"), status={"startTime": stamp(0)})
    world.pod(of=(*BATCH, "child"), started=1)
    world.run(1000)
    world.job("child", status={"startTime": stamp(0)})
    world.delete_job("set")
    world.run(100)
    assert world.runs() == {"set": (CANCELLED, 1, 1000, macs(1)), "child": (RUNNING, 1000, None, macs(1))}


def test_what_a_job_that_has_ended_lets_go_begins_at_that_end() -> None:
    world = World()
    world.job("ray", *RAYJOB, status={"jobStatus": "RUNNING", "startTime": stamp(0)})
    world.job("cluster", *RAYCLUSTER, parent=(*RAYJOB, "ray"))
    world.pod(of=(*RAYCLUSTER, "cluster"), started=2)
    world.run(1000)
    world.job("ray", *RAYJOB, status={"jobStatus": "SUCCEEDED", "startTime": stamp(0), "endTime": stamp(1000)})
    world.run(10)
    world.job("cluster", *RAYCLUSTER)
    world.delete_job("ray")
    world.run(100)
    assert world.runs() == {"ray": (COMPLETED, 0, 1000, macs(1)), "cluster": (RUNNING, 1000, None, macs(1))}


def test_what_succeeded_is_recorded_though_the_clock_is_set_back() -> None:
    world = running()
    world.pod("b", nics=(2,))
    world.run(100)
    world.pod("b", "Succeeded", nics=(2,), started=0, finished=99)
    world.run(0.5)
    world.now -= 7200
    world.run(5)
    assert world.newest["job"].kept.texts() == macs(2)


def test_a_run_does_not_end_later_than_the_clock_that_was_set_back() -> None:
    world = running()
    world.run(7300)
    world.delete_pod()
    world.run(1)
    world.now -= 7200
    world.run(100)
    world.pod("b", nics=(2,), created=int(world.now), started=int(world.now))
    world.run(20)
    first, second = world.runs()["job"], world.runs()["job.2"]
    assert first[2] is not None
    assert (first[0], first[2] <= second[1] <= world.now, second[0]) == (CANCELLED, True, RUNNING)


def test_events_of_a_job_with_a_failed_pod_do_not_look_at_all_of_its_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.job()
    for number in range(50):
        world.pod(f"p{number}", nics=(number,), started=0)
    world.pod("p0", "Failed", nics=(0,), started=0, finished=3)
    world.run(10)
    assert world.reports == []
    cluster = world.tracker.cluster
    monkeypatch.setattr(cluster, "pods", lambda _: pytest.fail("all pods are looked at"))
    for _ in range(20):
        world.job()
        world.run(0.1)
    monkeypatch.undo()
    assert [report.state for report in world.run(60)] == [RUNNING]
