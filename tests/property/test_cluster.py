"""Whatever comes in whatever order: what is counted as events come is what a count of everything gives."""

import random
from collections import Counter, defaultdict
from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cvji.jobs.cluster import Cluster
from cvji.jobs.kinds import Job, Registry
from cvji.jobs.nics import Claim, NodeNics
from cvji.jobs.owners import MAX_CLIMB
from cvji.jobs.pods import Pod, Stage
from cvji.jobs.report import End, JobState
from cvji.kube.events import Applied, Deleted
from cvji.macs import pack
from cvji.settings import Mode, OwnerPolicy

KIND = next(iter(Registry()))
JOBS, PODS, CLAIMS, NODES = "ABCDE", "pqrstu", "xy", ("n1", "n2")
OWNERS = st.none() | st.sampled_from(JOBS + PODS)


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


MACS = st.lists(st.integers(1, 6).map(mac), max_size=2).map(pack)
jobs = st.builds(
    lambda uid, owner, ended: Job(
        kind=KIND, uid=uid, name=uid, namespace="team", owner=owner, owner_kind=None, created=1, started=None,
        end=End(JobState.COMPLETED, 9) if ended else None, end_if_deleted=None, stopped=False,
    ),
    st.sampled_from(JOBS), OWNERS, st.booleans(),
)  # fmt: skip
pods = st.builds(
    lambda uid, owner, stage, node, host, deleting, created, macs, claims: Pod(
        uid=uid, namespace="team", name=uid, owner=owner, stage=stage, node=node, host_network=host, deleting=deleting,
        created=created, started=None, ran_from=None, finished=None, slot="", macs=macs, claims=claims, problem="",
    ),
    st.sampled_from(PODS), OWNERS, st.sampled_from(Stage), st.sampled_from(("", *NODES)), st.booleans(), st.booleans(),
    st.integers(1, 9), MACS, st.lists(st.sampled_from(CLAIMS), max_size=2, unique=True).map(tuple),
)  # fmt: skip
claims = st.builds(
    lambda name, uid, macs, users: Claim(
        uid=uid, namespace="team", name=name, macs=macs, reserved_for=tuple((user, user) for user in users), problem=""
    ),
    st.sampled_from(CLAIMS), st.sampled_from(("1", "2")), MACS, st.lists(st.sampled_from(PODS), max_size=2, unique=True),
)  # fmt: skip
objects = st.one_of(jobs, pods, pods, claims)
events = st.one_of(
    objects.map(Applied),
    objects.map(Deleted),
    st.builds(NodeNics, st.sampled_from(NODES), MACS),
    st.tuples(st.sampled_from(["close", "open", "end_run"]), st.sampled_from(JOBS)),
)


def play(cluster: Cluster, happened: Any) -> dict[str, None]:
    """Let something happen. Returns the uids of the jobs that it touches."""
    if isinstance(happened, tuple):
        deed, uid = happened
        if deed == "close" and not cluster.knows(uid):
            return {}
        more = (lambda _: False,) if deed == "close" else ()
        touched = getattr(cluster, deed)(uid, *more)
    else:
        touched = cluster.apply(happened)
    return dict.fromkeys(touched or ())


def judge(cluster: Cluster, touched: dict[str, None]) -> None:
    """What the tracker does with jobs that are gone."""
    for uid in touched:
        view = cluster.view(uid)
        if view.job is None and view.last is not None:
            cluster.depart(uid)
    touched.clear()


def counted(cluster: Cluster) -> dict[str, Counter[str]]:
    """What the groups say, by job."""
    fields = ("pending", "holding", "failed")
    found = {uid: Counter({f: getattr(group, f) for f in fields}) for uid, group in cluster._groups.items()}
    assert all(count >= 0 for group in found.values() for count in group.values())
    return {uid: +group for uid, group in found.items() if +group}


def recounted(cluster: Cluster) -> dict[str, Counter[str]]:
    """The same, counted from all pods."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for pod in cluster._pods.values():
        group = found[cluster._owners.root(pod.owner or "")]
        if pod.stage is Stage.RUNNING:
            group["holding"] += bool(cluster.holds(pod))
        elif not pod.deleting:
            group["pending"] += pod.stage is Stage.PENDING
            group["failed"] += pod.stage is Stage.FAILED
    return {uid: +group for uid, group in found.items() if uid and +group}


@settings(max_examples=400, deadline=None)
@given(st.lists(events, max_size=30), st.sampled_from(Mode), st.sampled_from(OwnerPolicy))
def test_what_is_counted_is_what_there_is(history: list[Any], mode: Mode, owner: OwnerPolicy) -> None:
    cluster = Cluster(mode, owner)
    for happened in history:
        play(cluster, happened)
        assert counted(cluster) == recounted(cluster), happened
        assert all(cluster.root(uid) in (uid, "") for uid in cluster._groups), happened


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(events, st.booleans()), max_size=30), st.sampled_from(OwnerPolicy), st.integers(0, 2**32))
def test_what_is_gone_leaves_nothing_behind(history: list[Any], owner: OwnerPolicy, seed: int) -> None:
    cluster = Cluster(Mode.INTERFACE, owner)
    touched: dict[str, None] = {}
    for happened, judged in history:
        touched |= play(cluster, happened)
        if judged:
            judge(cluster, touched)
    left_over = [*cluster._pods.values(), *cluster._owners, *cluster._claims.values()]
    random.Random(seed).shuffle(left_over)
    for obj in left_over:
        touched |= play(cluster, Deleted(obj))
        if seed % 2:
            judge(cluster, touched)
    judge(cluster, touched)
    for node in NODES:
        cluster.apply(NodeNics(node, b""))
    parts = [cluster, cluster._owners, *cluster._sources._sources]
    left = {name: value for part in parts for name, value in vars(part).items() if isinstance(value, dict | set | list)}
    assert {name: value for name, value in left.items() if value} == {}


def endless(owners: dict[str, str | None]) -> bool:
    """Whether somebody is above itself, or too many are: then the climb ends where that was seen."""
    for uid in owners:
        above = owners[uid]
        for _ in range(MAX_CLIMB - 1):
            if above is None or above == uid:
                break
            above = owners.get(above)
        if above is not None:
            return True
    return False


@settings(max_examples=200, deadline=None)
@given(st.lists(objects.map(Applied), max_size=12), st.integers(0, 2**32))
def test_the_order_of_a_list_makes_no_difference(listed: list[Applied], seed: int) -> None:
    """Each object once, as lists give them: jobs before pods, or pods before jobs.

    The order comes of a seed: what is drawn does not depend on what the code under test does.
    """
    by_uid = {event.object.uid: event for event in listed if isinstance(event.object, Job | Pod)}
    by_key = {event.object.key: event for event in listed if isinstance(event.object, Claim)}
    once = [*by_uid.values(), *by_key.values()]
    owned = [event.object for event in by_uid.values() if isinstance(event.object, Job | Pod)]
    assume(not endless({found.uid: found.owner for found in owned}))
    first, second = Cluster(Mode.INTERFACE, OwnerPolicy.ROOT), Cluster(Mode.INTERFACE, OwnerPolicy.ROOT)
    for event in once:
        first.apply(event)
    random.Random(seed).shuffle(once)
    for event in once:
        second.apply(event)
    assert counted(first) == counted(second)
    for uid in first:
        assert first.counts(uid) == second.counts(uid)
        assert msgspec.structs.replace(first.view(uid), group=None) == msgspec.structs.replace(
            second.view(uid), group=None
        )
