"""The life of a job (design 2.4), rule by rule."""

import time
from typing import Any

import msgspec
import pytest

from cvji.jobs.tracker import Applied, Deleted, KindWatched, Mode, OwnerPolicy, Policy
from tests.unit.world import (
    BATCH,
    CANCELLED,
    COMPLETED,
    FAILED,
    RUNNING,
    T0,
    World,
    at,
    mac,
    macs,
    stamp,
)

COMPLETE = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(90)}]}
BROKEN = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": stamp(80)}]}


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


def test_a_failed_pod_whose_retry_runs_does_not_hold_the_job_back() -> None:
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
    assert world.run(60) == []
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
    assert world.run(60) == []
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


def test_a_success_first_told_by_the_deletion_counts_too() -> None:
    world = running()
    world.pod("other", nics=(2,))
    world.run(6)
    final = world.pods["pod"]
    world.pods["pod"] = type(final)(**{**{f: getattr(final, f) for f in final.__struct_fields__}, "phase": "Succeeded"})
    world.delete_pod("pod")
    assert world.run(60) == []


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
def test_announcing_an_end_is_no_end(early: str) -> None:
    world = running()
    world.job(status={"conditions": [{"type": early, "status": "True"}, {"type": "Complete", "status": "False"}]})
    assert world.run(600) == []


def test_a_deleted_running_job_is_cancelled_now() -> None:
    world = running()
    world.now = 42
    world.delete_job()
    (report,) = world.run(600)
    assert (report.state, report.end, report.holds) == (CANCELLED, at(42), macs(1))


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
    assert world.said() == [("train", RUNNING, macs(0, 1, 2, 3))]


def test_a_train_job_is_its_two_jobs_under_direct() -> None:
    world = World(Policy(owner=OwnerPolicy.DIRECT))
    train_job(world)
    world.run(60)
    assert sorted(world.said(), key=str) == [("job-0", RUNNING, macs(0, 1)), ("job-1", RUNNING, macs(2, 3))]


def test_a_deleted_root_takes_its_children_along_however_slowly_they_go() -> None:
    world = World()
    train_job(world)
    world.run(6)
    for uid in ("train", "set", "job-0", "job-1"):
        world.delete_job(uid)
        world.run(60)
    assert world.said() == [("train", RUNNING, macs(0, 1, 2, 3)), ("train", CANCELLED, macs(0, 1, 2, 3))]


def test_a_child_reported_before_its_owner_was_seen_is_taken_back() -> None:
    world = World()
    world.job("child", parent=("jobset.x-k8s.io/v1alpha2", "JobSet", "set"))
    world.pod(of=("batch/v1", "Job", "child"))
    world.run(6)
    world.job("set", "jobset.x-k8s.io/v1alpha2", "JobSet")
    world.run(6)
    assert world.said() == [
        ("child", RUNNING, macs(1)),
        ("child", CANCELLED, macs(1)),
        ("set", RUNNING, macs(1)),
    ]


def test_an_owner_of_a_watched_kind_is_waited_for_a_while() -> None:
    world = World()
    world.tracker.apply(KindWatched(("jobset.x-k8s.io", "JobSet"), True), T0)
    world.job("child", parent=("jobset.x-k8s.io/v1alpha2", "JobSet", "set"))
    world.pod(of=("batch/v1", "Job", "child"))
    assert world.run(50) == []
    assert [report.name for report in world.run(20)] == ["child"]


def test_owners_in_a_circle_are_no_job_and_no_crash() -> None:
    world = World()
    world.job("a", parent=("batch/v1", "Job", "b"))
    world.job("b", parent=("batch/v1", "Job", "a"))
    world.pod(of=("batch/v1", "Job", "a"))
    assert world.run(60) == []


def test_pods_of_no_job_kind_are_not_kept() -> None:
    world = World()
    world.pod(of=("apps/v1", "ReplicaSet", "web"))
    assert world.tracker._pods == {}


def test_node_mode_reports_nodes_and_ignores_pods_without_one() -> None:
    world = World(Policy(mode=Mode.NODE))
    world.job()
    world.pod("a", nics=(), node="n2")
    world.pod("b", nics=(), node="n1")
    world.pod("c", nics=(), node="")
    assert [report.holds for report in world.run(6)] == [("n1", "n2")]


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


def test_a_job_suspended_and_deleted_says_no_more() -> None:
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
    world.job("v", api, "Job", status={"state": {"phase": "Running", "lastTransitionTime": stamp(30)}})
    world.pod("again", of=(api, "Job", "v"), created=30, started=31)
    world.run(10)
    assert [(r.state, r.start, r.end) for _, r in world.reports] == [
        (RUNNING, at(2), None),
        (CANCELLED, at(2), at(9)),
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
    world.pod("a", "Failed", of=ray, started=7, finished=55)
    world.job("c", "ray.io/v1", "RayCluster", status={"state": "failed"})
    assert [(report.state, report.end) for report in world.run()] == [(FAILED, at(55))]


def test_an_end_is_never_before_its_start() -> None:
    world = running(status={"startTime": stamp(50)})
    world.job(status={"startTime": stamp(50), "completionTime": stamp(20), **COMPLETE})
    assert [report.end for report in world.run()] == [at(50)]


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


def test_malformed_annotations_are_one_problem_each_and_harm_nobody_else() -> None:
    world = World()
    world.job()
    world.pod("good", nics=(1,))
    for uid, text in {"bad": "{not json", "huge": "[" + " " * 5_000_000 + "]", "odd": '[{"mac": 7}]'}.items():
        for _ in range(3):
            world.pod(uid, annotations={"k8s.v1.cni.cncf.io/network-status": text})
    assert [report.holds for report in world.run(6)] == [macs(1)]
    assert sorted(problem.object for problem in world.problems) == [
        "pod team/bad",
        "pod team/huge",
        "pod team/odd",
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
    tracker = world.tracker
    left = {name: value for name, value in vars(tracker).items() if isinstance(value, dict | set | list) and value}
    assert left == {"forgotten": [f"j{n}" for n in range(50)]}
    assert len(tracker._owners) == 0
    assert tracker._owners._gone == set()
    assert tracker._owners._children == {}


# --- ResourceClaims and hostNetwork -------------------------------------------------------------------


def test_all_four_ties_from_claim_to_pod_count() -> None:
    world = World()
    world.job()
    world.pod(
        nics=(),
        spec={"resourceClaims": [{"name": "a", "resourceClaimName": "by-spec"}]},
        status={
            "resourceClaimStatuses": [{"name": "b", "resourceClaimName": "by-status"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "by-extended", "requestMappings": []},
        },
    )
    world.claim("by-spec", (1,), ())
    world.claim("by-status", (2,), (("pod", "pod"),))
    world.claim("by-extended", (3,), ())
    world.claim("by-uid", (4,), (("pod", "pod"),))
    world.claim("by-name", (5,), (("", "pod"),))
    world.claim("another's", (6,), (("else", "pod"),))
    assert [report.holds for report in world.run(6)] == [macs(1, 2, 3, 4, 5)]


def test_a_new_pod_of_the_same_name_does_not_inherit_a_reservation() -> None:
    world = World()
    world.job()
    world.pod("old", nics=(1,), name="w-0")
    world.claim("c", (9,), (("old", "w-0"),))
    world.run(6)
    world.delete_pod("old")
    world.pod("new", nics=(2,), name="w-0", spec={"resourceClaims": [{"name": "c", "resourceClaimName": "c"}]})
    assert [report.holds for report in world.run(6)] == [macs(2)]


def test_a_mac_known_by_annotation_and_claim_counts_once_in_any_letter_case() -> None:
    world = World()
    world.job()
    world.pod(nics=(171,))
    world.claim("c", (171,), (("pod", "pod"),))
    assert [report.holds for report in world.run(6)] == [macs(171)]


def test_a_claims_mac_may_come_late_change_and_go() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    world.claim("c", (), (("pod", "pod"),))
    assert world.run(60) == []
    for numbers in ((1,), (2, 3)):
        world.claim("c", numbers, (("pod", "pod"),))
        assert [report.holds for report in world.run(60)] == [macs(*numbers)]
    world.pod(nics=(8,))
    world.claim("c", (2, 3), (("pod", "pod"),), gone=True)
    assert [report.holds for report in world.run(60)] == [macs(8)]


def test_a_claim_made_anew_under_its_name_while_no_one_looked_outlives_the_old_ones_end() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    users = (("pod", "pod"),)
    world.claim("c", (1,), users, uid="old")
    assert [report.holds for report in world.run(5)] == [macs(1)]
    world.claim("c", (2,), users, uid="new")  # a list says what exists before what is gone
    world.claim("c", (1,), users, uid="old", gone=True)
    assert [report.holds for report in world.run(5)] == [macs(2)]


def test_a_claims_event_costs_the_same_in_a_large_cluster() -> None:
    """Indexes, not scans: 20,000 pods of 2,500 jobs, each pod with a claim of its own."""
    costs = []
    for pods in (200, 20_000):
        world = World()
        for number in range(pods):
            if number % 8 == 0:
                world.job(f"job-{number // 8}")
            of = (*BATCH, f"job-{number // 8}")
            spec = {"resourceClaims": [{"name": "nic", "resourceClaimName": f"c-{number}"}]}
            world.pod(f"pod-{number}", nics=(), of=of, spec=spec)
            world.claim(f"c-{number}", (number,), ((f"pod-{number}", f"pod-{number}"),))
        world.run(5)
        began = time.process_time()
        for change in range(200):
            world.claim("c-5", (change, change + 1), (("pod-5", "pod-5"),))
            world.tracker.advance(T0 + world.now)
        costs.append((time.process_time() - began) / 200)
    print(f"a claim's event: {costs[0] * 1e6:.0f} us with 200 pods, {costs[1] * 1e6:.0f} us with 20,000")
    assert costs[1] < 10 * costs[0]  # a scan would take 100 times as long


def test_a_claim_given_back_just_before_its_pods_success_was_seen_still_counts() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    world.pod("other", nics=(2,))
    world.claim("c", (1,), (("pod", "pod"),))
    world.run(10)
    world.claim("c", (), ())
    world.run(2)
    world.pod(phase="Succeeded", nics=())
    assert world.run(60) == []


def test_a_mac_that_was_replaced_does_not_come_back_with_success() -> None:
    world = World()
    world.job()
    world.pod(nics=(1,))
    world.claim("c", (2,), (("pod", "pod"),))
    world.pod(nics=(3,))
    world.claim("c", (4,), (("pod", "pod"),))
    assert [report.holds for report in world.run(10)] == [macs(3, 4)]
    world.pod(phase="Succeeded", nics=(3,))
    assert world.run(60) == []


def test_a_claim_shared_by_pods_of_two_jobs_counts_for_each() -> None:
    world = World()
    for job in ("a", "b"):
        world.job(job)
        world.pod(f"pod-{job}", nics=(), of=("batch/v1", "Job", job))
    world.claim("c", (1,), (("pod-a", "pod-a"), ("pod-b", "pod-b")))
    assert sorted((r.name, r.holds) for r in world.run(6)) == [("a", macs(1)), ("b", macs(1))]


def test_host_network_pods_hold_their_nodes_nics() -> None:
    world = World()
    world.job()
    for number in range(3):
        world.pod(f"p{number}", nics=(), node=f"n{number}", spec={"hostNetwork": True})
    for number in range(4):
        world.node(f"n{number}", number * 2, number * 2 + 1)
    assert [report.holds for report in world.run(60)] == [macs(*range(6))]
    world.node("n1", 2, 99)
    assert [report.holds for report in world.run(60)] == [macs(0, 1, 2, 4, 5, 99)]
    assert mac(99) in world.reports[-1][1].holds


def test_a_claim_replaced_by_its_namesake_before_its_deletion_was_seen_is_not_lost() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    world.claim("c", (1,), (("pod", "pod"),))
    old = world.tracker._claims["team", "c"]
    new = msgspec.structs.replace(old, uid="another", macs=macs(2))
    world.tracker.apply(Applied(new), T0)
    world.tracker.apply(Deleted(old), T0)
    assert [report.holds for report in world.run(6)] == [macs(2)]
    world.tracker.apply(Deleted(new), T0 + world.now)
    assert not world.tracker._claims
    assert not world.tracker._claims_by_user


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
    assert world.said() == [("mpi", RUNNING, macs(1, 2, 3)), ("mpi", COMPLETED, macs(1, 2, 3))]
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
    said: list[Any] = []
    with pytest.raises(RuntimeError):
        said.extend(world.tracker.advance(T0 + world.now))
    said.extend(world.tracker.advance(T0 + world.now))
    assert sorted(report.name for report in said) == ["a", "c"]


def test_who_rests_keeps_nothing_of_what_is_gone() -> None:
    world = World()
    tracker = world.tracker
    for number in range(100):
        world.job(f"job-{number}")
        world.pod(f"pod-{number}", of=("batch/v1", "Job", f"job-{number}"))
        world.pod(f"pod-{number}", "Succeeded", of=("batch/v1", "Job", f"job-{number}"))
        tracker.rest()
        world.delete_pod(f"pod-{number}")
        world.delete_job(f"job-{number}")
        tracker.rest()
    assert not tracker._dirty
    assert not tracker._entries
    assert not tracker._deadlines
    assert world.run(100) == []


@pytest.mark.parametrize("late", ["claim", "end"])
def test_a_job_that_ran_is_told_of_though_its_nics_or_its_end_were_said_late(late: str) -> None:
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
    world.job("job", status={"startTime": stamp(0), **COMPLETE})
    assert world.run(10) == []


def test_who_rested_reports_all_that_runs_and_jobs_whose_start_passed_meanwhile() -> None:
    world = World()
    world.job("runs")
    world.pod("pod-runs", started=0, of=("batch/v1", "Job", "runs"))
    world.job("ends", status={"startTime": stamp(0)})
    world.pod("pod-ends", nics=(2,), started=0, of=("batch/v1", "Job", "ends"))
    for _ in range(60):
        world.now += 1
        world.tracker.rest()
    assert world.run(2) == []
    world.pod("late", nics=(3,), started=62, of=("batch/v1", "Job", "ends"))  # unsteady, and then it ends
    world.run(1)
    world.job("ends", status={"startTime": stamp(0), **COMPLETE})
    assert [(report.name, report.state) for report in world.run(10)] == [("ends", COMPLETED), ("runs", RUNNING)]
