"""`cvji explain`'s words, and that they are about what the informer itself decides."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvji.jobs.explain import Explanation, explain, reported_job
from cvji.jobs.nics import NodeNics
from cvji.jobs.policy import Policy
from cvji.jobs.replay import Recorded, Snapshot
from cvji.jobs.runs import State
from cvji.macs import pack
from tests.unit.world import COMPLETE, T0, World, at, mac, macs, stamp


def snapshot(world: World, *, records: bool = True) -> Snapshot:
    newest = [
        Recorded(run, float(run.end or next(when + T0 for when, seen in reversed(world.reports) if seen.id == run.id)))
        for run in world.newest.values()
    ]
    return Snapshot(
        jobs=tuple(world.jobs.values()),
        pods=tuple(world.pods.values()),
        recorded=tuple(newest) if records else (),
    )


def explained(world: World, uid: str = "job", *, records: bool = True) -> Explanation:
    now = T0 + world.now
    return explain(snapshot(world, records=records), world.policy, uid, now, records_read=records)


def assert_agrees(world: World, *, records: bool) -> None:
    """explain, of the objects as they stand, is of the mind of a tracker that has watched them."""
    runs = world.tracker.runs("job")
    state = runs.state if runs else State.IDLE
    found = explained(world, records=records)
    assert found.state == state.value, found.waits_for
    if state in (State.STARTING, State.CHANGING, State.VACANT) and runs:
        due = runs.waiting()[1]
        # What is held may change in the second of a report: which came first, no object shows.
        assert found.due in (None, None if due == float("inf") else int(due)), found.waits_for


def test_a_job_that_waits_for_a_pending_pod_says_which_and_until_when() -> None:
    world = World()
    world.job()
    world.pod("w-0", started=0)
    world.pod("w-1", "Pending", created=3)
    world.run(20)
    found = explained(world)
    assert found.waits_for == "since 00:00:03Z pod w-1 is Pending; reported at 00:01:00Z at the latest"
    assert (found.since, found.due) == (at(3), at(60))
    assert [(pod.name, pod.counts, pod.notes) for pod in found.pods] == [
        ("w-0", True, ()),
        ("w-1", False, ("is Pending: it holds nothing before it runs",)),
    ]


def test_each_nic_is_shown_with_its_source() -> None:
    world = World()
    world.job()
    world.pod("plain", started=0, nics=(1,), status={"resourceClaimStatuses": [{"resourceClaimName": "rail"}]})
    world.pod("host", started=0, nics=(), spec={"hostNetwork": True}, node="node-2")
    claim = {"metadata": {"name": "rail", "namespace": "team", "uid": "c"}, "status": {"devices": []}}
    claim["status"] = {"devices": [{"networkData": {"hardwareAddress": mac(2)}}]}
    from cvji.jobs.nics import read_claim

    seen = msgspec.structs.replace(
        snapshot(world),
        claims=(read_claim(json.dumps(claim).encode()),),
        nodes=(NodeNics("node-2", pack(macs(3))),),
    )
    found = explain(seen, Policy(), "job", T0 + 1, records_read=True)
    assert [(nic.address, nic.source) for pod in found.pods for nic in pod.nics] == [
        (mac(1), "annotation"),
        (mac(2), "resource claim"),
        (mac(3), "node inventory"),
    ]


def test_a_pod_that_runs_without_a_nic_is_what_an_unreported_job_waits_for() -> None:
    world = World()
    world.job()
    world.pod("w-0", started=0, nics=())
    world.run(90)
    found = explained(world)
    assert found.waits_for == "pod w-0 is running and without a NIC: reported once one has a MAC address"
    assert found.pods[0].notes == (
        "has no NIC: its network-status annotation says no MAC address, and it uses no ResourceClaim",
    )


def test_a_failed_pod_that_is_not_replaced_is_named() -> None:
    world = World()
    world.job()
    for name in ("w-0", "w-1"):
        world.pod(name, "Pending")
    world.run(2)
    world.pod("w-0", started=2)
    world.pod("w-1", "Failed", started=2, finished=2, labels={"training.kubeflow.org/replica-index": "1"})
    world.run(20)
    assert explained(world).waits_for.startswith("pod w-1 failed, and no other pod has taken its place")


def test_a_job_that_ended_too_soon_is_said_to_be_never_reported() -> None:
    world = World()
    world.job()
    world.pod("w-0", "Pending")
    world.run(1)
    world.pod("w-0", "Succeeded", started=1, finished=2)
    world.run(1)
    complete = [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(3)}]
    world.job(status={"conditions": complete})
    world.run(60)
    found = explained(world)
    assert found.state == State.MISSED.value
    assert found.waits_for.startswith("nothing, it is never reported")


def test_what_is_due_and_not_recorded_points_at_the_informer() -> None:
    world = World()
    world.job()
    world.pod("w-0", started=0)
    found = explain(snapshot(world), world.policy, "job", T0 + 3600, records_read=True)
    assert found.state == State.STARTING.value
    assert "RUNNING with 1 NICs is due since 00:00:05Z" in found.waits_for
    assert "cvji check" in found.waits_for


def test_without_records_the_times_of_the_pods_decide() -> None:
    world = World()
    world.job()
    world.pod("w-0", started=0)
    world.run(30)
    assert explained(world, records=False).state == State.REPORTED.value


def test_the_climb_counts_the_pods_of_each_way() -> None:
    world = World()
    world.job("set", "jobset.x-k8s.io/v1alpha2", "JobSet")
    for name in ("a", "b"):
        world.job(name, parent=("jobset.x-k8s.io/v1alpha2", "JobSet", "set"))
    for name in ("a-0", "a-1", "b-0"):
        world.pod(name, of=("batch/v1", "Job", name[0]), started=0)
    world.run(10)
    assert explained(world, "set").climb == (
        "2 pods -> batch/Job a -> jobset.x-k8s.io/JobSet set",
        "1 pod -> batch/Job b -> jobset.x-k8s.io/JobSet set",
    )
    assert reported_job(snapshot(world), world.policy, "a", T0 + 10) == "set"


def test_what_is_reported_since_its_pods_changed_is_not_changing() -> None:
    """Only the time of the first report is known, as where a status is an older version's."""
    world = World()
    world.job()
    world.pod("w-0", started=0)
    world.run(100)
    world.pod("w-1", created=100, started=100, nics=(2,))
    world.run(100)
    first = msgspec.structs.replace(snapshot(world), recorded=(Recorded(world.newest["job"], T0 + 5),))
    found = explain(first, world.policy, "job", T0 + world.now, records_read=True)
    assert (found.state, found.waits_for) == (State.REPORTED.value, "nothing: what it holds is reported")
    world.pod("w-2", created=200, started=200, nics=(3,))
    now = msgspec.structs.replace(first, pods=tuple(world.pods.values()))
    found = explain(now, world.policy, "job", T0 + 202, records_read=True)
    assert found.state == State.CHANGING.value


@pytest.mark.parametrize("records", [True, False])
def test_a_job_agrees_at_every_moment_of_its_life(records: bool) -> None:
    world = World()
    world.job(metadata={"creationTimestamp": stamp(0)})
    for name in ("w-0", "w-1"):
        world.pod(name, "Pending")
    deeds = {
        4: lambda: world.pod("w-0", started=4),
        20: lambda: world.pod("w-1", started=20, nics=(2,)),
        40: lambda: world.pod("w-1", "Succeeded", started=20, finished=40, nics=(2,)),
        90: lambda: world.job(status=COMPLETE),
    }
    for _ in range(120):
        if deed := deeds.get(int(world.now)):
            deed()
        world.run(0)
        assert_agrees(world, records=records)
        world.run(1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["Running", "Succeeded", "Failed"]), st.integers(1, 30)),
        max_size=8,
    ),
    st.booleans(),
    # Not 60: in the very second in which a vacant run ends another pod may begin, and no object shows which came first.
    st.sampled_from([60.5, float("inf")]),
)
def test_explain_and_the_tracker_agree(deeds: list[tuple[int, str, int]], ends: bool, wait: float) -> None:
    """Pods run and end in any order; whoever has watched and whoever looks now say the same of the run."""
    world = World(Policy(start_max_wait=wait))
    world.job()
    started: dict[int, float] = {}
    ended: set[int] = set()
    for number in range(3):
        world.pod(f"w-{number}", "Pending", nics=(number + 1,))
    world.run(0)
    for number, phase, pause in deeds:
        world.run(pause)
        if number in ended or (phase == "Running") is (number in started):
            continue
        started.setdefault(number, world.now)
        finished = None if phase == "Running" else world.now
        ended |= {number} if finished else set()
        world.pod(f"w-{number}", phase, nics=(number + 1,), started=started[number], finished=finished)
        world.run(0)
        assert_agrees(world, records=True)
    world.run(7)
    assert_agrees(world, records=True)
    if ends:
        complete = [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(world.now)}]
        world.job(status={"conditions": complete})
        world.run(20)
        assert_agrees(world, records=True)
