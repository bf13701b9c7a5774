"""From what is seen to what is sent: records first, then reports; repetitions spread; a checkpoint with holes."""

import uuid
from collections.abc import Iterable
from datetime import timedelta

import msgspec
import pytest

from cvji.jobs.report import JobReport, JobState
from cvji.jobs.tracker import Applied, KindWatched, Policy
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
    sends = reporter.take()
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
    assert reporter.take() == []
    shards, held_back = reporter.dirty(), reporter.held_back()
    world.pod("pod-0", nics=(7,), of=("batch/v1", "Job", "job-0"))
    reporter.apply(Applied(world.pods["pod-0"]), T0 + 7)
    reporter.advance(T0 + 7)
    reporter.advance(T0 + 13)
    reporter.written(shards, held_back)
    assert reporter.take() == []  # a newer one was written down since, and its record is on its way
    reporter.written(reporter.dirty(), reporter.held_back())
    (send,) = reporter.take()
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


def test_a_standby_decides_nothing_and_holds_nothing() -> None:
    world = world_of(20)
    reporter = reporter_of(world, durable=True)
    for _ in range(10):
        reporter.rest()
    assert not reporter.changed
    assert reporter.take() == []
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
    assert len(reporter.take()) == 5


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
