"""What is written to the cluster when: per object in order, newest only, specs first, and every answer has its rule."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvji.jobs.report import Key
from cvji.reports.records import Delivery, ListedRecord, Reason, Record, Status, Stored, first_status
from cvji.reports.tasks import (
    EDITED,
    Acknowledged,
    Changed,
    Event,
    Forgotten,
    Lost,
    Outcome,
    Remove,
    Result,
    Task,
    WriteSpec,
    WriteStatus,
    Written,
)
from cvji.reports.writequeue import (
    BACKOFF_FIRST,
    BACKOFF_MAX,
    CLOSED_WAIT,
    REFUSED_FIRST,
    STARVING,
    STATUS_LAG,
    WriteQueue,
)
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


@pytest.fixture
def queue() -> WriteQueue:
    return WriteQueue(lambda: 1.0)


def take(queue: WriteQueue, now: float = 0.0) -> Task:
    task = queue.take(now)
    assert task is not None
    return task


def write(queue: WriteQueue, key: Key = A, revision: int = 1, version: int = 1, generation: int = 1) -> None:
    """Bring a record into the cluster."""
    queue.put(record(key, revision), 0.0)
    assert Written(key, revision) in queue.settle(take(queue), done(version, generation), 0.0)


# --- order ------------------------------------------------------------------------------------------------------


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


# --- statuses ---------------------------------------------------------------------------------------------------


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


# --- removal ----------------------------------------------------------------------------------------------------


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


# --- conflicts --------------------------------------------------------------------------------------------------


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


# --- errors -----------------------------------------------------------------------------------------------------


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


# --- lists ------------------------------------------------------------------------------------------------------


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


# --- anything ---------------------------------------------------------------------------------------------------


class Cluster:
    """Objects with the API server's rules, of which answers get lost, and which others edit and delete."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.objects: dict[Key, tuple[int, int, int, int]] = {}  # version, generation, revision, observed revision
        self.version = 0

    def interfere(self, key: Key) -> None:
        self.version += 1
        if found := self.objects.get(key):
            if self.chance.random() < 0.5:
                del self.objects[key]
            else:
                self.objects[key] = (self.version, found[1] + 1, EDITED, found[3])

    def answer(self, task: Task) -> Result:
        trouble = self.chance.random()
        if trouble < 0.1:
            return Result(self.chance.choice([Outcome.BUSY, Outcome.FAILED, Outcome.CLOSED, Outcome.REFUSED]))
        result = self.apply(task)
        return Result(Outcome.BUSY) if trouble < 0.2 else result

    def apply(self, task: Task) -> Result:
        found = self.objects.get(task.key)
        there = Result(Outcome.THERE, stored(found[0], found[1])) if found else Result(Outcome.GONE)
        if task.held is None:
            if found or isinstance(task, Remove):
                if found and isinstance(task, WriteSpec) and found[2] == task.record.revision:
                    return Result(Outcome.DONE, stored(found[0], found[1]))
                return there
        elif found is None or task.held.version != str(found[0]):
            return there
        self.version += 1
        if isinstance(task, Remove):
            self.objects.pop(task.key, None)
            return Result(Outcome.DONE)
        if isinstance(task, WriteSpec):
            generation = found[1] + 1 if found else 1
            self.objects[task.key] = (self.version, generation, task.record.revision, found[3] if found else 0)
        else:
            assert found
            generation = found[1]
            assert task.held.generation == generation
            assert task.held.revision == found[2], "a status about another spec"
            self.objects[task.key] = (self.version, generation, found[2], found[2])
        return Result(Outcome.DONE, stored(self.version, generation))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_in_the_end_the_cluster_has_the_newest_of_everything_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    queue, cluster = WriteQueue(chance.random, 4), Cluster(chance)
    keys: list[Key] = [A, B, NODE]
    wanted: dict[Key, int] = {}
    now, revision, flying = 0.0, 0, list[Task]()

    def hear(events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Changed) and event.key in wanted:
                hear(queue.put(record(event.key, wanted[event.key]), now))
            elif isinstance(event, Written) and event.revision == wanted.get(event.key):
                hear(queue.acknowledge(event.key, event.revision, OK, now))

    for step in range(150):
        calm = step > 110
        now += chance.choice([0.0, 0.3, 3.0])
        key = chance.choice(keys)
        what = chance.random()
        if not calm and what < 0.3:
            revision += 1
            wanted[key] = revision
            hear(queue.put(record(key, revision), now))
        elif not calm and what < 0.4:
            wanted.pop(key, None)
            hear(queue.forget(key, now))
        elif not calm and what < 0.5:
            cluster.interfere(key)
        while (task := queue.take(now)) is not None:
            assert task.key not in [other.key for other in flying]
            flying.append(task)
        assert len(flying) <= 4
        if flying and chance.random() < 0.7:
            task = flying.pop(chance.randrange(len(flying)))
            hear(queue.settle(task, cluster.answer(task), now))
    cluster.chance = random.Random(1)
    cluster.answer = cluster.apply  # type: ignore[method-assign]  # no more trouble

    def run_dry() -> None:
        nonlocal now
        for _ in range(500):
            now += 4000.0
            while (task := queue.take(now)) is not None:
                flying.append(task)
            if not flying:
                return
            task = flying.pop()
            hear(queue.settle(task, cluster.answer(task), now))
        raise AssertionError("it never comes to rest")

    run_dry()
    queue.begin_listing()  # the resync
    for key, (version, generation, held, observed) in list(cluster.objects.items()):
        given = listed(version, generation, key=key, delivered=observed == held)
        found = queue.found(given)
        if key not in wanted:
            hear(queue.forget(key, now))
        elif found and found.record.revision != wanted[key]:
            hear(queue.put(record(key, wanted[key]), now))
        elif found and not found.delivered:
            hear(queue.acknowledge(key, wanted[key], OK, now))
    hear(queue.end_listing(["job", "node"], set(cluster.objects)))
    run_dry()
    assert {key: found[2] for key, found in cluster.objects.items()} == wanted
    assert {key: found[3] for key, found in cluster.objects.items()} == wanted
    assert len(queue) == 0
