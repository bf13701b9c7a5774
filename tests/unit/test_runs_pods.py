"""The runs of one job: which pods count, which are waited for, and which were replaced."""

import math
from itertools import permutations

import msgspec
import pytest

from cvji.jobs.pods import Stage
from cvji.jobs.policy import Policy
from tests.unit.test_tracker import left_in
from tests.unit.world import BROKEN, CANCELLED, COMPLETED, FAILED, RUNNING, World, at, deleting, macs, running, stamp


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


VOLCANO = ("batch.volcano.sh/v1alpha1", "Job")
RAYCLUSTER = ("ray.io/v1", "RayCluster")


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
def test_a_retry_counts_whatever_time_the_node_gave_for_the_failure(ahead: int, retried: float) -> None:
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


def test_pods_owned_by_a_pod_belong_to_that_pods_job() -> None:
    world = World()
    spark = ("example.com/v1", "Training", "app")
    for number in (2, 3):
        world.pod(f"executor-{number}", nics=(number,), of=("v1", "Pod", "driver"))
    world.pod("driver", nics=(1,), of=spark)
    world.job("app", *spark[:2])
    assert [report.holds for report in world.run(10)] == [macs(1, 2, 3)]


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


def spark() -> World:
    """A driver that owns two executors."""
    world = World()
    world.job("app", "example.com/v1", "Training")
    world.pod("driver", nics=(1,), of=("example.com/v1", "Training", "app"))
    for number in (2, 3):
        world.pod(f"executor-{number}", nics=(number,), of=("v1", "Pod", "driver"))
    world.run(10)
    return world


def test_what_a_gone_pod_owned_stays_in_the_job_while_it_runs() -> None:
    world = spark()
    world.delete_pod("driver")
    world.run(10)
    world.pod("executor-2", "Succeeded", nics=(2,), of=("v1", "Pod", "driver"))
    world.delete_pod("executor-2")
    world.run(10)
    assert world.reported() == [("app", RUNNING, macs(1, 2, 3)), ("app", RUNNING, macs(2, 3))]
    world.delete_pod("executor-3")
    world.run(70)
    world.delete_job("app")
    world.run()
    assert world.runs() == {"app": (CANCELLED, 0, 30, macs(2, 3))}
    assert left_in(world.tracker) == {}


@pytest.mark.parametrize("order", list(permutations(["driver", "executor-2", "app"])))
def test_a_job_of_pods_that_own_pods_is_forgotten_in_whatever_order_these_go(order: tuple[str, ...]) -> None:
    world = spark()
    for uid in order:
        (world.delete_job if uid == "app" else world.delete_pod)(uid)
        world.run(10)
    world.delete_pod("executor-3")
    world.run(100)
    assert [report.state for _, report in world.reports].count(CANCELLED) == 1
    assert left_in(world.tracker) == {}


@pytest.mark.parametrize("count", [3, 20])
def test_pods_in_a_circle_are_forgotten(count: int) -> None:
    world = World()
    for number in range(count):
        world.pod(f"p{number}", of=("v1", "Pod", f"p{(number + 1) % count}"))
    for number in range(count):
        world.delete_pod(f"p{number}")
    world.run(100)
    assert left_in(world.tracker) == {}
