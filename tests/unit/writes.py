"""Records to write, and answers of the API server, for tests of the write queue."""

from cvji.jobs.report import Key
from cvji.reports.records import Delivery, Reason, Record, Stored
from cvji.reports.tasks import Outcome, Result, Task, Written
from cvji.reports.writequeue import WriteQueue
from tests.unit.test_records import job_report

A: Key = ("job", "a")
B: Key = ("job", "b")
NODE: Key = ("node", "n")
REPORT = job_report()
OK = Delivery(Reason.ACCEPTED, 100)
AWAY = Delivery(Reason.UNREACHABLE, 200, "HTTP 503")


def record(key: Key = A, revision: int = 1) -> Record:
    return Record(key, revision, REPORT)


def stored(version: int, generation: int = 1, term: int = 0) -> Stored:
    return Stored("x", str(version), generation, term)


def done(version: int = 1, generation: int = 1) -> Result:
    return Result(Outcome.DONE, stored(version, generation))


def take(queue: WriteQueue, now: float = 0.0) -> Task:
    task = queue.take(now)
    assert task is not None
    return task


def write(queue: WriteQueue, key: Key = A, revision: int = 1, version: int = 1, generation: int = 1) -> None:
    """Bring a record into the cluster."""
    queue.put(record(key, revision), 0.0)
    assert Written(key, revision) in queue.settle(take(queue), done(version, generation), 0.0)
