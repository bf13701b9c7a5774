"""The runs of one job (docs/design.md#runs), rule by rule."""

import math
import re
from typing import Any

import msgspec
import pytest

from cvji.jobs import runs
from cvji.jobs.pods import Stage
from cvji.jobs.policy import Policy
from cvji.jobs.report import JobState
from cvji.jobs.tracker import Tracker
from cvji.kube.events import Unserved
from cvji.settings import Mode
from tests.unit.world import (
    BROKEN,
    CANCELLED,
    COMPLETE,
    COMPLETED,
    FAILED,
    RUNNING,
    T0,
    World,
    at,
    macs,
    stamp,
)


def running(**kwargs: Any) -> World:
    world = World()
    world.job(**kwargs)
    world.pod()
    assert [report.state for report in world.run(6)] == [RUNNING]
    return world


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


def test_a_replaced_pods_macs_are_gone_from_the_next_report() -> None:
    world = running()
    world.delete_pod()
    world.pod("new", nics=(2,), name="pod")
    assert [report.holds for report in world.run(6)] == [macs(2)]


def test_a_failed_pod_whose_retry_runs_does_not_delay_the_report() -> None:
    world = World()
    world.job()
    world.pod("first", "Failed", (1,), started=0, finished=10)
    assert world.run(30) == []
    world.pod("retry", "Running", (2,), created=20, started=21)
    (report,) = world.run(6)
    assert (report.state, report.holds) == (RUNNING, macs(2))


def test_each_failure_needs_a_replacement_of_its_own() -> None:
    world = World()
    world.job()
    for uid in ("a", "b"):
        world.pod(uid, "Failed", (1,), started=0, finished=10)
    world.pod("c", "Running", (3,), created=0)  # made with them: replaces neither
    world.pod("d", "Running", (4,), created=15)
    assert world.run(40) == []
    world.pod("e", "Running", (5,), created=16)
    assert [report.holds for report in world.run(6)] == [macs(3, 4, 5)]


@pytest.mark.parametrize(
    "place",
    [
        {"annotations": {"batch.kubernetes.io/job-completion-index": "3"}},
        {"annotations": {"volcano.sh/task-index": "3", "volcano.sh/task-spec": "worker"}},
        {
            "labels": {
                "training.kubeflow.org/replica-type": "worker",
                "training.kubeflow.org/replica-index": "3",
            }
        },
    ],
)
def test_a_failed_pod_is_replaced_by_a_newer_one_of_its_place_only(place: dict[str, dict[str, str]]) -> None:
    world = World()
    world.job()
    world.pod("lost", "Failed", (1,), created=0, **place)  # type: ignore[arg-type]
    world.pod("other", "Running", (2,), created=30)
    assert world.run(40) == []
    world.pod("again", "Running", (3,), created=40, **place)  # type: ignore[arg-type]
    assert [report.holds for report in world.run(6)] == [macs(2, 3)]


def test_a_succeeded_pod_keeps_counting_after_it_is_collected_and_a_deleted_one_does_not() -> None:
    world = World()
    world.job()
    world.pod("a", nics=(1,))
    world.pod("b", nics=(2,))
    world.pod("c", nics=(3,))
    world.run(6)
    world.pod("a", "Succeeded", (1,))
    world.delete_pod("a")
    world.delete_pod("b")
    assert [report.holds for report in world.run(6)] == [macs(1, 3)]


def test_a_success_first_seen_with_the_deletion_counts_too() -> None:
    world = running()
    world.pod("other", nics=(2,))
    world.run(6)
    final = world.pods["pod"]
    world.pods["pod"] = msgspec.structs.replace(final, stage=Stage.SUCCEEDED)
    world.delete_pod("pod")
    assert world.run(600) == []


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


def test_a_finished_job_deleted_later_sends_nothing_more() -> None:
    world = running()
    world.job(status=COMPLETE)
    assert len(world.run(60)) == 1
    world.delete_pod()
    world.delete_job()
    assert world.run(600) == []


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


def test_a_job_suspended_and_then_deleted_sends_nothing_more() -> None:
    world = running()
    world.job(spec={"suspend": True})
    world.delete_pod()
    world.run(10)
    world.delete_job()
    world.run(10)
    assert [state for _, state, _ in world.said()] == [RUNNING, CANCELLED]


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
    assert world.said() == [("job", COMPLETED, macs(7))]


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


# --- what real clusters do: the table of the issue that brought runs -------------------------------------

VOLCANO = ("batch.volcano.sh/v1alpha1", "Job")
RAYCLUSTER = ("ray.io/v1", "RayCluster")


def deleting(grace: int = 30) -> dict[str, Any]:
    return {"deletionTimestamp": stamp(500), "deletionGracePeriodSeconds": grace}


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


def test_a_scaled_down_pod_that_exits_with_0_because_it_was_deleted_holds_no_more() -> None:
    world = World()
    world.job("job", *RAYCLUSTER)
    for number in range(3):
        world.pod(f"p{number}", nics=(number,), of=(*RAYCLUSTER, "job"))
    world.run(10)
    world.pod("p2", nics=(2,), of=(*RAYCLUSTER, "job"), metadata=deleting())
    assert world.run(10) == []  # it runs on
    world.pod("p2", "Succeeded", nics=(2,), of=(*RAYCLUSTER, "job"), metadata=deleting())
    world.run(1)
    world.pod("p2", "Succeeded", nics=(2,), of=(*RAYCLUSTER, "job"), metadata=deleting(0))  # the kubelet's last word
    world.delete_pod("p2")
    assert [report.holds for report in world.run(10)] == [macs(0, 1)]


def test_a_drained_pod_that_exits_with_0_is_not_in_the_job_beside_its_replacement() -> None:
    world = running()
    world.pod("pod", "Succeeded", metadata=deleting())
    world.pod("new", nics=(2,), created=20)
    assert [report.holds for report in world.run(10)] == [macs(2)]


def test_a_pod_that_succeeded_and_is_deleted_afterwards_counts() -> None:
    world = running()
    world.pod("other", nics=(2,))
    world.run(10)
    world.pod("pod", "Succeeded", metadata=deleting(0))  # a list shows both at once
    world.delete_pod()
    assert world.run(600) == []


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


def test_a_new_leader_knows_of_an_end_that_was_deleted_while_nobody_led() -> None:
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


def test_a_pending_pod_delays_the_report_for_a_minute() -> None:
    world = World()
    world.job("job", *VOLCANO, status={"state": {"phase": "Running"}})
    for number in (1, 2):
        world.pod(f"p{number}", nics=(number,), of=(*VOLCANO, "job"), started=0)
    world.pod("p3", "Pending", nics=(), of=(*VOLCANO, "job"))
    assert world.run(59) == []
    assert [(report.state, report.holds) for report in world.run(1)] == [(RUNNING, macs(1, 2))]
    world.job("job", *VOLCANO, status={"state": {"phase": "Completed", "lastTransitionTime": stamp(70)}})
    assert [(report.state, report.end) for report in world.run()] == [(COMPLETED, at(70))]


def test_start_max_wait_never_waits_for_every_pod() -> None:
    world = World(Policy(start_max_wait=math.inf))
    world.job()
    world.pod()
    world.pod("late", "Pending", nics=(2,))
    assert world.run(3600) == []
    world.pod("late", nics=(2,))
    assert [report.holds for report in world.run(5)] == [macs(1, 2)]


def test_an_indexed_job_of_which_an_index_failed_for_good_is_reported_without_it() -> None:
    world = World()
    world.job()
    index = "batch.kubernetes.io/job-completion-index"
    world.pod("p0", "Failed", (0,), started=0, finished=1, annotations={index: "0"})
    for number in (1, 2):
        world.pod(f"p{number}", nics=(number,), started=0, annotations={index: str(number)})
    assert world.run(59) == []
    assert [report.holds for report in world.run(1)] == [macs(1, 2)]
    world.job(status=BROKEN)
    assert [(report.state, report.holds) for report in world.run()] == [(FAILED, macs(1, 2))]


@pytest.mark.parametrize(("ahead", "retried"), [(4, 1.5), (60, 11)])
def test_a_retry_counts_whatever_the_clock_of_the_node_said_of_the_failure(ahead: int, retried: float) -> None:
    world = World()
    api, kind = "argoproj.io/v1alpha1", "Workflow"
    world.job("job", api, kind, status={"phase": "Running", "startedAt": stamp(0)})
    world.pod("a", "Failed", (1,), of=(api, kind, "job"), started=ahead, finished=ahead + 3)
    world.pod("b", nics=(2,), of=(api, kind, "job"), created=3 + retried, started=5 + retried)
    (report,) = world.run(10)
    assert (report.state, report.start, report.holds) == (RUNNING, at(0), macs(2))


def test_a_container_that_never_started_is_no_run() -> None:
    world = World()
    world.job(status={"startTime": stamp(0)})
    never = {"terminated": {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": stamp(9), "reason": "StartError"}}
    world.pod("p", "Failed", status={"containerStatuses": [{"name": "main", "state": never}]})
    world.run(70)
    world.job(status={"startTime": stamp(0), **BROKEN})
    assert world.run(600) == []


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


def test_a_run_does_not_start_with_pods_that_were_gone_before_this_leader_judged() -> None:
    world = World(leading=False)
    of = ("kubeflow.org/v1", "PyTorchJob", "job")
    world.job("job", *of[:2])
    world.pod("a", of=of, started=1)
    world.delete_pod("a")
    world.lead()
    world.run(100)
    world.pod("b", nics=(2,), of=of, created=90, started=95)
    world.run(10)
    assert world.runs() == {"job": (RUNNING, 95, None, macs(2))}


def test_a_run_does_not_hold_what_pods_left_that_were_gone_before_its_start() -> None:
    world = World(leading=False)
    world.job(status={"startTime": stamp(0)})
    world.pod("a", "Succeeded", started=1, finished=20)
    world.delete_pod("a")
    world.job(spec={"suspend": True})
    world.job(status={"startTime": stamp(90)})
    world.pod("b", nics=(2,), created=90, started=91)
    world.now = 100
    world.lead()
    world.run(10)
    assert world.runs() == {"job": (RUNNING, 90, None, macs(2))}


def test_what_is_held_is_reported_though_pods_come_and_go() -> None:
    world = running()
    world.delete_pod()
    for number in range(2, 7):  # each holds something for 4 s, and then nothing does for 20 s
        world.pod(f"p{number}", nics=(number,), created=world.now)
        world.run(4)
        world.delete_pod(f"p{number}")
        world.run(20)
    assert [report.holds for _, report in world.reports] == [macs(1), macs(5)]


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


def test_pods_owned_by_a_pod_belong_to_that_pods_job() -> None:
    world = World()
    spark = ("example.com/v1", "Training", "app")
    for number in (2, 3):
        world.pod(f"executor-{number}", nics=(number,), of=("v1", "Pod", "driver"))
    world.pod("driver", nics=(1,), of=spark)
    world.job("app", *spark[:2])
    assert [report.holds for report in world.run(10)] == [macs(1, 2, 3)]


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


# --- successors ---------------------------------------------------------------------------------------


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


def test_every_rule_of_the_state_machine_names_a_test_that_exists() -> None:
    named = set(re.findall(r"test_\w+", runs.__doc__ or "")) - {"test_runs"}
    assert len(named) == 11
    assert named <= set(globals())


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


def test_a_pod_that_gets_its_nics_minutes_after_it_runs_counts_on_when_it_succeeds() -> None:
    world = World()
    world.job()
    world.pod("late", nics=(), started=0)
    assert world.run(300) == []
    world.pod("late", nics=(1,), started=0)
    world.pod("other", nics=(2,), started=0)
    world.run(10)
    world.pod("late", "Succeeded", nics=(1,), started=0, finished=310)
    assert world.run(30) == []
    assert world.runs() == {"job": (RUNNING, 0, None, macs(1, 2))}
