"""Which jobs are judged, and for whom their pods count: owners, deadlines, leaders and standbys."""

from collections import deque
from typing import Any

import pytest

from cvji.jobs.policy import Policy
from cvji.jobs.tracker import Tracker
from cvji.settings import Mode, OwnerPolicy
from tests.unit.world import (
    CANCELLED,
    COMPLETE,
    COMPLETED,
    RUNNING,
    T0,
    World,
    at,
    macs,
    stamp,
)


def test_same_pod_name_in_two_namespaces_is_two_pods() -> None:
    world = World()
    for number, namespace in enumerate(("blue", "green")):
        uid = f"job-{namespace}"
        world.job(uid, namespace=namespace, name="train")
        world.pod(
            f"pod-{namespace}",
            nics=(number,),
            of=("batch/v1", "Job", uid),
            name="train-0",
            namespace=namespace,
        )
    assert {(r.id, r.holds) for r in world.run(6)} == {("job-blue", macs(0)), ("job-green", macs(1))}


def train_job(world: World) -> None:
    """TrainJob -> JobSet -> 2 Jobs -> 4 pods, the pods seen first."""
    trainer, jobset = "trainer.kubeflow.org/v1alpha1", "jobset.x-k8s.io/v1alpha2"
    for number in range(4):
        world.pod(f"p{number}", nics=(number,), of=("batch/v1", "Job", f"job-{number // 2}"))
    for number in range(2):
        world.job(f"job-{number}", parent=(jobset, "JobSet", "set"))
    world.job("set", jobset, "JobSet", parent=(trainer, "TrainJob", "train"))
    world.job("train", trainer, "TrainJob")


def test_a_train_job_is_one_entry_under_root() -> None:
    world = World()
    train_job(world)
    world.run(60)
    assert world.reported() == [("train", RUNNING, macs(0, 1, 2, 3))]


def test_a_train_job_is_its_two_jobs_under_direct() -> None:
    world = World(Policy(owner=OwnerPolicy.DIRECT))
    train_job(world)
    world.run(60)
    assert sorted(world.reported(), key=str) == [("job-0", RUNNING, macs(0, 1)), ("job-1", RUNNING, macs(2, 3))]


def test_a_deleted_root_takes_its_children_along_however_slowly_they_go() -> None:
    world = World()
    train_job(world)
    world.run(6)
    for uid in ("train", "set", "job-0", "job-1"):
        world.delete_job(uid)
        world.run(60)
    assert world.reported() == [("train", RUNNING, macs(0, 1, 2, 3)), ("train", CANCELLED, macs(0, 1, 2, 3))]


def test_a_child_reported_before_its_owner_was_seen_is_cancelled() -> None:
    world = World()
    world.job("child", parent=("jobset.x-k8s.io/v1alpha2", "JobSet", "set"))
    world.pod(of=("batch/v1", "Job", "child"))
    world.run(6)
    world.job("set", "jobset.x-k8s.io/v1alpha2", "JobSet")
    world.run(6)
    assert world.reported() == [
        ("child", RUNNING, macs(1)),
        ("child", CANCELLED, macs(1)),
        ("set", RUNNING, macs(1)),
    ]


def test_an_owner_of_a_watched_kind_is_waited_for_a_while() -> None:
    world = World()
    world.listed("jobset.x-k8s.io", "JobSet")
    world.job("child", parent=("jobset.x-k8s.io/v1alpha2", "JobSet", "set"))
    world.pod(of=("batch/v1", "Job", "child"))
    assert world.run(50) == []
    assert [report.name for report in world.run(20)] == ["child"]


def test_owners_in_a_circle_end_the_climb() -> None:
    world = World()
    world.job("a", parent=("batch/v1", "Job", "b"))
    world.job("b", parent=("batch/v1", "Job", "a"))
    world.pod(of=("batch/v1", "Job", "a"))
    assert [report.name for report in world.run(60)] == ["b"]  # which was seen last


def test_pods_of_no_job_kind_are_not_kept() -> None:
    world = World()
    world.pod(of=("apps/v1", "ReplicaSet", "web"))
    assert world.tracker._cluster._pods == {}


def test_node_mode_reports_nodes_and_ignores_pods_without_one() -> None:
    world = World(Policy(mode=Mode.NODE))
    world.job()
    world.pod("a", nics=(), node="n2")
    world.pod("b", nics=(), node="n1")
    world.pod("c", nics=(), node="")
    assert [report.holds for report in world.run(6)] == [("n1", "n2")]


def test_a_run_ai_workload_ends_when_its_child_has() -> None:
    world = World()
    world.job("w", "run.ai/v2alpha1", "TrainingWorkload", status={"whatever": 1})
    world.job("child", "kubeflow.org/v1", "PyTorchJob", parent=("run.ai/v2alpha1", "TrainingWorkload", "w"))
    world.pod(of=("kubeflow.org/v1", "PyTorchJob", "child"))
    world.run(10)
    done = {"completionTime": stamp(70), "conditions": [{"type": "Succeeded", "status": "True"}]}
    world.job(
        "child",
        "kubeflow.org/v1",
        "PyTorchJob",
        parent=("run.ai/v2alpha1", "TrainingWorkload", "w"),
        status=done,
    )
    world.run(10)
    assert [(r.name, r.state, r.end) for _, r in world.reports] == [
        ("w", RUNNING, None),
        ("w", COMPLETED, at(70)),
    ]


def test_what_is_gone_leaves_nothing_behind() -> None:
    world = World()
    for round_ in range(50):
        world.job(f"j{round_}")
        world.pod(f"p{round_}", of=("batch/v1", "Job", f"j{round_}"), spec={"hostNetwork": True})
        world.run(10)
        world.delete_pod(f"p{round_}")
        world.delete_job(f"j{round_}")
        world.run(100)
    assert left_in(world.tracker) == {}
    assert +world.tracker.states == {}


def left_in(tracker: Tracker) -> dict[str, Any]:
    """What the tracker and its indexes hold, but for the last runs of jobs that are gone: of these it holds a thousand."""
    parts = [tracker, tracker._cluster, tracker._cluster._owners, *tracker._cluster._sources._sources]
    return {
        f"{type(part).__name__}.{name}": value
        for part in parts
        for name, value in vars(part).items()
        if isinstance(value, dict | set | list | deque) and value and name not in ("states", "_past")
    }


def test_an_mpi_job_is_its_workers_and_its_launcher() -> None:
    world = World()
    mpi = ("kubeflow.org/v2beta1", "MPIJob", "mpi")
    world.job("mpi", *mpi[:2])
    world.job("mpi-launcher", parent=mpi)
    world.pod("launcher", nics=(1,), of=("batch/v1", "Job", "mpi-launcher"))
    for number in (2, 3):
        world.pod(f"worker-{number}", nics=(number,), of=mpi)
    world.run(10)
    world.job("mpi-launcher", parent=mpi, status={"completionTime": stamp(20), **COMPLETE})
    assert world.run(10) == []
    world.job(
        "mpi", *mpi[:2], status={"completionTime": stamp(21), "conditions": [{"type": "Succeeded", "status": "True"}]}
    )
    world.run(10)
    assert world.reported() == [("mpi", RUNNING, macs(1, 2, 3)), ("mpi", COMPLETED, macs(1, 2, 3))]
    assert world.reports[-1][1].end == at(21)


@pytest.mark.parametrize("back", [1.0, 3600.0, 86_400.0])
def test_a_clock_set_back_delays_nothing_by_more_than_the_delay(back: float) -> None:
    world = World()
    world.job("a")
    world.pod("pod-a", of=("batch/v1", "Job", "a"))
    world.run(3)
    world.now -= back
    assert [report.name for report in world.run(5.1)] == ["a"]
    world.job("b")
    world.pod("pod-b", nics=(2,), of=("batch/v1", "Job", "b"))
    assert [report.name for report in world.run(5.1)] == ["b"]
    world.pod("pod-a", nics=(1, 3), of=("batch/v1", "Job", "a"))
    world.run(3)
    world.now -= back
    assert [report.holds for report in world.run(5.1)] == [macs(1, 3)]


def test_a_job_that_cannot_be_judged_costs_no_other_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for name in ("a", "bad", "c"):
        world.job(name)
        world.pod(f"pod-{name}", of=("batch/v1", "Job", name))
    world.run(4.9)
    world.now += 0.2
    judge = world.tracker._judge

    def failing(uid: str, now: float) -> Any:
        if uid == "bad":
            raise RuntimeError(uid)
        return judge(uid, now)

    monkeypatch.setattr(world.tracker, "_judge", failing)
    decisions: list[Any] = []
    with pytest.raises(RuntimeError):
        decisions.extend(world.tracker.advance(T0 + world.now))
    decisions.extend(world.tracker.advance(T0 + world.now))
    assert sorted(decision.run.name for decision in decisions) == ["a", "c"]


def test_a_standby_keeps_nothing_of_what_is_gone_for_long() -> None:
    world = World(leading=False)
    for number in range(100):
        world.now = number * 10
        world.job(f"job-{number}")
        world.pod(f"pod-{number}", of=("batch/v1", "Job", f"job-{number}"))
        world.pod(f"pod-{number}", "Succeeded", of=("batch/v1", "Job", f"job-{number}"))
        world.delete_pod(f"pod-{number}")
        world.delete_job(f"job-{number}")
    left = left_in(world.tracker)
    assert set(left) <= {"Tracker._departed", "Owners._deleted", "Owners._unjudged", "Cluster._groups"}
    assert max(map(len, left.values())) == 13
    assert world.run(100) == []


def test_a_new_leader_reports_all_that_runs_and_what_ended_before_it_could() -> None:
    world = World(leading=False)
    world.job("runs")
    world.pod("pod-runs", started=0, of=("batch/v1", "Job", "runs"))
    world.job("ends", status={"startTime": stamp(0)})
    world.pod("pod-ends", nics=(2,), started=0, of=("batch/v1", "Job", "ends"))
    world.now = 60
    world.lead()
    assert world.run(2) == []
    world.job("ends", status={"startTime": stamp(0), **COMPLETE})
    assert [(report.name, report.state) for report in world.run(10)] == [("ends", COMPLETED), ("runs", RUNNING)]


@pytest.mark.parametrize("reported", [False, True])
def test_pods_of_a_child_whose_owner_is_seen_later_count_on_for_the_owner_when_they_succeed(reported: bool) -> None:
    world = World()
    jobset = ("jobset.x-k8s.io/v1alpha2", "JobSet", "set")
    world.job("child", parent=jobset)
    for number in (1, 2):
        world.pod(f"pod-{number}", nics=(number,), of=("batch/v1", "Job", "child"))
    world.run(10 if reported else 1)
    world.job("set", *jobset[:2])
    world.run(10)
    world.job("child", parent=jobset, status={"active": 2})
    world.run(10)
    world.pod("pod-1", "Succeeded", nics=(1,), of=("batch/v1", "Job", "child"))
    world.run(10)
    world.pod("pod-2", nics=(3,), of=("batch/v1", "Job", "child"))
    world.delete_pod("pod-1")
    world.run(10)
    assert world.runs()["set"] == (RUNNING, 0, None, macs(1, 3))


def test_a_short_run_is_not_lost_because_its_child_was_seen_first() -> None:
    world = World()
    trainer = ("trainer.kubeflow.org/v1alpha1", "TrainJob", "train")
    world.job("child", parent=trainer)
    world.pod(of=("batch/v1", "Job", "child"), started=0)
    world.run(1)
    world.job("train", *trainer[:2])
    world.job("child", parent=trainer, status={"active": 1})
    world.run(1)
    world.pod("pod", "Succeeded", of=("batch/v1", "Job", "child"), started=0, finished=7)
    done = [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(7)}]
    world.job("train", *trainer[:2], status={"conditions": done})
    world.run(10)
    assert world.runs() == {"train": (COMPLETED, 0, 7, macs(1))}


TRAINER, JOBSET = ("trainer.kubeflow.org/v1alpha1", "TrainJob"), ("jobset.x-k8s.io/v1alpha2", "JobSet")


def test_what_gone_pods_left_to_a_child_is_the_owners_though_that_is_seen_after_them() -> None:
    world = World()
    world.listed("jobset.x-k8s.io", "JobSet")
    world.job("child", parent=(*JOBSET, "set"))
    for number in (1, 2):
        world.pod(f"pod-{number}", nics=(number,), of=("batch/v1", "Job", "child"))
    world.run(10)
    world.pod("pod-1", "Succeeded", nics=(1,), of=("batch/v1", "Job", "child"))
    world.delete_pod("pod-1")
    world.job("set", *JOBSET)
    world.run(10)
    assert world.reported() == [("set", RUNNING, macs(1, 2))]


RUNAI = ("run.ai/v2alpha1", "TrainingWorkload")


@pytest.mark.parametrize("closed", [False, True], ids=["chain", "circle"])
@pytest.mark.parametrize("count", [10, 12, 500])
def test_no_chain_and_no_circle_of_owners_is_too_long(count: int, closed: bool) -> None:
    world = World()
    for number in range(count):
        above = number - 1 if number else count - 1 if closed else None
        parent = None if above is None else (*RUNAI, f"w{above}")
        world.job(f"w{number}", *RUNAI, parent=parent)
    world.pod("inside", nics=(2,), of=(*RUNAI, f"w{count - 1}"))
    world.job()
    world.pod()
    assert ("job", RUNNING, macs(1)) in [(report.name, report.state, report.holds) for report in world.run(10)]
    for uid in ("pod", "inside"):
        world.delete_pod(uid)
    for uid in list(world.jobs):
        world.delete_job(uid)
    world.run(100)
    assert left_in(world.tracker) == {}


def workload(*, leading: bool = True) -> World:
    """A workload that ends with its child, which runs."""
    world = World(leading=leading)
    world.job("w", *RUNAI)
    world.job("child", *TORCH, parent=(*RUNAI, "w"))
    world.pod(of=(*TORCH, "child"), started=0)
    return world


TORCH = ("kubeflow.org/v1", "PyTorchJob")
TORCH_DONE = {"completionTime": stamp(70), "conditions": [{"type": "Succeeded", "status": "True"}]}


@pytest.mark.parametrize("deleted", [("w",), ("child",), ("w", "child"), ("child", "w")])
@pytest.mark.parametrize("pod", ["stays", "goes before", "goes after"])
@pytest.mark.parametrize("seen", ["one turn", "by a standby"])
def test_a_run_ai_workload_has_its_childs_end_though_either_is_deleted_right_behind(
    deleted: tuple[str, ...], pod: str, seen: str
) -> None:
    world = workload()
    world.run(80)
    if seen == "by a standby":
        newest, world = world.newest, workload(leading=False)
        world.newest, world.now = newest, 80
    world.job("child", *TORCH, parent=(*RUNAI, "w"), status=TORCH_DONE)
    if pod == "goes before":
        world.delete_pod()
    for uid in deleted:
        world.delete_job(uid)
    if pod == "goes after":
        world.delete_pod()
    if seen == "by a standby":
        world.now = 90
        world.lead()
    world.run(3)
    if pod == "stays":
        world.pod(of=(*TORCH, "child"), started=0, node="node-2")
    world.run(100)
    assert world.runs() == {"w": (COMPLETED, 0, 70, macs(1))}
    for uid in list(world.jobs):
        world.delete_job(uid)
    if pod == "stays":
        world.delete_pod()
    world.run(200)
    assert world.runs() == {"w": (COMPLETED, 0, 70, macs(1))}
    assert left_in(world.tracker) == {}


@pytest.mark.parametrize("order", ["owner first", "child first", "owner seen last"])
def test_jobs_on_two_levels_are_forgotten(order: str) -> None:
    world = World()
    if order != "owner seen last":
        world.job("set", *JOBSET)
    world.job("child", parent=(*JOBSET, "set"))
    world.pod(of=("batch/v1", "Job", "child"))
    world.run(10)
    world.pod("pod", "Succeeded", of=("batch/v1", "Job", "child"))
    world.delete_pod()
    world.job("set", *JOBSET)
    world.run(10)
    for uid in ("set", "child") if order == "owner first" else ("child", "set"):
        world.delete_job(uid)
        world.run(100)
    assert left_in(world.tracker) == {}
