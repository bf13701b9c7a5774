"""What is remembered of reports: complete, small, and readable only as what it is."""

import math
import random
import time
import uuid
import zlib
from datetime import timedelta

import msgspec
import pytest

from cvji.jobs.report import JobReport, JobState
from cvji.ledger import SHARDS, JobRecord, Ledger, LedgerError, NodeRecord, shard_of
from tests.unit.world import at, macs


def report(uid: str, state: JobState = JobState.RUNNING, **change: object) -> JobReport:
    found = JobReport(
        id=uid,
        name="train",
        namespace="team",
        kind="batch/Job",
        state=state,
        start=at(0),
        end=None if state is JobState.RUNNING else at(9),
        holds=macs(1, 2),
        kept=macs(2),
    )
    return msgspec.structs.replace(found, **change)


def copy(ledger: Ledger) -> Ledger:
    loaded = Ledger()
    for shard in range(SHARDS):
        loaded.load(ledger.encode(shard), 0.0)
    return loaded


def test_what_is_stored_is_what_is_loaded() -> None:
    ledger = Ledger()
    ledger.put_job(report(str(uuid.UUID(int=5))))
    ledger.put_job(report("no-uuid", JobState.FAILED))
    ledger.put_job(report("ABCDEF00-0000-0000-0000-000000000000"))  # a UUID in a form of its own stays as it is
    ledger.put_job(report("by-node", holds=("n1", "n2"), nodes=True, kept=("n2",)))
    ledger.put_node("n1", b"12345678")
    ledger.put_node("n2", b"")
    ledger.told_job(report("no-uuid", JobState.FAILED))
    loaded = copy(ledger)
    assert loaded.jobs == ledger.jobs
    assert loaded.nodes == ledger.nodes == {"n1": NodeRecord(b"12345678"), "n2": NodeRecord(b"")}


def test_only_the_newest_report_can_be_acknowledged() -> None:
    ledger = Ledger()
    ledger.put_job(report("a"))
    ledger.put_job(report("a", JobState.COMPLETED))
    ledger.told_job(report("a"))
    assert not ledger.jobs["a"].told
    ledger.told_job(report("a", JobState.COMPLETED))
    assert ledger.jobs["a"] == JobRecord(report("a", JobState.COMPLETED, holds=()), told=True)


def test_a_record_goes_when_its_object_has_and_cloudvision_knows() -> None:
    ledger = Ledger()
    done = report("a", JobState.CANCELLED)
    ledger.put_job(done)
    ledger.forget_job("a")
    assert "a" in ledger.jobs
    ledger.told_job(done)
    assert ledger.jobs == {}
    ledger.put_node("n", b"")
    ledger.told_node("n", b"")
    assert ledger.nodes == {}
    assert copy(ledger).jobs == {}


def test_a_job_that_is_gone_can_be_spilled_and_taken_back_unchanged_and_is_stored_all_the_while() -> None:
    ledger = Ledger()
    reports = [report(uid, JobState.FAILED) for uid in (str(uuid.UUID(int=5)), "no-uuid")]
    for one in reports:
        ledger.put_job(one)
        ledger.forget_job(one.id)
    records = dict(ledger.jobs)
    for since, one in enumerate(reports):
        ledger.spill(one.id, float(since))
    assert (ledger.jobs, ledger.leaving) == ({}, {})
    assert ledger.backlog() == (2, 0.0)
    for found in (ledger, copy(ledger)):
        assert found.jobs == {}
        assert [found.take_back(), found.take_back(), found.take_back()].count(None) == 1
        assert found.jobs == records
        assert list(found.leaving) == list(found.jobs)
        for one in reports:
            found.told_job(one)
        assert (found.jobs, found.leaving) == ({}, {})
    assert ledger.backlog() == (0, math.inf)


def test_what_is_newly_said_of_a_spilled_job_takes_its_place() -> None:
    ledger = Ledger()
    ledger.put_job(report("a", JobState.CANCELLED))
    ledger.forget_job("a")
    ledger.spill("a", 0.0)
    ledger.put_job(report("a"))  # it was not gone after all
    assert ledger.take_back() is None
    assert copy(ledger).jobs == ledger.jobs == {"a": JobRecord(report("a"))}


@pytest.mark.parametrize(
    "data", [b"", b"junk", zlib.compress(b"junk"), zlib.compress(msgspec.msgpack.encode([2, [], {}])), b"\x00" * 100]
)
def test_what_is_not_a_ledger_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerError):
        Ledger().load(data, 0.0)


def test_20000_running_jobs_fit_and_load_fast() -> None:
    rng = random.Random(1)
    ledger = Ledger()
    for number in range(20_000):
        held = tuple(sorted(":".join(f"{byte:02x}" for byte in b"\x02" + rng.randbytes(5)) for _ in range(8)))
        uid = str(uuid.UUID(bytes=rng.randbytes(16), version=4))
        name = f"train-{number}-{rng.randrange(16**5):05x}"
        start = at(number) + timedelta(seconds=rng.randrange(1000))
        ledger.put_job(report(uid, name=name, holds=held, start=start, kept=()))
    shards = [ledger.encode(shard) for shard in range(SHARDS)]
    assert sum(map(len, shards)) < 3_000_000
    assert max(map(len, shards)) < 1_000_000  # a ConfigMap's limit is 1 MiB
    began = time.process_time()
    loaded = Ledger()
    for shard in shards:
        loaded.load(shard, 0.0)
    seconds = time.process_time() - began
    assert loaded.jobs == ledger.jobs
    print(f"{sum(map(len, shards))} bytes, loaded in {seconds:.2f} s")


def test_shards_are_evenly_used() -> None:
    counts = [0] * SHARDS
    for number in range(1600):
        counts[shard_of(("job", str(uuid.UUID(int=number))))] += 1
    assert min(counts) > 60
