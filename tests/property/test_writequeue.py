"""Whatever the API server answers and whoever else writes: in the end the cluster has the newest of everything."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvji.jobs.report import Key
from cvji.reports.records import ListedRecord, Record, first_status
from cvji.reports.tasks import EDITED, Changed, Event, Outcome, Remove, Result, Task, WriteSpec, Written
from cvji.reports.writequeue import WriteQueue
from tests.unit.writes import NODE, OK, REPORT, A, B, record, stored


@pytest.fixture
def queue() -> WriteQueue:
    return WriteQueue(lambda: 1.0)


def listed(version: int, generation: int = 1, *, key: Key = A, delivered: bool = False) -> ListedRecord:
    status = first_status(OK) if delivered else None
    return ListedRecord(Record(key, 0, REPORT), stored(version, generation), delivered, status, "lab")


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
