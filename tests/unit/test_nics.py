"""What pods hold (docs/design.md#nics-of-a-pod): annotations, ResourceClaims and their nodes' NICs."""

import time

import msgspec
import pytest

from cvji.kube.events import Applied, Deleted
from cvji.macs import pack
from tests.unit.world import (
    BATCH,
    CANCELLED,
    RUNNING,
    T0,
    World,
    mac,
    macs,
)


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


def test_a_claims_mac_may_come_late_and_change_and_stays_with_the_pod() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    world.claim("c", (), (("pod", "pod"),))
    assert world.run(60) == []
    for numbers in ((1,), (2, 3)):
        world.claim("c", numbers, (("pod", "pod"),))
        assert [report.holds for report in world.run(60)] == [macs(*numbers)]
    world.claim("c", (2, 3), (("pod", "pod"),), gone=True)  # which cannot be while the pod runs
    assert world.run(60) == []
    world.delete_pod()
    assert [report.state for report in world.run(60)] == [CANCELLED]


def test_a_new_claim_of_the_same_name_outlives_the_deletion_of_the_old_one() -> None:
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
    """Indexes, not scans: 6,000 pods of 750 jobs, each pod with a claim of its own."""
    costs = []
    for pods in (200, 6_000):
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
    print(f"a claim's event: {costs[0] * 1e6:.0f} us with 200 pods, {costs[1] * 1e6:.0f} us with 6,000")
    assert costs[1] < 10 * costs[0]  # a scan would take 30 times as long


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
    assert world.run(59) == []


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


@pytest.mark.parametrize("back", [True, False])
def test_an_inventory_that_is_deleted_takes_nothing_from_a_pod_that_runs(back: bool) -> None:
    world = World()
    world.node("node-1", 1, 2)
    world.job()
    world.pod(nics=(), spec={"hostNetwork": True})
    world.run(1000)
    world.node("node-1")
    world.run(90)
    if back:
        world.node("node-1", 1, 3)
    world.run(1000)
    told = [(RUNNING, macs(1, 2)), *([(RUNNING, macs(1, 3))] if back else [])]
    assert [(state, holds) for _, state, holds in world.reported()] == told
    world.delete_pod()
    world.job(uid="next")
    world.pod("late", nics=(), of=(*BATCH, "next"), spec={"hostNetwork": True})
    late = [report.holds for report in world.run(30) if report.name == "next"]
    assert late == ([macs(1, 3)] if back else [])


def test_a_claim_replaced_by_its_namesake_before_its_deletion_was_seen_is_not_lost() -> None:
    world = World()
    world.job()
    world.pod(nics=())
    world.claim("c", (1,), (("pod", "pod"),))
    old = world.tracker._cluster._claims["team", "c"]
    new = msgspec.structs.replace(old, uid="another", macs=pack(macs(2)))
    world.tracker.apply(Applied(new), T0)
    world.tracker.apply(Deleted(old), T0)
    assert [report.holds for report in world.run(6)] == [macs(2)]
    world.tracker.apply(Deleted(new), T0 + world.now)
    assert world.tracker._cluster._claims == {}
