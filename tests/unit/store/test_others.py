"""The records in the cluster, where others write too: people, former leaders, and many at once."""

import threading
from collections.abc import Callable

from cvji.jobs.report import JobState, Key, of_macs
from cvji.reports.records import ListedRecord, Record
from cvji.reports.tasks import Acknowledged, Changed, Forgotten, Lost, Written
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.server import Fault
from tests.unit.store.leader import GROUP, OK, PLACE, Leader, stored
from tests.unit.test_records import UID, job_report


def test_what_somebody_deletes_is_created_again(simulator: KubernetesSimulator, leader: Leader) -> None:
    key = leader.write(job_report())
    simulator.delete(GROUP, "jobreports", PLACE, UID)
    leader.write(job_report(finished=5), 2)
    simulator.delete(GROUP, "jobreports", PLACE, UID)
    leader.store.acknowledge(key, 2, OK)
    leader.pass_time(5)
    leader.wait_for(Changed(key))
    leader.events.clear()
    leader.write(job_report(finished=5), 2)
    assert stored(simulator)["spec"]["lastContainerFinished"] == "1970-01-01T00:00:05Z"


def test_what_somebody_edits_is_overwritten(simulator: KubernetesSimulator, leader: Leader) -> None:
    key = leader.write(job_report())
    simulator.patch(GROUP, "jobreports", PLACE, UID, {"spec": {"state": "FAILED"}, "metadata": {"labels": {"x": "y"}}})
    leader.store.acknowledge(key, 1, OK)
    leader.pass_time(5)
    leader.wait_for(Changed(key))
    leader.events.clear()
    leader.write(job_report())
    assert stored(simulator)["spec"]["state"] == "RUNNING"
    leader.store.acknowledge(key, 1, OK)
    leader.pass_time(5)
    leader.wait_for(Acknowledged(key, 1))


def test_a_label_set_by_hand_disturbs_nothing(simulator: KubernetesSimulator, leader: Leader) -> None:
    key = leader.write(job_report())
    simulator.patch(GROUP, "jobreports", PLACE, UID, {"metadata": {"labels": {"x": "y"}}})
    leader.store.acknowledge(key, 1, OK)
    leader.pass_time(5)
    leader.wait_for(Acknowledged(key, 1))
    simulator.patch(GROUP, "jobreports", PLACE, UID, {"metadata": {"labels": {"x": "z"}}})
    leader.store.forget(key)
    leader.wait_for(Forgotten(key))


def test_a_resync_finds_what_was_edited_and_deleted(simulator: KubernetesSimulator, leader: Leader) -> None:
    for name in ("edited", "deleted", "same"):
        leader.write(job_report(job=name))
    simulator.patch(GROUP, "jobreports", PLACE, "edited", {"spec": {"run": 1, "kept": "0"}})
    simulator.delete(GROUP, "jobreports", PLACE, "deleted")
    found = {item.record.key[1]: item for item in leader.store.relist() if isinstance(item, ListedRecord)}
    assert {name: item.changed for name, item in found.items()} == {"edited": True, "same": False}
    assert found["same"].record.revision == 1
    assert [event for event in leader.events if isinstance(event, Changed)] == [Changed(("job", "deleted"))]


def test_a_former_leader_that_wakes_up_after_its_successor_wrote_loses(
    simulator: KubernetesSimulator, lead: Callable[[int], Leader]
) -> None:
    former = lead(1)
    key = former.write(job_report())
    former.permitted = 0.0  # paused: its Lease has run out
    former.store.write(Record(key, 2, job_report(finished=5)))
    successor = lead(2)
    successor.write(job_report(state=JobState.FAILED, end=1_700_000_500))
    former.permitted = 10.0  # as if it had been in the middle of the request
    former.pass_time(60)
    former.wait_for(Lost(key, 2))
    assert stored(simulator)["spec"]["state"] == "FAILED"
    former.store.write(Record(("job", "other"), 1, job_report(job="other")))
    assert former.store.flush(5)
    assert simulator.get(GROUP, "jobreports", PLACE, "other") is None


def test_a_former_leader_that_wrote_late_is_overwritten_by_its_successor(
    simulator: KubernetesSimulator, lead: Callable[[int], Leader]
) -> None:
    former = lead(1)
    key = former.write(job_report())
    successor = lead(2)
    former.write(job_report(finished=5), 2)
    former.write(job_report(job="new"))
    successor.write(job_report(state=JobState.FAILED, end=1_700_000_500))
    successor.write(job_report(job="new", finished=9))
    assert stored(simulator)["spec"]["term"] == 2
    assert stored(simulator)["spec"]["state"] == "FAILED"
    assert stored(simulator, "new")["spec"]["lastContainerFinished"] == "1970-01-01T00:00:09Z"
    former.store.acknowledge(key, 2, OK)
    former.pass_time(5)
    former.wait_for(Lost(key, 2))
    assert "status" not in stored(simulator)


def test_a_former_leader_removes_nothing_that_its_successor_wrote(
    simulator: KubernetesSimulator, lead: Callable[[int], Leader]
) -> None:
    former = lead(1)
    key = former.write(job_report())
    lead(2).write(job_report(finished=5))
    former.store.forget(key)
    former.wait_for(Lost(key, 2))
    assert stored(simulator)


def test_a_former_leader_notices_at_its_resync(lead: Callable[[int], Leader]) -> None:
    former = lead(1)
    key = former.write(job_report())
    lead(2).write(job_report(finished=5))
    assert list(former.store.relist()) == []
    former.wait_for(Lost(key, 2))


def test_terms_go_on_rising_when_the_lease_was_deleted_by_hand(
    simulator: KubernetesSimulator, lead: Callable[[int], Leader]
) -> None:
    former = lead(7)
    key = former.write(job_report())
    successor = lead(1)
    successor.write(job_report(finished=5))
    assert stored(simulator)["spec"]["term"] == 8
    former.store.acknowledge(key, 1, OK)
    former.pass_time(5)
    former.wait_for(Lost(key, 8))


def test_many_writers_at_once_over_four_connections_leave_the_newest_of_each(
    simulator: KubernetesSimulator, leader: Leader
) -> None:
    chance = [Fault(500), Fault(drop=True, after=True), Fault(drop=True), Fault(429)] * 5
    simulator.faults.extend(fault for fault in chance for _ in range(1))

    def write(number: int) -> None:
        for revision in range(1, 6):
            key: Key = ("job", f"u{number}")
            leader.store.write(Record(key, revision, job_report(job=key[1], finished=revision)))
            leader.store.acknowledge(key, revision, OK)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leader.wait_for(*(Written(("job", f"u{number}"), 5) for number in range(40)))
    leader.wait_for(*(Acknowledged(("job", f"u{number}"), 5) for number in range(40)))
    for number in range(40):
        found = stored(simulator, f"u{number}")
        assert found["spec"]["lastContainerFinished"] == "1970-01-01T00:00:05Z"
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert simulator.most_connections <= 4
    assert len(leader.store._queue) == 0


def test_macs_come_back_as_they_were(leader: Leader) -> None:
    holds = of_macs(f"02:00:00:00:0a:{number:02x}" for number in range(64))
    found = leader.store.get(leader.write(job_report(holds=holds)))
    assert found
    assert found.record.report == job_report(holds=holds)
