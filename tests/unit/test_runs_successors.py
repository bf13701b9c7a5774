"""The runs of one job: a successor goes on with what a former leader reported."""

from cvji.jobs.policy import Policy
from cvji.kube.events import Unserved
from cvji.settings import Mode
from tests.unit.world import CANCELLED, COMPLETE, COMPLETED, RUNNING, T0, World, at, macs, running, stamp


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
