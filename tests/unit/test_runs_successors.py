"""The runs of one job: a successor goes on with what a former leader reported."""

from itertools import permutations

import pytest

from cvji.jobs.policy import Policy
from cvji.kube.events import Applied, Deleted, Resource, Unserved, WatchLost
from cvji.settings import Mode
from tests.unit.test_tracker import left_in
from tests.unit.world import CANCELLED, COMPLETE, COMPLETED, FAILED, RUNNING, T0, World, at, macs, running, stamp


def test_a_new_leader_knows_of_an_end_that_was_deleted_while_there_was_no_leader() -> None:
    world = running()
    standby = World(leading=False)
    standby.newest = world.newest
    standby.job()
    standby.pod()
    standby.job(status={**COMPLETE, "completionTime": stamp(90)})
    standby.delete_pod()
    standby.delete_job()
    standby.now = 20
    standby.lead()
    standby.run()
    assert standby.runs() == {"job": (COMPLETED, 0, 90, macs(1))}


def test_a_successor_goes_on_where_the_record_ends() -> None:
    world = running()
    world.pod("done", nics=(2,))
    world.run(10)
    world.pod("done", "Succeeded", nics=(2,))
    world.run(10)
    world.delete_pod("done")
    world.run(10)
    world.successor()
    assert world.run(600) == []
    world.job(status={**COMPLETE, "completionTime": stamp(90)})
    world.run()
    assert world.runs() == {"job": (COMPLETED, 0, 90, macs(1, 2))}


def test_a_successor_counts_runs_on_and_knows_whose_pods_are_whose() -> None:
    world = World()
    world.job()
    world.pod("a", nics=(1,), created=0)
    world.pod("b", nics=(2,), created=1)
    world.run(10)
    world.pod("a", "Succeeded", nics=(1,), created=0)
    world.job(spec={"suspend": True})
    world.delete_pod("b")
    world.run(10)
    world.successor()
    world.job()
    world.pod("c", nics=(3,), created=18, started=20)
    world.run(10)
    assert world.runs() == {"job": (CANCELLED, 0, 10, macs(1, 2)), "job.2": (RUNNING, 20, None, macs(3))}


def test_another_mode_after_a_restart_empties_the_other_list() -> None:
    world = running()
    world.successor(Policy(mode=Mode.NODE))
    (report,) = world.run(10)
    assert report.holds == ("node-1",)
    assert world.newest["job"].switched
    world.job(status={**COMPLETE, "completionTime": stamp(90)})
    world.run()
    assert world.runs() == {"job": (COMPLETED, 0, 90, ("node-1",))}


def test_a_run_of_a_kind_that_nobody_watches_waits_until_its_objects_are_known_to_be_gone() -> None:
    world = running()
    world.jobs.clear()
    world.pods.clear()
    world.now = 20
    world.successor()
    assert world.run(600) == []
    world.listed("batch", "Job")
    assert [(report.state, report.end) for report in world.run()] == [(CANCELLED, at(620))]


def test_a_run_of_a_kind_that_is_served_no_more_is_cancelled() -> None:
    """Its CRD was removed while nobody looked."""
    world = running()
    world.jobs.clear()
    world.pods.clear()
    world.now = 20
    world.successor()
    assert world.run(600) == []
    world.tracker.apply(Unserved(("batch", "Job")), T0 + world.now)
    assert [(report.state, report.end) for report in world.run()] == [(CANCELLED, at(620))]


RAYJOB, RAYCLUSTER = ("ray.io/v1", "RayJob"), ("ray.io/v1", "RayCluster")
TRAINER, JOBSET = ("trainer.kubeflow.org/v1alpha1", "TrainJob"), ("jobset.x-k8s.io/v1alpha2", "JobSet")


def outlived() -> World:
    """A cluster that outlives its job, and is reported as a job of its own."""
    world = World()
    world.job("ray", *RAYJOB, status={"startTime": stamp(0)})
    world.job("cluster", *RAYCLUSTER, parent=(*RAYJOB, "ray"))
    world.pod(of=(*RAYCLUSTER, "cluster"), started=0)
    world.run(100)
    world.job("ray", *RAYJOB, status={"startTime": stamp(0), "jobStatus": "SUCCEEDED", "endTime": stamp(100)})
    world.run(100)
    assert world.runs() == {"ray": (COMPLETED, 0, 100, macs(1)), "cluster": (RUNNING, 100, None, macs(1))}
    return world


@pytest.mark.parametrize("order", [("ray", "cluster"), ("cluster", "ray")])
@pytest.mark.parametrize("wait", [60.0, 600.0])
def test_a_cluster_that_outlived_its_job_goes_on_whichever_is_listed_first(order: tuple[str, ...], wait: float) -> None:
    world = outlived()
    world.jobs = {uid: world.jobs[uid] for uid in order}
    world.successor(Policy(start_max_wait=wait))
    assert world.run(700) == []
    world.job("cluster", *RAYCLUSTER, parent=(*RAYJOB, "ray"), status={"state": "failed"})
    assert [(report.id, report.state) for report in world.run()] == [("cluster", FAILED)]


@pytest.mark.parametrize("order", [("ray", "cluster"), ("cluster", "ray")])
def test_a_cluster_that_outlived_its_job_goes_on_though_its_pods_are_being_replaced(order: tuple[str, ...]) -> None:
    world = outlived()
    world.jobs = {uid: world.jobs[uid] for uid in order}
    world.delete_pod()
    world.successor()
    world.run(10)
    world.pod("next", nics=(2,), of=(*RAYCLUSTER, "cluster"), created=205, started=210)
    assert [(report.id, report.state, report.holds) for report in world.run(10)] == [("cluster", RUNNING, macs(2))]


def test_a_cluster_that_outlived_its_job_goes_on_where_a_standby_saw_that_job_deleted() -> None:
    world = outlived()
    standby = World(leading=False)
    standby.newest, standby.now = world.newest, world.now
    for obj in (*world.jobs.values(), *world.pods.values()):
        standby.tracker.apply(Applied(obj), T0 + world.now)
    standby.tracker.apply(Deleted(world.jobs["ray"]), T0 + world.now)
    standby.lead()
    assert standby.run(600) == []


@pytest.mark.parametrize("order", list(permutations(["train", "set", "job"])))
@pytest.mark.parametrize("middle_ends_unseen", [False, True])
def test_what_is_above_is_judged_before_what_is_below(order: tuple[str, ...], middle_ends_unseen: bool) -> None:
    world = World()
    done = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(100)}]}
    complete = {"conditions": [{"type": "Completed", "status": "True", "lastTransitionTime": stamp(100)}]}
    world.job("train", *TRAINER)
    world.job("set", *JOBSET, parent=(*TRAINER, "train"))
    world.job("job", parent=(*JOBSET, "set"))
    world.pod(started=0)
    world.run(100)
    if not middle_ends_unseen:
        world.job("set", *JOBSET, parent=(*TRAINER, "train"), status=complete)
    world.job("train", *TRAINER, status=done)
    world.run(100)
    own = "set" if middle_ends_unseen else "job"
    assert world.runs() == {"train": (COMPLETED, 0, 100, macs(1)), own: (RUNNING, 100, None, macs(1))}
    if middle_ends_unseen:
        complete["conditions"][0]["lastTransitionTime"] = stamp(200)
        world.job("set", *JOBSET, parent=(*TRAINER, "train"), status=complete)
    world.jobs = {uid: world.jobs[uid] for uid in order}
    world.successor()
    world.run(100)
    expected = {"train": (COMPLETED, 0, 100, macs(1)), own: (RUNNING, 100, None, macs(1))}
    if middle_ends_unseen:
        expected |= {"set": (COMPLETED, 100, 200, macs(1)), "job": (RUNNING, 200, None, macs(1))}
    assert world.runs() == expected


def pending_until_the_next_run() -> World:
    """A pod that was Pending in a job's first run runs in the second, beside another."""
    world = World()
    of = ("kubeflow.org/v1", "PyTorchJob", "job")
    world.job("job", *of[:2])
    world.pod("late", "Pending", nics=(), of=of, created=1)
    world.pod("first", nics=(1,), of=of, created=2, started=2)
    world.run(70)
    world.delete_pod("first")
    world.run(70)
    world.pod("late", nics=(2,), of=of, created=1, started=140)
    world.pod("other", nics=(3,), of=of, created=135, started=140)
    world.run(10)
    assert world.runs() == {"job": (CANCELLED, 2, 70, macs(1)), "job.2": (RUNNING, 140, None, macs(2, 3))}
    return world


@pytest.mark.parametrize("succeeds", ["under a successor", "while nobody looks"])
def test_a_pod_that_was_pending_in_the_run_before_counts_on_under_a_successor(succeeds: str) -> None:
    world = pending_until_the_next_run()
    of = ("kubeflow.org/v1", "PyTorchJob", "job")
    late = {"nics": (2,), "of": of, "created": 1, "started": 140, "finished": 160}
    if succeeds == "under a successor":
        world.successor()
        world.run(10)
    world.pod("late", "Succeeded", **late)  # type: ignore[arg-type]
    if succeeds == "while nobody looks":
        world.successor()
    world.run(10)
    world.delete_pod("late")
    world.pod("more", nics=(4,), of=of, created=170, started=170)
    world.run(10)
    assert world.runs()["job.2"] == (RUNNING, 140, None, macs(2, 3, 4))


def test_pods_that_succeeded_in_the_run_before_do_not_count_under_a_successor() -> None:
    world = World()
    world.job()
    world.pod("a", nics=(1,), started=0)
    world.pod("b", nics=(2,), started=0)
    world.run(10)
    world.pod("a", "Succeeded", nics=(1,), started=0, finished=10)
    world.job(spec={"suspend": True})
    world.delete_pod("b")
    world.run(10)
    world.job()
    world.pod("c", nics=(1,), created=20, started=20)  # the same NIC
    world.run(10)
    world.successor()
    world.delete_pod("c")
    world.pod("d", nics=(3,), created=30, started=30)
    world.run(10)
    assert world.runs() == {"job": (CANCELLED, 0, 10, macs(1, 2)), "job.2": (RUNNING, 20, None, macs(3))}


def test_what_a_cluster_that_outlived_its_job_held_counts_though_it_succeeded_while_nobody_looked() -> None:
    world = outlived()
    world.pod(of=(*RAYCLUSTER, "cluster"), phase="Succeeded", started=0, finished=201)
    world.pod("next", nics=(2,), of=(*RAYCLUSTER, "cluster"), created=201, started=201)
    world.successor()
    world.run(10)
    assert world.runs()["cluster"] == (RUNNING, 100, None, macs(1, 2))


def test_a_cluster_that_outlived_its_job_goes_on_though_that_job_is_seen_late() -> None:
    world = outlived()
    ray = world.jobs.pop("ray")
    world.successor()
    world.run(10)
    world.delete_pod()
    world.run(10)
    world.tracker.apply(Applied(ray), T0 + world.now)
    world.run(10)
    world.pod("next", nics=(2,), of=(*RAYCLUSTER, "cluster"), created=205, started=210)
    assert [(report.id, report.state, report.holds) for report in world.run(10)] == [("cluster", RUNNING, macs(2))]


def test_a_job_that_was_outlived_is_forgotten_with_what_outlived_it() -> None:
    world = outlived()
    for uid in ("ray", "cluster"):
        world.delete_job(uid)
        world.run(10)
    world.delete_pod()
    world.run(100)
    assert left_in(world.tracker) == {}


def test_a_standby_whose_watch_of_a_kind_was_lost_does_not_judge_what_it_saw_of_it_before() -> None:
    leader = running()
    standby = World(leading=False)
    standby.job()
    standby.pod()
    jobs = Resource("batch", "v1", "Job", "jobs")
    standby.tracker.apply(WatchLost(jobs), T0)
    leader.job(status={**COMPLETE, "completionTime": stamp(90)})
    leader.run()
    standby.newest = leader.newest
    standby.now = 100
    standby.lead()
    standby.listed("", "Pod")
    assert standby.run(600) == []
    standby.job(status={**COMPLETE, "completionTime": stamp(90)})
    standby.listed("batch", "Job")
    assert standby.run(600) == []


def test_a_cluster_that_outlived_its_job_goes_on_though_the_watch_of_that_jobs_kind_was_lost_before_its_end() -> None:
    leader = outlived()
    standby = World(leading=False)
    standby.job("ray", *RAYJOB, status={"startTime": stamp(0)})
    standby.job("cluster", *RAYCLUSTER, parent=(*RAYJOB, "ray"))
    standby.pod(of=(*RAYCLUSTER, "cluster"), started=0)
    standby.tracker.apply(WatchLost(Resource("ray.io", "v1", "RayJob", "rayjobs")), T0)
    standby.newest, standby.now = leader.newest, 200
    standby.lead()
    assert standby.run(100) == []
    standby.job("ray", *RAYJOB, status={"startTime": stamp(0), "jobStatus": "SUCCEEDED", "endTime": stamp(100)})
    standby.listed("ray.io", "RayJob")
    assert standby.run(600) == []
