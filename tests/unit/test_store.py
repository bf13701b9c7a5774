"""The store against the simulated API server: each of its answers, a former leader, and what others do by hand."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from cvji.jobs.report import JobState, Key, RunReport, of_macs
from cvji.kube.client import Api, ApiError
from cvji.nodes.inventory import Nic, NodeReport
from cvji.reports.records import Delivery, ListedRecord, Reason, Record, Unreadable, write_spec
from cvji.reports.store import PAGE, Store
from cvji.reports.tasks import Acknowledged, Changed, Event, Forgotten, Lost, Written
from cvji.reports.writequeue import CLOSED_WAIT
from tests.e2e.kit import write_kubeconfig
from tests.simulator.kinds import REPORT_KINDS
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.server import Fault
from tests.unit.test_records import MACS, UID, job_report

GROUP = "cloudvision.arista.io"
PLACE = "cloudvision"
OK = Delivery(Reason.ACCEPTED, 1_700_000_100)
T = TypeVar("T")
JOB: Key = ("job", UID)


class Leader:
    """A store, and what it has reported; time can be made to pass."""

    def __init__(self, api: Api, *, place: str = PLACE, connections: int = 4) -> None:
        self.events: list[Event] = []
        self.news = threading.Condition()
        self.later = 0.0
        self.permitted = 10.0
        self.store = Store(
            api,
            place,
            location="lab",
            emit=self.hear,
            permit=lambda: self.permitted,
            clock=lambda: time.monotonic() + self.later,
            connections=connections,
        )

    def hear(self, event: Event) -> None:
        with self.news:
            self.events.append(event)
            self.news.notify_all()

    def wait_for(self, *events: Event) -> None:
        with self.news:
            if not self.news.wait_for(lambda: all(event in self.events for event in events), 30):
                raise TimeoutError(f"waited for {events}, got {self.events}")

    def take_over(self, term: int) -> list[ListedRecord | Unreadable]:
        return list(self.store.take_over(term))

    def write(self, report: RunReport | NodeReport, revision: int = 1) -> Key:
        """Write a report, and wait until it is in the cluster."""
        key: Key = ("node", report.node) if isinstance(report, NodeReport) else ("job", report.id)
        self.store.write(Record(key, revision, report))
        self.wait_for(Written(key, revision))
        return key

    def pass_time(self, seconds: float) -> None:
        self.later += seconds
        with self.store._lock:
            self.store._changed.notify_all()


@pytest.fixture
def simulator() -> Iterator[KubernetesSimulator]:
    with KubernetesSimulator() as found:
        for kind in REPORT_KINDS:
            found.serve(*kind)
        yield found


@pytest.fixture
def api(simulator: KubernetesSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, f"http://{simulator.address}")))
    return Api()


@pytest.fixture
def lead(api: Api) -> Iterator[Callable[[int], Leader]]:
    """Makes leaders of a term."""
    made = []

    def make(term: int) -> Leader:
        made.append(Leader(api))
        made[-1].take_over(term)
        return made[-1]

    yield make
    for leader in made:
        leader.store.close()


@pytest.fixture
def leader(lead: Callable[[int], Leader]) -> Leader:
    return lead(1)


def stored(simulator: KubernetesSimulator, name: str = UID, plural: str = "jobreports") -> dict[str, Any]:
    found = simulator.get(GROUP, plural, PLACE, name)
    assert found
    return found


def requests(simulator: KubernetesSimulator) -> list[str]:
    return [method for method, path in simulator.requests if "reports/" in path or method != "GET"]


# --- the ordinary course ----------------------------------------------------------------------------------------


def test_a_report_is_two_requests_from_its_spec_to_its_delivery(simulator: KubernetesSimulator, leader: Leader) -> None:
    key = leader.write(job_report())
    leader.store.acknowledge(key, 1, OK)
    assert leader.store.flush(10)
    leader.wait_for(Acknowledged(key, 1))
    found = stored(simulator)
    assert found["spec"]["interfaces"] == list(MACS)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 1
    assert found["status"]["conditions"][0]["status"] == "True"
    assert requests(simulator) == ["POST", "PUT"]
    listed = leader.store.get(key)
    assert listed
    assert listed.delivered
    assert listed.record.report == job_report()


def test_a_node_is_written_changed_and_forgotten(simulator: KubernetesSimulator, leader: Leader) -> None:
    report = NodeReport("gpu-1", (Nic("eth1", MACS[0], ("10.0.0.1",)),))
    key = leader.write(report)
    leader.write(NodeReport("gpu-1", ()), 2)
    assert stored(simulator, "gpu-1", "nodereports")["spec"]["interfaceCount"] == 0
    assert stored(simulator, "gpu-1", "nodereports")["metadata"]["generation"] == 2
    leader.store.forget(key)
    leader.wait_for(Forgotten(key))
    assert leader.store.get(key) is None


def test_a_successor_reads_page_by_page_what_was_left(
    simulator: KubernetesSimulator, lead: Callable[[int], Leader]
) -> None:
    first = lead(1)
    for number in range(PAGE + 20):
        first.store.write(Record(("job", f"u{number}"), 1, job_report(job=f"u{number}")))
    assert first.store.flush(60)
    first.store.acknowledge(("job", "u7"), 1, OK)
    first.store.flush(10)
    second = Leader(first.store._api)
    found = {item.record.key[1]: item for item in second.store.take_over(2) if isinstance(item, ListedRecord)}
    assert len(found) == PAGE + 20
    assert [name for name, item in found.items() if item.delivered] == ["u7"]
    assert found["u7"].record.revision == 0
    assert simulator.counts["list jobreports"] >= 3
    second.write(job_report(job="u7", state=JobState.FAILED, end=1_700_000_200))
    assert stored(simulator, "u7")["metadata"]["generation"] == 2


def test_a_list_that_expires_half_read_is_begun_again(
    simulator: KubernetesSimulator, api: Api, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvji.reports.store.PAGE", 2)
    for number in range(5):
        leader.store.write(Record(("job", f"u{number}"), 1, job_report(job=f"u{number}")))
    leader.store.flush(10)
    listing = Leader(api).store.take_over(2)
    names = {item.record.key[1] for item in (next(listing), next(listing)) if isinstance(item, ListedRecord)}
    simulator.compact()
    names |= {item.record.key[1] for item in listing if isinstance(item, ListedRecord)}
    assert names == {f"u{number}" for number in range(5)}


def test_one_record_that_cannot_be_read_costs_only_itself(simulator: KubernetesSimulator, api: Api) -> None:
    for report in (job_report(), job_report(job="other")):
        body = msgspec.json.decode(write_spec(Record(("job", report.id), 1, report), PLACE, "", location="lab", term=4))
        if report.job == "other":
            body["spec"]["startTime"] = "soon"
        simulator.create(body)
    leader = Leader(api)
    found = leader.take_over(2)
    (error,) = [item for item in found if isinstance(item, Unreadable)]
    assert "JobReport other" in error.error
    assert "spec.startTime" in error.error
    assert len(found) == 2
    leader.write(job_report(job="other"))  # the next write mends it
    assert leader.store.get(("job", "other"))


# --- the API server's answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(503), Fault(429, headers={"Retry-After": "1"}), Fault(drop=True), Fault(401)]
)
def test_an_error_that_passes_is_retried(simulator: KubernetesSimulator, leader: Leader, fault: Fault) -> None:
    simulator.faults.append(fault)
    began = time.monotonic()
    key = leader.write(job_report())
    assert leader.store.get(key)
    if fault.headers:
        assert time.monotonic() - began >= 1.0


def test_writes_wait_for_an_api_server_that_is_away(simulator: KubernetesSimulator, leader: Leader) -> None:
    leader.write(job_report(job="before"))
    simulator.refuse()
    for revision in range(1, 5):
        leader.store.write(Record(JOB, revision, job_report(run=1)))
    assert not leader.store.flush(0.5)
    assert leader.store.depth() == 1
    simulator.resume()
    leader.wait_for(Written(JOB, 4))
    assert Written(JOB, 1, remembered=False) not in leader.events


@pytest.mark.parametrize("first", ["create", "replace"])
def test_a_write_of_which_only_the_answer_was_lost_is_recognized(
    simulator: KubernetesSimulator, leader: Leader, first: str
) -> None:
    if first == "replace":
        leader.write(job_report())
    simulator.faults.append(Fault(drop=True, after=True))
    leader.write(job_report(run=1, finished=5), 2)
    assert stored(simulator)["metadata"]["generation"] == (2 if first == "replace" else 1)
    leader.write(job_report(run=1, finished=6), 3)


def test_a_status_of_which_only_the_answer_was_lost_is_written_again(
    simulator: KubernetesSimulator, leader: Leader
) -> None:
    key = leader.write(job_report())
    simulator.faults.append(Fault(drop=True, after=True))
    leader.store.acknowledge(key, 1, OK)
    leader.pass_time(5)
    leader.wait_for(Acknowledged(key, 1))
    assert Changed(key) not in leader.events


def test_without_the_crd_nothing_is_remembered_until_it_is_installed(
    simulator: KubernetesSimulator, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.unserve(GROUP, "jobreports")
    leader = Leader(api)
    assert leader.take_over(1) == []
    for number in range(20):
        key: Key = ("job", f"u{number}")
        leader.store.write(Record(key, 1, job_report(job=key[1])))
        leader.wait_for(Written(key, 1, remembered=False))
    leader.write(NodeReport("gpu-1", ()))
    assert leader.store.flush(10)
    assert len([entry for entry in caplog.records if "is its CRD installed" in entry.message]) == 1
    assert simulator.counts["create jobreports"] == 0
    simulator.serve(*REPORT_KINDS[0])
    leader.pass_time(CLOSED_WAIT)
    leader.wait_for(*(Written(("job", f"u{number}"), 1) for number in range(20)))


def test_a_permission_that_is_missing_is_logged_once_and_asked_for_now_and_then(
    simulator: KubernetesSimulator, leader: Leader, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.forbid(GROUP, "jobreports", "create")
    for number in range(20):
        key: Key = ("job", f"u{number}")
        leader.store.write(Record(key, 1, job_report(job=key[1])))
        leader.wait_for(Written(key, 1, remembered=False))
    assert leader.store.flush(10)
    assert len([entry for entry in caplog.records if "without this permission" in entry.message]) == 1
    assert simulator.counts["create jobreports"] <= 4  # those that were in flight together
    simulator.allow(GROUP, "jobreports", "create")
    leader.pass_time(CLOSED_WAIT)
    leader.wait_for(*(Written(("job", f"u{number}"), 1) for number in range(20)))


def test_records_that_may_not_be_listed_do_not_stop_the_program(simulator: KubernetesSimulator, api: Api) -> None:
    simulator.forbid(GROUP, "jobreports", "list")
    leader = Leader(api)
    assert leader.take_over(1) == []
    leader.store.write(Record(JOB, 1, job_report()))
    leader.wait_for(Written(JOB, 1, remembered=False))


def test_a_list_that_fails_is_an_error_and_nothing_is_written(simulator: KubernetesSimulator, api: Api) -> None:
    leader = Leader(api)
    simulator.always = Fault(500)
    with pytest.raises(ApiError):
        leader.take_over(1)
    simulator.always = None
    leader.store.write(Record(JOB, 1, job_report()))
    assert simulator.get(GROUP, "jobreports", PLACE, UID) is None
    assert leader.take_over(1) == []
    leader.wait_for(Written(JOB, 1))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(413, body=b"{}"),
        Fault(500, body=b'{"message":"etcdserver: request is too large"}'),
        Fault(500, body=b'{"message":"rpc error: trying to send message larger than max (2400 vs. 2000)"}'),
    ],
)
def test_what_is_too_large_is_said_once_and_reported_all_the_same(
    simulator: KubernetesSimulator, leader: Leader, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    simulator.faults.append(fault)
    leader.store.write(Record(JOB, 1, job_report()))
    leader.wait_for(Written(JOB, 1, remembered=False))
    assert leader.store.flush(10)
    assert leader.store.depth() == 0
    assert [entry.message for entry in caplog.records if "too large to be remembered" in entry.message]
    leader.write(job_report(), 2)


def test_what_the_schema_refuses_is_reported_all_the_same_and_holds_up_nothing(
    simulator: KubernetesSimulator, leader: Leader
) -> None:
    simulator.faults.append(Fault(422, body=b'{"message":"spec.state: Unsupported value"}'))
    leader.store.write(Record(JOB, 1, job_report()))
    leader.wait_for(Written(JOB, 1, remembered=False))
    leader.write(job_report(job="other"))
    leader.pass_time(120)
    leader.wait_for(Written(JOB, 1))


# --- by hand ----------------------------------------------------------------------------------------------------


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


# --- leaders ----------------------------------------------------------------------------------------------------


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


# --- many -------------------------------------------------------------------------------------------------------


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
    assert leader.store.depth() == 0


def test_macs_come_back_as_they_were(leader: Leader) -> None:
    holds = of_macs(f"02:00:00:00:0a:{number:02x}" for number in range(64))
    found = leader.store.get(leader.write(job_report(holds=holds)))
    assert found
    assert found.record.report == job_report(holds=holds)
