"""From what is seen to what is sent: records first, then reports; repetitions spread; a checkpoint with holes."""

import uuid
from collections.abc import Iterable
from datetime import timedelta

import msgspec
import pytest

from cvji.jobs.report import JobReport, JobState
from cvji.jobs.tracker import Applied, Deleted, KindWatched, Policy
from cvji.ledger import SHARDS, Ledger, shard_of
from cvji.nodes.inventory import Nic, NodeState
from cvji.reporter import NodeApplied, NodesListed, Reporter
from tests.unit.world import T0, World, at, mac, macs

HOUR = 3600.0


def world_of(jobs: int) -> World:
    """A cluster's objects; its tracker is not used."""
    world = World()
    for number in range(jobs):
        world.job(f"job-{number}")
        world.pod(f"pod-{number}", nics=(number,), of=("batch/v1", "Job", f"job-{number}"))
    return world


def reporter_of(world: World, *, durable: bool = False, resync: float = 0.0) -> Reporter:
    reporter = Reporter(Policy(), "lab", durable=durable, resync=resync)
    show(reporter, world)
    return reporter


def show(reporter: Reporter, world: World) -> None:
    for job in world.jobs.values():
        reporter.apply(Applied(job), T0)
    for pod in world.pods.values():
        reporter.apply(Applied(pod), T0)
    reporter.apply(KindWatched(("batch", "Job"), True), T0)


def deliver(reporter: Reporter) -> list[str]:
    """Let CloudVision take everything; the names of what it took."""
    sends = reporter.take(T0)
    for send in sends:
        reporter.delivered(send.said)
    return [send.key[1] for send in sends]


def running(name: str, nic: int = 1) -> JobReport:
    return JobReport(name, name, "team", "batch/Job", JobState.RUNNING, at(0), None, macs(nic))


def shards(reports: Iterable[JobReport]) -> list[bytes]:
    ledger = Ledger()
    for report in reports:
        ledger.put_job(report)
        ledger.told_job(report)
    return [ledger.encode(shard) for shard in range(SHARDS)]


def test_a_report_waits_for_its_record_and_the_newest_alone_goes() -> None:
    world = world_of(1)
    reporter = reporter_of(world, durable=True)
    reporter.lead([], T0)
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    assert reporter.take(T0) == []
    shards, held_back = reporter.dirty(), reporter.held_back()
    world.pod("pod-0", nics=(7,), of=("batch/v1", "Job", "job-0"))
    reporter.apply(Applied(world.pods["pod-0"]), T0 + 7)
    reporter.advance(T0 + 7)
    reporter.advance(T0 + 13)
    reporter.written(shards, held_back)
    assert reporter.take(T0) == []  # a newer one was written down since, and its record is on its way
    reporter.written(reporter.dirty(), reporter.held_back())
    (send,) = reporter.take(T0)
    assert isinstance(send.said, JobReport)
    assert send.said.holds == macs(7)


def test_repetitions_are_spread_evenly_and_each_is_made_once_a_round() -> None:
    reporter = reporter_of(world_of(100), resync=6 * HOUR)
    for number in range(50):
        nics = (Nic("e0", mac(number), ()),)
        reporter.apply(NodeApplied(NodeState(f"u{number}", f"node-{number}", "cloudvision", nics, ())), T0)
    reporter.apply(NodesListed(), T0)
    reporter.lead([], T0)
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    assert len(deliver(reporter)) == 150
    minutes: list[list[str]] = []
    for minute in range(1, 12 * 60 + 2):
        reporter.advance(T0 + 60.0 * minute)
        minutes.append(deliver(reporter))
    assert max(map(len, minutes)) <= 2
    names = [name for minute in minutes for name in minute]
    rounds = len(names) / 150
    assert 1 <= rounds <= 2
    assert len(set(names[-150:])) == 150


def test_repetitions_go_on_after_the_clock_was_set_back() -> None:
    reporter = reporter_of(world_of(1), resync=HOUR)
    reporter.lead([], T0)
    for second in range(0, 7300, 10):
        reporter.advance(T0 + second)
        deliver(reporter)
    back = T0 - 30 * 24 * HOUR
    said = []
    for second in range(0, 7300, 10):
        reporter.advance(back + second)
        said += deliver(reporter)
    assert said == ["job-0"] * len(said)
    assert 1 <= len(said) <= 3


def test_a_round_of_repetitions_writes_the_checkpoint_anew() -> None:
    reporter = reporter_of(world_of(3), durable=True, resync=HOUR)
    reporter.lead([], T0)
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    reporter.written(reporter.dirty(), reporter.held_back())
    deliver(reporter)
    reporter.dirty()
    reporter.advance(T0 + HOUR)
    reporter.advance(T0 + 2 * HOUR)
    assert len(reporter.dirty()) == SHARDS


@pytest.mark.parametrize("broken", [b"junk", b"", b"\x00" * 1000])
def test_only_what_a_broken_shard_held_is_told_anew(broken: bytes) -> None:
    stored = shards(running(f"job-{number}", number) for number in range(30))
    stored[3] = broken
    reporter = reporter_of(world_of(30))
    assert len(reporter.lead(stored, T0)) == 1
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    lost = [f"job-{number}" for number in range(30) if shard_of(("job", f"job-{number}")) == 3]
    assert lost
    assert sorted(deliver(reporter)) == sorted(lost)


def leaving(jobs: int, window: int) -> Reporter:
    """One that has told of these jobs' start, and of whose cancellations nothing is taken yet."""
    world = world_of(jobs)
    reporter = Reporter(Policy(), "lab", durable=False, window=window)
    show(reporter, world)
    reporter.lead([], T0)
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    assert len(deliver(reporter)) == jobs
    for job in world.jobs.values():
        reporter.apply(Deleted(job), T0 + 9)
    reporter.advance(T0 + 9)
    return reporter


def test_of_the_jobs_that_are_gone_a_few_at_a_time_are_on_their_way_and_the_others_follow() -> None:
    reporter = leaving(10, window=3)
    waiting = {send.key: send for send in reporter.take(T0 + 10)}
    assert len(waiting) == 10
    for key in reporter.surplus(T0 + 30):
        del waiting[key]
        reporter.spill(key, 20.0, T0 + 30)
    assert (len(waiting), reporter.backlog(T0 + 40)) == (3, (7, 30.0))
    assert reporter.take(T0 + 40) == []
    assert reporter.jobs_by_state() == {"pending": 0, "running": 0, "ended": 10}
    told = set[str]()
    while waiting:
        key, send = waiting.popitem()
        told.add(key[1])
        reporter.delivered(send.said)
        for more in reporter.take(T0 + 50):
            assert more.waited == 40
            waiting[more.key] = more
        assert len(waiting) <= 3
    assert told == {f"job-{number}" for number in range(10)}
    assert reporter.jobs_by_state() == {"pending": 0, "running": 0, "ended": 0}


def test_jobs_that_cloudvision_never_takes_do_not_keep_others_from_their_turn() -> None:
    reporter = leaving(10, window=3)
    refused = {f"job-{number}" for number in range(9)}
    tried = set[str]()
    for second in range(10, 400, 10):
        for send in reporter.take(T0 + second):
            tried.add(send.key[1])
            if send.key[1] not in refused:
                reporter.delivered(send.said)
        for key in reporter.surplus(T0 + second):
            reporter.spill(key, 0.0, T0 + second)
    assert len(tried) == 10
    assert reporter.jobs_by_state()["ended"] == 9


def test_what_waits_for_its_record_is_not_spilled_and_what_was_spilled_is_recorded() -> None:
    world = world_of(4)
    reporter = Reporter(Policy(), "lab", durable=True, window=1)
    show(reporter, world)
    reporter.lead([], T0)
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    for job in world.jobs.values():
        reporter.apply(Deleted(job), T0 + 9)
    reporter.advance(T0 + 9)
    assert reporter.surplus(T0 + 9) == []
    stored = reporter.dirty()
    reporter.written(stored, reporter.held_back())
    assert len(reporter.take(T0 + 9)) == 4
    for key in reporter.surplus(T0 + 9):
        reporter.spill(key, 0.0, T0 + 9)
    for shard in stored:
        reporter.unwritten([shard])
    successor = reporter_of(World(), durable=True)
    assert successor.lead(reporter.dirty().values(), T0 + 20) == []
    successor.advance(T0 + 20)
    assert sorted(deliver(successor)) == sorted(f"job-{number}" for number in range(4))
    assert successor.jobs_by_state() == {"pending": 0, "running": 0, "ended": 0}


def test_a_standby_decides_nothing_and_holds_nothing() -> None:
    world = world_of(20)
    reporter = reporter_of(world, durable=True)
    for _ in range(10):
        reporter.rest()
    assert not reporter.changed
    assert reporter.take(T0) == []
    reporter.lead([], T0 + 60)
    reporter.advance(T0 + 60)
    reporter.advance(T0 + 66)
    assert len(reporter.held_back()) == 20


def test_a_record_that_cannot_be_encoded_loses_no_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = reporter_of(world_of(5), durable=True)
    reporter.lead([], T0)
    reporter.advance(T0)
    reporter.advance(T0 + 6)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "encode", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reporter.dirty()
    reporter.written(reporter.dirty(), reporter.held_back())
    assert len(reporter.take(T0)) == 5


def test_20000_jobs_are_taken_over_in_a_second() -> None:
    import time

    reports = [
        msgspec.structs.replace(running(str(uuid.UUID(int=number))), start=at(0) + timedelta(seconds=number))
        for number in range(20_000)
    ]
    stored = shards(reports)
    reporter = Reporter(Policy(), "lab", durable=True)
    began = time.process_time()
    assert reporter.lead(stored, T0) == []
    seconds = time.process_time() - began
    print(f"20,000 jobs taken over in {seconds:.2f} s")
    assert seconds < 2.0
