"""The rules of writing records: order, statuses, removal, and errors."""

import pytest

from cvji.reports.records import Delivery, Reason, Status, first_status
from cvji.reports.tasks import Acknowledged, Forgotten, Outcome, Remove, Result, WriteSpec, WriteStatus, Written
from cvji.reports.writequeue import (
    BACKOFF_FIRST,
    CLOSED_WAIT,
    REFUSED_FIRST,
    STARVING,
    STATUS_LAG,
    UNRECORDED,
    WriteQueue,
)
from tests.unit.writes import AWAY, NODE, OK, A, B, done, record, stored, take, write


@pytest.fixture
def queue() -> WriteQueue:
    return WriteQueue(lambda: 1.0)


def test_a_record_is_created_and_then_replaced_by_its_version(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    task = take(queue)
    assert isinstance(task, WriteSpec)
    assert task.held is None
    assert queue.settle(task, done(7), 0.0) == [Written(A, 1)]
    queue.put(record(revision=2), 1.0)
    task = take(queue, 1.0)
    assert isinstance(task, WriteSpec)
    assert task.held
    assert task.held.version == "7"
    assert queue.settle(task, done(8, 2), 1.0) == [Written(A, 2)]
    assert len(queue) == 0
    assert queue.wake_at() is None


def test_what_waits_is_replaced_and_what_is_in_flight_is_followed(queue: WriteQueue) -> None:
    queue.put(record(revision=1), 0.0)
    task = take(queue)
    queue.put(record(revision=2), 0.0)
    queue.put(record(revision=3), 0.0)
    assert queue.take(0.0) is None
    queue.settle(task, done(), 0.0)
    task = take(queue)
    assert isinstance(task, WriteSpec)
    assert task.record.revision == 3


def test_a_record_that_stands_there_is_not_written_again(queue: WriteQueue) -> None:
    write(queue)
    assert queue.put(record(), 1.0) == [Written(A, 1)]
    assert queue.take(1.0) is None


def test_no_more_attempts_are_made_than_there_are_connections(queue: WriteQueue) -> None:
    for number in range(9):
        queue.put(record(("job", str(number))), 0.0)
    tasks = [take(queue) for _ in range(4)]
    assert queue.take(0.0) is None
    assert queue.wake_at() is None
    queue.settle(tasks[0], done(), 0.0)
    assert take(queue).key == ("job", "4")


def test_a_status_lags_and_the_newest_within_the_lag_is_written_once(queue: WriteQueue) -> None:
    write(queue, generation=5)
    queue.acknowledge(A, 1, AWAY, 10.0)
    queue.acknowledge(A, 1, OK, 11.0)
    assert queue.wake_at() == 10.0 + STATUS_LAG
    assert queue.take(11.0) is None
    task = take(queue, 10.0 + STATUS_LAG)
    assert isinstance(task, WriteStatus)
    assert (task.held.generation, task.status) == (5, first_status(OK))
    assert queue.settle(task, done(2, 5), 12.0) == [Acknowledged(A, 1)]
    assert len(queue) == 0


def test_a_status_that_says_nothing_new_is_not_written(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    queue.settle(take(queue, 9.0), done(2), 9.0)
    assert queue.acknowledge(A, 1, Delivery(Reason.ACCEPTED, 999), 10.0) == [Acknowledged(A, 1)]
    assert len(queue) == 0
    queue.acknowledge(A, 1, AWAY, 10.0)
    task = take(queue, 20.0)
    assert isinstance(task, WriteStatus)
    assert task.status == Status(AWAY, since=AWAY.at, delivered_at=OK.at)


def test_the_status_of_an_older_revision_is_passed_over(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    queue.put(record(revision=2), 0.0)
    assert queue.acknowledge(A, 1, OK, 0.0) == []
    queue.settle(take(queue), done(2, 2), 0.0)
    assert queue.acknowledge(A, 1, OK, 0.0) == []
    assert queue.take(99.0) is None
    assert len(queue) == 0


def test_a_status_that_comes_before_its_spec_is_written_waits_for_it(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    task = take(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    queue.settle(task, done(3), 0.0)
    task = take(queue, STATUS_LAG)
    assert isinstance(task, WriteStatus)
    assert task.held.version == "3"


def test_a_status_that_comes_while_another_is_written_is_written_after_it(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, AWAY, 0.0)
    task = take(queue, 9.0)
    queue.acknowledge(A, 1, OK, 9.0)
    queue.settle(task, done(2), 9.0)
    task = take(queue, 9.0 + STATUS_LAG)
    assert isinstance(task, WriteStatus)
    assert (task.held.version, task.status) == ("2", Status(OK, OK.at, OK.at))


def test_specs_go_before_statuses_which_leave_them_a_connection(queue: WriteQueue) -> None:
    for number in range(8):
        write(queue, ("job", str(number)))
        queue.acknowledge(("job", str(number)), 1, OK, 0.0)
    tasks = [take(queue, 3.0) for _ in range(3)]
    assert queue.take(3.0) is None
    queue.put(record(B), 3.0)
    assert isinstance(take(queue, 3.0), WriteSpec)
    assert all(isinstance(task, WriteStatus) for task in tasks)


def test_statuses_do_not_starve_under_specs_that_never_pause(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    for number in range(4):
        queue.put(record(("job", str(number))), STATUS_LAG)
    assert isinstance(take(queue, STATUS_LAG), WriteSpec)
    assert isinstance(take(queue, STATUS_LAG + STARVING + 1), WriteStatus)
    assert isinstance(take(queue, STATUS_LAG + STARVING + 1), WriteSpec)


def test_an_object_is_removed_and_may_come_back(queue: WriteQueue) -> None:
    write(queue, version=4)
    queue.acknowledge(A, 1, OK, 0.0)
    queue.forget(A, 0.0)
    task = take(queue)
    assert isinstance(task, Remove)
    assert task.held
    assert task.held.version == "4"
    queue.put(record(revision=2), 0.0)
    assert queue.settle(task, Result(Outcome.DONE), 0.0) == []
    task = take(queue)
    assert isinstance(task, WriteSpec)
    assert task.held is None
    queue.settle(task, done(), 0.0)
    queue.forget(A, 0.0)
    assert queue.settle(take(queue), Result(Outcome.GONE), 0.0) == [Forgotten(A)]
    assert len(queue) == 0


def test_what_was_never_written_is_forgotten_without_a_request(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    assert queue.forget(A, 0.0) == [Forgotten(A)]
    assert queue.take(0.0) is None


def test_a_create_that_was_not_answered_is_looked_for_before_it_is_forgotten(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    queue.settle(take(queue), Result(Outcome.BUSY), 0.0)
    assert queue.forget(A, 0.0) == []
    task = take(queue, 60.0)
    assert isinstance(task, Remove)
    assert task.held is None
    queue.settle(task, Result(Outcome.THERE, stored(9)), 60.0)
    task = take(queue, 60.0)
    assert isinstance(task, Remove)
    assert task.held
    assert task.held.version == "9"


def test_one_failing_object_holds_up_no_other(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    queue.put(record(B), 0.0)
    queue.settle(take(queue), Result(Outcome.FAILED), 0.0)
    assert take(queue).key == B
    assert queue.wake_at() == pytest.approx(BACKOFF_FIRST)
    assert take(queue, BACKOFF_FIRST).key == A


def test_while_the_api_server_is_away_one_attempt_at_a_time_asks_ever_more_slowly(queue: WriteQueue) -> None:
    for key in (A, B, ("job", "c")):
        queue.put(record(key), 0.0)
    tasks = [take(queue) for _ in range(3)]
    for task in tasks:
        queue.settle(task, Result(Outcome.BUSY), 0.0)
    wake = queue.wake_at()
    assert wake == pytest.approx(BACKOFF_FIRST)
    task = take(queue, 1.0)
    assert queue.take(1.0) is None
    queue.settle(task, Result(Outcome.BUSY), 1.0)
    assert queue.wake_at() == pytest.approx(1.0 + 2 * BACKOFF_FIRST)
    queue.settle(take(queue, 2.0), done(), 2.0)
    assert queue.take(2.0)
    assert queue.take(2.0)


def test_retry_after_is_kept_to(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    queue.settle(take(queue), Result(Outcome.BUSY, retry_after=17.0), 0.0)
    assert queue.wake_at() == 17.0


def test_a_newer_record_does_not_wait_for_the_older_ones_retry(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    queue.settle(take(queue), Result(Outcome.REFUSED), 0.0)
    queue.put(record(revision=2), 1.0)
    task = take(queue, 1.0)
    assert isinstance(task, WriteSpec)
    assert task.record.revision == 2


def test_without_crd_or_permission_nothing_waits_and_it_is_asked_now_and_then(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    queue.put(record(B), 0.0)
    events = queue.settle(take(queue), Result(Outcome.CLOSED), 0.0)
    assert events == [Written(A, 1, remembered=False), Written(B, 1, remembered=False)]
    assert queue.put(record(revision=2), 1.0) == [Written(A, 2, remembered=False)]
    assert queue.wake_at() == CLOSED_WAIT
    assert queue.settled()
    task = take(queue, CLOSED_WAIT)
    assert queue.take(CLOSED_WAIT) is None
    assert queue.settle(task, Result(Outcome.CLOSED), CLOSED_WAIT) == []
    write(queue, NODE)  # the other kind goes on
    now = 2 * CLOSED_WAIT
    assert queue.settle(take(queue, now), done(), now)[0].__class__ is Written
    assert queue.put(record(("job", "c")), now) == []


def test_a_status_that_is_forbidden_holds_up_no_spec(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    assert queue.settle(take(queue, 9.0), Result(Outcome.CLOSED), 9.0) == []
    write(queue, B)
    assert queue.wake_at() == 9.0 + CLOSED_WAIT


def test_what_is_too_large_is_reported_all_the_same_and_not_tried_again(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    assert queue.settle(take(queue), Result(Outcome.TOO_LARGE), 0.0) == [Written(A, 1, remembered=False)]
    assert len(queue) == 0
    assert queue.acknowledge(A, 1, OK, 0.0) == []
    write(queue, revision=2)


def test_what_the_schema_refuses_is_reported_all_the_same_and_tried_ever_more_rarely(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    assert queue.settle(take(queue), Result(Outcome.REFUSED), 0.0) == [Written(A, 1, remembered=False)]
    assert queue.wake_at() == REFUSED_FIRST
    assert queue.settle(take(queue, REFUSED_FIRST), Result(Outcome.REFUSED), REFUSED_FIRST) == []
    assert queue.wake_at() == 3 * REFUSED_FIRST


def test_what_fails_again_and_again_is_reported_all_the_same(queue: WriteQueue) -> None:
    queue.put(record(), 0.0)
    failed = Result(Outcome.FAILED, code=500, message="failed calling webhook")
    events = [queue.settle(take(queue, 60.0 * number), failed, 60.0 * number) for number in range(10)]
    assert events == [[]] * (UNRECORDED - 1) + [[Written(A, 1, remembered=False)]] + [[]] * (10 - UNRECORDED)
    assert queue.settle(take(queue, 6000.0), done(), 6000.0) == [Written(A, 1)]


def test_at_the_end_statuses_go_at_once(queue: WriteQueue) -> None:
    write(queue)
    queue.acknowledge(A, 1, OK, 0.0)
    assert not queue.settled()
    queue.hurry(0.0)
    queue.settle(take(queue), done(2), 0.0)
    write(queue, B)
    queue.acknowledge(B, 1, OK, 0.0)
    queue.settle(take(queue), done(2), 0.0)
    assert queue.settled()
