"""The rules of writing records where others write too: conflicts, and what a list shows."""

import msgspec
import pytest

from cvji.jobs.report import Key
from cvji.reports.records import ListedRecord, Record, first_status
from cvji.reports.tasks import EDITED, Acknowledged, Changed, Lost, Outcome, Result, WriteSpec, WriteStatus, Written
from cvji.reports.writequeue import BACKOFF_MAX, WriteQueue
from tests.unit.writes import NODE, OK, REPORT, A, B, done, record, stored, take, write


@pytest.fixture
def queue() -> WriteQueue:
    return WriteQueue(lambda: 1.0)


def test_an_object_that_somebody_has_edited_is_overwritten_at_once(queue: WriteQueue) -> None:
    write(queue)
    queue.put(record(revision=2), 0.0)
    assert queue.settle(take(queue), Result(Outcome.THERE, stored(50, 7)), 0.0) == []
    task = take(queue)
    assert isinstance(task, WriteSpec)
    assert task.held
    assert (task.held.version, task.held.revision) == ("50", EDITED)


def test_conflicts_without_end_are_retried_ever_more_slowly(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    now, waits = 0.0, []
    for version in range(12):
        queue.settle(take(queue, now), Result(Outcome.THERE, stored(version)), now)
        wake = queue.wake_at()
        assert wake is not None
        waits.append(wake - now)
        now = wake
    assert waits[0] == 0.0
    assert waits == pytest.approx(sorted(waits))
    assert waits[-1] == pytest.approx(BACKOFF_MAX)


def test_an_object_deleted_by_hand_is_created_again(queue: WriteQueue) -> None:
    write(queue)
    queue.put(record(revision=2), 0.0)
    queue.settle(take(queue), Result(Outcome.GONE), 0.0)
    task = take(queue)
    assert isinstance(task, WriteSpec)
    assert task.held is None


@pytest.mark.parametrize("result", [Result(Outcome.GONE), Result(Outcome.THERE, stored(50, generation=2))])
def test_a_status_without_its_spec_is_reported_as_changed_and_heals(queue: WriteQueue, result: Result) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    assert queue.settle(take(queue, 9.0), result, 9.0) == [Changed(A)]
    assert len(queue) == 0
    assert queue.put(record(), 9.0) == []  # the same revision is written again
    assert queue.settle(take(queue, 9.0), done(60, 3), 9.0) == [Written(A, 1)]


def test_a_status_is_written_again_where_only_the_metadata_has_changed(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    assert queue.settle(take(queue, 9.0), Result(Outcome.THERE, stored(50, generation=1)), 9.0) == []
    task = take(queue, 9.0)
    assert isinstance(task, WriteStatus)
    assert task.held.version == "50"


def test_after_another_leader_nothing_more_is_written(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    queue.put(record(B), 0.0)
    assert queue.settle(take(queue), Result(Outcome.LOST, stored(5, term=8)), 0.0) == [Lost(A, 8)]
    assert queue.take(1e9) is None
    assert queue.wake_at() is None
    assert queue.settled()


def listed(version: int, generation: int = 1, *, key: Key = A, delivered: bool = False) -> ListedRecord:
    status = first_status(OK) if delivered else None
    return ListedRecord(Record(key, 0, REPORT), stored(version, generation), delivered, status, "lab")


def test_what_was_listed_is_acknowledged_and_replaced_as_it_stands(queue: WriteQueue) -> None:
    queue.begin_listing()
    assert queue.found(listed(5, 3)) == listed(5, 3)
    assert queue.end_listing(["job"], {A}) == []
    queue.acknowledge(A, 0, OK, 0.0)
    task = take(queue, 9.0)
    assert isinstance(task, WriteStatus)
    assert (task.held.version, task.held.generation) == ("5", 3)
    queue.settle(task, done(6, 3), 9.0)
    queue.put(record(), 9.0)
    task = take(queue, 9.0)
    assert task.held
    assert task.held.version == "6"


def test_a_listed_delivered_record_is_not_acknowledged_again(queue: WriteQueue) -> None:
    queue.begin_listing()
    queue.found(listed(5, 3, delivered=True))
    queue.end_listing(["job"], {A})
    assert queue.acknowledge(A, 0, OK, 0.0) == [Acknowledged(A, 0)]


def test_a_record_whose_older_spec_was_delivered_is_acknowledged(queue: WriteQueue) -> None:
    queue.begin_listing()
    queue.found(msgspec.structs.replace(listed(5, 3), status=first_status(OK)))
    queue.end_listing(["job"], {A})
    assert queue.acknowledge(A, 0, OK, 0.0) == []
    assert isinstance(take(queue, 9.0), WriteStatus)


def test_what_somebody_edited_or_deleted_is_found_by_the_next_list(queue: WriteQueue) -> None:
    for key in (A, B, NODE):
        write(queue, key)
    queue.begin_listing()
    found = queue.found(listed(9, generation=2))
    assert found
    assert found.changed
    assert queue.end_listing(["job"], {A}) == [Changed(B)]  # nodes could not be listed
    assert queue.put(record(), 0.0) == []
    task = take(queue)
    assert task.held
    assert task.held.version == "9"


def test_a_status_that_somebody_edited_is_written_again(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    queue.settle(take(queue, 9.0), done(2), 9.0)
    queue.begin_listing()
    found = queue.found(listed(3))
    assert found
    assert (found.changed, found.record.revision) == (False, 1)
    queue.end_listing(["job"], {A})
    assert queue.acknowledge(A, 1, OK, 10.0) == []
    assert isinstance(take(queue, 20.0), WriteStatus)


def test_a_list_does_not_contradict_what_was_written_since_it_began(queue: WriteQueue) -> None:
    write(queue, B)
    queue.begin_listing()
    write(queue, A, version=10)
    queue.forget(B, 0.0)
    queue.settle(take(queue), Result(Outcome.DONE), 0.0)
    assert queue.found(listed(3)) is None
    assert queue.found(listed(3, key=B)) is None
    assert queue.end_listing(["job", "node"], {A, B}) == []
    queue.put(record(A, 2), 0.0)
    task = take(queue)
    assert task.held
    assert task.held.version == "10"
